"""miniCBF frames: the compressed binary of CBF with a text header after DECTRIS.

Header lines after "# " as in the PILATUS and EIGER miniCBF convention; Beam_xy counts from
the detector's corner, pixels below zero do not exist (gaps) or must not be used.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import centre_from_corner
from ..instrument import SeriesMetadata
from .source import FrameHeader, Pixels, Reader, check_size

_HEAD = 1 << 16
_ELEMENTS = {
    "signed 32-bit integer": "<i4",
    "signed 16-bit integer": "<i2",
    "unsigned 32-bit integer": "<u4",
    "unsigned 16-bit integer": "<u2",
    "signed 8-bit integer": "i1",
    "unsigned 8-bit integer": "u1",
}
_START_OF_DATA = b"\x0c\x1a\x04\xd5"


def sniff(head: bytes) -> bool:
    """Whether a file begins as CBF does."""
    return head[:6] == b"###CBF"


def read_header(path: Path) -> FrameHeader:
    """Layout of a miniCBF file and what its text states."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    start = head.find(_START_OF_DATA)
    if start < 0:
        raise ValueError("truncated: no image in it")
    text = head[:start].decode("latin-1")

    def binary(name: str) -> str:
        found = re.search(rf"^X-Binary-{name}: *\"?([^\"\r\n]+)", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"no X-Binary-{name} in its header")
        return found[1]

    columns = int(binary("Size-Fastest-Dimension"))
    rows = int(binary("Size-Second-Dimension"))
    kind = _ELEMENTS.get(binary("Element-Type").strip().lower())
    if kind is None:
        raise ValueError(f"pixels are {binary('Element-Type')}, expected integers")
    check_size(path, start + len(_START_OF_DATA) + int(binary("Size")))

    def stated(name: str, unit: str = "") -> float | None:
        found = re.search(rf"^# *{name}[ :=]+([-+.\deE]+) *{unit}", text, re.MULTILINE)
        return None if found is None else float(found[1])

    def positive(name: str, unit: str, scale: float = 1.0) -> float | None:
        value = stated(name, unit)
        return value * scale if value is not None and value > 0 else None

    beam = re.search(r"^# *Beam_xy *\( *([-+.\d]+) *, *([-+.\d]+) *\) *pixels", text, re.MULTILINE)
    start_deg = stated("Start_angle", "deg")
    metadata = SeriesMetadata(
        wavelength_A=positive("Wavelength", "A"),
        pixel_size_mm=positive("Pixel_size", "m", 1e3),
        distance_mm=positive("Detector_distance", "m", 1e3),
        beam_centre_px=None if beam is None else centre_from_corner(float(beam[1]), float(beam[2])),
        oscillation_deg=stated("Angle_increment", "deg"),
        exposure_s=positive("Exposure_time", "s"),
        saturation=positive("Count_cutoff", "counts"),
    )
    notes = ()
    if "_diffrn_radiation_wavelength" in text and metadata == SeriesMetadata():
        notes = ("the CBF files are full imgCIF, whose tables of geometry are not read",)
    return FrameHeader(
        (rows, columns),
        np.dtype(kind),
        metadata=metadata,
        start_deg=() if start_deg is None else (start_deg,),
        notes=notes,
    )


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """The one frame of a file, (1, rows, columns)."""
    import fabio  # it brings in h5py, which only those with CBF should wait for

    with fabio.open(str(path)) as image:
        pixels = np.asarray(image.data, header.dtype)
    return pixels.reshape(1, *header.shape)[first:stop]


def read_mask(path: Path, header: FrameHeader) -> NDArray[np.bool_]:
    """Pixels below zero are none."""
    return np.asarray(read_pixels(path, header, 0, 1)[0] < 0)


READER = Reader("miniCBF", (".cbf",), sniff, read_header, read_pixels, read_mask)
