"""Merlin (Medipix) files of Quantum Detectors: .mib, with the .hdr beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import UserError
from .scan_source import RawScan

# counters of Medipix 3 stop at these
_HIGHEST = {"1": 1, "6": 63, "12": 4095, "24": 16777215}
_MEDIPIX_PX_MM = 0.055


def read_mib(path: Path, inside: str | None) -> RawScan:
    """Frames of a .mib, in the order and orientation of the file.

    Source of the layout: RosettaSciIO's reader, which alone turns the rows over.
    """
    from rsciio.quantumdetector import load_mib_data

    if path.stat().st_size == 0:
        raise UserError(path, "an empty file", "frames of a Merlin", "copy it again")
    try:
        frames: Any = load_mib_data(str(path), lazy=True)
    except NotImplementedError:
        raise UserError(
            path, "raw frames, as the chips read them out", "pixels in order",
            "record without RAW",
        ) from None  # fmt: skip
    if len(frames) == 0:
        raise UserError(path, "no whole frame", "frames of a Merlin", "copy it again")
    files, said = [path], {}
    header = path.with_suffix(".hdr")
    if header.is_file():
        files.append(header)
        said = _header(header)
    fields: dict[str, Any] = {
        "pixel_size_mm": _MEDIPIX_PX_MM,
        "saturation": _HIGHEST.get(said.get("Counter Depth (number)", "")),
        "scan_shape": _scan_shape(said, len(frames)),
    }
    note = "rows are in the order of the file, as LiberTEM reads it; HyperSpy turns them over"
    return RawScan([frames], files, fields=fields, instrument="Merlin", notes=(note,))


def _header(path: Path) -> dict[str, str]:
    said = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, tab, value = line.partition("\t")
        if tab:
            said[re.sub(r"\s+", " ", key).strip().rstrip(":")] = value.strip()
    return said


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
