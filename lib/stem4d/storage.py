"""A 4D-STEM scan in zarr: chunks of whole frames, of the size that is read fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from ..artefacts.arrays import check_schema, create_array, read_array
from ..artefacts.records import read_attributes, write_attributes
from .rows import Sliced
from .scan import Scan4D

KIND = "scan"
SCHEMA_VERSION = 1
CHUNK_BYTES = 8 * 2**20  # measured: below 4 MB bookkeeping tells, above 8 MB the cache ends
_ARRAYS = ("frames", "mask", "missing")

Tell = Callable[[str, float], None]
Watch = Callable[[int, NDArray[Any]], None]


def write_scan(
    group: zarr.Group, scan: Scan4D, tell: Tell | None = None, watch: Watch | None = None
) -> None:
    """Write a scan into an empty group, a chunk of scan rows in memory at a time.

    Arrays ``frames`` (scan_row, scan_column, row, column), ``mask`` (row, column), ``missing``
    (scan_row, scan_column); everything else as attributes.

    Parameters
    ----------
    group : where to.
    scan : its frames may be of any size, in memory or not.
    tell : called with what is done and its fraction.
    watch : called with the number of each scan row and its frames, (scan_column, row, column), in
        order, as they are read.
    """
    array = create_frames(group, scan.scan_shape, scan.shape, scan.frames.dtype)
    source = Sliced(scan.frames)
    rows, columns = scan.scan_shape

    def each() -> Iterable[NDArray[Any]]:
        for run in source.runs(0, rows):
            block = source.frames(run, source.buffer())
            for number, row in enumerate(block.reshape(-1, *array.shape[1:])):
                if watch:
                    watch(run.first // columns + number, row)
                yield row
            if tell:
                tell("store", (run.first + run.count) / (rows * columns))

    write_rows(array, each())
    describe_scan(group, scan)


def describe_scan(group: zarr.Group, scan: Scan4D) -> None:
    """Write all of a scan but its frames, which `create_frames` and `write_rows` wrote."""
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
    return group.create_array(
        "frames",
        shape=(*scan_shape, *shape),
        dtype=np.dtype(dtype).newbyteorder("<"),
        chunks=chunk_shape(scan_shape, shape, np.dtype(dtype).itemsize),
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        config={"write_empty_chunks": True},  # so that a chunk not there is a chunk lost
    )


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
