"""Frames of a scan, read from wherever they lie when they are sliced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError


class LazyScan:
    """Stacks of frames, in the order they were taken, that act as (scan_row, scan_column, ...).

    Slicing reads whole scan rows, or a part of one. Frames that the stacks lack at their end are
    zeros. Values come in the machine's byte order, which compiled loops need.

    Parameters
    ----------
    stacks : each (n, row, column), or one (scan_row, scan_column, row, column): arrays, or what
        can be sliced like them along the first axis.
    scan_shape : (scan rows, scan columns).
    path : the file they are read from, for the line of an error.
    """

    ndim = 4

    def __init__(
        self, stacks: Sequence[Any], scan_shape: tuple[int, int], path: Path | None = None
    ) -> None:
        self._stacks, self._path = list(stacks), path
        self._whole = len(stacks[0].shape) == 4
        self._starts = np.cumsum([0, *(stack.shape[0] for stack in stacks)]).tolist()
        self.dtype = np.dtype(stacks[0].dtype).newbyteorder("=")
        self.shape = (*scan_shape, *(int(n) for n in stacks[0].shape[-2:]))
        #: of the array that is read, where it has all four axes
        self.chunks = getattr(stacks[0], "chunks", None) if self._whole else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """As numpy's; what it needs along the first axis is read, the rest chosen from it."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            return np.asarray(self.rows(0, len(self))[index])
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            chosen = range(start, stop, step)
            if not chosen:
                return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1
            columns = rest[0] if rest and isinstance(rest[0], slice) else slice(None)
            begin, end, along = columns.indices(self.shape[1])
            if high - low == 1 and along == 1 and begin < end:
                return np.asarray(
                    self._part(low, begin, end)[(slice(None), slice(None), *rest[1:])]
                )
            block = self.rows(low, high)[:: abs(step)]
            return np.asarray((block if step > 0 else block[::-1])[(slice(None), *rest)])
        if np.ndim(first) == 0:
            row = range(len(self))[first]
            return np.asarray(self.rows(row, row + 1)[(0, *rest)])
        picked = np.arange(len(self))[np.asarray(first)]
        return np.stack([self.rows(row, row + 1)[0] for row in picked])[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.rows(0, len(self)), dtype)

    def rows(self, first: int, stop: int) -> NDArray[Any]:
        """Scan rows from one to before another, (n, scan_column, row, column)."""
        if self._whole:
            return self._read(self._stacks[0], np.s_[first:stop])
        columns = self.shape[1]
        return self._frames(first * columns, stop * columns).reshape(-1, *self.shape[1:])

    def _part(self, row: int, begin: int, end: int) -> NDArray[Any]:
        """Part of a scan row, (1, scan_column, row, column)."""
        if self._whole:
            return self._read(self._stacks[0], np.s_[row : row + 1, begin:end])
        start = row * self.shape[1]
        return self._frames(start + begin, start + end)[None]

    def _frames(self, begin: int, end: int) -> NDArray[Any]:
        """Frames of stacks from one to before another, in the order taken, (n, row, column)."""
        parts = []
        for start, stack in zip(self._starts, self._stacks, strict=False):
            low, high = max(begin - start, 0), min(end - start, stack.shape[0])
            if low < high:
                parts.append(self._read(stack, np.s_[low:high]))
        lacking = end - begin - sum(len(part) for part in parts)
        if lacking:
            parts.append(np.zeros((lacking, *self.shape[2:]), self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, stack: Any, index: Any) -> NDArray[Any]:
        try:
            return np.asarray(stack[index], self.dtype)
        except UserError:
            raise
        except Exception as error:  # any fault of a foreign file
            if self._path is None:
                raise
            found = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise UserError(
                self._path, found, "frames of a scan", "copy the file again from where it was taken"
            ) from error
