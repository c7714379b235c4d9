"""How two maps of a scan agree: magnitudes by Pearson and Spearman, angles on the circle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CircularCorrelation:
    """Agreement of two angles up to an offset and a sense of rotation.

    Attributes
    ----------
    R : |<exp i(a - sense b)>|, 1 for angles that differ by a constant, about 1/sqrt(n) for chance.
    sense : 1, or -1 where one angle runs against the other.
    offset_rad : mean of a - sense b.
    """

    R: float
    sense: int
    offset_rad: float


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's r of two arrays of a shape; pairs with a NaN are left out.

    Raises ValueError where fewer than 3 pairs are left or one array is constant.
    """
    x, y = _pairs(a, b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    if not norm > 1e-14 * max(1e-300, float(np.abs(x).max() * np.abs(y).max())):
        raise ValueError("found an array without variation, expected two that vary")
    return float(np.clip(x @ y / norm, -1, 1))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation, as `pearson` of ranks; ties share their mean rank."""
    from scipy.stats import rankdata

    x, y = _pairs(a, b)
    return pearson(rankdata(x), rankdata(y))


def circular_correlation(
    a_rad: ArrayLike, b_rad: ArrayLike, weights: ArrayLike | None = None
) -> CircularCorrelation:
    """Agreement of two angles in radians, of the better of the two senses of rotation.

    `weights` (same shape) may tell how much each angle means, such as the magnitude of what is
    deflected; None: all alike. Raises ValueError where fewer than 3 pairs are left.
    """
    a, b = np.asarray(a_rad, float), np.asarray(b_rad, float)
    w = np.ones_like(a) if weights is None else np.asarray(weights, float)
    if not a.shape == b.shape == w.shape:
        raise ValueError(f"found shapes {a.shape}, {b.shape}, {w.shape}, expected equal ones")
    good = np.isfinite(a) & np.isfinite(b) & np.isfinite(w)
    if good.sum() < 3 or not w[good].sum() > 0:
        raise ValueError(f"found {int(good.sum())} pairs of angles, expected at least 3")
    a, b, w = a[good], b[good], w[good] / w[good].sum()
    means = {sense: complex((w * np.exp(1j * (a - sense * b))).sum()) for sense in (1, -1)}
    sense = max(means, key=lambda s: abs(means[s]))
    return CircularCorrelation(abs(means[sense]), sense, float(np.angle(means[sense])))


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape:
        raise ValueError(f"found shapes {x.shape} and {y.shape}, expected equal ones")
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < 3:
        raise ValueError(f"found {int(good.sum())} pairs of numbers, expected at least 3")
    return x[good], y[good]
