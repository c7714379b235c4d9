"""Putting arrays into zarr so that damage shows: checksummed chunks, whole shards, no gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from ..errors import UserError
from .in_threads import in_threads

if TYPE_CHECKING:
    import dask.array as da

# A shard is written by one writer in one piece, so it bounds the memory that writing takes.
SHARD_BYTES = 64 * 2**20
SHARD_FRAMES = 64
_CODEC: Literal["lz4"] = "lz4"
_LEVEL = 5  # of compression; 1 to 9 differ by 2 % in size and less in time
_OTHER = "give an artefact of that kind"


def create_array(group: zarr.Group, name: str, data: ArrayLike) -> zarr.Array[Any]:
    """Write a small array (a column, a mask) in one chunk; any numeric dtype or bool.

    NaN and the sign of zero are kept; byte order is not.
    """
    values = np.asarray(data)
    array = compressed_array(group, name, values.shape, values.dtype, _at_least_one(values.shape))
    array[...] = values
    return array


def read_array(group: zarr.Group, name: str) -> NDArray[Any]:
    """The whole array `name`."""
    return np.asarray(_array(group, name)[...])


def create_frames(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> zarr.Array[Any]:
    """An empty stack for frames along the first axis: one chunk a frame, whole frames a shard.

    Fill it shard by shard (``array.shards[0]`` frames at a time), each from one writer.
    """
    _, *frame = _at_least_one(shape)
    n = int(np.clip(SHARD_BYTES // (np.prod(frame) * dtype.itemsize), 1, SHARD_FRAMES))
    return compressed_array(group, name, shape, dtype, (1, *frame), (n, *frame))


def write_frames(group: zarr.Group, name: str, frames: da.Array) -> zarr.Array[Any]:
    """Stream a lazy stack into `create_frames`, a shard in memory for each thread."""
    array = create_frames(group, name, frames.shape, frames.dtype)
    step = frames_per_shard(array)

    def write(start: int) -> None:
        _write_shard(array, start // step, np.asarray(frames[start : start + step]))

    in_threads(write, range(0, frames.shape[0], step))
    return array


def _write_shard(array: zarr.Array[Any], number: int, frames: NDArray[Any]) -> None:
    """Write a shard of `create_frames`: chunks of a frame end to end, then where each lies.

    Source: Zarr v3 specification, sharding codec 1.0: of each chunk its offset and size (all ones
    if there is none), little-endian, and the CRC-32C of these.
    """
    index = np.full((frames_per_shard(array), 2), np.iinfo(np.uint64).max, "<u8")
    parts, end = [], 0
    for n, frame in enumerate(np.ascontiguousarray(frames, array.dtype)):
        parts.append(_compressed(frame))
        index[n] = end, len(parts[-1])
        end += len(parts[-1])
    _put(array, (number, *(0 for _ in frames.shape[1:])), b"".join([*parts, _checked(index)]))


def write_chunk(array: zarr.Array[Any], at: tuple[int, ...], values: NDArray[Any]) -> None:
    """Write the chunk `at` of an array made by `compressed_array`, without zarr.

    zarr's bookkeeping takes as long as blosc for small chunks, and a copy more for large ones.
    `values` may lack what of the chunk lies beyond the array.
    """
    if values.shape != array.chunks:
        filled = np.zeros(array.chunks, array.dtype)
        filled[tuple(slice(n) for n in values.shape)] = values
        values = filled
    _put(array, at, _compressed(np.ascontiguousarray(values, array.dtype)))


def _compressed(values: NDArray[Any]) -> bytes:
    from numcodecs import blosc  # type: ignore[import-untyped]

    return _checked(blosc.compress(values, _CODEC.encode(), _LEVEL, blosc.BITSHUFFLE))


def _checked(content: Any) -> bytes:
    """Bytes with their CRC-32C behind them, as zarr's codec has it."""
    import google_crc32c

    plain = bytes(content)
    return plain + google_crc32c.value(plain).to_bytes(4, "little")


def _put(array: zarr.Array[Any], at: tuple[int, ...], content: bytes) -> None:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    path = f"{array.store_path.path}/{array.metadata.encode_chunk_key(at)}".lstrip("/")
    sync(array.store.set(path, default_buffer_prototype().buffer.from_bytes(content)))


def read_frames(group: zarr.Group, name: str) -> da.Array:
    """The stack `name` as a lazy array, one dask chunk a shard."""
    import dask.array as da

    array = _array(group, name)
    chunks = (frames_per_shard(array), *array.shape[1:])
    return da.from_array(array, chunks=chunks, name=False)


def subgroup(group: zarr.Group, name: str) -> zarr.Group:
    """The group `name` in `group`."""
    found = group[name]
    if not isinstance(found, zarr.Group):
        raise UserError(f"{group.store}/{found.path}", "an array", "a group", _OTHER)
    return found


def frames_per_shard(array: zarr.Array[Any]) -> int:
    """How many frames one file of a stack holds."""
    return int((array.shards or array.chunks)[0])


def check_complete(group: zarr.Group) -> None:
    """Raise ValueError if an array below `group` has chunks that were never written.

    zarr would read those as zeros.
    """
    for name, array in group.members(max_depth=None):
        if isinstance(array, zarr.Array) and array.nchunks_initialized < array.nchunks:
            raise ValueError(f"array {name}: found chunks never written, expected it filled")


def check_schema(group: zarr.Group, schema: str, version: int) -> None:
    """Check that `group` holds what its reader reads.

    Raises
    ------
    UserError : it holds something else, or a newer layout than `version`.
    """
    found = group.attrs.get("schema")
    where = f"{group.store}/{group.path}".rstrip("/")
    if found != schema:
        raise UserError(where, f"schema {found!r}", repr(schema), _OTHER)
    newer = int(str(group.attrs["schema_version"]))
    if newer > version:
        do = "it was written by a newer Ewaldflow: update this one"
        raise UserError(where, f"{schema} layout {newer}", f"at most {version}", do)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise UserError(f"{group.store}/{found.path}", "a group", "an array", _OTHER)
    return found


def compressed_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
    separator: Literal["/", "."] = "/",
) -> zarr.Array[Any]:
    """An empty array, little-endian, with checked chunks; of those each may have folders or none.

    lz4 with bitshuffle: fastest of those measured on frames, within 5 % of the best ratio on noisy
    ones. It lets a flipped bit pass silently, so CRC-32C goes around it.
    """
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype).newbyteorder("<"),
        chunks=chunks,
        shards=shards,
        chunk_key_encoding={"name": "default", "separator": separator},
        compressors=[BloscCodec(cname=_CODEC, clevel=_LEVEL, shuffle="bitshuffle"), Crc32cCodec()],
        config={"write_empty_chunks": True},  # so that a chunk not there is a chunk lost
    )


def _at_least_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(1, n) for n in shape)
