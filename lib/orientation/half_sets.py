"""The half-set test: what errors are really, from two halves of the reflections.

Models of rocking curves are wrong in ways counting statistics know nothing of. Two halves of the
reflections, Friedel mates together, give two answers for each frame; that these differ by more than
their errors say is by how much all errors are too small.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats

#: Median of a squared standard normal variable.
MEDIAN = 0.4549


def halves(hkl: NDArray[np.int32], seed: int = 0) -> NDArray[np.bool_]:
    """(n,) bool: in the first half; the same for all rows of hkl and -h-k-l."""
    index = np.asarray(hkl, np.int64)
    if not len(index):
        return np.zeros(0, bool)
    sign = np.sign(index)
    leading = np.where(
        sign[:, 0] != 0, sign[:, 0], np.where(sign[:, 1] != 0, sign[:, 1], sign[:, 2])
    )
    unique, which = np.unique(index * leading[:, None], axis=0, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(unique))
    return (order[which.ravel()] % 2) == 0


def error_factor(
    difference: Floats, first_variance: Floats, second_variance: Floats, prior_sd: float
) -> Floats:
    """Errors as they are over errors as expected, (k,); 1 where too few frames tell.

    Parameters
    ----------
    difference : (frames, k) between the halves.
    first_variance, second_variance : (frames, k) expected of each half.
    prior_sd : of the prior both halves share; frames held by it say nothing.
    """
    out = np.ones(difference.shape[1])
    for k in range(difference.shape[1]):
        variance = first_variance[:, k] + second_variance[:, k]
        worst = np.maximum(first_variance[:, k], second_variance[:, k])
        told = (worst < 0.25 * prior_sd**2) & np.isfinite(difference[:, k]) & (variance > 0)
        if told.sum() >= 10:
            z2 = difference[told, k] ** 2 / variance[told]
            out[k] = np.sqrt(float(np.median(z2)) / MEDIAN)
    return out
