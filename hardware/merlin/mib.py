"""One frame in the MIB format: a header of comma-separated text, then big-endian pixels.

``MQ1,000001,00384,01,0256,0256,U16,   1x1,01,2018-01-19 20:55:10.966026,1.000000,0,...``:
frame number, bytes of the header (384 and 128 more per further chip), chips, columns, rows,
pixel type, layout, chip mask, time, exposure in s; then counter, colour and gain mode,
thresholds and DACs. Pixels of 1 and 6 bits are stored as U08, 12 as U16, 24 as U32. Layout as
read from files of the detector, and in the reader of rosettasciio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: dict[str, np.dtype[Any]] = {
    "U08": np.dtype(">u1"),
    "U16": np.dtype(">u2"),
    "U32": np.dtype(">u4"),
}
_SHORTEST_HEADER = 128


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
    """

    number: int
    n_bytes: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    exposure_s: float

    @property
    def frame_bytes(self) -> int:
        """Of header and pixels."""
        return self.n_bytes + self.shape[0] * self.shape[1] * self.dtype.itemsize


def read_mib_header(data: bytes | bytearray) -> MibHeader:
    """The header at the start of `data`. Raises ValueError, saying what is wrong."""
    fields = bytes(data[:_SHORTEST_HEADER]).decode("ascii", "replace").split(",")
    if fields[0] != "MQ1" or len(fields) < 11:
        raise ValueError(f"no MIB header but {bytes(data[:20])!r}")
    if fields[6].startswith("R"):
        raise ValueError(f"raw pixels ({fields[6]}): set the file format to binary, not raw")
    if fields[6] not in DTYPES:
        raise ValueError(f"pixel type {fields[6]!r}: expected {', '.join(DTYPES)}")
    number, n_bytes, columns, rows = (int(fields[i]) for i in (1, 2, 4, 5))
    if number < 1 or n_bytes < _SHORTEST_HEADER or rows < 1 or columns < 1:
        raise ValueError(f"frame {number}, {n_bytes} bytes of header, {rows} x {columns} pixels")
    return MibHeader(number, n_bytes, (rows, columns), DTYPES[fields[6]], float(fields[10]))


def read_mib(data: bytes | bytearray) -> tuple[MibHeader, NDArray[Any]]:
    """Header and pixels (rows, columns) of exactly one frame. Raises ValueError."""
    header = read_mib_header(data)
    if len(data) != header.frame_bytes:
        raise ValueError(f"{len(data)} bytes where the header promises {header.frame_bytes}")
    pixels = np.frombuffer(data, header.dtype, -1, header.n_bytes)
    return header, pixels.reshape(header.shape)
