"""Trees of data sets by the likeness of their intensities.

Distance of two data sets: ``d = sqrt(1 - CC^2)`` (Giordano et al., 2012, Acta Cryst. D68, 649;
B. Wang, thesis, eq. 7), and 1 where the CC is negative: anticorrelation is no likeness.

Pairs without a coefficient are absent. The distance of two clusters is the mean (average
linkage), least (single) or largest (complete) over the pairs between them that there are;
clusters without any such pair are joined last, at an infinite height, and never share a cluster.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from ..crystal.cell import Floats
from .pairwise import Pairwise

Linkage = Literal["average", "single", "complete"]
LINKAGES: tuple[Linkage, ...] = ("average", "single", "complete")


def distances(pairwise: Pairwise) -> Floats:
    """(n, n) sqrt(1 - CC^2), 1 for a negative CC, 0 on the diagonal; NaN where there is no CC."""
    d: Floats = np.sqrt(1 - np.maximum(pairwise.cc, 0) ** 2)
    np.fill_diagonal(d, 0)
    return d


def linkage_of(distance: Floats, method: Linkage = "average") -> Floats:
    """Linkage matrix (n - 1, 4) of a square matrix of distances, NaN where they are unknown.

    A merge never lies lower than what it merges, also where unknown pairs would have it so.
    """
    n = len(distance)
    if n < 2:
        return np.zeros((0, 4))
    pairs = squareform(distance, checks=False)
    if np.isfinite(pairs).all():
        tree: Floats = scipy_linkage(pairs, method)
        return tree
    return _linkage_of_some(distance, method)


def _linkage_of_some(distance: Floats, method: Linkage) -> Floats:
    n = len(distance)
    known = np.isfinite(distance)
    np.fill_diagonal(known, False)
    # average: sums and numbers of the pairs; else the extreme one, and whether there is any
    total, count = np.where(known, distance, 0.0), known.astype(float)
    link = np.where(known, distance, np.inf)
    name, size, height = np.arange(n), np.ones(n), np.zeros(n)
    alive = np.ones(n, bool)
    tree = np.zeros((n - 1, 4))
    for step in range(n - 1):
        a, b = sorted(int(i) for i in np.unravel_index(np.argmin(link), link.shape))
        lowest = link[a, b]
        if not np.isfinite(lowest):
            a, b = (int(i) for i in np.flatnonzero(alive)[:2])
        # a and b become one, in the place of a
        height[a] = max(lowest, height[a], height[b])
        size[a] += size[b]
        tree[step] = (*sorted((name[a], name[b])), height[a], size[a])
        name[a] = n + step
        if method == "average":
            for sums in (total, count):
                sums[a] += sums[b]
                sums[:, a] = sums[a]
            with np.errstate(invalid="ignore"):
                row = np.where(count[a] > 0, total[a] / count[a], np.inf)
        else:
            one, two = link[a], link[b]
            if method == "single":
                row = np.minimum(one, two)
            else:  # the largest of those there are
                row = np.where(
                    np.isinf(one), two, np.where(np.isinf(two), one, np.maximum(one, two))
                )
        alive[b] = False
        row = np.where(alive, row, np.inf)
        row[a] = np.inf
        link[a], link[:, a] = row, row
        link[b], link[:, b] = np.inf, np.inf
    return tree


def labels_at(tree: Floats, cut: float) -> NDArray[np.int64]:
    """(n,) numbers, from 1, of the clusters below a height; infinite merges never count."""
    if len(tree) == 0:
        return np.zeros(1, np.int64)
    finite = tree.copy()
    # above every cut, as `fcluster` takes no infinite ones
    finite[np.isinf(tree[:, 2]), 2] = 1e9
    return np.asarray(fcluster(finite, min(cut, 1e8), criterion="distance"), np.int64)
