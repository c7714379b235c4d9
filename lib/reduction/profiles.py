"""Spot profiles in the detector plane, and the intensities of single slices.

Each slice is fitted as ``c = b + I_f P`` with the learned spot profile P (Poisson weights, as
Diamond (1969) Acta Cryst. A25, 43 and Kabsch (2010) Acta Cryst. D66, 133), saturated, masked and
shared pixels left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .background import CLEAR_PX, Backgrounds

Floats = NDArray[np.float64]

# The profile is tabulated at this many points per pixel.
OVERSAMPLING = 3
# A region's own profile weighs against the mean one like so many strong slices.
_SLICES_OF_MEAN = 10.0
# Below this many squared standard deviations a spot's own noise gets no say in its weights:
# they would follow the noise.
_WEAK = 25.0


@dataclass(frozen=True)
class SpotProfile:
    """The mean spot about its predicted position, in each region of the detector.

    Attributes
    ----------
    table : (regions, k, k), fraction of the intensity per pixel at offsets
        ``(i - k // 2) / OVERSAMPLING``.
    core_px : radius of the summation area.
    core_fraction : (regions,) part of the intensity inside it.
    """

    table: Floats
    core_px: float
    core_fraction: Floats


@dataclass(frozen=True)
class SliceSums:
    """What the core of each slice holds, without a profile.

    Attributes
    ----------
    total : (m,) electrons above background.
    variance : (m,) of it, by counting; that of the background is not in it.
    n_core : (m,) pixels of the core that count.
    lost : (m,) pixels of the core that are masked, saturated or shared.
    offset_row, offset_column : (m,) centroid less prediction, px; NaN without intensity.
    shared : (m,) part of the core that other reflections share.
    """

    total: Floats
    variance: Floats
    n_core: Floats
    lost: Floats
    offset_row: Floats
    offset_column: Floats
    shared: Floats


def sum_slices(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    background: Backgrounds,
    core_px: float,
) -> SliceSums:
    """Sum the core of each slice above its background."""
    out = np.empty((7, len(boxes)))
    b = background
    _sum_slices(
        boxes, crowd, d_row, d_column, b.level, b.slope_row, b.slope_column, core_px, out
    )  # fmt: skip
    return SliceSums(*out)


@numba.njit(cache=True, nogil=True)
def _sum_slices(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    level: Floats,
    slope_row: Floats,
    slope_column: Floats,
    core_px: float,
    out: Floats,
) -> None:
    size = boxes.shape[1]
    half = size // 2
    core2 = core_px * core_px
    for m in range(len(boxes)):
        dr0 = d_row[m] - half
        dc0 = d_column[m] - half
        total, counts, under, lost, n_core, shared = 0.0, 0.0, 0.0, 0, 0, 0
        wr, wc = 0.0, 0.0
        for i in range(max(0, int(-core_px - dr0)), min(size, int(core_px - dr0) + 2)):
            for j in range(max(0, int(-core_px - dc0)), min(size, int(core_px - dc0) + 2)):
                y, x = i + dr0, j + dc0
                if y * y + x * x > core2:
                    continue
                v = boxes[m, i, j]
                if crowd[m, i, j] > 0:
                    shared += 1
                if v == v and crowd[m, i, j] == 0:
                    b = level[m] + slope_row[m] * y + slope_column[m] * x
                    s = v - b
                    total += s
                    counts += v
                    under += b
                    n_core += 1
                    wr += s * y
                    wc += s * x
                else:
                    lost += 1
        out[0, m] = total
        out[1, m] = max(counts, under)
        out[2, m] = n_core
        out[3, m] = lost
        out[4, m] = wr / total if total > 0 else np.nan
        out[5, m] = wc / total if total > 0 else np.nan
        out[6, m] = shared / max(n_core + lost, 1)


def regions(row: Floats, column: Floats, n: int = 3) -> NDArray[np.int64]:
    """(m,) which of n x n equal parts of the area covered each position lies in."""

    def part(x: Floats) -> NDArray[np.int64]:
        low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
        return np.clip(((x - low) / max(high - low, 1.0) * n).astype(np.int64), 0, n - 1)

    return part(row) * n + part(column)


def learn_spot_profile(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    background: Backgrounds,
    sums: SliceSums,
    strong: NDArray[np.bool_],
    region: NDArray[np.int64],
    core_px: float,
) -> SpotProfile | None:
    """The mean profiles of the strong slices about their predicted positions, or None.

    Each region's is drawn towards the mean of all, the more the fewer strong slices it has.
    """
    if strong.sum() < 20:
        return None
    half = boxes.shape[1] // 2
    k = 2 * (half + 1) * OVERSAMPLING + 1
    n_regions = int(region.max()) + 1
    table, norm = np.zeros((2, n_regions, k, k))
    b = background
    weight = np.minimum(sums.total[strong] / np.sqrt(sums.variance[strong]), 30.0)
    _accumulate_profile(
        boxes[strong], crowd[strong], d_row[strong], d_column[strong], b.level[strong],
        b.slope_row[strong], b.slope_column[strong], sums.total[strong], weight, region[strong],
        table, norm, OVERSAMPLING,
    )  # fmt: skip
    mean = table.sum(axis=0) / np.maximum(norm.sum(axis=0), 1e-12)
    # a slice has one pixel's weight per square pixel of the table
    prior = _SLICES_OF_MEAN * float(weight.mean()) / OVERSAMPLING**2
    table = (table + prior * mean) / (norm + prior)
    offset = (np.arange(k) - k // 2) / OVERSAMPLING
    radius = np.hypot(offset[:, None], offset[None, :])
    # where the background was taken there is, by that, no spot: what stands there is the light of
    # neighbours, which in a crowded pattern keep their distance
    around = (radius > core_px + CLEAR_PX) & (radius <= half)
    table -= np.median(table[:, around], axis=1)[:, None, None]
    table[:, radius > core_px + CLEAR_PX] = 0.0
    table = np.maximum(table, 0.0)
    total = table.sum(axis=(1, 2)) / OVERSAMPLING**2
    if not (total > 0).all():
        return None
    table /= total[:, None, None]
    core: Floats = table[:, radius <= core_px].sum(axis=1) / OVERSAMPLING**2
    return SpotProfile(table, core_px, core)


def gaussian_profile(sigma_px: float, half: int, core_px: float, n_regions: int = 1) -> SpotProfile:
    """A round Gaussian spot, for want of strong ones to learn from."""
    k = 2 * (half + 1) * OVERSAMPLING + 1
    offset = (np.arange(k) - k // 2) / OVERSAMPLING
    r2 = offset[:, None] ** 2 + offset[None, :] ** 2
    table = np.exp(-0.5 * r2 / sigma_px**2)
    table /= table.sum() / OVERSAMPLING**2
    core = float(table[r2 <= core_px**2].sum() / OVERSAMPLING**2)
    return SpotProfile(np.repeat(table[None], n_regions, axis=0), core_px, np.full(n_regions, core))


@numba.njit(cache=True, nogil=True)
def _accumulate_profile(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    level: Floats,
    slope_row: Floats,
    slope_column: Floats,
    intensity: Floats,
    weight: Floats,
    region: NDArray[np.int64],
    table: Floats,
    norm: Floats,
    ov: int,
) -> None:
    """Add normalised slices to the oversampled profile tables."""
    size = boxes.shape[1]
    half = size // 2
    k = table.shape[1]
    for m in range(len(boxes)):
        r = region[m]
        dr0 = d_row[m] - half
        dc0 = d_column[m] - half
        # offsets are whole pixels apart: their fractions are those of the first
        a0, b0 = int(np.floor(dr0 * ov)), int(np.floor(dc0 * ov))
        fy, fx = dr0 * ov - a0, dc0 * ov - b0
        g00, g10 = weight[m] * (1 - fy) * (1 - fx), weight[m] * fy * (1 - fx)
        g01, g11 = weight[m] * (1 - fy) * fx, weight[m] * fy * fx
        for i in range(size):
            a = a0 + i * ov + k // 2
            if a < 0 or a >= k - 1:
                continue
            for j in range(size):
                v = boxes[m, i, j]
                b = b0 + j * ov + k // 2
                if v != v or crowd[m, i, j] > 0 or b < 0 or b >= k - 1:
                    continue
                under = level[m] + slope_row[m] * (i + dr0) + slope_column[m] * (j + dc0)
                value = (v - under) / intensity[m]
                table[r, a, b] += g00 * value
                table[r, a + 1, b] += g10 * value
                table[r, a, b + 1] += g01 * value
                table[r, a + 1, b + 1] += g11 * value
                norm[r, a, b] += g00
                norm[r, a + 1, b] += g10
                norm[r, a, b + 1] += g01
                norm[r, a + 1, b + 1] += g11


@dataclass(frozen=True)
class SliceFits:
    """Profile-fitted intensity of each slice.

    Attributes
    ----------
    intensity : (m,) electrons; NaN without a background or a pixel.
    variance : (m,) of it, by counting; that of the background is not in it.
    seen : (m,) part of the profile on the pixels used.
    lever : (m,) electrons that an electron per pixel more background takes off.
    """

    intensity: Floats
    variance: Floats
    seen: Floats
    lever: Floats


def fit_slices(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    background: Backgrounds,
    profile: SpotProfile,
    region: NDArray[np.int64],
) -> SliceFits:
    """Fit each slice with the profile of its region."""
    out = np.empty((4, len(boxes)))
    b = background
    _fit_slices(
        boxes, crowd, d_row, d_column, b.level, b.slope_row, b.slope_column, profile.table, region,
        profile.core_px + 0.5, OVERSAMPLING, out,
    )  # fmt: skip
    return SliceFits(*out)


@numba.njit(cache=True, nogil=True)
def _fit_slices(
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    d_row: Floats,
    d_column: Floats,
    level: Floats,
    slope_row: Floats,
    slope_column: Floats,
    tables: Floats,
    region: NDArray[np.int64],
    fit_px: float,
    ov: int,
    out: Floats,
) -> None:
    size = boxes.shape[1]
    half = size // 2
    k = tables.shape[1]
    fit2 = fit_px * fit_px
    p, s, b = np.empty(size * size), np.empty(size * size), np.empty(size * size)
    for m in range(len(boxes)):
        out[:, m] = np.nan
        out[2, m] = 0.0
        if level[m] != level[m]:
            continue
        table = tables[region[m]]
        dr0 = d_row[m] - half
        dc0 = d_column[m] - half
        a0, b0 = int(np.floor(dr0 * ov)), int(np.floor(dc0 * ov))
        fy, fx = dr0 * ov - a0, dc0 * ov - b0
        g00, g10, g01, g11 = (1 - fy) * (1 - fx), fy * (1 - fx), (1 - fy) * fx, fy * fx
        n, seen = 0, 0.0
        for i in range(max(0, int(-fit_px - dr0)), min(size, int(fit_px - dr0) + 2)):
            y = i + dr0
            u = a0 + i * ov + k // 2
            for j in range(max(0, int(-fit_px - dc0)), min(size, int(fit_px - dc0) + 2)):
                x = j + dc0
                v = boxes[m, i, j]
                if y * y + x * x > fit2 or v != v or crowd[m, i, j] > 0:
                    continue
                t = b0 + j * ov + k // 2
                under = level[m] + slope_row[m] * y + slope_column[m] * x
                p[n] = (
                    g00 * table[u, t]
                    + g10 * table[u + 1, t]
                    + g01 * table[u, t + 1]
                    + g11 * table[u + 1, t + 1]
                )
                s[n] = v - under
                b[n] = max(under, 0.05)
                seen += p[n]
                n += 1
        # first as if the background alone made the noise; a strong spot adds its own
        estimate, bottom, lever = 0.0, 0.0, 0.0
        for turn in range(4):
            if turn > 0 and estimate * estimate * bottom < _WEAK:
                break
            intensity = max(estimate, 0.0)
            top, bottom, lever, cube = 0.0, 0.0, 0.0, 0.0
            for q in range(n):
                w = p[q] / (b[q] + intensity * p[q])
                top += w * s[q]
                bottom += w * p[q]
                lever += w
                cube += w * w * p[q]
            if bottom <= 0.0:
                break
            estimate = top / bottom
        if bottom <= 0.0:
            continue
        out[0, m] = estimate
        # the weights of a weak spot leave its own noise out: it is added here
        own = max(estimate, 0.0) * cube / (bottom * bottom) if intensity == 0.0 else 0.0
        out[1, m] = 1.0 / bottom + own
        out[2, m] = seen
        out[3, m] = lever / bottom
