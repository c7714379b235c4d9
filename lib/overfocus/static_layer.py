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


def mean_layer(frames: Floats, use: np.ndarray, beam: Floats) -> Floats:
    """(row, column) summed frames over summed intensities: the first static layer."""
    total = np.zeros(frames.shape[1:])
    for i in range(0, len(use), 256):
        total += frames[use[i : i + 256]].sum(0, dtype=np.float64)
    return np.asarray(total / max(float(beam.sum()), 1e-9), np.float32)


def update_layer(state: Frames, step: Step, summed: Floats) -> None:
    """New w and t of `state` from a comparison, in place; `summed` is the sum of the frames.

    The mean of t stays 1: with w t o fixed, their scales are arbitrary.
    """
    seen = step.layer > 0
    np.divide(summed, step.layer, out=state.weight, where=seen)
    np.maximum(state.weight, 0, out=state.weight)
    told = np.maximum(step.sums[:, 1], 1e-6)
    state.beam *= (step.sums[:, 0] / told).astype(np.float32)
    mean = state.beam.mean(dtype=np.float64)
    state.beam /= np.float32(mean)
    state.weight *= np.float32(mean)
