"""miniCBF frames: the compressed binary of CBF with a text header after DECTRIS.

Header lines after "# " as in the PILATUS and EIGER miniCBF convention; Beam_xy counts from
the detector's corner, pixels below zero do not exist (gaps) or must not be used.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import centre_from_corner, centre_to_corner
from ..instrument import SeriesMetadata
from ..series.rotation_series import RotationSeries
from .source import FrameHeader, Pixels, Reader, check_size
from .write import PixelCast, Writer, WriteReport, blocks, extremes, frame_names, new_folder

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
_AFTER = b"\0\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n\r\n"


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
    size = int(binary("Size"))
    if not 0 < rows * columns <= size:  # a pixel has a byte at least
        raise ValueError(f"{size} bytes for {rows} x {columns} pixels")
    check_size(path, start + len(_START_OF_DATA) + size)

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
    notes: tuple[str, ...] = ()
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
    """The one frame of a file, (1, rows, columns).

    fabio as a whole seeks the start of damaged files forever; its decompressor does not.
    """
    from fabio.compression import decByteOffset  # brings in h5py: only for those with CBF

    content = path.read_bytes()
    head, _, packed = content.partition(_START_OF_DATA)
    if b"x-CBF_BYTE_OFFSET" not in head:
        raise ValueError("pixels not compressed by byte offsets, the only way that is read")
    size = re.search(rb"X-Binary-Size: *(\d+)", head)
    n = header.shape[0] * header.shape[1]
    if size is None or not n <= int(size[1]) <= len(packed):
        raise ValueError(f"truncated: {len(packed)} bytes of pixels")
    pixels = np.asarray(decByteOffset(packed[: int(size[1])], size=n))
    if len(pixels) != n:
        raise ValueError(f"truncated: {len(pixels)} of {n} pixels")
    return pixels.astype(header.dtype).reshape(1, *header.shape)[first:stop]


def read_mask(path: Path, header: FrameHeader) -> NDArray[np.bool_]:
    """Pixels below zero are none."""
    return np.asarray(read_pixels(path, header, 0, 1)[0] < 0)


def write_cbf(series: RotationSeries, folder: str | Path) -> WriteReport:
    """Write each frame as miniCBF, signed 32-bit integers packed by differences, for XDS and DIALS.

    Pixels below zero would be none to whoever reads them: a pedestal lifts the lowest one to zero.
    A miniCBF does not hold the rotation axis.

    Raises
    ------
    UserError : the folder cannot be written, or holds frames.
    """
    from fabio.compression import compByteOffset

    folder = Path(folder)
    pedestal = 0.0
    if series.frames.dtype.kind != "u":
        pedestal = float(max(0.0, -np.floor(extremes(series)[0])))
    cast = PixelCast(np.dtype(np.int32), pedestal)
    files = []
    with new_folder(folder, ".cbf"):
        names = frame_names(series, ".cbf")
        for start, block in blocks(series):
            for i, pixels in enumerate(cast(block), start):
                packed = bytes(compByteOffset(pixels.ravel()))
                path = folder / names[i]
                path.write_bytes(_before(series, i, pedestal, packed) + packed + _AFTER)
                files.append(path)
    return cast.report(files, [])


def _before(series: RotationSeries, i: int, pedestal: float, packed: bytes) -> bytes:
    """All that stands before the packed pixels of the `i`-th frame."""
    geometry, (rows, columns) = series.geometry, series.shape
    centre = geometry.beam_centre_px
    if series.beam_centres_px is not None:
        centre = float(series.beam_centres_px[i, 0]), float(series.beam_centres_px[i, 1])
    x, y = centre_to_corner(centre)
    pixel = geometry.pixel_size_mm * 1e-3
    top = 2**31 - 1 if series.saturation is None else series.saturation + pedestal
    exposure = series.exposure_s or 0.0
    said = [
        f"Detector: {series.instrument}",
        f"Exposure_time {exposure:.7g} s",
        f"Exposure_period {exposure:.7g} s",
        "Silicon sensor, thickness 0.000000001 m",  # no parallax; DIALS does not take 0
        f"Pixel_size {pixel:.9g} m x {pixel:.9g} m",
        f"Count_cutoff {top:.0f} counts",
        f"Wavelength {geometry.wavelength_A:.11g} A",
        f"Detector_distance {geometry.distance_mm * 1e-3:.9g} m",
        f"Beam_xy ({x:.5f}, {y:.5f}) pixels",
        f"Start_angle {series.angle_start_deg[i]:.6f} deg.",
        f"Angle_increment {series.angle_width_deg[i]:.6f} deg.",
    ]
    digest = base64.b64encode(hashlib.md5(packed, usedforsecurity=False).digest()).decode()
    lines = [
        "###CBF: VERSION 1.5, written by ewaldflow",
        "",
        f"data_{series.frame_number[i]:05d}",
        "",
        '_array_data.header_convention "GENERIC_MINI"',  # of any size, to DIALS
        "_array_data.header_contents",
        ";",
        *(f"# {line}" for line in said),
        ";",
        "",
        "_array_data.data",
        ";",
        "--CIF-BINARY-FORMAT-SECTION--",
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(packed)}",
        "X-Binary-ID: 1",
        'X-Binary-Element-Type: "signed 32-bit integer"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        f"Content-MD5: {digest}",
        f"X-Binary-Number-of-Elements: {rows * columns}",
        f"X-Binary-Size-Fastest-Dimension: {columns}",
        f"X-Binary-Size-Second-Dimension: {rows}",
        "X-Binary-Size-Padding: 1",
        "",
        "",
    ]
    return "\r\n".join(lines).encode("ascii", "replace") + _START_OF_DATA


READER = Reader("miniCBF", (".cbf",), sniff, read_header, read_pixels, read_mask)
WRITER = Writer("CBF", ".cbf", write_cbf)
