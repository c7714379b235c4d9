"""MRC frames and stacks (MRC2014), with the extended headers of FEI/Thermo Fisher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE, get_ext_header_dtype

from ..errors import UserError
from ..instrument import SeriesMetadata
from ..series.rotation_series import RotationSeries
from .source import FrameHeader, Pixels, Reader, check_size
from .write import (
    PixelCast,
    Writer,
    WriteReport,
    blocks,
    extremes,
    frame_names,
    new_folder,
    numbered_from_one,
)

# instamatic's writer leaves the blank out of ``MAP`` and puts 00 00 41 44 for the byte order
STAMP_OFFSET = 208
INSTAMATIC_STAMP = b"MAP\0\0\0AD"
# Modes whose pixels are real numbers.
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_MODE_OF = {kind: mode for mode, kind in _MODES.items()}


def sniff(head: bytes) -> bool:
    """Whether bytes 208 on say MAP, or at least name a byte order."""
    return head[208:211] == b"MAP" or head[212:214] in {b"\x44\x41", b"\x44\x44", b"\x11\x11"}


def read_header(path: Path) -> FrameHeader:
    """Layout of an MRC file and what an FEI extended header states.

    The header is read with mrcfile's own layout of it, but not by mrcfile, whose permissive
    reading warns about files like instamatic's.
    """
    with path.open("rb") as file:
        head = file.read(1024)
        if len(head) < 1024:
            raise ValueError(f"truncated: {len(head)} bytes, an MRC header has 1024")
        order: Literal["<", ">"] = ">" if head[212:214] == b"\x11\x11" else "<"
        header = np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0]
        extended = file.read(max(0, int(header["nsymbt"])))
    mode = int(header["mode"])
    if mode not in _MODES:
        raise ValueError(f"mode {mode}, expected one of {', '.join(map(str, _MODES))}")
    dtype = np.dtype(_MODES[mode]).newbyteorder(order)
    columns, rows, n_frames = (int(header[key]) for key in ("nx", "ny", "nz"))
    if min(columns, rows, n_frames) < 1:
        raise ValueError(f"{n_frames} frames of {rows} x {columns}, expected more than 0")
    offset = 1024 + len(extended)
    check_size(path, offset + n_frames * rows * columns * dtype.itemsize)
    metadata, starts = _fei(bytes(header["exttyp"]), extended, order, n_frames)
    notes: tuple[str, ...] = ()
    if _is_instamatic(head[208:216]):
        notes = ("the MRC files are instamatic's, stored upside down; rows were put back",)
    return FrameHeader((rows, columns), dtype, n_frames, offset, metadata, starts, notes)


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    rows, columns = header.shape
    size = rows * columns
    start = header.offset + first * size * header.dtype.itemsize
    pixels = np.fromfile(path, header.dtype, (stop - first) * size, "", start)
    pixels = pixels.reshape(-1, rows, columns)
    if header.notes:  # instamatic's: see read_header
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels, header.dtype.newbyteorder("="))


def _is_instamatic(stamp: bytes) -> bool:
    return stamp[:4].rstrip(b"\0 ") == b"MAP" and stamp[4:8] == INSTAMATIC_STAMP[4:]


def _fei(
    kind: bytes, extended: bytes, order: Literal["<", ">"], n_frames: int
) -> tuple[SeriesMetadata, tuple[float, ...]]:
    """Voltage, camera length, pixel size and tilt of an FEI1 or FEI2 extended header.

    Fields are in volts, metres, 1/m (of a pixel, in diffraction) and degrees.
    """
    if kind not in {b"FEI1", b"FEI2"}:
        return SeriesMetadata(), ()
    layout = get_ext_header_dtype(kind, order)
    if len(extended) < layout.itemsize:
        return SeriesMetadata(), ()
    # each frame's record says how long it is, and may be longer than we know it
    step = int(np.frombuffer(extended, layout, 1)[0]["Metadata size"])
    if not layout.itemsize <= step <= len(extended):
        step = layout.itemsize
    n_records = (len(extended) - layout.itemsize) // step + 1
    records = np.ndarray((n_records,), layout, extended, 0, (step,))

    def first(name: str, scale: float) -> float | None:
        value = float(records[name][0]) * scale
        return value if np.isfinite(value) and value > 0 else None

    per_A_per_px = first("Pixel size X", 1e-10)
    if per_A_per_px is not None and not 1e-6 < per_A_per_px < 1:
        per_A_per_px = None  # metres of an image, not 1/m of a diffraction pattern
    tilt = records["Alpha tilt"][:n_frames]
    turns = len(tilt) == n_frames and (n_frames == 1 or np.any(np.diff(tilt) != 0))
    return SeriesMetadata(
        voltage_kV=first("HT", 1e-3),
        camera_length_mm=first("Camera length", 1e3),
        per_A_per_px=per_A_per_px,
        exposure_s=first("Integration time", 1.0),
    ), tuple(float(angle) for angle in tilt) if turns else ()


def write_mrc(series: RotationSeries, path: str | Path) -> WriteReport:
    """Write the frames: a file each in a folder, or one stack ``*.mrc(s)``.

    Rows are stored as they are, the first one first. MRC knows 8- and 16-bit integers and
    32-bit floats; other pixels go into the first of these that holds them. MRC holds no
    geometry: write an XDS.INP beside it.

    Raises
    ------
    UserError : the folder cannot be written or holds frames; a stack of a broken series; whole
        numbers too large for a 32-bit float.
    """
    path = Path(path)
    cast = PixelCast(_writable_type(series))
    if path.suffix.lower() in READER.suffixes:
        notes = numbered_from_one(series)
        shape, mode = (len(series), *series.shape), _MODE_OF[cast.dtype.str[1:]]
        with (
            new_folder(path.parent, path.name),
            mrcfile.new_mmap(path, shape, mode) as mrc,
        ):
            mrc.set_image_stack()
            for start, block in blocks(series):
                mrc.data[start : start + len(block)] = cast(block)
        return cast.report([path], notes)
    files = []
    with new_folder(path, ".mrc"):
        names = frame_names(series, ".mrc")
        for start, block in blocks(series):
            for i, pixels in enumerate(cast(block), start):
                files.append(path / names[i])
                mrcfile.write(files[-1], pixels)
    return cast.report(files, [])


def _writable_type(series: RotationSeries) -> np.dtype[Any]:
    dtype = series.frames.dtype
    if dtype in (np.int8, np.int16, np.uint16):
        return dtype
    if dtype.kind == "f":
        return np.dtype(np.float32)
    lowest, highest = extremes(series)
    for kind in (np.int16, np.uint16):
        if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
            return np.dtype(kind)
    if max(-lowest, highest) > 2**24:
        raise UserError(
            series.name,
            f"pixels up to {max(-lowest, highest):.0f}",
            "at most 16777216, what MRC holds exactly",
            "write TIFF",
        )
    return np.dtype(np.float32)


READER = Reader("MRC", (".mrc", ".mrcs"), sniff, read_header, read_pixels)
WRITER = Writer("MRC", ".mrc", write_mrc)
