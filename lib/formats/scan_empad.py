"""Scans of an EMPAD (.raw): 128 x 128 pixels, and two rows of the read-out, as 32-bit floats.

Scan points are named in the .xml that names the file, or in the file's own name (``_x256_y256``).
Layout: M. W. Tate et al., Microsc. Microanal. 22, 237 (2016), and the files of the makers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .scan_source import RawScan

_SIDE, _STORED_ROWS = 128, 130
_FRAME_BYTES = _STORED_ROWS * _SIDE * 4
_PIXEL_MM = 0.15


class EmpadStack:
    """Frames of a file, (n, row, column), read when they are sliced."""

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, path: Path, n: int) -> None:
        self._path, self.shape = path, (n, _SIDE, _SIDE)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        first, stop, _ = index.indices(len(self))
        count = (stop - first) * _STORED_ROWS * _SIDE
        values = np.fromfile(self._path, "<f4", count, "", first * _FRAME_BYTES)
        return values.reshape(-1, _STORED_ROWS, _SIDE)[:, :_SIDE]


def read_empad(path: Path, inside: str | None) -> RawScan:
    """Frames of a .raw file; a last one cut short is left out.

    Raises
    ------
    UserError : the size is not that of frames of an EMPAD.
    """
    n, left = divmod(path.stat().st_size, _FRAME_BYTES)
    beside = _about(path)
    named = re.search(r"_x(\d+)_y(\d+)", path.stem)
    if n == 0 or (left and not beside and not named):
        raise UserError(
            path, f"{path.stat().st_size} bytes", f"frames of an EMPAD, {_FRAME_BYTES} bytes each",
            "give the scan in another format: bare numbers do not say what they are",
        )  # fmt: skip
    files: list[Path] = [path]
    fields: dict[str, Any] = {"pixel_size_mm": _PIXEL_MM}
    if beside:
        files.append(beside)
        fields |= _stated(beside)
    elif named:
        fields["scan_shape"] = (int(named[2]), int(named[1]))
    return RawScan([EmpadStack(path, n)], files, fields=fields, instrument="EMPAD")


def _about(path: Path) -> Path | None:
    """The .xml that is about a file: of its name, or that names it."""
    for one in sorted(path.parent.glob("*.xml")):
        if one.stem == path.stem or path.name.encode() in one.read_bytes()[:100_000]:
            return one
    return None


def _stated(path: Path) -> dict[str, Any]:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(
            path, f"XML that cannot be read ({error})", "what the EMPAD wrote", "copy it again"
        ) from None

    def number(*names: str) -> float:
        for name in names:
            text = root.findtext(f".//{name}") or ""
            if re.fullmatch(r"\s*[\d.]+([eE][+-]?\d+)?\s*", text):
                return float(text)
        return 0.0

    rows, columns = int(number("pix_y")), int(number("pix_x"))
    for one in root.iter("scan_parameters"):
        if one.get("mode") == "acquire":
            columns = int(float(one.findtext("scan_resolution_x") or columns))
            rows = int(float(one.findtext("scan_resolution_y") or rows))
    return {
        "scan_shape": (rows, columns) if rows and columns else None,
        "voltage_kV": number("high_voltage") * 1e-3 or None,
    }
