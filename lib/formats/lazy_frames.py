"""The frames of a series, read from their files when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .source import FrameHeader, block_frames

if TYPE_CHECKING:
    import dask.array as da

# A file, its header, and the position of a frame in it.
Place = tuple[Path, FrameHeader, int]
Read = Callable[[Sequence[Place], tuple[int, int]], NDArray[Any]]


class LazyFrames:
    """A stack of frames, (n, rows, columns), that acts as a dask array.

    Its frames can be chosen along the first axis and computed without dask, which takes longer
    to import than a short series to reduce; for everything else it turns into a dask array.

    Parameters
    ----------
    read : ``read(places, shape)``, the frames at some places, (m, rows, columns).
    places : where each frame is.
    shape : (rows, columns).
    dtype : of the pixels.
    """

    ndim = 3

    def __init__(
        self, read: Read, places: Sequence[Place], shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        self._read, self._places, self._frame = read, list(places), shape
        self.dtype = dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, rows, columns)."""
        return len(self._places), *self._frame

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the blocks along each axis, as dask has them."""
        n = len(self._places)
        step = block_frames(self._frame, self.dtype.itemsize)
        counts = [min(step, n - start) for start in range(0, n, step)]
        return tuple(counts) or (0,), (self._frame[0],), (self._frame[1],)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> LazyFrames | da.Array:
        """Some of the frames, if a slice or positions along the first axis are given."""
        if isinstance(index, slice):
            return LazyFrames(self._read, self._places[index], self._frame, self.dtype)
        if isinstance(index, np.ndarray) and index.ndim == 1 and index.dtype.kind == "i":
            places = [self._places[i] for i in index]
            return LazyFrames(self._read, places, self._frame, self.dtype)
        return self.to_dask()[index]

    def compute(self, **_: object) -> NDArray[Any]:
        """The frames in memory; what dask is told of schedulers does not matter here.

        Raises
        ------
        UserError : a file can no longer be read.
        """
        if not self._places:
            return np.zeros(self.shape, self.dtype)
        return self._read(self._places, self._frame)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.compute(), dtype)

    def to_dask(self) -> da.Array:
        """The same as a dask array of blocks of `block_frames` frames."""
        import dask.array as da
        from dask.delayed import delayed

        blocks = []
        step = block_frames(self._frame, self.dtype.itemsize)
        for start in range(0, len(self), step):
            places = self._places[start : start + step]
            task = delayed(self._read, pure=True, traverse=False)(places, self._frame)
            blocks.append(da.from_delayed(task, (len(places), *self._frame), self.dtype))
        return da.concatenate(blocks) if blocks else da.zeros(self.shape, self.dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # protocols of other libraries, and copies not yet filled
            raise AttributeError(name)
        return getattr(self.to_dask(), name)
