"""Compressed chunks of HDF5 files, looked at before the filter that would crash on damaged ones."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_BITSHUFFLE = "32008"  # the filter's number, registered with The HDF Group
_LZ4 = 2
_HEAD = struct.Struct(">QI")


def check_chunks(data: Any, first: int, stop: int) -> None:
    """Raise ValueError if a chunk with entries first .. stop of the first axis is damaged.

    Bitshuffle's filter (hdf5plugin 6) follows the lengths that a chunk states beyond its end, which
    ends the process. Layout of a chunk: bytes unpacked, bytes of a block (big-endian 64 and 32
    bits), then each block behind its length; what is no whole 8 elements is not packed.
    """
    options = data._filters.get(_BITSHUFFLE) if data.chunks else None
    if not options or len(options) < 5 or options[4] != _LZ4:
        return
    whole = int(np.prod(data.chunks)) * data.dtype.itemsize
    step, held = data.chunks[0], data.file.id.get_filesize()
    for start in range(first - first % step, stop, step):
        for rest in np.ndindex(
            *(-(-n // c) for n, c in zip(data.shape[1:], data.chunks[1:], strict=True))
        ):
            at = (start, *(i * c for i, c in zip(rest, data.chunks[1:], strict=True)))
            info = data.id.get_chunk_info_by_coord(at)
            if info.byte_offset is None:
                continue  # never written: the fill value
            if info.byte_offset + info.size > held:  # memory for it would be taken first
                raise ValueError(f"a damaged chunk at {at}, of {info.size} bytes")
            mask, packed = data.id.read_direct_chunk(at)
            if mask == 0:
                _check(packed, whole, data.dtype.itemsize, at)


def _check(packed: bytes, whole: int, itemsize: int, at: tuple[int, ...]) -> None:
    fault = ValueError(f"a damaged chunk at {at}")
    if len(packed) < _HEAD.size:
        raise fault
    total, block = _HEAD.unpack_from(packed)
    if total != whole or block <= 0 or block % (8 * itemsize):
        raise fault
    left = total % block - total % (8 * itemsize)
    here = _HEAD.size
    for _ in range(total // block + (left > 0)):
        if here + 4 > len(packed):
            raise fault
        here += 4 + int.from_bytes(packed[here : here + 4], "big")
    if here + total % (8 * itemsize) != len(packed):
        raise fault


class CheckedData:
    """A data set whose chunks are looked at before they are unpacked; sliced as the data set is."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.shape, self.dtype, self.chunks = data.shape, data.dtype, data.chunks
        self.ndim = data.ndim

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> Any:
        first = index[0] if isinstance(index, tuple) else index
        if isinstance(first, slice):
            start, stop, _ = first.indices(len(self))
        else:
            start, stop = (0, len(self)) if first is Ellipsis else (int(first), int(first) + 1)
        check_chunks(self._data, start, stop)
        return self._data[index]
