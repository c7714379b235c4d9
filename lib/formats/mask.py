"""Masks as the rectangles that other programs understand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rectangles(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Disjoint rectangles that cover exactly the True pixels of a mask.

    Each is (first row, last row, first column, last column), all included. Equal runs of
    pixels in successive rows make one rectangle.
    """
    done: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int], int] = {}  # (first, last column) -> first row
    edge = np.zeros((mask.shape[0] + 1, mask.shape[1] + 2), np.int8)
    edge[:-1, 1:-1] = mask
    for row, steps in enumerate(np.diff(edge, axis=1)):  # the last row is empty: it ends all
        begin, end = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
        spans = set(zip(begin.tolist(), end.tolist(), strict=True))
        for span in growing.keys() - spans:
            done.append((growing.pop(span), row - 1, *span))
        for span in spans - growing.keys():
            growing[span] = row
    return sorted(done)
