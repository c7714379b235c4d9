"""How much the superposed frames show, and how much of what frames show they do not."""

from __future__ import annotations

import numpy as np

from .gauss_newton import Frames, Step

#: Frames that are looked at, and how many must overlap where they are.
LOOKED_AT, LEAST_OVERLAP = 200, 3.0


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


def unexplained_of(state: Frames, step: Step) -> float:
    """Contrast that does not move with the fit, as a share of that which does.

    The former is the covariance of residuals of neighbouring pixels, which counting noise has not.
    """
    grid, shifts = step.grid, step.shifts
    height, width = state.mask.shape
    alike, moving = 0.0, 0.0
    for i in range(0, len(state.use), max(1, len(state.use) // LOOKED_AT)):
        k, (top, left), (dy, dx) = shifts.plane[i], shifts.base[i], shifts.rest[i]
        here = (k, slice(top, top + height), slice(left, left + width))
        o = grid.mean[here] + dy * grid.gradient_y[here] + dx * grid.gradient_x[here]
        y, x = state.corner
        frame = state.frames[state.use[i], y : y + height, x : x + width]
        told = state.beam[i] * state.weight * state.mask
        # where few frames overlap, the object is made to fit
        told = told * (grid.coverage[here] > LEAST_OVERLAP)
        left_over = np.where(told > 0, frame - told * o, 0)
        inside = told > 0
        if not inside.any():
            continue
        shadow = grid.shadow[here]
        contrast = told * (shadow - np.average(shadow, weights=inside))
        for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            alike += float(np.vdot(left_over[one], left_over[other]))
            moving += float(np.vdot(contrast[one], contrast[other]))
    return alike / max(moving, 1e-12)
