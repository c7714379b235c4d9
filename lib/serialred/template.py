"""Where a map of darkness holds a template best."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A shadow's darkness does not change by more than this from one image to the next.
AMPLITUDES = (0.3, 3.0)


@numba.njit(cache=True, nogil=True)
def shifted(image: Floats, by: Floats) -> Floats:
    """``result(r) = image(r + by)``, bilinear, |by| < 1."""
    rows, columns = image.shape
    result = np.zeros((rows, columns))
    i0, j0 = math.floor(by[0]), math.floor(by[1])
    a, b = by[0] - i0, by[1] - j0
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            for di in range(2):
                for dj in range(2):
                    y, x = i + i0 + di, j + j0 + dj
                    if 0 <= y < rows and 0 <= x < columns:
                        weight = (a if di else 1 - a) * (b if dj else 1 - b)
                        total += weight * image[y, x]
            result[i, j] = total
    return result


@numba.njit(cache=True, nogil=True)
def _gain(
    darkness: Floats,
    inside: NDArray[np.bool_],
    template: Floats,
    reach: int,
    row: int,
    column: int,
    step: int,
) -> tuple[float, float]:
    """The gain (not normalised) with every `step`-th block of the template, and the amplitude."""
    rows, columns = darkness.shape
    half = template.shape[0] // 2
    product, square = 0.0, 0.0
    for u in range(half - reach, half + reach + 1, step):
        i = row + u - half
        if i < 0 or i >= rows:
            continue
        for v in range(half - reach, half + reach + 1, step):
            t = template[u, v]
            j = column + v - half
            if t == 0.0 or j < 0 or j >= columns or not inside[i, j]:
                continue
            product += t * darkness[i, j]
            square += t * t
    if square == 0.0:
        return 0.0, 1.0
    a = min(max(product / square, AMPLITUDES[0]), AMPLITUDES[1])
    return a * (2 * product - a * square) * step * step, a


@numba.njit(cache=True, nogil=True)
def _covered(
    darkness: Floats, inside: NDArray[np.bool_], template: Floats, row: int, column: int
) -> float:
    """Mean darkness within the disc under a template centred there, weighted by it."""
    rows, columns = darkness.shape
    half = template.shape[0] // 2
    total, weight = 0.0, 0.0
    for u in range(template.shape[0]):
        i = row + u - half
        for v in range(template.shape[1]):
            j = column + v - half
            if 0 <= i < rows and 0 <= j < columns and inside[i, j]:
                total += template[u, v] * darkness[i, j]
                weight += template[u, v]
    return total / weight if weight > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def _reach(template: Floats) -> int:
    """Half-width of what is not zero, about the middle."""
    half, reach = template.shape[0] // 2, 0
    for u in range(template.shape[0]):
        for v in range(template.shape[1]):
            if template[u, v] != 0.0:
                reach = max(reach, abs(u - half), abs(v - half))
    return reach


@numba.njit(cache=True, nogil=True)
def match(
    darkness: Floats, inside: NDArray[np.bool_], template: Floats, row: float, column: float
) -> tuple[Floats, float, float, float]:
    """(2,) where the template's centre lies best (blocks), its gain, the gain's curvature, and the
    mean darkness of what it covers there, weighted by the template.

    Every third place first, then around the best one; a parabola gives the fraction.
    """
    norm = np.sum(template**2)
    n, reach = darkness.shape[0], _reach(template)
    step = 1 if reach < 6 else 2 if reach < 15 else 3
    best, at_row, at_column = -np.inf, 0, 0
    for i in range(-3, n + 3, 3):
        for j in range(-3, n + 3, 3):
            gain = _gain(darkness, inside, template, reach, i, j, step)[0]
            if gain > best:
                best, at_row, at_column = gain, i, j
    best = _gain(darkness, inside, template, reach, at_row, at_column, 1)[0]
    for _ in range(4):
        i0, j0 = at_row, at_column
        for i in range(i0 - 1, i0 + 2):
            for j in range(j0 - 1, j0 + 2):
                gain = _gain(darkness, inside, template, reach, i, j, 1)[0]
                if gain > best:
                    best, at_row, at_column = gain, i, j
        if at_row == i0 and at_column == j0:
            break
    amplitude = _gain(darkness, inside, template, reach, at_row, at_column, 1)[1]
    where = np.array([float(at_row), float(at_column)])
    weakest = np.inf
    for axis in range(2):
        di, dj = (1, 0) if axis == 0 else (0, 1)
        above = _gain(darkness, inside, template, reach, at_row + di, at_column + dj, 1)[0]
        below = _gain(darkness, inside, template, reach, at_row - di, at_column - dj, 1)[0]
        curvature = 2 * best - above - below
        weakest = min(weakest, curvature)
        if curvature > 0:
            where[axis] += max(-0.5, min(0.5, 0.5 * (above - below) / curvature))
    gain = best / (norm * amplitude**2) if norm > 0 else 0.0
    return where, gain, weakest, _covered(darkness, inside, template, at_row, at_column)
