"""Where the rings are concentric, without knowing anything of them.

Rings are their own image after a turn by 180 degrees about their centre, whatever their ellipse:
the masked normalised autocorrelation (after Padfield, IEEE Trans. Image Process. 21 (2012) 2706)
of the image with its own turned self is largest at twice the centre. Then centre and ellipse are
varied until the profile along the radius is sharpest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize

from .background import Mask, block_mean, without_background

Floats = NDArray[np.float64]

# Blocks along the longer edge for the autocorrelation.
BLOCKS = 256
# Least part of the good pixels that must overlap with their turned selves.
LEAST_OVERLAP = 0.1
# Sectors of the azimuth for the search of the sharpest profile.
SECTORS = 72
# The largest ellipse looked for: half the logarithm of the ratio of axes.
LARGEST_STRETCH = 0.06
# Radii are counted in steps so long.
STEP_PX = 1.0


@dataclass(frozen=True)
class RoundStart:
    """Centre and ellipse before any ring has a name, and the profile along the radius with them.

    Attributes
    ----------
    centre_px : (row, column).
    correlation : normalised autocorrelation there, 1 at most.
    stretch : (a, b); the ellipse's matrix is ``exp([[a, b], [b, -a]])`` on (x, y).
    radius_px : (m,) of the profile.
    profile : (m,) mean counts over the azimuths seen; NaN where hardly any was.
    noise : (m,) its standard error from how the sectors differ.
    coverage : (m,) part of the sectors seen.
    """

    centre_px: tuple[float, float]
    correlation: float
    stretch: tuple[float, float]
    radius_px: Floats
    profile: Floats
    noise: Floats
    coverage: Floats


def find_centre(image: NDArray[np.float32], good: Mask) -> tuple[tuple[float, float], float]:
    """Centre (row, column) in px by autocorrelation, and how well it correlates (1 at most).

    `image` (rows, columns) counts; `good` the same shape. Good to 1 to 2 blocks of
    ``longest edge / 256`` pixels.
    """
    block = max(1, round(max(image.shape) / BLOCKS))
    mean, part = block_mean(image, good, block)
    weight = (part > 0.5).astype(np.float32)
    rings = without_background(mean, weight, 0.8, 6.0)
    shape = [next_fast_len(2 * n, real=True) for n in rings.shape]
    full = [2 * n - 1 for n in rings.shape]
    f_rings, f_weight = rfft2(rings, shape), rfft2(weight, shape)
    f_power = rfft2(rings**2, shape)

    def lags(spectrum: NDArray[np.complex128]) -> Floats:
        whole: Floats = irfft2(spectrum, shape)[: full[0], : full[1]]
        return whole

    overlap = lags(f_weight * f_weight)
    energy = lags(f_power * f_weight)
    enough = overlap > LEAST_OVERLAP * np.sum(weight)
    floor = 0.02 * max(float(energy.max()), 1e-12)
    score = np.where(
        enough & (energy > floor), lags(f_rings * f_rings) / np.maximum(energy, floor), -1
    )
    # overlaps of little correlate well by chance; rings correlate over all of the image
    score = score * np.sqrt(np.clip(overlap / np.sum(weight), 0, 1))
    i, j = np.unravel_index(int(np.argmax(score)), score.shape)
    di, dj = _top(score[:, j], int(i)), _top(score[i], int(j))
    blocks = np.array([i + di, j + dj]) / 2
    row, column = block * blocks + (block - 1) / 2
    return (float(row), float(column)), float(score[i, j])


def _top(line: Floats, i: int) -> float:
    """Where a parabola through the maximum and its neighbours is highest, -0.5 to 0.5."""
    if not 0 < i < len(line) - 1:
        return 0.0
    before, at, after = line[i - 1 : i + 2]
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


@numba.njit(cache=True, nogil=True)
def _sector_sums(
    image: NDArray[np.float32],
    good: Mask,
    row_0: float,
    column_0: float,
    n_sectors: int,
    n_radii: int,
    step: float,
) -> tuple[Floats, Floats]:
    """Sums and numbers of pixels for each sector and radius."""
    total = np.zeros((n_sectors, n_radii))
    number = np.zeros((n_sectors, n_radii))
    rows, columns = image.shape
    per_radian = n_sectors / (2 * np.pi)
    for i in range(rows):
        y = i - row_0
        for j in range(columns):
            if not good[i, j]:
                continue
            x = j - column_0
            k = int(np.sqrt(x * x + y * y) / step + 0.5)
            if k >= n_radii:
                continue
            s = int((np.arctan2(y, x) + np.pi) * per_radian) % n_sectors
            total[s, k] += image[i, j]
            number[s, k] += 1
    return total, number


@numba.njit(cache=True, nogil=True)
def _straightened(
    polar: Floats,
    weight: Floats,
    cosine: Floats,
    sine: Floats,
    cosine2: Floats,
    sine2: Floats,
    p: Floats,
    step: float,
) -> tuple[Floats, Floats, Floats]:
    """Mean over sectors at every ideal radius, its weight and the sum of squares.

    An ideal radius r is seen at r (1 + a cos 2f + b sin 2f) + dx cos f + dy sin f.
    """
    n_sectors, n = polar.shape
    mean, total, square = np.zeros(n), np.zeros(n), np.zeros(n)
    for s in range(n_sectors):
        grow = 1 + p[2] * cosine2[s] + p[3] * sine2[s]
        shift = (p[0] * cosine[s] + p[1] * sine[s]) / step
        for k in range(n):
            x = k * grow + shift
            i = int(np.floor(x))
            if i < 0 or i + 1 >= n:
                continue
            f = x - i
            w_0, w_1 = weight[s, i] * (1 - f), weight[s, i + 1] * f
            w = w_0 + w_1
            if w > 0:
                v = polar[s, i] * w_0 + polar[s, i + 1] * w_1
                mean[k] += v
                total[k] += w
                square[k] += v * v / w
    for k in range(n):
        if total[k] > 0:
            mean[k] /= total[k]
    return mean, total, square


def find_round_start(image: NDArray[np.float32], good: Mask) -> RoundStart:
    """Centre, ellipse and profile of the rings of an image (rows, columns)."""
    centre, correlation = find_centre(image, good)
    stretch = np.zeros(2)
    largest = np.hypot(
        max(centre[0], image.shape[0] - centre[0]), max(centre[1], image.shape[1] - centre[1])
    )
    n = int(largest / STEP_PX) + 2
    # azimuths of sectors counted from -pi, as in _sector_sums
    azimuth = (np.arange(SECTORS) + 0.5) * 2 * np.pi / SECTORS - np.pi
    waves = np.cos(azimuth), np.sin(azimuth), np.cos(2 * azimuth), np.sin(2 * azimuth)
    scale = max(1.0, max(image.shape) / 512)
    for widths in ((6.0, 3.0), (1.5,)):
        total, number = _sector_sums(image, good, *centre, SECTORS, n, STEP_PX)
        p = np.array([0.0, 0.0, *stretch])
        for width in widths:
            polar, weight = _evened(total, number, width * scale)

            def dullness(q: Floats, polar: Floats = polar, weight: Floats = weight) -> float:
                if np.hypot(q[2], q[3]) > LARGEST_STRETCH:
                    return 0.0
                mean, seen, _ = _straightened(polar, weight, *waves, q, STEP_PX)
                return -float(np.sum(mean * mean * seen * (seen > 0.2 * SECTORS)))

            if width == 6.0:
                p = _coarse(dullness, p)
            size = np.array([width * scale, width * scale, 0.006 * width / 2, 0.006 * width / 2])
            simplex = np.vstack([p, p + np.diag(size)])
            found = minimize(
                dullness, p, method="Nelder-Mead",
                options={"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-5, "maxfev": 160},
            )  # fmt: skip
            p = np.asarray(found.x)
        centre = (centre[0] + float(p[1]), centre[1] + float(p[0]))
        stretch = p[2:]
    total, number = _sector_sums(image, good, *centre, SECTORS, n, STEP_PX)
    polar = np.where(number > 0, total / np.maximum(number, 1), 0.0)
    weight = (number > 0).astype(float)
    q = np.array([0.0, 0.0, *stretch])
    mean, seen, square = _straightened(polar, weight, *waves, q, STEP_PX)
    few = seen < 3
    spread = np.sqrt(np.maximum(square / np.maximum(seen, 1) - mean**2, 0))
    return RoundStart(
        centre,
        correlation,
        (float(stretch[0]), float(stretch[1])),
        np.arange(n, dtype=float) * STEP_PX,
        np.where(few, np.nan, mean),
        np.where(few, np.nan, spread / np.sqrt(np.maximum(seen - 1, 1))),
        seen / SECTORS,
    )


def _coarse(dullness: Callable[[Floats], float], p: Floats) -> Floats:
    """The best ellipse on a grid."""
    best, value = p, dullness(p)
    for a in np.arange(-4, 5) * 0.014:
        for b in np.arange(-4, 5) * 0.014:
            q = np.array([p[0], p[1], a, b])
            new = dullness(q)
            if new < value:
                best, value = q, new
    return best


def _evened(total: Floats, number: Floats, width: float) -> tuple[Floats, Floats]:
    """Sector profiles smoothed along the radius, without background, in units of noise."""
    weight = (number > 0).astype(float)
    above = gaussian_filter1d(total, width, axis=1)
    below = gaussian_filter1d(number, width, axis=1)
    far_above = gaussian_filter1d(total, 5 * width, axis=1)
    far_below = gaussian_filter1d(number, 5 * width, axis=1)
    far = far_above / np.maximum(far_below, 1e-9)
    near = above / np.maximum(below, 1e-9)
    floor = max(float(np.percentile(far[weight > 0], 5)), 1e-6) if np.any(weight) else 1.0
    polar = (near - far) / np.sqrt(np.maximum(far, floor))
    # edges of what was seen are steps, not rings
    whole = gaussian_filter1d(weight, 2 * width, axis=1)
    weight = weight * (whole > 0.9)
    spread = 1.4826 * float(np.median(np.abs(polar[weight > 0]))) if np.any(weight) else 0.0
    if spread > 0:
        polar = np.clip(polar, -8 * spread, 8 * spread)
    return polar * weight, weight
