"""A 4D-STEM scan in zarr: chunks of whole frames, of the size that is read fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..artefacts.arrays import (
    check_schema,
    compressed_array,
    create_array,
    read_array,
    write_chunk,
)
from ..artefacts.in_threads import in_threads
from ..artefacts.records import read_attributes, write_attributes
from .scan import Frames4D, Scan4D

KIND = "scan"
SCHEMA_VERSION = 1
READ_BYTES = 64 * 2**20  # at most at once, where the source's chunks hold several scan rows
CHUNK_BYTES = 8 * 2**20  # measured: below 4 MB bookkeeping tells, above 8 MB the cache ends
_ARRAYS = ("frames", "mask", "missing")

Tell = Callable[[str, float], None]
Watch = Callable[[int, NDArray[Any]], None]


def write_scan(group: zarr.Group, scan: Scan4D) -> None:
    """Write a scan into an empty group, a few chunks in memory at a time.

    Arrays ``frames`` (scan_row, scan_column, row, column), ``mask`` (row, column), ``missing``
    (scan_row, scan_column); everything else as attributes.
    """
    write_frames(group, scan)
    describe_scan(group, scan)


def write_frames(
    group: zarr.Group, scan: Scan4D, tell: Tell | None = None, watch: Watch | None = None
) -> None:
    """Write the frames of a scan, of which `describe_scan` writes the rest.

    Parameters
    ----------
    group : where to.
    scan : its frames may be of any size, in memory or not.
    tell : called with what is done and its fraction.
    watch : called with the number of each scan row and its frames, (scan_column, row, column), in
        order, as they are read.
    """
    array = create_frames(group, scan.scan_shape, scan.shape, scan.frames.dtype)
    rows, columns = scan.scan_shape
    high, wide = array.chunks[:2]

    def pieces() -> Iterable[tuple[int, int, NDArray[Any]]]:
        held: list[NDArray[Any]] = []
        for top, left, block in _blocks(scan.frames, high, wide):
            for down in range(0, block.shape[0], high):
                for right in range(0, block.shape[1], wide):
                    piece = block[down : down + high, right : right + wide]
                    yield top + down, left + right, piece
            held += [block] if watch else []
            if left + block.shape[1] < columns:
                continue
            if watch:
                for number, row in enumerate(np.concatenate(held, axis=1), top):
                    watch(number, row)
                held.clear()
            if tell:
                tell("store", (top + block.shape[0]) / rows)

    def write(piece: tuple[int, int, NDArray[Any]]) -> None:
        top, left, block = piece
        write_chunk(array, (top // high, left // wide, 0, 0), block)

    in_threads(write, pieces())


def _blocks(frames: Frames4D, high: int, wide: int) -> Iterable[tuple[int, int, NDArray[Any]]]:
    """Parts of a scan in order, (scan row, scan column, frames), each of whole chunks to write.

    They are scan rows, as many as the chunks of the source hold (which would otherwise be decoded
    for each again), or parts of one where it is large.
    """
    rows, columns, height, width = frames.shape
    fit = READ_BYTES // max(1, columns * height * width * np.dtype(frames.dtype).itemsize)
    theirs = (getattr(frames, "chunks", None) or (1,))[0]
    wanted = max(theirs) if isinstance(theirs, tuple) else int(theirs)  # dask has all lengths
    down = max(high, min(-(-wanted // high), fit // high) * high)
    across = columns if fit else wide
    for top in range(0, rows, down):
        for left in range(0, columns, across):
            yield top, left, np.asarray(frames[top : top + down, left : left + across])


def describe_scan(group: zarr.Group, scan: Scan4D) -> None:
    """Write all of a scan but its frames."""
    create_array(group, "mask", scan.mask)
    create_array(group, "missing", scan.missing)
    write_attributes(group, scan, leave=_ARRAYS)
    group.attrs.update({"schema": KIND, "schema_version": SCHEMA_VERSION})


def read_scan(group: zarr.Group) -> Scan4D:
    """The scan in a group; its frames are read when needed.

    Raises
    ------
    UserError : the group holds something else or a newer layout.
    """
    check_schema(group, KIND, SCHEMA_VERSION)
    fields = read_attributes(group, Scan4D, leave=_ARRAYS)
    frames = group["frames"]
    return Scan4D(
        frames=frames,
        mask=read_array(group, "mask"),
        missing=read_array(group, "missing"),
        **fields,
    )


def create_frames(
    group: zarr.Group, scan_shape: tuple[int, int], shape: tuple[int, int], dtype: np.dtype[Any]
) -> zarr.Array[Any]:
    """An empty array for the frames of a scan; `write_rows` fills it."""
    chunks = chunk_shape(scan_shape, shape, np.dtype(dtype).itemsize)
    # three folders for each of thousands of chunks would take as long as the chunks
    whole = (*scan_shape, *shape)
    return compressed_array(group, "frames", whole, dtype, chunks, separator=".")


def write_rows(array: zarr.Array[Any], rows: Iterable[NDArray[Any]]) -> None:
    """Fill an array with scan rows (scan_column, row, column), as they come, in order.

    Raises
    ------
    ValueError : not as many rows came as the array has.
    """
    step = array.chunks[0]
    done, held = 0, []
    for row in rows:
        held.append(row)
        if len(held) == step:
            array[done : done + step] = np.stack(held)
            done, held = done + step, []
    if held:
        array[done : done + len(held)] = np.stack(held)
    done += len(held)
    if done != array.shape[0]:
        raise ValueError(f"scan rows: found {done}, expected {array.shape[0]}")


def chunk_shape(
    scan_shape: tuple[int, int], shape: tuple[int, int], item_bytes: int
) -> tuple[int, int, int, int]:
    """Several scan rows, one, or an even part of one: at most `CHUNK_BYTES` of whole frames."""
    rows, columns = max(1, scan_shape[0]), max(1, scan_shape[1])
    frames = max(1, CHUNK_BYTES // (shape[0] * shape[1] * item_bytes))
    if frames >= columns:
        return min(rows, frames // columns), columns, *shape
    parts = -(-columns // frames)
    return 1, -(-columns // parts), *shape
