"""Merlin (Medipix) scans of Quantum Detectors: a .mib of frames, with the .hdr beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import UserError
from .mib import PIXEL_MM, MibHeader, hdr_items, open_mib, read_frames
from .scan_source import RawScan


class MibStack:
    """Frames of a .mib, (n, row, column), read when they are sliced."""

    ndim = 3

    def __init__(self, path: Path, header: MibHeader, n: int) -> None:
        self._path, self._header = path, header
        self.shape, self.dtype = (n, *header.shape), header.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        first, stop, _ = index.indices(len(self))
        return read_frames(self._path, self._header, first, stop)


def read_mib(path: Path, inside: str | None) -> RawScan:
    """Frames of a .mib, in the order and orientation of the file; what a crash cut off is left."""
    if path.stat().st_size == 0:
        raise UserError(path, "an empty file", "frames of a Merlin", "copy it again")
    first, n, _ = open_mib(path)
    files, said = [path], {}
    beside = path.with_suffix(".hdr")
    if beside.is_file():
        files.append(beside)
        said = hdr_items(beside)
    depth = said.get("Counter Depth (number)", "")
    saturation = first.saturation
    if saturation is None and depth.isdigit():
        saturation = float(2 ** int(depth) - 1)
    fields: dict[str, Any] = {
        "pixel_size_mm": PIXEL_MM,
        "saturation": saturation,
        "scan_shape": _scan_shape(said, n),
    }
    note = "rows are in the order of the file, as LiberTEM reads it; HyperSpy turns them over"
    stack = MibStack(path, first, n)
    return RawScan([stack], files, fields=fields, instrument="Merlin", notes=(note,))


def _scan_shape(said: dict[str, str], n: int) -> tuple[int, int] | None:
    """Rows and columns, where the header states them: itself, or by one trigger a row."""

    def number(key: str) -> int:
        text = said.get(key, "")
        return int(text) if text.isdigit() else 0

    columns, rows = number("ScanX"), number("ScanY")
    if rows and columns:
        return rows, columns
    columns = number("Frames per Trigger (Number)")
    total = number("Frames in Acquisition (Number)")
    if columns > 1 and total > columns and total % columns == 0:
        return total // columns, columns
    return None
