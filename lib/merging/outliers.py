"""Observations that contradict their equivalents, each judged by the others alone.

An observation is compared with the median of the others of its set of equivalents. The error of
that median follows from their sigmas, and is made larger by as much as they scatter more than
those allow: where the others do not agree with each other, nobody can be singled out. So of two
observations none is rejected, of three one only if the other two agree, and no majority is ever
outvoted by a few with small sigmas. The worst go first, the rest are judged again without them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, Integers

_PASSES = 5
# In sets of so many, outliers are too few to hide each other.
_MANY = 20
# The median of normal deviates has this variance over that of their mean.
_MEDIAN = np.pi / 2


def find_outliers(
    group: Integers, intensity: Floats, sigma: Floats, threshold: float = 4.0
) -> NDArray[np.bool_]:
    """(n,) True for observations to reject.

    Parameters
    ----------
    group : (n,) number of the unique reflection.
    intensity, sigma : (n,) scaled; honest sigmas.
    threshold : in standard deviations of the difference from the others.
    """
    outlier = np.zeros(len(group), bool)
    left = np.flatnonzero(np.bincount(group)[group] >= 3) if len(group) else np.zeros(0, int)
    for _ in range(_PASSES):
        if len(left) == 0:
            break
        g = np.unique(group[left], return_inverse=True)[1]
        count = np.bincount(g)
        pull = _against_others(g, intensity[left], sigma[left])
        worst = np.zeros(len(count))
        np.maximum.at(worst, g, pull)
        bad = (pull > threshold) & ((pull >= 0.5 * worst[g]) | (count[g] >= _MANY))
        outlier[left[bad]] = True
        # only where something went can the rest look different
        gone = np.bincount(g, bad)
        again = (gone > np.where(count < _MANY, 0, 0.05 * count)) & (count - gone >= 3)
        left = left[again[g] & ~bad]
    return outlier


def _against_others(group: Integers, intensity: Floats, sigma: Floats) -> Floats:
    """|I - median of the others| over its standard deviation; groups of three or more."""
    order = np.lexsort((intensity, group))
    g, i, s = group[order], intensity[order], sigma[order]
    count = np.bincount(g)
    start = np.cumsum(count) - count
    rank = np.arange(len(g)) - start[g]
    n = count[g] - 1  # others

    def of_others(k: Integers) -> Floats:
        result: Floats = i[start[g] + k + (k >= rank)]
        return result

    median = 0.5 * (of_others((n - 1) // 2) + of_others(n // 2))
    w = 1 / s**2
    total, weighted = np.bincount(g, w), np.bincount(g, w * i)
    square = np.bincount(g, w * (i - (weighted / total)[g]) ** 2)
    # mean square deviation of the others about their own mean, without a loop
    rest = total[g] - w
    mean = (weighted / total)[g]
    without = np.maximum(square[g] - w * (i - mean) ** 2 * total[g] / rest, 0.0)
    scatter = np.maximum(without / (n - 1), 1.0)
    variance = np.bincount(g, s**2)[g] - s**2
    error2 = scatter * np.where(n > 2, _MEDIAN, 1.0) * variance / n**2
    pull = np.zeros(len(g))
    pull[order] = np.abs(i - median) / np.sqrt(s**2 + error2)
    return pull
