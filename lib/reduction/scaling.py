"""Scaling within a series, outliers, and an error model: what equivalents say about each other.

Scale: the illuminated volume changes smoothly as the crystal turns. In the logarithm of the
intensities a smooth scale is linear, and the unknown mean of each set of equivalents drops out
when every set is centred on its own mean (Fox & Holmes, Acta Cryst. 20 (1966) 886, solved
exactly).

Errors: ``sigma'^2 = a^2 (sigma^2 + (b I)^2)`` with a and b such that the normalised deviations
of equivalents have unit variance at every intensity (as XDS and Aimless).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# A knot of the scale for every so many degrees of rotation.
_KNOT_DEG = 6.0
# Unknown error of a single intensity in the logarithm; keeps a few strong ones from ruling.
_LOG_ERROR = 0.15
# Equivalents farther than this from the others' mean are outliers.
OUTLIER_SIGMA = 4.0


@dataclass(frozen=True)
class SmoothScale:
    """Scale of a series: a function of the frame and, where that helps, of the detector position.

    Attributes
    ----------
    knots : (k,) frame positions.
    log_scale : (k,) logarithm of the scale at the knots, piecewise linear between.
    log_position : (5,) coefficients of x, y, x^2, xy, y^2 with (x, y) = (column, row) from the
        detector's middle in units of half its size; None where the position plays no part.
    shape : (rows, columns) of the detector.
    """

    knots: Floats
    log_scale: Floats
    log_position: Floats | None
    shape: tuple[int, int]

    def per_frame(self, n_frames: int) -> Floats:
        """(n_frames,) scale at the detector's mean position."""
        scale: Floats = np.exp(np.interp(np.arange(n_frames), self.knots, self.log_scale))
        return scale

    def at(self, frame: Floats, row: Floats, column: Floats) -> Floats:
        """(n,) scale of reflections, by which their intensities are to be divided."""
        log = np.interp(frame, self.knots, self.log_scale)
        if self.log_position is not None:
            log = log + _position_terms(row, column, self.shape) @ self.log_position
        scale: Floats = np.exp(log)
        return scale


def _position_terms(row: Floats, column: Floats, shape: tuple[int, int]) -> Floats:
    y = 2 * np.asarray(row, float) / shape[0] - 1
    x = 2 * np.asarray(column, float) / shape[1] - 1
    return np.stack([x, y, x * x, x * y, y * y], axis=1)


def fit_scale(
    group: Integers,
    frame: Floats,
    row: Floats,
    column: Floats,
    intensity: Floats,
    sigma: Floats,
    n_frames: int,
    range_deg: float,
    shape: tuple[int, int],
) -> SmoothScale | None:
    """Scale from equivalents, mean logarithm 0; None where equivalents are too few.

    The dependence on the detector position (absorption, a tilted plate, the camera's response)
    is kept only if, fitted on half of the sets of equivalents, it makes the other half agree
    better: few data can be made to agree by anything.

    Parameters
    ----------
    group : (n,) which reflections are equivalent.
    frame, row, column, intensity, sigma : (n,) of each reflection.
    n_frames, range_deg, shape : of the series.
    """
    n_knots = int(np.clip(round(range_deg / _KNOT_DEG) + 1, 2, 25))
    use = intensity > 4 * sigma
    group = np.unique(group, return_inverse=True)[1]
    use &= np.bincount(group, use)[group] > 1
    if use.sum() < 10 * n_knots:
        return None
    group = np.unique(group[use], return_inverse=True)[1]
    knots = np.linspace(0, n_frames - 1, n_knots)
    hats = np.stack([np.interp(frame[use], knots, unit) for unit in np.eye(n_knots)], axis=1)
    terms = _position_terms(row[use], column[use], shape)
    y = np.log(intensity[use])
    weight = 1 / ((sigma[use] / intensity[use]) ** 2 + _LOG_ERROR**2)

    both = np.concatenate([hats, terms - terms.mean(axis=0)], axis=1)
    half = group % 2 == 0
    spread = []
    for design in (hats, both):
        trained = _fit_log(group[half], y[half], weight[half], design[half], n_knots)
        spread.append(_disagreement(group[~half], y[~half] - design[~half] @ trained))
    if spread[1] < 0.98 * spread[0]:
        solution = _fit_log(group, y, weight, both, n_knots)
        shift = float(terms.mean(axis=0) @ solution[n_knots:])
        return SmoothScale(knots, solution[:n_knots] - shift, solution[n_knots:], shape)
    return SmoothScale(knots, _fit_log(group, y, weight, hats, n_knots), None, shape)


def _fit_log(group: Integers, y: Floats, weight: Floats, design: Floats, n_knots: int) -> Floats:
    """Robust least squares of y = mean of its group + design @ solution."""
    n_groups, n_terms = int(group.max()) + 1, design.shape[1]
    # neighbouring knots agree to a few per cent unless the data insist
    second = np.zeros((max(n_knots - 2, 0), n_terms))
    second[:, :n_knots] = np.diff(np.eye(n_knots), 2, axis=0) / 0.1
    level = np.zeros((1, n_terms))
    level[0, :n_knots] = 1e3 / n_knots
    mild = np.eye(n_terms)[n_knots:] / 0.5
    solution = np.zeros(n_terms)
    base = weight
    for _ in range(6):
        total = np.maximum(np.bincount(group, weight, n_groups), 1e-12)
        centred = y - (np.bincount(group, weight * y, n_groups) / total)[group]
        mean = np.stack(
            [np.bincount(group, weight * column, n_groups) / total for column in design.T], axis=1
        )
        root = np.sqrt(weight)
        lhs = np.concatenate([(design - mean[group]) * root[:, None], second, level, mild])
        rhs = np.concatenate([centred * root, np.zeros(len(lhs) - len(centred))])
        solution = np.linalg.lstsq(lhs, rhs, rcond=None)[0]
        pull = np.abs(centred - (design - mean[group]) @ solution) * np.sqrt(base)
        weight = base * np.minimum(1.0, 2.0 / np.maximum(pull, 1e-9))
    return solution


def _disagreement(group: Integers, y: Floats) -> float:
    """Median absolute deviation of y from the mean of its group."""
    count = np.bincount(group)
    mean = np.bincount(group, y) / np.maximum(count, 1)
    several = count[group] > 1
    return float(np.median(np.abs(y - mean[group])[several])) if several.any() else np.inf


@dataclass(frozen=True)
class ErrorModel:
    """sigma'^2 = a^2 (sigma^2 + (b I)^2)."""

    a: float = 1.0
    b: float = 0.0

    def sigma(self, sigma: Floats, intensity: Floats) -> Floats:
        """Corrected standard deviations; `intensity` should be the mean of the equivalents."""
        corrected: Floats = self.a * np.hypot(sigma, self.b * np.maximum(intensity, 0))
        return corrected


def deviations(group: Integers, intensity: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """Normalised deviation of each reflection from the mean of its *other* equivalents.

    Returns
    -------
    deviation : (n,), unit variance if the sigmas are right; NaN for a lone reflection.
    mean : (n,) weighted mean of all equivalents, itself included.
    """
    w = 1 / sigma**2
    n = int(group.max()) + 1
    total, weighted = np.bincount(group, w, n), np.bincount(group, w * intensity, n)
    rest = total[group] - w
    count = np.bincount(group, minlength=n)[group]
    with np.errstate(invalid="ignore", divide="ignore"):
        other = (weighted[group] - w * intensity) / rest
        deviation = np.where(count > 1, (intensity - other) / np.sqrt(sigma**2 + 1 / rest), np.nan)
    mean: Floats = (weighted / total)[group]
    return deviation, mean


def find_outliers(group: Integers, intensity: Floats, sigma: Floats) -> NDArray[np.bool_]:
    """Reflections farther than `OUTLIER_SIGMA` from the median of at least two others."""
    order = np.lexsort((intensity, group))
    g, i = group[order], intensity[order]
    start = np.flatnonzero(np.r_[True, g[1:] != g[:-1]])
    size = np.diff(np.r_[start, len(g)])
    median = 0.5 * (i[start + (size - 1) // 2] + i[start + size // 2])
    which = np.repeat(np.arange(len(start)), size)
    outlier = np.zeros(len(group), bool)
    outlier[order] = (np.abs(i - median[which]) > OUTLIER_SIGMA * sigma[order]) & (size[which] >= 3)
    return outlier


def fit_error_model(group: Integers, intensity: Floats, sigma: Floats) -> ErrorModel | None:
    """a and b from equivalents; None where fewer than 100 have a partner."""
    deviation, mean = deviations(group, intensity, sigma)
    known = np.isfinite(deviation)
    if known.sum() < 100:
        return None
    # the same members must be compared whatever a and b are
    order = np.argsort(mean[known])
    bins = np.array_split(np.flatnonzero(known)[order], int(np.clip(known.sum() // 50, 2, 12)))

    def misfit(p: Floats) -> float:
        model = ErrorModel(float(np.exp(p[0])), abs(float(p[1])))
        d, _ = deviations(group, intensity, model.sigma(sigma, mean))
        # bins of strong and weak reflections should both come out at one
        chi2 = np.array([_robust_variance(d[b]) for b in bins])
        return float(np.sum(np.log(np.maximum(chi2, 1e-6)) ** 2) + (p[0] / 0.5) ** 2)

    best = min(
        (
            minimize(misfit, np.array([0.0, b0]), method="Nelder-Mead",
                     options={"xatol": 1e-3, "fatol": 1e-3, "maxfev": 150})
            for b0 in (0.02, 0.2)
        ),
        key=lambda s: s.fun,
    )  # fmt: skip
    return ErrorModel(float(np.exp(best.x[0])), abs(float(best.x[1])))


def _robust_variance(d: Floats) -> float:
    """Variance of the normal core, from the middle 80 %: tails are outliers, not errors."""
    low, high = np.percentile(d, [10, 90])
    return float(((high - low) / 2.5631) ** 2)
