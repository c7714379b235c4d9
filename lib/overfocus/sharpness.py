"""How much the superposed frames show: variance of the object, whatever area was scanned."""

from __future__ import annotations

import numpy as np

from .gauss_newton import Frames, Step


def sharpness_of(state: Frames, step: Step) -> float:
    """Variance of the object, weighted by coverage, over that of counting noise."""
    q = step.shifts.finer
    one, other = step.grids
    coverage = one.coverage.astype(float) + other.coverage
    seen = coverage > 0.05 * coverage.max()
    weight = coverage[seen]
    mean = np.average(one.shadow[seen], weights=weight)
    variance = np.average((one.shadow[seen] - mean) * (other.shadow[seen] - mean), weights=weight)
    brightness = float(state.weight[state.mask > 0].mean())
    # of a triangular kernel q points wide along both axes
    kernel = ((2 * q**2 + 1) / (3 * q**3)) ** 2
    noise = mean * q**2 * kernel * len(weight) / weight.sum() / max(brightness, 1e-9)
    return float(variance / max(noise, 1e-12))
