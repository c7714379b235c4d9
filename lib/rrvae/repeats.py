"""Patterns that occur more than once, which must not stand on both sides of a split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .patterns import Patterns

PROJECTIONS = 8
SAME = 1e-4  # of the spread over patterns, within which two patterns are one
BLOCK = 2048  # patterns at a time


def repeats(patterns: Patterns) -> NDArray[np.int64]:
    """(n,) a label of each pattern, the same for patterns that repeat one another.

    Compared are random projections from a fixed seed. Counted patterns never agree unless a frame
    was copied; without noise all points a lattice vector apart do. Split labels, not patterns.
    """
    flat = patterns.data.reshape(len(patterns), -1)
    directions = np.random.default_rng(0).standard_normal((flat.shape[1], PROJECTIONS))
    points = np.concatenate(
        [flat[i : i + BLOCK] @ directions.astype(np.float32) for i in range(0, len(flat), BLOCK)]
    ).astype(float)
    spread = points.std(0)
    points /= np.where(spread > 0, spread, 1.0)
    pairs = cKDTree(points).query_pairs(SAME * np.sqrt(PROJECTIONS), output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(flat),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
