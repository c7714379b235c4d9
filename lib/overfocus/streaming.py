"""Scans that come or are read a few rows at a time.

Of a scan that is being recorded, a part gives a first answer, which sharpens. One that several
processes read is binned by each in blocks of rows, and their parts are put together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..stem4d.rows import chunk_reader, for_each_rows
from ..stem4d.scan import Scan4D
from .binning import BinnedScan, Binner, Floats, Mask
from .calibrate import calibrate_binned, choose_binning
from .calibration import CALIBRATED, NOT_CALIBRATED, ScanCalibration
from .config import OverfocusConfig

#: Raw frames that a process reads at a time, about.
BLOCK_BYTES = 32 * 2**20

Rows = tuple[int, int]
Room = Callable[[tuple[int, ...], type[np.float32]], Floats]


@dataclass(frozen=True)
class BinnedRows:
    """What is left of a block of scan rows; see `BinnedScan`.

    Attributes
    ----------
    rows : first, and the one after the last.
    frames : (scan_row, scan_column, row, column) float32.
    recorded : (scan_row, scan_column) bool.
    mask : (row, column) bool of raw pixels that must not be used.
    odd : as of `Binner`.
    """

    rows: Rows
    frames: Floats
    recorded: Mask
    mask: Mask
    odd: dict[int, tuple[Floats, int, int]]


def row_blocks(scan: Scan4D, size: int) -> list[Rows]:
    """Blocks of scan rows of about so many bytes of frames; none divides what is read at once."""
    rows, columns = scan.scan_shape
    starts = [run.first // columns for run in chunk_reader(scan.frames).runs(0, rows)
              if run.first % columns == 0]  # fmt: skip
    row_bytes = columns * scan.shape[0] * scan.shape[1] * scan.frames.dtype.itemsize
    blocks: list[Rows] = []
    begin = 0
    for stop in [*starts[1:], rows]:
        if stop == rows or (stop - begin) * row_bytes >= size:
            blocks.append((begin, stop))
            begin = stop
    return blocks


def bin_rows(scan: Scan4D, binning: int, rows: Rows) -> BinnedRows:
    """Read a block of scan rows once and bin it; what is kept of it is small."""
    binner = Binner(scan, binning, rows)
    for_each_rows(scan, binner.add, threads=1, rows=rows)
    done = binner.binned
    return BinnedRows(rows, done.frames, done.recorded, done.mask, binner.odd)


def bin_scan_by(
    scan: Scan4D,
    config: OverfocusConfig,
    work: Callable[[int, list[Rows]], Iterable[BinnedRows]],
    room: Room = np.empty,
) -> BinnedScan:
    """As `calibrate.bin_scan`, to the last bit, with the reading left to others.

    Where pixels of float frames are no number now and then, which frames are left out depends, as
    it does there, on what is read first.

    Parameters
    ----------
    work : given the binning and all blocks, gives `bin_rows` of each, in any order.
    room : gives an array of a shape and type for all binned frames, such as `room_in`.
    """
    middle = np.asarray(scan.frames[scan.scan_shape[0] // 2])
    binning = config.binning or choose_binning(scan, middle)
    whole = Binner(scan, binning, room=room)
    for part in work(binning, row_blocks(scan, BLOCK_BYTES)):
        here = slice(*part.rows)
        whole.binned.frames[here] = part.frames
        whole.binned.recorded[here] = part.recorded
        whole.binned.mask |= part.mask
        whole.odd.update(part.odd)
    return whole.finish()


def room_in(folder: Path, most_bytes: float) -> Room:
    """Room in memory; for more bytes in a file, which is gone when nothing uses it any more."""

    def room(shape: tuple[int, ...], kind: type[np.float32]) -> Floats:
        if np.prod(shape, dtype=float) * np.dtype(kind).itemsize <= most_bytes:
            return np.empty(shape, kind)
        with TemporaryFile(dir=folder) as file:
            return np.asarray(np.memmap(file, kind, "w+", shape=shape))

    return room


class LiveCalibration:
    """Takes scan rows as they arrive, in any order and from any thread.

    Only binned frames are kept, about a sixteenth of the pixels for a usual disc.

    Parameters
    ----------
    scan : what is known of the scan; of its frames only the shape is used
        (``numpy.broadcast_to(numpy.uint16(0), shape)`` will do).
    """

    def __init__(self, scan: Scan4D, config: OverfocusConfig | None = None) -> None:
        self._scan = scan
        self._config = config or OverfocusConfig()
        self._binner: Binner | None = None
        self._rows: set[int] = set()
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """Scan rows so far."""
        return len(self._rows)

    def add_row(self, row: int, frames: NDArray[np.generic]) -> None:
        """One scan row, (scan_column, row, column).

        Raises
        ------
        UserError : the row is outside the scan, there already, or of another shape.
        """
        rows, columns = self._scan.scan_shape
        expected = (columns, *self._scan.shape)
        if frames.shape != expected:
            raise UserError(
                f"scan row {row}", f"frames {frames.shape}", f"{expected}",
                "state the shape that the detector sends",
            )  # fmt: skip
        with self._lock:
            if not 0 <= row < rows or row in self._rows:
                found = "a row that came before" if row in self._rows else f"row {row}"
                raise UserError(
                    "scan row", found, f"0 to {rows - 1}, each once", "send each scan row once"
                )
            if self._binner is None:
                binning = self._config.binning or choose_binning(self._scan, frames)
                self._binner = Binner(self._scan, binning)
            self._rows.add(row)
        self._binner.add(row * columns, frames)

    def current(self) -> ScanCalibration:
        """The calibration by the rows so far; "not calibrated" until they suffice."""
        if self._binner is None:
            nan = np.full((2, 2), np.nan)
            return ScanCalibration(
                self._scan.name, self._scan.scan_shape, self._scan.shape, nan, nan.copy(),
                (np.nan, np.nan), np.nan, verdict=NOT_CALIBRATED, reasons=("no frames yet",),
            )  # fmt: skip
        found = calibrate_binned(self._binner.finish(), self._config)
        rows = self._scan.scan_shape[0]
        if found.verdict == CALIBRATED and self.rows < rows:
            first = f"a first answer: {self.rows} of {rows} scan rows"
            found = replace(found, reasons=(first, *found.reasons))
        return found
