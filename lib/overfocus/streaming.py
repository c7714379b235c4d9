"""Calibration while the scan runs: a partial scan gives a first answer, which sharpens."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .binning import Binner
from .calibrate import calibrate_binned, choose_binning
from .calibration import CALIBRATED, NOT_CALIBRATED, ScanCalibration
from .config import OverfocusConfig


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
