"""The loops of recentring: pixels that lie, polar sampling, profiles, shifts of single sectors."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_HOT = 8.0  # standard deviations above its neighbours from which a pixel is hot
_HOT_RATIO = 3.0  # and so many times what the second brightest neighbour rises
SAMPLES_PER_SECTOR = 8


@numba.njit(cache=True, nogil=True)
def hide_liars(image: Any, level: float, noise: float, full: float) -> Any:
    """Set hot and full pixels of `image` (rows, columns; float32) to NaN, and constant edges.

    A pixel is hot if it rises far above its second brightest neighbour, so that pairs are found
    and spots of the size of a point spread are not. `noise` is the standard deviation at `level`.
    Returns the number hidden.
    """
    rows, columns = image.shape
    hidden = 0
    hot = []
    for row in range(1, rows - 1):
        for column in range(1, columns - 1):
            value = image[row, column]
            if value >= full:
                hot.append((row, column))
                continue
            left, right = image[row, column - 1], image[row, column + 1]
            base = left if left < right else right
            if not value - base > _HOT * noise:
                continue
            first = second = -np.inf
            for i in range(-1, 2):
                for j in range(-1, 2):
                    other = image[row + i, column + j]
                    if (i != 0 or j != 0) and not math.isnan(other):
                        if other > first:
                            first, second = other, first
                        elif other > second:
                            second = other
                        if other < base:
                            base = other
            sd = noise * math.sqrt(max(1.0, (second - 0.0) / level)) if level > 0 else noise
            if value - base > _HOT_RATIO * (second - base) + _HOT * sd:
                hot.append((row, column))
    for row, column in hot:
        image[row, column] = np.nan
        hidden += 1
    return hidden + _hide_edges(image)


@numba.njit(cache=True, nogil=True)
def _hide_edges(image: Any) -> Any:
    """Rows and columns of one value, from each edge inwards; and the outermost pixels."""
    rows, columns = image.shape
    top, bottom, left, right = 1, rows - 1, 1, columns - 1
    while top < bottom and _constant(image[top]):
        top += 1
    while bottom > top and _constant(image[bottom - 1]):
        bottom -= 1
    while left < right and _constant(image[:, left]):
        left += 1
    while right > left and _constant(image[:, right - 1]):
        right -= 1
    image[:top] = np.nan
    image[bottom:] = np.nan
    image[:, :left] = np.nan
    image[:, right:] = np.nan
    return rows * columns - (bottom - top) * (right - left)


@numba.njit(cache=True, nogil=True)
def _constant(line: Any) -> Any:
    for i in range(2, len(line) - 1):
        if line[i] != line[1] and not math.isnan(line[i]):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def binned(image: Any, factor: int) -> Any:
    """Mean of the valid pixels of blocks of `factor` x `factor`; NaN where fewer than half are."""
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    result = np.empty((rows, columns), np.float32)
    for row in range(rows):
        total = np.zeros(columns)
        count = np.zeros(columns)
        for i in range(factor):
            line = image[row * factor + i]
            for column in range(columns):
                for j in range(factor):
                    value = line[column * factor + j]
                    if not math.isnan(value):
                        total[column] += value
                        count[column] += 1
        for column in range(columns):
            enough = 2 * count[column] >= factor * factor
            result[row, column] = total[column] / count[column] if enough else np.nan
    return result


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def sample(
    image: Any, rays: Any, radii: Any, row_0: float, column_0: float, group: int, step: int
) -> Any:
    """Means over sectors, (radius, sector), by bilinear interpolation; NaN where half is missing.

    `rays` (azimuth, radius, 2): (row, column) from the centre; `group` azimuths make a sector,
    every `step`-th of them is looked at. `radii` are the positions in `rays` wanted. Rays are
    followed one by one, since neighbours along them are neighbours in memory.
    """
    rows, columns = image.shape
    n = len(radii)
    n_sectors = rays.shape[0] // group
    wanted = group // step
    polar = np.empty((n, n_sectors), np.float32)
    total = np.empty(n, np.float32)
    count = np.empty(n, np.int64)
    for sector in range(n_sectors):
        total[:] = 0
        count[:] = 0
        for azimuth in range(sector * group, (sector + 1) * group, step):
            ray = rays[azimuth]
            for i in range(n):
                y, x = ray[radii[i], 0] + row_0, ray[radii[i], 1] + column_0
                row, column = int(y), int(x)
                if y < 0 or x < 0 or row >= rows - 1 or column >= columns - 1:
                    continue
                v, u = np.float32(y - row), np.float32(x - column)
                a, b = image[row, column], image[row, column + 1]
                c, d = image[row + 1, column], image[row + 1, column + 1]
                upper, lower = a + u * (b - a), c + u * (d - c)
                value = upper + v * (lower - upper)
                if not math.isnan(value):
                    total[i] += value
                    count[i] += 1
        for i in range(n):
            polar[i, sector] = total[i] / count[i] if 2 * count[i] >= wanted else np.nan
    return polar


@numba.njit(cache=True, nogil=True)
def profile(polar: Any, group: int, low: float, high: float) -> Any:
    """(radius, 2): mean over azimuths between two quantiles, and its standard error.

    Quantiles of the means of `group` sectors. NaN where fewer than a sixth is on the image.
    """
    n, sectors = polar.shape[0], polar.shape[1] // group
    result = np.full((n, 2), np.nan)
    line = np.empty(sectors, np.float32)
    for i in range(n):
        m = 0
        for sector in range(sectors):
            total, count = np.float32(0.0), 0
            for k in range(sector * group, (sector + 1) * group):
                if not math.isnan(polar[i, k]):
                    total += polar[i, k]
                    count += 1
            if 2 * count >= group:
                line[m] = total / count
                m += 1
        if 6 * m < sectors:
            continue
        ordered = np.sort(line[:m])
        kept = ordered[int(low * m) : max(int(low * m) + 1, int(high * m))]
        mean = 0.0
        for value in kept:
            mean += value
        mean /= len(kept)
        square = 0.0
        for value in kept:
            square += (value - mean) ** 2
        result[i, 0] = mean
        result[i, 1] = math.sqrt(square / max(1, len(kept) - 1) / len(kept))
    return result


@numba.njit(cache=True, nogil=True)
def sector_shifts(polar: Any, shape: Any, slope: Any) -> Any:
    """(sector, 5): how each sector's ring is made of the mean ring and its derivative.

    ``polar`` (radius, sector) is fitted in every sector by ``a shape + g slope + b + c r``.
    Returns a, g, the information on g per variance of a sample, that variance, and b; NaN where
    samples are missing.
    """
    n, sectors = polar.shape
    # the part of the derivative that shape, constant and line do not explain
    base = np.empty((4, n))
    base[0] = 1.0
    base[1] = np.arange(n) - (n - 1) / 2
    base[2] = shape
    base[3] = slope
    for i in range(4):
        for j in range(i):
            base[i] -= np.sum(base[i] * base[j]) / np.sum(base[j] * base[j]) * base[j]
    norm = np.array([np.sum(base[i] * base[i]) for i in range(4)])
    cross = np.sum(slope * base[2]) / norm[2]  # of the slope along the shape
    result = np.full((sectors, 5), np.nan)
    part = np.empty(4)
    for sector in range(sectors):
        missing = False
        for i in range(4):
            total = 0.0
            for k in range(n):
                total += polar[k, sector] * base[i, k]
            part[i] = total / norm[i]
            missing |= math.isnan(total)
        if missing:
            continue
        rest = 0.0
        for k in range(n):
            value = polar[k, sector]
            for i in range(4):
                value -= part[i] * base[i, k]
            rest += value * value
        result[sector, 0] = part[2] - cross * part[3]
        result[sector, 1] = part[3]
        result[sector, 2] = norm[3]
        result[sector, 3] = rest / (n - 4)
        result[sector, 4] = part[0]
    return result
