"""The aperture's image in the mean frame: a circle through the points of half intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

ANGLES = 72
_INNER, _OUTER = 0.75, 1.3  # of the radius, where a profile is looked at


@dataclass(frozen=True)
class Disc:
    """A circle, in pixels of the image it was found in.

    Attributes
    ----------
    centre : (row, column).
    radius : of half intensity.
    edges : how many of `ANGLES` directions showed an edge.
    """

    centre: tuple[float, float]
    radius: float
    edges: int

    def distance(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """(row, column) distance of each pixel from the centre."""
        y, x = np.indices(shape)
        return np.asarray(np.hypot(y - self.centre[0], x - self.centre[1]))


def find_disc(mean: NDArray[np.floating], bad: NDArray[np.bool_]) -> Disc | None:
    """The bright disc in an image, (row, column); None where there is none with an edge.

    A first circle is that of the pixels above half of the bright ones; then, in each direction,
    the edge is where the profile falls through the middle between inside and outside, and a
    circle is fitted to these points, without those far from it (Kasa's algebraic fit, repeated).
    """
    image = np.where(bad, 0, mean).astype(float)
    good = image[~bad]
    if good.size == 0 or good.max() <= 0:
        return None
    floor = np.percentile(good, 2)
    bright = good[good > floor + 0.3 * (np.percentile(good, 99) - floor)]
    if bright.size < 20:
        return None
    inside = (image > 0.5 * (np.median(bright) + floor)) & ~bad
    points = np.argwhere(inside).astype(float)
    if len(points) < 20:
        return None
    centre = points.mean(0)
    radius = float(np.sqrt(len(points) / np.pi))
    disc = None
    for _ in range(4):
        edge = _edge_points(image, bad, centre, radius)
        if len(edge) < ANGLES // 4:
            return disc
        circle = _circle(edge)
        if circle is None:
            return disc
        centre, radius, kept = circle
        if not 2 < radius < 2 * max(image.shape):
            return None
        disc = Disc((float(centre[0]), float(centre[1])), radius, kept)
    return disc


def _edge_points(
    image: NDArray[np.float64], bad: NDArray[np.bool_], centre: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """(n, 2) points of half intensity, at most one for each direction."""
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    radii = np.linspace(0.5 * radius, 1.5 * radius, max(24, int(4 * radius)))
    y = centre[0] + np.sin(angles)[:, None] * radii
    x = centre[1] + np.cos(angles)[:, None] * radii
    profile = map_coordinates(image, [y, x], order=1, cval=np.nan)
    hurt = map_coordinates(bad.astype(float), [y, x], order=1, cval=1.0) > 0
    profile[hurt] = np.nan
    beyond = profile[:, (radii > 1.15 * radius) & (radii < _OUTER * radius)]
    within = profile[:, (radii > _INNER * radius) & (radii < 0.92 * radius)]
    seen = ~(np.isnan(within).all(axis=1) | np.isnan(beyond).all(axis=1))
    high, low = _medians(within), _medians(beyond)
    level = 0.5 * (high + low)
    with np.errstate(invalid="ignore"):
        falls = (profile[:, :-1] >= level[:, None]) & (profile[:, 1:] < level[:, None])
        seen &= (high >= 1.5 * low + 1e-9) & falls.any(axis=1)
    i = np.flatnonzero(seen)
    j = np.argmin(np.where(falls[i], np.abs(radii[:-1] - radius), np.inf), axis=1)
    drop = profile[i, j] - profile[i, j + 1]
    at = radii[j] + (profile[i, j] - level[i]) / drop * (radii[1] - radii[0])
    along = np.column_stack([np.sin(angles[i]), np.cos(angles[i])])
    return np.asarray(centre + at[:, None] * along)


def _medians(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) median of each of (n, m) lines over what is not NaN; NaN where nothing is."""
    if lines.shape[1] == 0:
        return np.full(len(lines), np.nan)
    ordered = np.sort(lines, axis=1)  # NaN comes last
    n = np.count_nonzero(~np.isnan(lines), axis=1)
    row = np.arange(len(lines))
    lower, upper = np.maximum(n - 1, 0) // 2, np.minimum(n // 2, lines.shape[1] - 1)
    middle = 0.5 * (ordered[row, lower] + ordered[row, upper])
    return np.where(n > 0, middle, np.nan)


def _circle(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float, int] | None:
    """Centre, radius and number of points used."""
    keep = np.ones(len(points), bool)
    for _ in range(4):
        if keep.sum() < ANGLES // 4:
            return None
        p = points[keep]
        columns = np.column_stack([2 * p, np.ones(len(p))])
        (a, b, c), *_ = np.linalg.lstsq(columns, (p**2).sum(1), rcond=None)
        centre, radius = np.array([a, b]), float(np.sqrt(max(c + a * a + b * b, 0)))
        off = np.abs(np.hypot(*(points - centre).T) - radius)
        keep = off < max(3 * 1.4826 * float(np.median(off[keep])), 0.3)
    return centre, radius, int(keep.sum())
