"""How much the superposed frames show, and how much of what frames show they do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

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


@dataclass(frozen=True)
class Unexplained:
    """Contrast that does not move with the fit, as a share of that which does; its error."""

    share: float
    error: float


def unexplained_of(state: Frames, step: Step) -> Unexplained:
    """How much of the contrast does not move with the fit.

    The former is the covariance of residuals of neighbouring pixels, which counting noise has not.
    """
    grid, shifts = step.grid, step.shifts
    some = np.arange(0, len(state.use), max(1, len(state.use) // LOOKED_AT))
    alike, moving, noise = _alike(
        state.frames, state.corner, state.use, state.beam, state.weight * state.mask, some,
        shifts.plane, shifts.base, shifts.rest,
        grid.mean, grid.gradient_y, grid.gradient_x, grid.shadow, grid.coverage,
    )  # fmt: skip
    moving = max(moving, 1e-12)
    return Unexplained(float(alike / moving), float(np.sqrt(noise) / moving))


@njit(cache=True, nogil=True)
def _alike(  # type: ignore[no-untyped-def]
    frames, corner, use, beam, weight, some, plane, base, rest,
    mean, gradient_y, gradient_x, shadow, coverage,
):  # fmt: skip
    """Sums of products of neighbouring pixels of the residuals, and of the predicted contrast; the
    variance that counting gives the former."""
    height, width = weight.shape
    left, contrast = np.empty((height, width)), np.empty((height, width))
    expected = np.empty((height, width))
    alike, moving, noise = 0.0, 0.0, 0.0
    for i in some:
        k, top, begin = plane[i], base[i, 0], base[i, 1]
        level, seen = 0.0, 0
        for y in range(height):
            for x in range(width):
                u, v = top + y, begin + x
                told = beam[i] * weight[y, x]
                # where few frames overlap, the object is made to fit
                if told <= 0 or coverage[k, u, v] <= LEAST_OVERLAP:
                    left[y, x], expected[y, x], contrast[y, x] = 0.0, 0.0, np.nan
                    continue
                o = mean[k, u, v] + rest[i, 0] * gradient_y[k, u, v]
                o += rest[i, 1] * gradient_x[k, u, v]
                left[y, x] = frames[use[i], corner[0] + y, corner[1] + x] - told * o
                expected[y, x] = told * o
                contrast[y, x] = shadow[k, u, v]
                level += shadow[k, u, v]
                seen += 1
        if seen == 0:
            continue
        for y in range(height):
            for x in range(width):
                told = beam[i] * weight[y, x]
                unseen = np.isnan(contrast[y, x])
                contrast[y, x] = 0.0 if unseen else told * (contrast[y, x] - level / seen)
                if y > 0:
                    alike += left[y, x] * left[y - 1, x]
                    noise += expected[y, x] * expected[y - 1, x]
                    moving += contrast[y, x] * contrast[y - 1, x]
                if x > 0:
                    alike += left[y, x] * left[y, x - 1]
                    noise += expected[y, x] * expected[y, x - 1]
                    moving += contrast[y, x] * contrast[y, x - 1]
    return alike, moving, noise
