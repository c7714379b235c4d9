"""Outlines of particles: how convex, how far from the edge of the view and from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Floats = NDArray[np.float64]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Outlines:
    """Outermost pixels (n, 2) of all particles; those of particle i are first[i]:first[i + 1]."""

    pixels: NDArray[np.int64]
    first: NDArray[np.int64]


def outlines_of(labels: Labels) -> Outlines:
    """The outermost pixels of particles; those at the edge of the picture count."""
    rim = np.zeros(labels.shape, bool)
    rim[0], rim[-1], rim[:, 0], rim[:, -1] = True, True, True, True
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    rim[1:] |= down
    rim[:-1] |= down
    rim[:, 1:] |= across
    rim[:, :-1] |= across
    pixels = np.argwhere(rim & (labels > 0))
    owner = labels[pixels[:, 0], pixels[:, 1]]
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(1, int(labels.max()) + 2))
    return Outlines(pixels[order], first)


def solidity(outline: NDArray[np.int64], n_pixels: int) -> float:
    """Area over that of the convex hull of the pixels' corners."""
    corners = (outline[:, None] + 0.5 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])).reshape(
        -1, 2
    )
    return float(min(1.0, n_pixels / ConvexHull(corners).volume))


def to_edge_um(outline: NDArray[np.int64], shape: tuple[int, ...], scale: Floats) -> float:
    """Distance of the nearest pixel from the picture's edge, um; across rows and columns."""
    um_across = abs(np.linalg.det(scale)) / np.linalg.norm(scale, axis=0)[::-1]
    free = np.minimum(outline.min(axis=0), np.array(shape) - 1 - outline.max(axis=0))
    return float((free * um_across).min())


def distances_um(outlines: Outlines, scale: Floats, px_um: float) -> Floats:
    """(n, n) from outline to outline, um; pixels that touch are at zero."""
    points = outlines.pixels @ scale.T
    distance = np.sqrt(_nearest_squares(points, outlines.first))
    return np.maximum(distance - px_um, 0.0)


@numba.njit(cache=True, nogil=True)
def _nearest_squares(points: Floats, first: NDArray[np.int64]) -> Floats:
    """(n, n) smallest squared distance between points of each two groups."""
    number = len(first) - 1
    nearest = np.full((number, number), np.inf)
    for i in range(number):
        for j in range(i):
            best = np.inf
            for a in range(first[i], first[i + 1]):
                x, y = points[a]
                for b in range(first[j], first[j + 1]):
                    dx, dy = points[b, 0] - x, points[b, 1] - y
                    best = min(best, dx * dx + dy * dy)
            nearest[i, j] = nearest[j, i] = best
    return nearest
