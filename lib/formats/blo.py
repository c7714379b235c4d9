"""Blockfiles of NanoMegas (.blo): diffraction patterns of a scan, one after the other.

Layout as in RosettaSciIO's reader: a header, a virtual bright field image, then for each pattern
six bytes and its pixels, of eight bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .source import FrameHeader, Pixels, Reader, check_size, stated

_HEADER = np.dtype(
    [("id", "S6"), ("magic", "<u2"), ("offset_image", "<u4"), ("offset_frames", "<u4"),
     ("flags", "<u4"), ("side", "<u2"), ("rotation", "<u2"), ("columns", "<u2"), ("rows", "<u2"),
     ("scan_rotation", "<u2"), ("step_x_nm", "<f8"), ("step_y_nm", "<f8"), ("volts", "<u4"),
     ("px_per_100_cm", "<u2"), ("camera_length_mm_10", "<u4")]
)  # fmt: skip
_BEFORE_FRAME = 6


def sniff(head: bytes) -> bool:
    """Whether a file begins as a blockfile does."""
    return head[:6] == b"IMGBLO"


def read_header(path: Path) -> FrameHeader:
    """Layout of a blockfile: its patterns are frames, in the order of the scan."""
    said = _read(path)
    side, n = int(said["side"]), int(said["rows"]) * int(said["columns"])
    if side < 1 or n < 1:
        raise ValueError(f"{n} patterns of {side} x {side}, expected more than 0")
    offset = int(said["offset_frames"])
    check_size(path, offset + n * (_BEFORE_FRAME + side * side))
    fields: dict[str, Any] = {
        "voltage_kV": float(said["volts"]) * 1e-3 or None,
        "camera_length_mm": float(said["camera_length_mm_10"]) / 10 or None,
    }
    if said["px_per_100_cm"]:
        fields["pixel_size_mm"] = 1000 / float(said["px_per_100_cm"])
    return FrameHeader((side, side), np.dtype("u1"), n, offset, stated(path, **fields))


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Patterns of a file, (n, rows, columns)."""
    size = _BEFORE_FRAME + header.shape[0] * header.shape[1]
    block = np.fromfile(path, np.uint8, (stop - first) * size, "", header.offset + first * size)
    return block.reshape(-1, size)[:, _BEFORE_FRAME:].reshape(-1, *header.shape)


def scan_of(path: Path) -> tuple[tuple[int, int], tuple[float, float]]:
    """(rows, columns) of the scan, and its step along both in nm."""
    said = _read(path)
    return (int(said["rows"]), int(said["columns"])), (
        float(said["step_y_nm"]),
        float(said["step_x_nm"]),
    )


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(_HEADER.itemsize)
    if len(head) < _HEADER.itemsize:
        raise ValueError(f"truncated: {len(head)} bytes, a header has {_HEADER.itemsize}")
    return np.frombuffer(head, _HEADER, 1)[0]


READER = Reader("blockfile", (".blo",), sniff, read_header, read_pixels)
