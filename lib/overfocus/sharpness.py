"""How much the superposed frames show: variance of the object, whatever area was scanned."""

from __future__ import annotations

import numpy as np

from .gauss_newton import Frames, Step


def sharpness_of(state: Frames, step: Step) -> float:
    """Variance of the object, weighted by coverage, over that of counting noise."""
    grid = step.grid
    coverage = grid.coverage.astype(float)
    seen = coverage > 0.05 * coverage.max()
    weight = coverage[seen]
    mean = np.average(grid.shadow[seen], weights=weight)
    variance = np.average((grid.shadow[seen] - mean) ** 2, weights=weight)
    brightness = float(state.weight[state.mask > 0].mean())
    noise = mean * len(weight) / weight.sum() / max(brightness, 1e-9)
    return float(variance / max(noise, 1e-12))
