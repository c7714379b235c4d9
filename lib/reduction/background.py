"""The background under each slice of a reflection.

A plane is fitted to the pixels about the spot, clipped at three standard deviations above it.
Clipping takes the upper tail of a clean Poisson distribution off too (1.5 % of the mean at one
electron a pixel, 9 % at a tenth); for a limit k

    E[x | x <= k] = mu (1 - p(k) / F(k)),      p, F: Poisson probability and distribution

gives mu back, as the bounded influence of a robust fit must be made up for (Fisher consistency:
Cantoni & Ronchetti, J. Am. Stat. Assoc. 96 (2001) 1022; Parkhurst et al., J. Appl. Cryst. 49
(2016) 1912, for weak backgrounds).

The slices of a reflection lie on the same pixels of consecutive frames. Their backgrounds are
drawn towards their mean, as far as their scatter is that of counting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Fewer pixels than this tell no background.
_MIN_PIXELS = 12
# Pixels this far beyond the core are clear of the spot.
CLEAR_PX = 0.7
# Backgrounds slope by about this part of themselves per pixel.
_USUAL_SLOPE = 0.05


@dataclass(frozen=True)
class Backgrounds:
    """The plane under each slice.

    Attributes
    ----------
    level : (m,) electrons per pixel at the predicted position; NaN where too few pixels tell.
    slope_row, slope_column : (m,) electrons per pixel, per pixel.
    own_variance : (m,) of the level, the part that is the slice's own.
    shared_variance : (m,) of the level, the part in common with the reflection's other slices.
    unevenness : (m,) r.m.s. of what lies below the plane over that of counting: about 1; infinite
        where the plane falls to nothing under the spot.
    """

    level: Floats
    slope_row: Floats
    slope_column: Floats
    own_variance: Floats
    shared_variance: Floats
    unevenness: Floats


def fit_backgrounds(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    reflection: NDArray[np.int64],
    core_px: float,
) -> Backgrounds:
    """Background of each slice, pooled over the slices of its reflection.

    Parameters
    ----------
    boxes, crowd, reflection : as in `Slices`.
    d_row, d_column : (m,) the box's central pixel less the predicted position, px.
    core_px : radius of the summation area.
    """
    planes = np.empty((len(boxes), 5))
    _fit_planes(boxes, crowd, d_row, d_column, core_px + CLEAR_PX, planes)
    level, *slopes, n_pixels, unevenness = planes.T
    known = np.isfinite(level)
    weight = np.where(known, n_pixels, 0.0)
    total = np.maximum(np.bincount(reflection, weight), 1.0)

    def mean(values: Floats) -> Floats:
        summed = np.bincount(reflection, weight * np.where(known, values, 0.0))
        pooled: Floats = (summed / total)[reflection]
        return pooled

    pooled = mean(level)
    n_total = total[reflection]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(pooled, 0.05) / n_pixels
        # how far slices scatter beyond their counts: by the median, for spots stand on some
        rest = 1 - n_pixels / n_total
        scatter = (level - pooled) ** 2 / (variance * rest)
    told = known & (rest > 0.3)
    excess = max(float(np.median(scatter[told])) / 0.4549 - 1, 0.0) if told.sum() > 50 else 1e9
    # the prior's variance is `excess` times that of counting: so much weight its own level has
    own = excess / (1 + excess)
    return Backgrounds(
        level=np.where(known, own * level + (1 - own) * pooled, np.nan),
        slope_row=mean(slopes[0]),
        slope_column=mean(slopes[1]),
        own_variance=own * variance,
        shared_variance=(1 - own) ** 2 * np.maximum(pooled, 0.05) / n_total,
        unevenness=unevenness,
    )


@numba.njit(cache=True, nogil=True)
def _fit_planes(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    clear_px: float,
    out: Floats,
) -> None:
    """out (m, 5): level at the predicted position, slopes along row and column, pixels,
    unevenness."""
    size = boxes.shape[1]
    half = size // 2
    clear2 = clear_px * clear_px
    values, ys, xs = np.empty(size * size), np.empty(size * size), np.empty(size * size)
    for m in range(len(boxes)):
        dr0 = d_row[m] - half
        dc0 = d_column[m] - half
        n = 0
        all_v, all_y, all_x = 0.0, 0.0, 0.0
        all_yy, all_xx, all_xy, all_vy, all_vx = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(size):
            y = i + dr0
            for j in range(size):
                v = boxes[m, i, j]
                x = j + dc0
                if y * y + x * x > clear2 and v == v and crowd[m, i, j] == 0:
                    values[n], ys[n], xs[n] = v, y, x
                    n += 1
                    all_v += v
                    all_y += y
                    all_x += x
                    all_yy += y * y
                    all_xx += x * x
                    all_xy += x * y
                    all_vy += v * y
                    all_vx += v * x
        out[m, :] = np.nan
        out[m, 3] = n
        if n < _MIN_PIXELS:
            continue
        level, slope_y, slope_x = 0.0, 0.0, 0.0
        for turn in range(3):
            used, sv, sy, sx = n, all_v, all_y, all_x
            syy, sxx, sxy, svy, svx = all_yy, all_xx, all_xy, all_vy, all_vx
            if turn > 0:
                for k in range(n):
                    v, y, x = values[k], ys[k], xs[k]
                    expected = max(level + slope_y * y + slope_x * x, 0.3)
                    above = v - expected
                    if above > 0.0 and above * above > 9.0 * expected:
                        used -= 1
                        sv -= v
                        sy -= y
                        sx -= x
                        syy -= y * y
                        sxx -= x * x
                        sxy -= x * y
                        svy -= v * y
                        svx -= v * x
            if used < 3:
                break
            mean, my, mx = sv / used, sy / used, sx / used
            # slopes of some per cent of the level are usual: that much is known beforehand
            ridge = 1.0 / (_USUAL_SLOPE**2 * max(mean, 0.05))
            a, c, b = syy - sy * my + ridge, sxx - sx * mx + ridge, sxy - sx * my
            py, px = svy - sv * my, svx - sv * mx
            det = a * c - b * b
            slope_y, slope_x = (c * py - b * px) / det, (a * px - b * py) / det
            level = mean - slope_y * my - slope_x * mx
            if turn > 0:
                factor = _unclipped(max(mean, 0.0))
                level, slope_y, slope_x = level * factor, slope_y * factor, slope_x * factor
        out[m, 0], out[m, 1], out[m, 2] = max(level, 0.0), slope_y, slope_x
        # above the plane there may be spots
        squares, counting = 0.0, 0.0
        for k in range(n):
            expected = max(level + slope_y * ys[k] + slope_x * xs[k], 0.3)
            short = max(expected - values[k], 0.0)
            squares += short * short
            counting += expected if short > 0.0 else 0.0
        # a plane that falls to nothing under the spot is the flank of something brighter
        steep = clear_px * np.sqrt(slope_y * slope_y + slope_x * slope_x) > level
        out[m, 4] = np.inf if steep else np.sqrt(squares / max(counting, 1e-9))


@numba.njit(cache=True, nogil=True)
def _unclipped(clipped: float) -> float:
    """Poisson mean over the mean of what lies below the limit, for such a clipped mean."""
    mu, factor = clipped, 1.0
    if mu > 1e4:
        return 1.0
    for _ in range(2):
        k = int(max(mu, 0.3) + 3.0 * math.sqrt(max(mu, 0.3)))
        # p(k) / F(k) from the top downwards: p(i - 1) = p(i) i / mu
        term, total = 1.0, 1.0
        for i in range(k, 0, -1):
            term *= i / max(mu, 1e-9)
            total += term
            if term < 1e-6 * total and i < mu:
                break
        factor = 1.0 / (1.0 - 1.0 / total) if total > 1.0 else 1.0
        mu = clipped * factor
    return factor
