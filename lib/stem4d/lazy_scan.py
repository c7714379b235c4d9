"""Frames of a scan, read from wherever they lie when they are sliced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LazyScan:
    """Stacks of frames, in the order they were taken, that act as (scan_row, scan_column, ...).

    Slicing reads whole scan rows, or a part of one. Frames that the stacks lack at their end are
    zeros. Values come in the machine's byte order, which compiled loops need.

    Parameters
    ----------
    stacks : each (n, row, column), or one (scan_row, scan_column, row, column): arrays, or what
        can be sliced like them along the first axis.
    scan_shape : (scan rows, scan columns).
    """

    ndim = 4

    def __init__(self, stacks: Sequence[Any], scan_shape: tuple[int, int]) -> None:
        self._stacks = list(stacks)
        self._whole = len(stacks[0].shape) == 4
        self._starts = np.cumsum([0, *(stack.shape[0] for stack in stacks)]).tolist()
        self.dtype = np.dtype(stacks[0].dtype).newbyteorder("=")
        self.shape = (*scan_shape, *(int(n) for n in stacks[0].shape[-2:]))

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
            if high - low == 1 and rest and isinstance(rest[0], slice) and not self._whole:
                begin, end, along = rest[0].indices(self.shape[1])
                if along == 1 and begin < end:
                    start = low * self.shape[1]
                    part = self.frames(start + begin, start + end)
                    return np.asarray(part[None][(slice(None), slice(None), *rest[1:])])
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
            return np.asarray(self._stacks[0][first:stop], self.dtype)
        columns = self.shape[1]
        return self.frames(first * columns, stop * columns).reshape(-1, *self.shape[1:])

    def frames(self, begin: int, end: int) -> NDArray[Any]:
        """Frames of stacks from one to before another, in the order taken, (n, row, column)."""
        parts = []
        for start, stack in zip(self._starts, self._stacks, strict=False):
            low, high = max(begin - start, 0), min(end - start, stack.shape[0])
            if low < high:
                parts.append(np.asarray(stack[low:high], self.dtype))
        lacking = end - begin - sum(len(part) for part in parts)
        if lacking:
            parts.append(np.zeros((lacking, *self.shape[2:]), self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
