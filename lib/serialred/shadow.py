"""Where the crystal is in the beam: its shadow in the disc of a defocused diffraction pattern.

The disc is divided by its level, so that the shadow's darkness (0 for none, 1 for opaque) depends
neither on beam current nor exposure. A shadow that is seen whole is where its weighted mean is.
One that the disc's edge cuts is where the last whole one explains most of the darkness within the
disc: with template T and darkness D,
``gain(s) = sum over the disc of (2 a D(r) T(r - s) - a^2 T(r - s)^2) / sum a^2 T^2``
is the logarithm of the likelihood, over that of no crystal, as a fraction of what a whole one has.
The best amplitude a is taken at each place: a crystal darkens and pales as it passes reflections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from .disc import Disc, add_blocks, find_disc, inner_variance

Floats = NDArray[np.float64]
Image = NDArray[Any]

# Blocks of the darkness map to the disc's radius.
BLOCKS_PER_RADIUS = 28
# The map is used within this part of the radius: the rim is not flat.
USED_RADIUS = 0.92
# Darkness below which nothing is a crystal, and in standard deviations of the map.
FAINTEST, FAINTEST_SIGMAS = 0.05, 2.5
# The noise of a block falls by so much in the smoothing. The brightest part of the map (per cent)
# lies so many standard deviations below zero darkness.
SMOOTHED, BRIGHTEST, BRIGHTEST_SIGMAS = 3.5, 8.0, 1.4
# A brightest part below this part of the level known means that all of the beam is covered.
COVERED = 0.88
# of the disc's area, the smallest shadow
SMALLEST_AREA = 0.004
# of its weight, what a whole shadow may have at the rim
CUT_WEIGHT = 0.02
# A whole shadow's area does not change more than this from one image to the next; nor does its
# darkness change more than that.
LARGEST_CHANGE, AMPLITUDES = 1.7, (0.3, 3.0)
# A template that explains less of the darkness than this is somewhere else.
LEAST_GAIN = 0.12
# The centroid is no better than this part of the radius: its shape changes as it turns.
FLOOR = 0.01


@dataclass(frozen=True)
class Shadow:
    """A crystal's darkness map, to find it again by.

    Attributes
    ----------
    darkness : (n, n) about the shadow's centre, 0 where there is none.
    block_px : pixels to a block.
    weight, area : sum of the darkness, and of what is dark, px^2.
    level : counts per pixel of the beam without crystal, above the background.
    whole : whether no edge cut it.
    """

    darkness: Floats
    block_px: int
    weight: float
    area: float
    level: float
    whole: bool


@dataclass(frozen=True)
class Sighting:
    """What one defocused image tells.

    Attributes
    ----------
    disc : of the beam; None if there is none: the beam is lost.
    offset_px : (2,) crystal minus disc centre, (row, column); NaN if no crystal was seen.
    sigma_px : standard deviation of a component of the offset.
    confidence : 0..1, how much of the shadow looked for is there, and stands out of the noise.
    variance, mean : of the counts in the square within the disc (the thesis's measure).
    shadow : to look for in the next image.
    """

    disc: Disc | None
    offset_px: Floats
    sigma_px: float
    confidence: float
    variance: float
    mean: float
    shadow: Shadow | None

    @property
    def found(self) -> bool:
        """Whether a crystal was seen."""
        return bool(np.isfinite(self.offset_px).all())


def _nothing(disc: Disc | None, variance: float, mean: float, shadow: Shadow | None) -> Sighting:
    return Sighting(disc, np.full(2, np.nan), math.inf, 0.0, variance, mean, shadow)


def sight_crystal(image: Image, valid: NDArray[np.bool_], sought: Shadow | None = None) -> Sighting:
    """Disc and crystal in a defocused image (rows, columns) of counts.

    Parameters
    ----------
    valid : (rows, columns) False on pixels that tell nothing (the detector's cross).
    sought : the shadow as last seen; None: the largest one near the centre.
    """
    disc = find_disc(image, valid)
    if disc is None:
        return _nothing(None, math.nan, math.nan, sought)
    row, column = (float(v) for v in disc.centre_px)
    variance, mean = inner_variance(image, valid, row, column, disc.radius_px)
    size = max(1, round(disc.radius_px / BLOCKS_PER_RADIUS))
    if sought is not None:
        if not 0.6 * size < sought.block_px < 1.7 * size:
            sought = None  # another magnification of the disc: begin anew
        else:  # a radius at the limit between two sizes must not change them
            size = sought.block_px
    known = 0.0 if sought is None else sought.level
    darkness, inside, noise, level, centre = _darkness_map(image, valid, disc, size, known)
    blocks = np.pi * (disc.radius_px / size) ** 2
    limit = max(FAINTEST, FAINTEST_SIGMAS * noise)
    marks, n = label(darkness * inside > limit)
    found = _components(darkness, marks, n, inside, centre, SMALLEST_AREA * blocks)
    if sought is None:
        if not found:
            return _nothing(disc, variance, mean, None)
        radius = disc.radius_px / size
        best = max(found, key=lambda one: one.weight * math.exp(-2 * (one.away / radius) ** 2))
        return _seen(disc, variance, mean, darkness, marks, best, noise, level, size, 1.0)
    whole = [
        one for one in found
        if one.cut <= CUT_WEIGHT
        and 1 / LARGEST_CHANGE < one.area * size**2 / max(sought.area, 1e-9) < LARGEST_CHANGE
        and AMPLITUDES[0] < one.weight * size**2 / max(sought.weight, 1e-9) < AMPLITUDES[1]
    ]  # fmt: skip
    if whole and sought.whole:
        area = sought.area / size**2
        best = min(whole, key=lambda one: abs(math.log(one.area / area)))
        return _seen(disc, variance, mean, darkness, marks, best, noise, level, size, 1.0)
    where, gain, curvature = _match(
        darkness, inside, sought.darkness, float(centre[0]), float(centre[1])
    )
    if not gain > LEAST_GAIN:
        return _nothing(disc, variance, mean, sought)
    offset = (where - centre) * size
    sigma = size * noise / math.sqrt(max(curvature, 1e-9))
    shadow = sought
    if not sought.whole:  # the first one was cut: take a better one as soon as there is one
        near = [one for one in found if np.hypot(*(one.centre - where)) < 0.3 * len(darkness)]
        if near:
            best = max(near, key=lambda one: one.weight)
            if best.weight * size**2 > sought.weight:
                return _seen(disc, variance, mean, darkness, marks, best, noise, level, size, gain)
    sigma = math.hypot(sigma, (FLOOR + 0.1 * (1 - min(gain, 1.0))) * disc.radius_px)
    return Sighting(disc, offset, sigma, min(float(gain), 1.0), variance, mean, shadow)


@dataclass(frozen=True)
class _Component:
    """A shadow in the map: its label, centre (blocks), distance from the disc's, weight, area, and
    the part of the weight that is at the rim."""

    mark: int
    centre: Floats
    away: float
    weight: float
    area: float
    cut: float


def _darkness_map(
    image: Image, valid: NDArray[np.bool_], disc: Disc, size: int, known: float
) -> tuple[Floats, NDArray[np.bool_], float, float, Floats]:
    """Darkness, where it counts, its noise, the beam's level, the disc's centre in blocks.

    The level is that of the brightest part, for a crystal may cover most of the beam; or the
    `known` one where the brightest part is much darker than that.
    """
    n = 2 * math.ceil(1.05 * disc.radius_px / size) + 1
    first = np.round(disc.centre_px - (n * size - 1) / 2).astype(int)
    total, number = add_blocks(image, valid, size, int(first[0]), int(first[1]), n, n)
    centre = (disc.centre_px - first - (size - 1) / 2) / size
    inside = _inside(n, centre, disc, size)
    seen = inside & (number > 0)
    if not seen.any():
        return np.zeros((n, n)), inside, 1.0, known, centre
    net = np.where(seen, total / np.maximum(number, 1) - disc.background, 0.0)
    share = gaussian_filter(seen.astype(float), 1.0)
    light = gaussian_filter(net, 1.0) / np.maximum(share, 0.05)
    poisson = math.sqrt(max(disc.level, 1.0)) / size / SMOOTHED
    level = float(np.percentile(light[seen], 100 - BRIGHTEST)) - BRIGHTEST_SIGMAS * poisson
    if level < COVERED * known:
        level = known
    level = max(level, 1e-9)
    darkness = 1 - light / level
    bright = darkness[seen & (darkness < 0)]
    noise = float(np.sqrt(np.mean(bright**2))) if bright.size > 20 else poisson / level
    return darkness, inside, noise, level, centre


def _inside(n: int, centre: Floats, disc: Disc, size: int) -> NDArray[np.bool_]:
    """(n, n) True within `USED_RADIUS` of the disc."""
    row = (np.arange(n) - centre[0])[:, None]
    column = (np.arange(n) - centre[1])[None, :]
    square = row**2 + column**2
    c, d = disc.ellipse
    with np.errstate(divide="ignore", invalid="ignore"):
        twice = (c * (row**2 - column**2) + d * 2 * row * column) / np.maximum(square, 1e-9)
    edge: NDArray[np.bool_] = np.sqrt(square) < USED_RADIUS * disc.radius_px / size * (1 + twice)
    return edge


def _components(
    darkness: Floats,
    marks: NDArray[np.int32],
    n: int,
    inside: NDArray[np.bool_],
    centre: Floats,
    smallest: float,
) -> list[_Component]:
    sums = _moments(darkness, marks, n, inside)
    found = []
    for mark in range(1, n + 1):
        area, weight, row, column, rim = sums[mark]
        if area >= smallest and weight > 0:
            at = np.array([row, column]) / weight
            away = float(np.hypot(*(at - centre)))
            found.append(
                _Component(mark, at, away, float(weight), float(area), float(rim / weight))
            )
    return found


@numba.njit(cache=True, nogil=True)
def _moments(
    darkness: Floats, marks: NDArray[np.int32], n: int, inside: NDArray[np.bool_]
) -> Floats:
    """(n + 1, 5) area, weight, first moments of row and column, weight beside the rim."""
    sums = np.zeros((n + 1, 5))
    rows, columns = darkness.shape
    for i in range(rows):
        for j in range(columns):
            k = marks[i, j]
            if k == 0:
                continue
            w = darkness[i, j]
            sums[k, 0] += 1
            sums[k, 1] += w
            sums[k, 2] += w * i
            sums[k, 3] += w * j
            if (
                i == 0 or j == 0 or i == rows - 1 or j == columns - 1
                or not (inside[i - 1, j] and inside[i + 1, j])
                or not (inside[i, j - 1] and inside[i, j + 1])
            ):  # fmt: skip
                sums[k, 4] += w
    return sums


def _seen(
    disc: Disc,
    variance: float,
    mean: float,
    darkness: Floats,
    marks: NDArray[np.int32],
    one: _Component,
    noise: float,
    level: float,
    size: int,
    gain: float,
) -> Sighting:
    """A sighting by the weighted mean of a shadow."""
    mask = marks == one.mark
    offsets = np.argwhere(mask) - one.centre
    spread = float(np.mean(np.sum(offsets**2, axis=1)) / 2)
    area = float(len(offsets))
    # noise is smoothed over about 12 blocks
    sigma = size * noise * math.sqrt(12 * area * spread) / one.weight
    sigma = math.hypot(sigma, FLOOR * disc.radius_px)
    centre = _middle(darkness.shape[0], disc, size)
    whole = one.cut <= CUT_WEIGHT
    if not whole:  # the centre of what is seen is not that of the crystal
        sigma = math.hypot(sigma, 0.5 * math.sqrt(spread) * size)
    half = darkness.shape[0] // 2
    template = np.zeros((2 * half + 1, 2 * half + 1))
    middle = np.round(one.centre).astype(int)
    low = np.maximum(middle - half, 0)
    high = np.minimum(middle + half + 1, darkness.shape)
    to = low - middle + half
    part = np.where(mask, darkness, 0.0)[low[0] : high[0], low[1] : high[1]]
    template[to[0] : to[0] + part.shape[0], to[1] : to[1] + part.shape[1]] = part
    # the template is centred on a whole block: the fraction goes into the map's shift
    template = _shifted(template, one.centre - middle)
    contrast = one.weight / area / max(noise, 1e-9)
    confidence = min(gain, 1.0) * min(1.0, contrast / 4)
    return Sighting(
        disc,
        (one.centre - centre) * size,
        sigma,
        float(confidence),
        variance,
        mean,
        Shadow(template, size, one.weight * size**2, area * size**2, level, whole),
    )


def _middle(n: int, disc: Disc, size: int) -> Floats:
    first = np.round(disc.centre_px - (n * size - 1) / 2)
    middle: Floats = (disc.centre_px - first - (size - 1) / 2) / size
    return middle


@numba.njit(cache=True, nogil=True)
def _shifted(image: Floats, by: Floats) -> Floats:
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
def _reach(template: Floats) -> int:
    """Half-width of what is not zero, about the middle."""
    half, reach = template.shape[0] // 2, 0
    for u in range(template.shape[0]):
        for v in range(template.shape[1]):
            if template[u, v] != 0.0:
                reach = max(reach, abs(u - half), abs(v - half))
    return reach


@numba.njit(cache=True, nogil=True)
def _match(
    darkness: Floats, inside: NDArray[np.bool_], template: Floats, row: float, column: float
) -> tuple[Floats, float, float]:
    """(2,) where the template's centre lies best (blocks), its gain, the gain's curvature.

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
    return where, best / (norm * amplitude**2) if norm > 0 else 0.0, weakest
