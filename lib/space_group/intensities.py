"""Intensity statistics: means at a resolution, Wilson's distributions with errors."""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from ..crystal.cell import Floats

# Reflections in the running mean.
_WINDOW = 100
# Exponentials (weight, mean), between the laws with and without an inversion centre.
_MIXTURE = ((0.5, 1.0), (0.25, 0.25), (0.25, 1.75))
# A share of reflections may have any intensity: one of them alone decides nothing.
_OUTLIERS, _OUTLIER_MEAN = 0.02, 4.0


def mean_at_resolution(
    d_A: Floats, intensity: Floats, at_d_A: Floats | None = None, window: int = _WINDOW
) -> Floats:
    """Running mean over `window` reflections of neighbouring resolution, positive.

    Parameters
    ----------
    d_A, intensity : (n,) to average.
    at_d_A : (m,) where the mean is wanted, `d_A` by default.
    """
    at = d_A if at_d_A is None else at_d_A
    if len(d_A) == 0:
        return np.ones(len(at))
    order = np.argsort(-d_A)
    i, s2 = intensity[order], d_A[order] ** -2.0
    half = max(min(window, len(i)) // 2, 1)
    total = np.r_[0.0, np.cumsum(i)]
    position = np.r_[0.0, np.cumsum(s2)]
    k = np.arange(len(i))
    low, high = np.maximum(k - half, 0), np.minimum(k + half, len(i))
    mean = (total[high] - total[low]) / (high - low)
    centre = (position[high] - position[low]) / (high - low)
    floor = max(float(intensity.mean()), 0.0) * 1e-2
    mean = np.maximum(mean, floor if floor > 0 else 1.0)
    result: Floats = np.interp(at**-2.0, centre, mean)
    return result


def log_density(x: Floats, s: Floats, mean: float) -> Floats:
    """ln p(x) of intensities x (n,), in any unit, with errors s (n,), about an expected mean."""
    parts = [
        np.log((1 - _OUTLIERS) * weight) + _exponential(x, s, mean * share)
        for weight, share in _MIXTURE
    ]
    parts.append(np.log(_OUTLIERS) + _exponential(x, s, _OUTLIER_MEAN))
    total: Floats = np.logaddexp.reduce(np.stack(parts), axis=0)
    return total


def _exponential(x: Floats, s: Floats, mean: float) -> Floats:
    """ln of an exponential distribution convolved with a normal one."""
    m = max(mean, 1e-3)
    result: Floats = -np.log(m) + s**2 / (2 * m**2) - x / m + log_ndtr(x / s - s / m)
    return result


def expected_e2_minus_1(s: Floats, centric: bool, seed: int = 0) -> float:
    """<|E^2 - 1|> of reflections with errors s (of E^2), with or without an inversion centre.

    0.968 and 0.736 without errors (Karle, Dragonette & Brenner, 1965, Acta Cryst. 19, 713).
    """
    rng = np.random.default_rng(seed)
    draws = (max(10_000 // max(len(s), 1), 1) + 1, len(s))
    e2 = rng.normal(size=draws) ** 2 if centric else rng.exponential(size=draws)
    x = e2 + s * rng.normal(size=draws)
    return float(np.mean(np.abs(x - 1))) if x.size else float("nan")
