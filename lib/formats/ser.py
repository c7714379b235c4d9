"""SER files of FEI's TIA (.ser), images and series, with the .emi beside them.

Layout after C. Boothroyd's description of it, as RosettaSciIO and openNCEM read it. Rows are
stored from the bottom up, as TIA has its y; they are put back, as openNCEM does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from .source import FrameHeader, Pixels, Reader, check_size, stated

_HEADER = np.dtype(
    [("order", "<u2"), ("id", "<u2"), ("version", "<u2"), ("data", "<u4"), ("tag", "<u4"),
     ("total", "<u4"), ("valid", "<u4")]
)  # fmt: skip
_ELEMENT = np.dtype(
    [("offset_x", "<f8"), ("step_x", "<f8"), ("element_x", "<i4"), ("offset_y", "<f8"),
     ("step_y", "<f8"), ("element_y", "<i4"), ("type", "<u2"), ("columns", "<i4"), ("rows", "<i4")]
)  # fmt: skip
_START = b"II\x97\x01"
_IMAGES, _SPECTRA = 0x4122, 0x4120
_LONG_OFFSETS = 0x0220  # from this version on
_TYPES = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8"}
_SQUARE = 1e-3
_RECIPROCAL_M = (1e4, 1e10)  # what a pixel of a diffraction pattern may be, in 1/m


def sniff(head: bytes) -> bool:
    """Whether a file begins as SER does."""
    return head[:4] == _START


def read_header(path: Path) -> FrameHeader:
    """Layout of a SER file, and what the .emi beside it says of the microscope."""
    offsets = _offsets(path)
    first = _element(path, int(offsets[0]))
    kind = _TYPES.get(int(first["type"]))
    if kind is None:
        raise ValueError(f"pixels of type {first['type']}, expected real numbers")
    rows, columns = int(first["rows"]), int(first["columns"])
    if min(rows, columns) < 1:
        raise ValueError(f"frames of {rows} x {columns}, expected more than 0")
    dtype = np.dtype(kind)
    check_size(path, int(offsets.max()) + _ELEMENT.itemsize + rows * columns * dtype.itemsize)
    for offset in offsets[1:].tolist():
        other = _element(path, offset)
        if (other["rows"], other["columns"], other["type"]) != (rows, columns, first["type"]):
            raise ValueError(
                f"frames of {rows} x {columns} and {other['rows']} x {other['columns']}"
            )
    notes = ["rows of SER files are stored from the bottom up; they were put back"]
    fields, camera = _emi(path, first, notes)
    return FrameHeader(
        (rows, columns), dtype, len(offsets), metadata=stated(path, **fields), notes=tuple(notes),
        camera=camera,
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    n = header.shape[0] * header.shape[1]
    frames = np.empty((stop - first, *header.shape), header.dtype.newbyteorder("="))
    for i, offset in enumerate(_offsets(path)[first:stop].tolist()):
        values = np.fromfile(path, header.dtype, n, "", offset + _ELEMENT.itemsize)
        frames[i] = values.reshape(header.shape)[::-1]
    return frames


def _offsets(path: Path) -> np.ndarray:
    """Where each frame begins."""
    with path.open("rb") as file:
        head = file.read(_HEADER.itemsize)
        if len(head) < _HEADER.itemsize:
            raise ValueError(f"truncated: {len(head)} bytes, a header has {_HEADER.itemsize}")
        said = np.frombuffer(head, _HEADER, 1)[0]
        if said["data"] == _SPECTRA:
            raise ValueError("spectra, expected diffraction patterns")
        if said["data"] != _IMAGES:
            raise ValueError(f"data of type {said['data']:#x}, expected images")
        kind = np.dtype("<u8" if said["version"] >= _LONG_OFFSETS else "<u4")
        at = file.read(kind.itemsize)
        if len(at) < kind.itemsize:
            raise ValueError("truncated: no list of frames")
        file.seek(int(np.frombuffer(at, kind)[0]))
        n = int(said["valid"])
        table = file.read(n * kind.itemsize) if n * kind.itemsize <= path.stat().st_size else b""
    if n < 1 or len(table) < n * kind.itemsize:
        raise ValueError(f"truncated: {len(table) // kind.itemsize} of {n} frames in its list")
    return np.frombuffer(table, kind).astype(np.int64)


def _element(path: Path, offset: int) -> Any:
    with path.open("rb") as file:
        file.seek(max(offset, 0))
        data = file.read(_ELEMENT.itemsize)
    if len(data) < _ELEMENT.itemsize:
        raise ValueError(f"truncated: a frame at byte {offset}, beyond the end")
    return np.frombuffer(data, _ELEMENT, 1)[0]


def _emi(path: Path, first: Any, notes: list[str]) -> tuple[dict[str, Any], str]:
    """What the .emi says: of ``name_1.ser`` it is ``name.emi``. kV, m, s."""
    emi = path.with_name(re.sub(r"_\d+$", "", path.stem) + ".emi")
    if not emi.is_file():
        return {}, ""
    number = re.search(r"_(\d+)$", path.stem)
    found = re.findall(rb"<ObjectInfo>.*?</ObjectInfo>", emi.read_bytes(), re.DOTALL)
    which = min(int(number[1]) - 1 if number else 0, len(found) - 1)
    try:
        tree = ElementTree.fromstring(found[max(which, 0)])
    except (ElementTree.ParseError, IndexError):
        notes.append(f"{emi.name} holds no description that can be read")
        return {}, ""
    said = {
        data.findtext("Label", ""): (data.findtext("Value", ""), data.findtext("Unit", ""))
        for data in tree.iterfind(".//ExperimentalDescription/Root/Data")
    }

    def number_of(label: str) -> float | None:
        text = said.get(label, ("", ""))[0].replace(",", "")
        try:
            return float(text) if float(text) > 0 else None
        except ValueError:
            return None

    fields: dict[str, Any] = {"voltage_kV": number_of("High tension")}
    exposure = tree.findtext(".//AcquireInfo/IntegrationTime") or ""
    if re.fullmatch(r"[\d.eE+-]+", exposure) and float(exposure) > 0:
        fields["exposure_s"] = float(exposure)
    if "diffraction" in said.get("Mode", ("", ""))[0].lower():
        length = number_of("Camera length")
        fields["camera_length_mm"] = None if length is None else length * 1000
        steps = sorted((abs(float(first["step_x"])), abs(float(first["step_y"]))))
        if steps[0] * (1 + _SQUARE) >= steps[1] and _RECIPROCAL_M[0] < steps[0] < _RECIPROCAL_M[1]:
            fields["per_A_per_px"] = float(np.sqrt(steps[0] * steps[1])) * 1e-10
    else:
        notes.append(f"{emi.name} says that the microscope was not in diffraction")
    return fields, tree.findtext(".//AcquireInfo/CameraNamePath") or ""


READER = Reader("SER", (".ser",), sniff, read_header, read_pixels)
