"""What sigmas are worth: an error model common to all crystals, and how each differs from it.

``sigma'^2 = a^2 (sigma^2 + c I <I> + (b I)^2)`` (`reduction.scaling.ErrorModel`). a, b and c are
fitted to all repeats together; then a and b of each data set to the deviations of its own
observations from the mean of the *others*. Both are variance components, linear in the expected
square of a deviation, so that each set's are a weighted linear fit. To every set's observations
fifty like them are added which agree with the common model: with few repeats it keeps that one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, Integers
from ..reduction.scaling import ErrorModel, deviations, fit_error_model

# So many observations tell the common model as well as all do.
_SAMPLE = 100_000
# A set's own repeats must outnumber this before they rule its error model.
_PRIOR_OBSERVATIONS = 50.0
# Deviations are clipped here, which leaves 0.995 of the variance of a normal distribution.
_CLIP, _CLIPPED_VARIANCE = 3.0, 0.995
_LARGEST_RATIO = 8.0


def common_error_model(
    group: Integers, intensity: Floats, sigma: Floats, around: Floats
) -> ErrorModel | None:
    """The model of all observations; None where fewer than 100 have a partner.

    Parameters
    ----------
    group : (n,) number of the unique reflection.
    intensity, sigma : (n,) scaled.
    around : (n,) mean intensity at the resolution of each (`reduction.scaling`).
    """
    some = _sample(group)
    group = np.unique(group[some], return_inverse=True)[1]
    return fit_error_model(group, intensity[some], sigma[some], around[some])


def _sample(group: Integers) -> Integers:
    """At most about `_SAMPLE` rows, at least two of each set of equivalents that is in."""
    if len(group) <= _SAMPLE:
        return np.arange(len(group))
    count = np.bincount(group)
    chosen = group % int(np.ceil(2 * np.sum(count > 0) / _SAMPLE)) == 0
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - (np.cumsum(count) - count)[group[order]]
    # spread over the data sets, which follow each other in the table
    thin = max(int(chosen.sum()) // _SAMPLE, 1)
    step = np.minimum(thin, np.maximum(count // 2, 1))[group]
    return np.flatnonzero(chosen & (rank % step == 0))


def set_error_models(
    member: Integers,
    group: Integers,
    intensity: Floats,
    sigma: Floats,
    around: Floats,
    common: ErrorModel,
    n_sets: int,
    *,
    robust: bool = False,
) -> tuple[ErrorModel, ...]:
    """An error model for each data set; c is the common one's.

    Outliers have to be gone, as they spoil the means of their equivalents as well. Where they are
    not, `robust` gives each set the common model times a factor from the median deviation.

    Parameters
    ----------
    member : (n,) data set of each observation, 0 ... n_sets - 1.
    group, intensity, sigma, around : as `common_error_model`.
    common : what a set without repeats gets.
    """
    typical = np.array([common.a**2, (common.a * common.b) ** 2])
    theta = np.tile(typical, (n_sets, 1))
    repeated = np.bincount(group)[group] > 1 if len(group) else np.zeros(0, bool)
    if not repeated.any():
        return (common,) * n_sets
    mean = deviations(group, intensity, sigma)[1]
    n_repeated = np.maximum(np.bincount(member, repeated, n_sets), 1.0)
    for step in range(6):
        own, others, parts, mean = _deviation_parts(
            theta, common.c, member, group, intensity, sigma, around, mean
        )
        variance = np.sum(theta[member] * parts, axis=1) + others
        if step == 0:  # deviations are clipped, so that the start must not be far off
            ratio = _median_square(own**2 / variance, member, repeated, n_sets)
            theta = theta * ratio[:, None]
            if robust:
                break
            continue
        limit = _CLIP**2 * variance
        excess = np.minimum(own**2, limit) / _CLIPPED_VARIANCE - others
        weight = np.where(repeated, 1 / variance**2, 0.0)
        matrix, vector = np.zeros((n_sets, 2, 2)), np.zeros((n_sets, 2))
        for row in range(2):
            vector[:, row] = np.bincount(member, weight * parts[:, row] * excess, n_sets)
            for column in range(2):
                matrix[:, row, column] = np.bincount(
                    member, weight * parts[:, row] * parts[:, column], n_sets
                )
        # like the set's own observations, for those of better sets would have another weight
        prior = matrix * (_PRIOR_OBSERVATIONS / n_repeated)[:, None, None]
        floor = 1e-6 * np.maximum(matrix.sum(axis=0) / n_repeated.sum(), 1e-300)
        prior = prior + floor * np.eye(2)
        theta = np.linalg.solve(matrix + prior, (vector + prior @ typical)[..., None])[..., 0]
        theta[:, 0] = np.clip(
            theta[:, 0], typical[0] / _LARGEST_RATIO**2, typical[0] * _LARGEST_RATIO**2
        )
        theta[:, 1] = np.maximum(theta[:, 1], 0.0)
    return tuple(
        ErrorModel(float(np.sqrt(a2)), float(np.sqrt(d2 / a2)), common.c) for a2, d2 in theta
    )


def _median_square(square: Floats, member: Integers, use: NDArray[np.bool_], n_sets: int) -> Floats:
    """Robust mean square of normal deviates for each set, drawn to one where they are few."""
    rows = np.flatnonzero(use)
    rows = rows[np.lexsort((square[rows], member[rows]))]
    count = np.bincount(member[rows], minlength=n_sets)
    start = np.cumsum(count) - count
    some = count > 0
    ratio = np.ones(n_sets)
    # 0.455: the median of chi^2 with one degree of freedom
    ratio[some] = square[rows[(start + count // 2)[some]]] / 0.455
    result: Floats = (count * ratio + _PRIOR_OBSERVATIONS) / (count + _PRIOR_OBSERVATIONS)
    return result


def _deviation_parts(
    theta: Floats,
    c: float,
    member: Integers,
    group: Integers,
    intensity: Floats,
    sigma: Floats,
    around: Floats,
    mean: Floats,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Deviation from the others' mean, that mean's variance, and what a^2 and a^2 b^2 multiply."""
    i = np.maximum(mean, 0)
    parts = np.stack([sigma**2 + c * i * np.maximum(around, 0), i**2], axis=1)
    weight = 1 / np.sum(theta[member] * parts, axis=1)
    n = int(group.max()) + 1
    total, weighted = np.bincount(group, weight, n), np.bincount(group, weight * intensity, n)
    rest = np.maximum(total[group] - weight, 1e-12 * total[group])
    others = np.where(np.bincount(group, minlength=n)[group] > 1, rest, 1.0)
    own = intensity - (weighted[group] - weight * intensity) / others
    return own, 1 / others, parts, (weighted / total)[group]


def corrected_sigmas(
    models: tuple[ErrorModel, ...], member: Integers, sigma: Floats, mean: Floats, around: Floats
) -> Floats:
    """(n,) sigmas by the model of each observation's data set, at the mean of the equivalents."""
    a, b, c = (np.array([getattr(m, k) for m in models])[member] for k in "abc")
    i = np.maximum(mean, 0)
    result: Floats = a * np.sqrt(sigma**2 + c * i * np.maximum(around, 0) + (b * i) ** 2)
    return result
