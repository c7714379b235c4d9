"""Spot and rocking-curve profiles, and the intensities they give.

In the detector plane each slice is fitted as ``c = b + I_f P`` with the learned spot profile P
(Poisson weights, as Diamond (1969) Acta Cryst. A25, 43 and Kabsch (2010) Acta Cryst. D66, 133),
saturated and masked pixels left out. Along the rotation, the slices of a reflection follow an
exposure-averaged Gaussian in the excitation error of width ``sigma^2 = size^2 + (eta |g|)^2``;
its intensity, its offset and its width are fitted together, the last two held by priors learned
from the strong reflections, so that a reflection cut by the end of the series or by a blank
frame carries the uncertainty of what was not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The profile is tabulated at this many points per pixel.
OVERSAMPLING = 3
# Real rocking curves follow a Gaussian to about this part of their top.
SHAPE_ERROR = 0.15


@dataclass(frozen=True)
class SpotProfile:
    """The mean spot about its predicted position.

    Attributes
    ----------
    table : (k, k), fraction of the intensity per pixel at offsets `step * (i - k // 2)`.
    core_px : radius of the summation area.
    core_fraction : part of the intensity inside it.
    """

    table: Floats
    core_px: float
    core_fraction: float


@numba.njit(cache=True, nogil=True)
def _lookup(table: Floats, dr: float, dc: float, oversampling: int) -> float:
    """Profile at an offset from the spot's centre, by bilinear interpolation."""
    k = table.shape[0]
    y = dr * oversampling + k // 2
    x = dc * oversampling + k // 2
    i, j = int(np.floor(y)), int(np.floor(x))
    if i < 0 or j < 0 or i >= k - 1 or j >= k - 1:
        return 0.0
    fy, fx = y - i, x - j
    return (
        table[i, j] * (1 - fy) * (1 - fx)
        + table[i + 1, j] * fy * (1 - fx)
        + table[i, j + 1] * (1 - fy) * fx
        + table[i + 1, j + 1] * fy * fx
    )


@numba.njit(cache=True, nogil=True)
def measure_slices(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    row: Floats,
    column: Floats,
    core_px: float,
    out: Floats,
) -> None:
    """Background, summed counts and centroid of each slice.

    out (m, 9): background per pixel, its variance, background pixels, core sum above
    background, its variance, lost core pixels (masked, saturated or shared), the
    background-subtracted centroid offsets (row, column) from the prediction, and the part of
    the core that other reflections share.
    """
    size = boxes.shape[1]
    half = size // 2
    core2 = core_px * core_px
    clear2 = (core_px + 0.7) ** 2
    values = np.empty(size * size)
    for m in range(len(boxes)):
        dr0 = np.round(row[m]) - row[m] - half
        dc0 = np.round(column[m]) - column[m] - half
        n = 0
        for i in range(size):
            for j in range(size):
                v = boxes[m, i, j]
                d2 = (i + dr0) ** 2 + (j + dc0) ** 2
                if d2 > clear2 and v == v and crowd[m, i, j] == 0:
                    values[n] = v
                    n += 1
        if n >= 12:
            mean = values[:n].mean()
            for _ in range(2):
                limit = mean + 3.0 * np.sqrt(max(mean, 0.3))
                total, used = 0.0, 0
                for i in range(n):
                    if values[i] <= limit:
                        total += values[i]
                        used += 1
                if used > 0:
                    mean = total / used
            background, variance = mean, max(mean, 0.05) / n
        else:
            background, variance = np.nan, np.nan
        total, counts, lost, n_core, shared = 0.0, 0.0, 0, 0, 0
        wr, wc, w = 0.0, 0.0, 0.0
        for i in range(size):
            for j in range(size):
                y, x = i + dr0, j + dc0
                if y * y + x * x <= core2:
                    v = boxes[m, i, j]
                    if crowd[m, i, j] > 0:
                        shared += 1
                    if v == v and crowd[m, i, j] == 0:
                        s = v - background
                        total += s
                        counts += v
                        n_core += 1
                        w += s
                        wr += s * y
                        wc += s * x
                    else:
                        lost += 1
        out[m, 0] = background
        out[m, 1] = variance
        out[m, 2] = n
        out[m, 3] = total
        out[m, 4] = max(counts, n_core * background) + n_core * n_core * variance
        out[m, 5] = lost
        out[m, 6] = wr / w if w > 0 else np.nan
        out[m, 7] = wc / w if w > 0 else np.nan
        out[m, 8] = shared / max(n_core + lost, 1)


@numba.njit(cache=True, nogil=True)
def _accumulate_profile(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    row: Floats,
    column: Floats,
    background: Floats,
    intensity: Floats,
    weight: Floats,
    table: Floats,
    norm: Floats,
    ov: int,
) -> None:
    """Add normalised slices to the oversampled profile table."""
    size = boxes.shape[1]
    half = size // 2
    k = table.shape[0]
    for m in range(len(boxes)):
        if weight[m] <= 0.0:
            continue
        dr0 = np.round(row[m]) - row[m] - half
        dc0 = np.round(column[m]) - column[m] - half
        for i in range(size):
            for j in range(size):
                v = boxes[m, i, j]
                if v != v or crowd[m, i, j] > 0:
                    continue
                y = (i + dr0) * ov + k // 2
                x = (j + dc0) * ov + k // 2
                a, b = int(np.floor(y)), int(np.floor(x))
                fy, fx = y - a, x - b
                value = (v - background[m]) / intensity[m]
                for p in range(2):
                    for q in range(2):
                        u, t = a + p, b + q
                        if 0 <= u < k and 0 <= t < k:
                            g = weight[m] * (fy if p else 1 - fy) * (fx if q else 1 - fx)
                            table[u, t] += g * value
                            norm[u, t] += g


def learn_spot_profile(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    row: Floats,
    column: Floats,
    measured: Floats,
    strong: NDArray[np.bool_],
    core_px: float,
) -> SpotProfile | None:
    """The mean profile of the strong slices about their predicted positions, or None."""
    if strong.sum() < 20:
        return None
    half = boxes.shape[1] // 2
    k = 2 * (half + 1) * OVERSAMPLING + 1
    table, norm = np.zeros((k, k)), np.zeros((k, k))
    with np.errstate(invalid="ignore", divide="ignore"):
        significance = measured[:, 3] / np.sqrt(measured[:, 4])
    weight = np.where(strong, np.minimum(significance, 30.0), 0.0)
    _accumulate_profile(
        boxes[strong], crowd[strong], row[strong], column[strong], measured[strong, 0],
        measured[strong, 3], weight[strong], table, norm, OVERSAMPLING,
    )  # fmt: skip
    table = np.where(norm > 0, table / np.maximum(norm, 1e-12), 0.0)
    offset = (np.arange(k) - k // 2) / OVERSAMPLING
    radius = np.hypot(offset[:, None], offset[None, :])
    # where the background was taken there is, by that, no spot: what neighbours left is no tail
    table -= np.median(table[(radius > core_px + 0.7) & (radius <= half)])
    table[radius > half + 0.5] = 0.0
    table = np.maximum(table, 0.0)
    total = table.sum() / OVERSAMPLING**2
    if not total > 0:
        return None
    table /= total
    core = float(table[radius <= core_px].sum() / OVERSAMPLING**2)
    return SpotProfile(table, core_px, core)


@numba.njit(cache=True, nogil=True)
def fit_slices(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    row: Floats,
    column: Floats,
    measured: Floats,
    table: Floats,
    fit_px: float,
    oversampling: int,
    out: Floats,
) -> None:
    """Profile-fitted intensity of each slice: out (m, 3): I_f, variance, part of P seen."""
    size = boxes.shape[1]
    half = size // 2
    fit2 = fit_px * fit_px
    for m in range(len(boxes)):
        background = measured[m, 0]
        if background != background:
            out[m, 0] = np.nan
            out[m, 1] = np.nan
            out[m, 2] = 0.0
            continue
        dr0 = np.round(row[m]) - row[m] - half
        dc0 = np.round(column[m]) - column[m] - half
        intensity = max(measured[m, 3], 0.0)
        floor = max(background, 0.05)
        variance, seen, slope = np.inf, 0.0, 0.0
        for _ in range(3):
            top, bottom, lever, seen = 0.0, 0.0, 0.0, 0.0
            for i in range(size):
                for j in range(size):
                    y, x = i + dr0, j + dc0
                    if y * y + x * x > fit2:
                        continue
                    v = boxes[m, i, j]
                    if v != v or crowd[m, i, j] > 0:
                        continue
                    p = _lookup(table, y, x, oversampling)
                    var = floor + intensity * p
                    top += p * (v - background) / var
                    bottom += p * p / var
                    lever += p / var
                    seen += p
            if bottom <= 0.0:
                break
            estimate = top / bottom
            variance = 1.0 / bottom
            slope = lever / bottom
            intensity = max(estimate, 0.0)
        if bottom <= 0.0:
            out[m, 0] = np.nan
            out[m, 1] = np.nan
            out[m, 2] = 0.0
        else:
            out[m, 0] = estimate
            # the background's own error moves the fit by -sum(P/v) / sum(P^2/v)
            out[m, 1] = variance + slope * slope * measured[m, 1]
            out[m, 2] = seen


@numba.njit(cache=True, nogil=True)
def _phi(x: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@numba.njit(cache=True, nogil=True)
def _shape(low: float, high: float, sigma: float, shift: float) -> float:
    """Fraction of a Gaussian rocking curve swept during an exposure."""
    return _phi((high - shift) / sigma) - _phi((low - shift) / sigma)


@numba.njit(cache=True, nogil=True)
def fit_rocking(
    start: NDArray[np.int64],
    low: Floats,
    high: Floats,
    value: Floats,
    variance: Floats,
    scale: Floats,
    sigma: Floats,
    prior_shift: float,
    prior_width: float,
    free_above: float,
    out: Floats,
) -> None:
    """Intensity of each reflection from its slices.

    Fits ``I_f = scale_f I p_f(shift, width)`` with Gaussian priors on shift (sigma
    `prior_shift`, 1/Å) and ln width (`prior_width`); both stay at zero where the intensity is
    below `free_above` standard deviations or the curve is cut, but their uncertainty enters
    the variance.

    out (n, 10): I, variance, shift, ln width, recorded fraction, reduced chi-square, slices
    used, sum of slice intensities over scale, variance of the shift, and the reduced
    chi-square when each slice may also be wrong by `SHAPE_ERROR` of the curve's top.
    """
    step_shift, step_width = 1e-2, 1e-2
    for i in range(len(start) - 1):
        a, b = start[i], start[i + 1]
        s0 = sigma[i]
        shift, width = 0.0, 0.0
        used = 0
        for f in range(a, b):
            if value[f] == value[f] and variance[f] > 0:
                used += 1
        out[i, :] = np.nan
        out[i, 6] = used
        if used == 0:
            continue
        # start: linear fit of the intensity with the expected shape
        top, bottom = 0.0, 0.0
        for f in range(a, b):
            if value[f] == value[f] and variance[f] > 0:
                p = scale[f] * _shape(low[f], high[f], s0, 0.0)
                top += p * value[f] / variance[f]
                bottom += p * p / variance[f]
        if bottom <= 1e-30:
            continue
        intensity = top / bottom
        covered = 0.0
        for f in range(a, b):
            if value[f] == value[f] and variance[f] > 0:
                covered += _shape(low[f], high[f], s0, 0.0)
        # a curve seen in part cannot tell its own centre: there the prior mean is kept
        strong = intensity > free_above / np.sqrt(bottom) and used >= 2 and covered > 0.9
        h = np.zeros((3, 3))
        for _ in range(8 if strong else 1):
            h[:] = 0.0
            g = np.zeros(3)
            sg = s0 * np.exp(width)
            d_shift = step_shift * sg
            for f in range(a, b):
                if not (value[f] == value[f] and variance[f] > 0):
                    continue
                p = scale[f] * _shape(low[f], high[f], sg, shift)
                dps = (
                    scale[f]
                    * (
                        _shape(low[f], high[f], sg, shift + d_shift)
                        - _shape(low[f], high[f], sg, shift - d_shift)
                    )
                    / (2 * d_shift)
                )
                dpw = (
                    scale[f]
                    * (
                        _shape(low[f], high[f], sg * (1 + step_width), shift)
                        - _shape(low[f], high[f], sg * (1 - step_width), shift)
                    )
                    / (2 * step_width)
                )
                w = 1.0 / variance[f]
                residual = value[f] - intensity * p
                j0, j1, j2 = p, intensity * dps, intensity * dpw
                h[0, 0] += w * j0 * j0
                h[0, 1] += w * j0 * j1
                h[0, 2] += w * j0 * j2
                h[1, 1] += w * j1 * j1
                h[1, 2] += w * j1 * j2
                h[2, 2] += w * j2 * j2
                g[0] += w * j0 * residual
                g[1] += w * j1 * residual
                g[2] += w * j2 * residual
            h[1, 0], h[2, 0], h[2, 1] = h[0, 1], h[0, 2], h[1, 2]
            h[1, 1] += 1.0 / prior_shift**2
            h[2, 2] += 1.0 / prior_width**2
            g[1] -= shift / prior_shift**2
            g[2] -= width / prior_width**2
            if h[0, 0] <= 0.0:
                break
            if not strong:
                break
            step = np.linalg.solve(h + np.diag(1e-9 * np.diag(h)), g)
            limit = max(abs(step[1]) / (1.5 * prior_shift), abs(step[2]) / (1.5 * prior_width))
            if limit > 1.0:
                step /= limit
            intensity += step[0]
            shift += step[1]
            width += step[2]
            if abs(step[1]) < 1e-3 * prior_shift and abs(step[2]) < 1e-3 * prior_width:
                break
        # the variance with shift and width marginalised
        covariance = np.linalg.inv(h + np.diag(1e-12 * np.diag(h) + 1e-300))
        sg = s0 * np.exp(width)
        chi2, tolerant, fraction, total = 0.0, 0.0, 0.0, 0.0
        top = 0.0
        for f in range(a, b):
            top = max(top, intensity * scale[f] * _shape(low[f], high[f], sg, shift))
        for f in range(a, b):
            p = _shape(low[f], high[f], sg, shift)
            if value[f] == value[f] and variance[f] > 0:
                fraction += p
                total += value[f] / scale[f]
                squared = (value[f] - intensity * scale[f] * p) ** 2
                chi2 += squared / variance[f]
                tolerant += squared / (variance[f] + (SHAPE_ERROR * top) ** 2)
        out[i, 0] = intensity
        out[i, 1] = covariance[0, 0]
        out[i, 2] = shift
        out[i, 3] = width
        out[i, 4] = fraction
        out[i, 5] = chi2 / max(used - 1, 1)
        out[i, 7] = total
        out[i, 8] = covariance[1, 1]
        out[i, 9] = tolerant / max(used - 1, 1)
