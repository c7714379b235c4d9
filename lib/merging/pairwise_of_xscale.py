"""The correlations that XSCALE printed, as our own: for clusters of what XSCALE scaled."""

from __future__ import annotations

import numpy as np

from ..xds.xscale import Xscale
from .pairwise import MIN_COMMON, Pairwise


def pairwise_of_xscale(log: Xscale, *, min_common: int = MIN_COMMON) -> Pairwise:
    """CCs of all inputs of an XSCALE.LP.

    Pairs that the log does not name share no reflections and have no coefficient; nor have those
    whose number or coefficient overflowed its field. What noise leaves (`reliability`) is not
    printed and stays unknown. An input that shares nothing is there nevertheless.

    Raises
    ------
    ValueError : if the log names no inputs, or pairs of others than it names.
    """
    numbers = {one.number: row for row, one in enumerate(log.inputs)}
    if not numbers:
        raise ValueError("log: found no inputs, expected one or more")
    n = len(numbers)
    cc, common = np.full((n, n), np.nan), np.zeros((n, n), np.int64)
    for pair in log.pairs:
        if pair.i not in numbers or pair.j not in numbers:
            raise ValueError(f"log: found a pair {pair.i}, {pair.j} among inputs 1 to {n}")
        i, j = numbers[pair.i], numbers[pair.j]
        common[i, j] = common[j, i] = pair.n_common or 0
        if (pair.n_common or 0) >= min_common:
            cc[i, j] = cc[j, i] = pair.cc
    np.fill_diagonal(cc, 1.0)
    np.fill_diagonal(common, [one.n_accepted or 0 for one in log.inputs])
    names = tuple(one.name for one in log.inputs)
    return Pairwise(names, cc, common, common.astype(float), np.full(n, np.nan), min_common)
