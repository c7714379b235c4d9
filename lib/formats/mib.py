"""MIB files of Merlin (Medipix 3) detectors: frames, each a header of text before its pixels.

``MQ1,000001,00384,01,0256,0256,U16,   1x1,01,2018-01-19 20:55:10.966026,1.000000,0,...``:
frame number, bytes of the header (384 and 128 more per further chip), chips, columns, rows,
pixel type, layout, chip mask, time, exposure in s; then counter, colour and gain mode,
thresholds and DACs, and in later versions ``MQ1A``, the time again, the exposure and the bits of
the counter. Pixels are big-endian: U08 for counters of 1 and 6 bits, U16 for 12, U32 for 24.

Raw pixels (R64) lie as the chips read them out, in words of 64 bits whose pixels stand in
reverse: one bit, one byte or two to each. 24 bits are two passes of 12 bits, the high ones first.
A row of a 2x2 detector has its four chips one after the other, the last first: those of the lower
half are turned by half a turn. (Seen in files that were taken in both ways; R6, R12 and R24 after
LiberTEM's reader.)

Rows are in the order of the file, as LiberTEM has them; HyperSpy turns them over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .source import FrameHeader, Pixels, Reader, stated

PIXEL_MM = 0.055
CHIP_PX = 256
DTYPES: dict[str, np.dtype[Any]] = {
    "U08": np.dtype(">u1"),
    "U16": np.dtype(">u2"),
    "U32": np.dtype(">u4"),
}
_RAW = "R64"
_RAW_DTYPES = {1: ">u1", 6: ">u1", 12: ">u2", 24: ">u4"}
_STORED_BITS = {1: 1, 6: 8, 12: 16, 24: 32}  # of a raw pixel
_SHORTEST_HEADER = 128
_LONGEST_HEADER = 1 << 12


@dataclass(frozen=True)
class MibHeader:
    """What a frame says of itself.

    Attributes
    ----------
    number : of the frame in its acquisition, from 1.
    n_bytes : of the header.
    shape : (rows, columns).
    dtype : of the pixels.
    exposure_s : as the detector kept it.
    depth : bits of the counter, or None in older files.
    raw : pixels lie as the chips read them out.
    chips : (rows, columns) of chips, where pixels are raw.
    """

    number: int
    n_bytes: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    exposure_s: float
    depth: int | None = None
    raw: bool = False
    chips: tuple[int, int] = (1, 1)

    @property
    def pixel_bytes(self) -> int:
        """Of the pixels of a frame."""
        n = self.shape[0] * self.shape[1]
        if self.raw:
            assert self.depth is not None
            return n * _STORED_BITS[self.depth] // 8
        return n * self.dtype.itemsize

    @property
    def frame_bytes(self) -> int:
        """Of header and pixels."""
        return self.n_bytes + self.pixel_bytes

    @property
    def saturation(self) -> float | None:
        """Where the counter stops."""
        return None if self.depth is None else float(2**self.depth - 1)


def read_mib_header(data: bytes | bytearray) -> MibHeader:
    """The header at the start of `data`. Raises ValueError, saying what is wrong."""
    text = bytes(data[:_LONGEST_HEADER]).partition(b"\0")[0].decode("ascii", "replace")
    fields = text.split(",", 11)
    if fields[0] != "MQ1" or len(fields) < 11:
        raise ValueError(f"no MIB header but {bytes(data[:20])!r}")
    number, n_bytes, columns, rows = (int(fields[i]) for i in (1, 2, 4, 5))
    if number < 1 or n_bytes < _SHORTEST_HEADER or rows < 1 or columns < 1:
        raise ValueError(f"frame {number}, {n_bytes} bytes of header, {rows} x {columns} pixels")
    depth = _depth(text[:n_bytes])
    exposure_s = float(fields[10])
    if fields[6] != _RAW:
        if fields[6] not in DTYPES:
            raise ValueError(f"pixel type {fields[6]!r}: expected {', '.join(DTYPES)} or {_RAW}")
        return MibHeader(number, n_bytes, (rows, columns), DTYPES[fields[6]], exposure_s, depth)
    if depth not in _RAW_DTYPES:
        raise ValueError(f"raw pixels of {depth} bits: expected a header that states 1, 6, 12, 24")
    layout = fields[7].strip().lower()
    one = layout == "1x1" and columns == CHIP_PX
    four = layout == "2x2" and (rows, columns) == (CHIP_PX, 4 * CHIP_PX)
    if not (one or (four and depth != 24)):
        raise ValueError(
            f"raw pixels of {depth} bits, {rows} x {columns}, chips {layout}: expected one chip, "
            "or 2x2 of 1, 6 or 12 bits; set the file format to binary, not raw"
        )
    return MibHeader(
        number, n_bytes, (2 * CHIP_PX, 2 * CHIP_PX) if four else (rows, columns),
        np.dtype(_RAW_DTYPES[depth]), exposure_s, depth, True, (2, 2) if four else (1, 1),
    )  # fmt: skip


def read_mib(data: bytes | bytearray) -> tuple[MibHeader, NDArray[Any]]:
    """Header and pixels (rows, columns) of exactly one frame. Raises ValueError."""
    header = read_mib_header(data)
    if len(data) != header.frame_bytes:
        raise ValueError(f"{len(data)} bytes where the header promises {header.frame_bytes}")
    return header, frames_of(np.frombuffer(data, np.uint8)[None], header)[0]


def frames_of(block: NDArray[np.uint8], header: MibHeader) -> NDArray[Any]:
    """Pixels (n, rows, columns), big-endian, of frames as bytes (n, frame_bytes)."""
    data = block[:, header.n_bytes :]
    n, (rows, columns) = len(data), header.shape
    if not header.raw:  # a view: whoever turns the bytes around copies anyway
        return data.view(header.dtype).reshape(n, rows, columns)
    return _in_order(np.ascontiguousarray(data), header).reshape(n, rows, columns)


def open_mib(path: Path) -> tuple[MibHeader, int, int]:
    """Header of the first frame of a file, number of whole frames, and bytes left over.

    Raises
    ------
    ValueError : the file is no MIB, holds no whole frame, or its last whole frame is of another
        kind than its first.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = read_mib_header(file.read(_LONGEST_HEADER))
        n, left = divmod(size, header.frame_bytes)
        if n == 0:
            raise ValueError(f"truncated: {size} bytes, a frame has {header.frame_bytes}")
        file.seek((n - 1) * header.frame_bytes)
        last = read_mib_header(file.read(header.n_bytes))
    if (last.frame_bytes, last.shape, last.dtype) != (
        header.frame_bytes,
        header.shape,
        header.dtype,
    ):
        raise ValueError(f"frames of {header.shape} and of {last.shape}; expected one kind")
    return header, n, left


def read_frames(path: Path, header: MibHeader, first: int, stop: int) -> NDArray[Any]:
    """Frames of a file, (n, rows, columns), big-endian. Raises ValueError if it ends before."""
    size = header.frame_bytes
    block = np.fromfile(path, np.uint8, (stop - first) * size, "", first * size)
    if len(block) != (stop - first) * size:
        raise ValueError(f"truncated: {len(block) // size} frames of {stop - first}")
    return frames_of(block.reshape(-1, size), header)


def hdr_items(path: Path) -> dict[str, str]:
    """What a .hdr says, by its keys with single blanks and without the colon."""
    said = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, tab, value = line.partition("\t")
        if tab:
            said[" ".join(key.split()).rstrip(":")] = value.strip()
    return said


def sniff(head: bytes) -> bool:
    """Whether a file begins as MIB does."""
    return head[:4] == b"MQ1,"


def read_header(path: Path) -> FrameHeader:
    """Layout of a .mib and what it and the .hdr beside it state."""
    header, n, left = open_mib(path)
    if left:
        raise ValueError(f"truncated: {left} bytes after {n} whole frames")
    said = hdr_items(path.with_suffix(".hdr")) if path.with_suffix(".hdr").is_file() else {}
    saturation = header.saturation
    depth = said.get("Counter Depth (number)", "")
    if saturation is None and depth.isdigit():
        saturation = float(2 ** int(depth) - 1)
    metadata = stated(
        path,
        pixel_size_mm=PIXEL_MM,
        exposure_s=header.exposure_s if header.exposure_s > 0 else None,
        saturation=saturation,
    )
    notes = ("rows are in the order of the MIB files, as LiberTEM reads them; HyperSpy turns "
             "them over",)  # fmt: skip
    return FrameHeader(
        header.shape, header.dtype, n, header.n_bytes, metadata, notes=notes, camera="Merlin"
    )


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    with path.open("rb") as file:
        one = read_mib_header(file.read(_LONGEST_HEADER))
    frames = read_frames(path, one, first, stop)
    return frames.astype(header.dtype.newbyteorder("="), copy=False)


def _depth(text: str) -> int | None:
    """Bits of the counter, which the extension of the header ends with."""
    extension = text.partition("MQ1A,")[2].split(",")
    return int(extension[2]) if len(extension) > 2 and extension[2].strip().isdigit() else None


def _in_order(data: NDArray[np.uint8], header: MibHeader) -> NDArray[Any]:
    """Raw bytes (n, bytes) as pixels (n, rows x columns)."""
    n = len(data)
    rows = CHIP_PX if header.chips == (2, 2) else header.shape[0]
    if header.depth == 1:
        words = data.reshape(n, -1, 8)[..., ::-1]
        pixels: NDArray[Any] = np.unpackbits(words, axis=-1, bitorder="little").reshape(n, rows, -1)
    elif header.depth == 6:
        pixels = data.reshape(n, -1, 8)[..., ::-1].reshape(n, rows, -1)
    else:
        pixels = data.view(">u2").reshape(n, -1, 4)[..., ::-1]
        if header.depth == 24:
            high, low = pixels.reshape(n, 2, rows, -1).astype(np.uint32).swapaxes(0, 1)
            pixels = high << 12 | low
        pixels = pixels.reshape(n, rows, -1)
    if header.chips == (2, 2):
        four, three, two, one = np.split(pixels, 4, axis=2)
        upper = np.concatenate([one, two], axis=2)
        lower = np.concatenate([three[:, ::-1, ::-1], four[:, ::-1, ::-1]], axis=2)
        pixels = np.concatenate([upper, lower], axis=1)
    return pixels.astype(header.dtype, copy=False)


READER = Reader("MIB", (".mib",), sniff, read_header, read_pixels)
