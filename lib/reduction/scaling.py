"""Scaling within a series, outliers, and an error model: what equivalents say about each other.

Scale: the illuminated volume changes smoothly as the crystal turns. In the logarithm of the
intensities a smooth scale is linear, and the unknown mean of each set of equivalents drops out
when every set is centred on its own mean (Fox & Holmes, Acta Cryst. 20 (1966) 886, solved
exactly).

Errors: ``sigma'^2 = a^2 (sigma^2 + c I <I> + (b I)^2)`` with coefficients such that the normalised
deviations of equivalents have unit variance at every intensity (Evans, Acta Cryst. D62 (2006)
72, eq. 11). The middle term is what multiple scattering leaves: amplitudes interfere, F + m, so
the error of I is 2 F m, with m a part of the amplitudes about: c I <I>. On a garnet it takes a
relative error from 0.7 of weak reflections to 0.25 of strong ones with one coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# A knot of the scale for every so many degrees of rotation.
_KNOT_DEG = 3.0
# Unknown error of a single intensity in the logarithm; keeps a few strong ones from ruling.
_LOG_ERROR = 0.15
# First steps of the search for ln a, b and the root of c.
_FIRST_STEPS = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.05, 0.0], [0.0, 0.0, 0.1]])
# Equivalents farther than this from the others' mean are outliers.
OUTLIER_SIGMA = 4.0


def smooth_scale(
    group: Integers,
    frame: Floats,
    intensity: Floats,
    sigma: Floats,
    n_frames: int,
    range_deg: float,
) -> Floats | None:
    """Relative scale of each frame, mean logarithm 0; None where equivalents are too few.

    Parameters
    ----------
    group : (n,) which reflections are equivalent.
    frame : (n,) frame position.
    intensity, sigma : (n,).
    n_frames, range_deg : of the series.
    """
    n_knots = int(np.clip(round(range_deg / _KNOT_DEG) + 1, 2, 50))
    use = intensity > 4 * sigma
    group = np.unique(group, return_inverse=True)[1]
    use &= np.bincount(group, use)[group] > 1
    if use.sum() < 10 * n_knots:
        return None
    group = np.unique(group[use], return_inverse=True)[1]
    n_groups = int(group.max()) + 1
    knots = np.linspace(0, n_frames - 1, n_knots)
    hats = np.stack([np.interp(frame[use], knots, unit) for unit in np.eye(n_knots)], axis=1)
    y = np.log(intensity[use])
    base = 1 / ((sigma[use] / intensity[use]) ** 2 + _LOG_ERROR**2)
    # multiple scattering disturbs weak reflections relatively more (error ~ sqrt(I))
    mean = np.bincount(group, intensity[use]) / np.bincount(group)
    base = base * (mean / np.median(mean))[group]
    # neighbouring knots agree to a few per cent unless the data insist
    second = np.diff(np.eye(n_knots), 2, axis=0) / 0.1 if n_knots > 2 else np.zeros((0, n_knots))
    level = np.full((1, n_knots), 1e3 / n_knots)
    weight = base
    solution = np.zeros(n_knots)
    for _ in range(6):
        total = np.maximum(np.bincount(group, weight, n_groups), 1e-12)
        centred = y - (np.bincount(group, weight * y, n_groups) / total)[group]
        middle = np.stack(
            [np.bincount(group, weight * column, n_groups) / total for column in hats.T], axis=1
        )
        design = hats - middle[group]
        root = np.sqrt(weight)
        lhs = np.concatenate([design * root[:, None], second, level])
        rhs = np.concatenate([centred * root, np.zeros(len(second) + 1)])
        solution = np.linalg.lstsq(lhs, rhs, rcond=None)[0]
        pull = np.abs(centred - design @ solution) * np.sqrt(base)
        weight = base * np.minimum(1.0, 2.0 / np.maximum(pull, 1e-9))
    scale: Floats = np.exp(np.interp(np.arange(n_frames), knots, solution))
    return scale


@dataclass(frozen=True)
class ErrorModel:
    """sigma'^2 = a^2 (sigma^2 + c I <I> + (b I)^2), <I> the mean at the same resolution."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0

    def sigma(self, sigma: Floats, intensity: Floats, around: Floats | float = 1.0) -> Floats:
        """Corrected standard deviations.

        `intensity` should be the mean of the equivalents, `around` the mean intensity of all
        reflections at the resolution (see `mean_at_resolution`).
        """
        i = np.maximum(intensity, 0)
        corrected: Floats = self.a * np.sqrt(
            sigma**2 + self.c * i * np.maximum(around, 0) + (self.b * i) ** 2
        )
        return corrected


def mean_at_resolution(d_A: Floats, intensity: Floats, per_shell: int = 200) -> Floats:
    """(n,) mean intensity of the shell of about `per_shell` reflections at each resolution."""
    mean = np.zeros(len(d_A))
    for shell in np.array_split(np.argsort(-d_A), max(len(d_A) // per_shell, 1)):
        if len(shell):
            known = intensity[shell][np.isfinite(intensity[shell])]
            mean[shell] = max(float(known.mean()), 0.0) if len(known) else 0.0
    return mean


def deviations(group: Integers, intensity: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """Normalised deviation of each reflection from the mean of its *other* equivalents.

    A reflection without a finite intensity and a positive sigma makes its set NaN.

    Returns
    -------
    deviation : (n,), unit variance if the sigmas are right; NaN for a lone reflection.
    mean : (n,) weighted mean of all equivalents, itself included.
    """
    n = int(group.max(initial=-1)) + 1
    count = np.bincount(group, minlength=n)[group]
    with np.errstate(invalid="ignore", divide="ignore"):
        w = 1 / sigma**2
        total, weighted = np.bincount(group, w, n), np.bincount(group, w * intensity, n)
        rest = total[group] - w
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


def fit_error_model(
    group: Integers, intensity: Floats, sigma: Floats, around: Floats | float = 1.0
) -> ErrorModel | None:
    """The error model from equivalents; None where fewer than 100 have a partner."""
    deviation, mean = deviations(group, intensity, sigma)
    known = np.isfinite(deviation)
    if known.sum() < 100:
        return None
    # the same members must be compared whatever a and b are
    order = np.argsort(mean[known])
    bins = np.array_split(np.flatnonzero(known)[order], int(np.clip(known.sum() // 50, 2, 12)))

    # c of order one: in units of the typical intensity where `around` gives none
    unit = float(np.median(np.abs(mean[known]))) if np.ndim(around) == 0 else 1.0

    def model_of(p: Floats) -> ErrorModel:
        return ErrorModel(float(np.exp(p[0])), abs(float(p[1])), float(p[2] ** 2) * unit)

    def misfit(p: Floats) -> float:
        d, _ = deviations(group, intensity, model_of(p).sigma(sigma, mean, around))
        # bins of strong and weak reflections should all come out at one
        chi2 = np.array([_robust_variance(d[b]) for b in bins])
        return float(np.sum(np.log(np.maximum(chi2, 1e-6)) ** 2) + (p[0] / 0.5) ** 2)

    best = min(
        (
            minimize(misfit, np.array(start), method="Nelder-Mead",
                     options={"xatol": 1e-3, "fatol": 1e-3, "maxfev": 120,
                              # a start at zero would be searched in steps of 0.00025
                              "initial_simplex": np.array(start) + _FIRST_STEPS})
            for start in ((0.0, 0.02, 0.02), (0.0, 0.2, 0.2))
        ),
        key=lambda s: s.fun,
    )  # fmt: skip
    return model_of(best.x)


def _robust_variance(d: Floats) -> float:
    """Variance of the normal core, from the middle 80 %: tails are outliers, not errors."""
    low, high = len(d) // 10, len(d) - 1 - len(d) // 10
    ordered = np.partition(d, (low, high))
    return float(((ordered[high] - ordered[low]) / 2.5631) ** 2)
