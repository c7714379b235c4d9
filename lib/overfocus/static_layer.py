"""Alternating separation of what stands still (aperture, gain) from what moves (the specimen).

With the object known, ``f_s(x) = t_s w(x) o(x - G s)`` is linear in the static layer w and in the
intensities t; their most likely values for Poisson counts are ratios of sums. Alternated with the
object's own ratio of sums this is an alternating least-squares (ALS) factorisation. A mean frame
alone, as a flat field, keeps a ghost of a sparse or smooth specimen.
"""

from __future__ import annotations

import numpy as np

from .gauss_newton import Frames, Step
from .object_grid import Floats

#: Power of the ratio that w is changed by.
OVER_RELAXED = 1.5


def mean_layer(frames: Floats, use: np.ndarray, beam: Floats) -> Floats:
    """(row, column) summed frames over summed intensities: the first static layer."""
    total = np.zeros(frames.shape[1:])
    for i in range(0, len(use), 256):
        total += frames[use[i : i + 256]].sum(0, dtype=np.float64)
    return np.asarray(total / max(float(beam.sum()), 1e-9), np.float32)


def update_layer(state: Frames, step: Step, summed: Floats) -> float:
    """New w and t of `state` from a comparison, in place; `summed` is the sum of the frames.

    The mean of t stays 1: with w t o fixed, their scales are arbitrary. What is smooth in w is
    told from the object but slowly, so w goes further than to the likeliest value (successive
    over-relaxation). Returns the r.m.s. relative change of w that was called for.
    """
    told = step.layer * state.weight
    ratio = np.ones_like(summed)
    np.divide(summed, told, out=ratio, where=told > 1e-6 * told.max())
    state.weight *= np.clip(ratio, 0.5, 2.0) ** np.float32(OVER_RELAXED)
    beam = np.maximum(step.sums[:, 1], 1e-6)
    state.beam *= (step.sums[:, 0] / beam).astype(np.float32)
    mean = state.beam.mean(dtype=np.float64)
    state.beam /= np.float32(mean)
    state.weight *= np.float32(mean)
    return float(np.sqrt(np.mean((ratio[state.mask > 0] - 1) ** 2)))
