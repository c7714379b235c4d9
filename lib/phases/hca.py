"""Hierarchical clustering of cells, and where the tree is cut.

The cut is chosen as a person does with a dendrogram, by rules that can be told:

1. Joins below a floor are measurement error. The floor is the largest of a least value, four times
   the median standard deviation of the cells, where known, and 1.5 times the median distance to the
   nearest neighbour, but no more than half the ceiling: cells of one phase scatter about as far as
   neighbours do. Fewer than four cells do not tell how far: then it is half the ceiling.
2. Going up, the tree is cut at the first join at least twice as high as the join (or
   floor) below it.
3. Without such a gap all cells are one phase if they join below a ceiling, beyond which no two
   measurements of one lattice lie; else the cut is at the largest gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from ..crystal.cell import Floats
from .distance import Metric

Linkage = Literal["average", "single", "complete", "ward"]

# Least floor and ceiling: relative strain, and Å with degrees for the thesis' metric.
FLOOR: dict[Metric, float] = {"lattice": 0.01, "thesis": 1.0}
CEILING: dict[Metric, float] = {"lattice": 0.15, "thesis": 10.0}

# A gap between phases is this many times what lies below it.
GAP = 2.0


@dataclass(frozen=True)
class Cut:
    """Where a tree is cut: the height, and the reason in words."""

    height: float
    reason: str


def build_tree(distances: Floats, method: Linkage = "average") -> Floats:
    """(n - 1, 4) linkage matrix as of scipy, from (n, n) distances; (0, 4) for fewer than two."""
    n = len(distances)
    if n < 2:
        return np.zeros((0, 4))
    tree: Floats = linkage(squareform(distances, checks=False), method, optimal_ordering=n <= 300)
    return tree


def noise_floor(distances: Floats, metric: Metric, strain_esd: float | None = None) -> float:
    """Distance below which cells may be of one phase, whatever the tree looks like.

    Parameters
    ----------
    distances : (n, n).
    strain_esd : median standard deviation of the cells as relative strain; only the metric
        "lattice" has the same unit.
    """
    if len(distances) < 4:
        return 0.5 * CEILING[metric]
    known = [FLOOR[metric]]
    nearest = np.sort(distances, axis=1)[:, 1]
    known.append(1.5 * float(np.median(nearest)))
    if strain_esd is not None and metric == "lattice":
        known.append(4 * strain_esd)
    return min(max(known), 0.5 * CEILING[metric])


def automatic_cut(tree: Floats, floor: float, metric: Metric) -> Cut:
    """The cut by the rules of this module, at the geometric middle of the gap."""
    unit = " % strain" if metric == "lattice" else " (Å and degrees)"
    factor = 100 if metric == "lattice" else 1
    heights = np.sort(tree[:, 2])
    ceiling = CEILING[metric]
    if len(heights) == 0 or heights[-1] <= floor:
        return Cut(floor, f"all cells join below the floor of {factor * floor:.2g}{unit}")
    lower = np.maximum(np.concatenate([[0.0], heights[:-1]]), floor)
    ratio = heights / lower
    found = np.flatnonzero(ratio >= GAP)
    if len(found):
        k = int(found[0])
        words = "the first gap of a factor of two"
    elif heights[-1] <= ceiling:
        return Cut(
            float(heights[-1] * np.sqrt(GAP)),
            f"no gap up to the last join at {factor * heights[-1]:.2g}{unit}: one phase",
        )
    else:
        k = int(np.argmax(ratio))
        words = "the largest gap, though less than a factor of two"
    height = float(np.sqrt(lower[k] * heights[k]))
    below = "the floor" if lower[k] == floor else "joins"
    return Cut(
        height,
        f"{words}: {below} up to {factor * lower[k]:.2g}, the next join at "
        f"{factor * heights[k]:.2g}{unit}",
    )


def clusters_below(tree: Floats, height: float, n: int) -> NDArray[np.int64]:
    """(n,) cluster of each, numbered from 0 by falling size, then by first member."""
    if n < 2:
        return np.zeros(n, np.int64)
    raw = fcluster(tree, height, criterion="distance")
    labels, first, count = np.unique(raw, return_index=True, return_counts=True)
    order = np.lexsort((first, -count))
    rank = np.empty(labels.max() + 1, np.int64)
    rank[labels[order]] = np.arange(len(order))
    numbered: NDArray[np.int64] = rank[raw]
    return numbered
