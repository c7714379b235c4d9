"""Reading a scan once, as fast as its chunks decode, with something done to each run of frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .scan import Scan4D

if TYPE_CHECKING:
    import zarr

#: What is done to a run: given the number of its first frame, scan row * columns + scan column,
#: and its frames (n, row, column), which are overwritten after the call.
Work = Callable[[int, NDArray[Any]], None]

RUN_BYTES = 8 * 2**20  # about what is read at once where the scan has no chunks


def for_each_rows(
    scan: Scan4D, work: Work, threads: int = 2, rows: tuple[int, int] | None = None
) -> None:
    """Call `work` once on every frame of a scan, in runs along its rows.

    Runs begin in order and end in any; `work` is called from several threads, each with its own
    run. It must release the interpreter (numba with ``nogil``, numpy) for them to help.

    Parameters
    ----------
    scan : whose frames are read once; frames in zarr that `storage` wrote are decoded without
        zarr, whose bookkeeping takes longer than the decoding does.
    work : what to do; see `Work`. What it raises stops the reading and is raised here.
    threads : how many read; 1 keeps all in the calling thread.
    rows : first scan row, and the one after the last; all if None. Where a chunk holds several
        rows, frames of rows beyond are left out.

    Raises
    ------
    UserError : a chunk is missing or damaged, or a file can no longer be read.
    """
    first, stop = rows or (0, scan.scan_shape[0])
    if not 0 <= first <= stop <= scan.scan_shape[0]:
        raise ValueError(f"rows: found {rows}, expected within {scan.scan_shape[0]} scan rows")
    read = chunk_reader(scan.frames)
    runs = read.runs(first, stop)
    lock = threading.Lock()
    failed = threading.Event()

    def go() -> None:
        buffer = read.buffer()
        while not failed.is_set():
            with lock:
                run = next(runs, None)
            if run is None:
                return
            try:
                work(run.first, read.frames(run, buffer))
            except BaseException:
                failed.set()
                raise

    if threads <= 1:
        go()
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(go) for _ in range(threads)]:
            done.result()


@dataclass(frozen=True)
class Run:
    """Successive frames: number of the first, how many, and the (row, column) chunk they are of."""

    first: int
    count: int
    chunk: tuple[int, int]


class Sliced:
    """Runs of whole rows of anything that can be sliced."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames
        _, self._columns, height, width = frames.shape
        chunks = getattr(frames, "chunks", None)
        row_bytes = self._columns * height * width * frames.dtype.itemsize
        self._step = max(1, RUN_BYTES // max(row_bytes, 1))
        if chunks and isinstance(chunks[0], tuple):  # dask computes whole blocks
            self._step = max(chunks[0])

    def runs(self, first: int, stop: int) -> Iterator[Run]:
        """Runs from one scan row to before another."""
        for row in range(first, stop, self._step):
            count = min(self._step, stop - row)
            yield Run(row * self._columns, count * self._columns, (row, 0))

    def buffer(self) -> NDArray[Any]:
        """None is needed."""
        return np.empty(0)

    def frames(self, run: Run, buffer: NDArray[Any]) -> NDArray[Any]:
        """The frames of a run, (n, row, column)."""
        row = run.chunk[0]
        block = np.asarray(self._frames[row : row + run.count // self._columns])
        return block.reshape(-1, *block.shape[2:])


class Decoded:
    """Runs that are the chunks of a zarr array of whole frames, decoded here."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        from zarr.codecs import Crc32cCodec

        self._array = array
        self._chunk = array.chunks
        self._key = array.metadata.encode_chunk_key
        self._checked = isinstance(array.compressors[-1], Crc32cCodec)

    def runs(self, first: int, stop: int) -> Iterator[Run]:
        """Chunks from one scan row to before another, in the order of their frames."""
        rows, columns = self._array.shape[:2]
        high, wide = self._chunk[:2]
        for top in range(first - first % high, stop, high):
            for left in range(0, columns, wide):
                begin, end = max(top, first), min(top + high, stop, rows)
                yield Run(
                    begin * columns + left,
                    (end - begin) * min(wide, columns - left),
                    (top // high, left // wide),
                )

    def buffer(self) -> NDArray[Any]:
        """Room for a chunk."""
        return np.empty(self._chunk, self._array.dtype)

    def frames(self, run: Run, buffer: NDArray[Any]) -> NDArray[Any]:
        """The frames of a run, (n, row, column), in the buffer."""
        from numcodecs import blosc  # type: ignore[import-untyped]

        content = self._content(run.chunk)
        try:
            blosc.decompress(content, buffer)
        except (RuntimeError, ValueError) as error:
            raise self._damaged(run.chunk, str(error)) from None
        columns = self._array.shape[1]
        frames = buffer.reshape(-1, *buffer.shape[2:])
        skipped = run.first - run.chunk[0] * self._chunk[0] * columns
        skipped -= run.chunk[1] * self._chunk[1]
        return frames[skipped : skipped + run.count]

    def _content(self, chunk: tuple[int, int]) -> memoryview:
        import google_crc32c
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        path = f"{self._array.store_path.path}/{self._key((*chunk, 0, 0))}".lstrip("/")
        found = sync(self._array.store.get(path, default_buffer_prototype()))
        if found is None:
            raise self._damaged(chunk, "no such chunk")
        content = np.asarray(found.as_numpy_array()).data.cast("B")
        if not self._checked:
            return content
        body, written = content[:-4], bytes(content[-4:])
        if google_crc32c.value(bytes(body)).to_bytes(4, "little") != written:
            raise self._damaged(chunk, "other bytes than were written")
        return body

    def _damaged(self, chunk: tuple[int, int], found: str) -> UserError:
        return UserError(
            f"{self._array.store_path}, chunk {chunk[0]}, {chunk[1]}",
            found,
            "the frames written there",
            "restore the scan from a copy, or read it from its raw files again",
        )


def chunk_reader(frames: Any) -> Sliced | Decoded:
    """How the runs of some frames are read best."""
    if type(frames).__module__.startswith("zarr") and _decodable(frames):
        return Decoded(frames)
    return Sliced(frames)


def _decodable(array: zarr.Array[Any]) -> bool:
    """Whether chunks are runs of whole frames, compressed by blosc, checked by CRC-32C or not."""
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

    if array.metadata.zarr_format != 3 or array.shards or not array.dtype.isnative:
        return False
    high, wide, *frame = array.chunks
    codecs = [type(one) for one in array.compressors]
    whole = tuple(frame) == array.shape[2:] and (high == 1 or wide == array.shape[1])
    plain = isinstance(array.serializer, BytesCodec) and not array.filters
    return whole and plain and codecs in ([BloscCodec], [BloscCodec, Crc32cCodec])
