"""The beam's disc in a defocused diffraction pattern, or a small beam in the picture.

Coarse place and size come from the sums over rows and columns (the thesis's first step); then the
edge is found in sectors, at half the height between inside and outside, and a centre and an
ellipse are fitted to it. A sector that a crystal darkens has a lower inside of its own; one that an
opaque crystal hides is an outlier of that fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[Any]

SECTORS = 60
# of the coarse radius: what is searched for the edge, and where inside and outside are measured
NEAR, FAR = 0.55, 1.5
INSIDE, OUTSIDE = (0.6, 0.9), (1.15, 1.5)
# Of a projection's height, at which the disc's width is taken: a disc's projection is a
# semicircle, and wider than half its height over sqrt(3)/2 of the diameter. A crystal may cut the
# projection in two there, so that a lower height is tried next.
HEIGHTS = (0.5, 0.2)
SMALLEST_PX = 6.0
# A sector's inside counts as at least that part of the disc's level.
DARKEST = 0.2
# of the sectors must show the edge where the fit has it
FEWEST_SECTORS = 0.4
# Pixels are added up in blocks, so many to the radius; projections are taken in blocks of four.
BLOCKS_PER_RADIUS, COARSE = 40, 4


@dataclass(frozen=True)
class Disc:
    """A disc of light.

    Attributes
    ----------
    centre_px : (2,) (row, column).
    radius_px : mean radius.
    ellipse : (2,) coefficients c, d of ``radius (1 + c cos 2t + d sin 2t)``, t from the row axis
        towards the column axis.
    level, background : counts per pixel within, where no crystal is, and outside.
    sigma_px : standard deviation of a component of the centre.
    """

    centre_px: Floats
    radius_px: float
    ellipse: Floats
    level: float
    background: float
    sigma_px: float

    def is_whole(self, shape: tuple[int, int], margin_px: float = 2.0) -> bool:
        """Whether all of it is on the camera."""
        reach = self.radius_px * (1 + float(np.hypot(*self.ellipse))) + margin_px
        row, column = self.centre_px
        return bool(
            min(row, column) >= reach
            and row <= shape[0] - 1 - reach
            and column <= shape[1] - 1 - reach
        )


def find_disc(image: Image, valid: NDArray[np.bool_]) -> Disc | None:
    """The disc of light in an image (rows, columns) of counts, or None if there is none.

    Parameters
    ----------
    valid : (rows, columns) False on pixels that tell nothing (the detector's cross).
    """
    rows, columns = image.shape
    coarse = add_blocks(image, valid, COARSE, 0, 0, rows // COARSE, columns // COARSE)
    lines = _line_means(*coarse)
    for height in HEIGHTS:
        spans = [_above(one, height) for one in lines]
        if spans[0] is None or spans[1] is None:
            continue
        centre = np.array([spans[0][0], spans[1][0]]) * COARSE + (COARSE - 1) / 2
        # a disc that the camera's edge cuts is narrower one way
        radius = max(spans[0][1], spans[1][1]) * COARSE
        found = _fit_from(image, valid, centre, radius)
        if found is not None:
            return found
    return None


def _fit_from(image: Image, valid: NDArray[np.bool_], centre: Floats, radius: float) -> Disc | None:
    """Edge fits, each from the one before, until the disc stays where it is."""
    found: Disc | None = None
    for _ in range(5):
        if not SMALLEST_PX <= radius <= max(image.shape):
            return None
        found = _fit_edge(image, valid, centre, radius)
        if found is None:
            return None
        moved = float(np.abs(found.centre_px - centre).max())
        changed = abs(found.radius_px - radius)
        centre, radius = found.centre_px, found.radius_px
        if moved < 0.02 * radius and changed < 0.05 * radius:
            break
    return found


@numba.njit(cache=True, nogil=True)
def add_blocks(
    image: Image, valid: NDArray[np.bool_], size: int, row: int, column: int, n: int, m: int
) -> tuple[Floats, Floats]:
    """Sums and numbers of valid pixels in (n, m) blocks, the first of which begins at (row,
    column); pixels beyond the camera are not valid."""
    total, number = np.zeros((n, m)), np.zeros((n, m))
    rows, columns = image.shape
    for a in range(n):
        for i in range(row + a * size, row + (a + 1) * size):
            if i < 0 or i >= rows:
                continue
            for b in range(m):
                low = max(column + b * size, 0)
                high = min(column + (b + 1) * size, columns)
                here, count = 0.0, 0.0
                for j in range(low, high):
                    if valid[i, j]:
                        here += image[i, j]
                        count += 1.0
                total[a, b] += here
                number[a, b] += count
    return total, number


@numba.njit(cache=True, nogil=True)
def _line_means(total: Floats, number: Floats) -> tuple[Floats, Floats]:
    """Mean of every row and column of blocks; lines without a valid pixel are bridged."""
    means = (np.zeros(total.shape[0]), np.zeros(total.shape[1]))
    for axis in range(2):
        line = means[axis]
        value, weight = total.sum(1 - axis), number.sum(1 - axis)
        last = -1
        for i in range(line.size):
            if weight[i] <= 0:
                continue
            line[i] = value[i] / weight[i]
            for k in range(last + 1, i):
                before = line[last] if last >= 0 else line[i]
                line[k] = before + (line[i] - before) * (k - last) / (i - last)
            last = i
        for k in range(last + 1, line.size):
            line[k] = line[last] if last >= 0 else 0.0
    return means


def _above(line: Floats, height: float) -> tuple[float, float] | None:
    """(centre, radius of the disc) from the stretch of a projection above part of its height."""
    smooth = line.copy()
    smooth[1:-1] = (line[:-2] + line[1:-1] + line[2:]) / 3
    floor, top = float(np.partition(smooth, len(smooth) // 10)[len(smooth) // 10]), smooth.max()
    if not top > 0 or top - floor < 0.3 * top:
        return None
    above = np.flatnonzero(np.diff(np.r_[False, smooth > floor + height * (top - floor), False]))
    starts, ends = above[::2], above[1::2]
    widest = int(np.argmax(ends - starts))
    # a dark crystal may cut the stretch in two
    gap = 0.15 * len(line)
    low, high = int(starts[widest]), int(ends[widest])
    for k in range(widest + 1, len(starts)):
        if starts[k] - high < min(gap, high - low):
            high = int(ends[k])
    for k in range(widest - 1, -1, -1):
        if low - ends[k] < min(gap, high - low):
            low = int(starts[k])
    return 0.5 * (low + high - 1), 0.5 * (high - low) / math.sqrt(1 - height**2)


def _fit_edge(image: Image, valid: NDArray[np.bool_], centre: Floats, radius: float) -> Disc | None:
    size = max(1, round(radius / BLOCKS_PER_RADIUS))
    n = int(2 * FAR * radius / size) + 1
    first = np.round(centre - (n * size - 1) / 2).astype(int)
    total, number = add_blocks(image, valid, size, int(first[0]), int(first[1]), n, n)
    origin = first + (size - 1) / 2
    at = (centre - origin) / size
    width = max(1.0, radius / size / 60)
    profiles, numbers = _sector_profiles(
        total, number, float(at[0]), float(at[1]), radius / size, width
    )
    inside, level, background, noise = _levels(profiles, numbers, radius / size, width)
    if not (level - background > 6 * noise and level > 1.5 * background):
        return None
    own = np.minimum(np.fmax(inside, DARKEST * level), level)
    edges = _edges(profiles, numbers, NEAR * radius / size, width, 0.5 * (own + background))
    solution, kept, scatter = _fit_ellipse(edges, max(1.5 * width, 0.04 * radius / size), width)
    if kept < FEWEST_SECTORS * SECTORS or not solution[0] > 0:
        return None
    return Disc(
        centre_px=centre + size * solution[1:3],
        radius_px=size * float(solution[0]),
        ellipse=solution[3:5] / solution[0],
        level=level,
        background=background,
        sigma_px=size * scatter * math.sqrt(2 / kept),
    )


@numba.njit(cache=True, nogil=True)
def _sector_profiles(
    total: Floats, number: Floats, row: float, column: float, radius: float, width: float
) -> tuple[Floats, Floats]:
    """Sums and numbers of pixels, (SECTORS, bins), in rings from NEAR to FAR of the radius."""
    near, far = NEAR * radius, FAR * radius
    bins = math.ceil((far - near) / width)
    profiles, numbers = np.zeros((SECTORS, bins)), np.zeros((SECTORS, bins))
    turn = SECTORS / (2 * math.pi)
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            di, dj = i - row, j - column
            square = di * di + dj * dj
            if square < near * near or square >= far * far or number[i, j] == 0.0:
                continue
            sector = min(int((math.atan2(dj, di) + math.pi) * turn), SECTORS - 1)
            ring = min(int((math.sqrt(square) - near) / width), bins - 1)
            profiles[sector, ring] += total[i, j]
            numbers[sector, ring] += number[i, j]
    return profiles, numbers


@numba.njit(cache=True, nogil=True)
def _levels(
    profiles: Floats, numbers: Floats, radius: float, width: float
) -> tuple[Floats, float, float, float]:
    """Counts per pixel inside each sector, inside (where no crystal is), outside; noise inside.

    Crystals darken some sectors and diffracted beams brighten some: the brighter ones tell the
    inside, the median the outside.
    """
    inside, outside = np.full(SECTORS, np.nan), np.full(SECTORS, np.nan)
    pixels = np.zeros(SECTORS)
    for s in range(SECTORS):
        sums = np.zeros(4)
        for k in range(profiles.shape[1]):
            at = NEAR + (k + 0.5) * width / radius
            which = 0 if INSIDE[0] < at < INSIDE[1] else 2 if OUTSIDE[0] < at < OUTSIDE[1] else -1
            if which >= 0:
                sums[which] += profiles[s, k]
                sums[which + 1] += numbers[s, k]
        pixels[s] = sums[1]
        if sums[1] > 0:
            inside[s] = sums[0] / sums[1]
        if sums[3] > 0:
            outside[s] = sums[2] / sums[3]
    level = np.nanpercentile(inside, 70.0)
    background = np.nanmedian(outside)
    return inside, level, background, math.sqrt(max(level, 1.0) / max(np.median(pixels), 1.0))


@numba.njit(cache=True, nogil=True)
def _edges(profiles: Floats, numbers: Floats, near: float, width: float, halves: Floats) -> Floats:
    """Radius at which each sector, coming from outside, rises above its half and stays; or NaN.

    Profiles are averaged over three rings and three sectors.
    """
    sectors, bins = profiles.shape
    found, line = np.full(sectors, np.nan), np.zeros(bins)
    for s in range(sectors):
        half = (halves[s - 1] + halves[s] + halves[(s + 1) % sectors]) / 3
        for k in range(bins):
            value, n = 0.0, 0.0
            for a in range(s - 1, s + 2):
                for b in range(max(k - 1, 0), min(k + 2, bins)):
                    value += profiles[a % sectors, b]
                    n += numbers[a % sectors, b]
            line[k] = value / n if n > 0 else np.nan
        for k in range(bins - 2, 0, -1):
            if line[k] >= half > line[k + 1] and line[k - 1] >= half:
                part = (line[k] - half) / (line[k] - line[k + 1])
                found[s] = near + (k + 0.5 + part) * width
                break
    return found


@numba.njit(cache=True, nogil=True)
def _fit_ellipse(edges: Floats, tolerance: float, width: float) -> tuple[Floats, int, float]:
    """``edge(t) = r + a cos t + b sin t + c cos 2t + d sin 2t``: (5,), sectors used, r.m.s.

    The start is the circle through three edges that most others agree with: a large crystal at
    the rim may hide a third of it.
    """
    n = edges.size
    design = np.empty((n, 5))
    for s in range(n):
        t = (s + 0.5) * 2 * math.pi / n - math.pi
        design[s] = np.array([1.0, math.cos(t), math.sin(t), math.cos(2 * t), math.sin(2 * t)])
    best, start = 0, np.zeros(5)
    for gap in (n // 3, n // 4, n // 6):
        for s in range(0, n, 2):
            trio = np.array([s, (s + gap) % n, (s + 2 * gap) % n])
            if not np.isfinite(edges[trio]).all():
                continue
            three = np.linalg.solve(np.ascontiguousarray(design[trio, :3]), edges[trio])
            agree = 0
            for k in range(n):
                at = three[0] + design[k, 1] * three[1] + design[k, 2] * three[2]
                agree += abs(edges[k] - at) < tolerance
            if agree > best:
                best = agree
                start[:3] = three
    solution, kept, scatter = start, 0, 0.0
    limit = tolerance
    for _ in range(12):
        matrix, right, kept, before = np.zeros((5, 5)), np.zeros(5), 0, kept
        residuals = np.empty(n)
        for k in range(n):
            residual = edges[k]
            for a in range(5):
                residual -= design[k, a] * solution[a]
            if abs(residual) < limit:
                residuals[kept] = abs(residual)
                kept += 1
                for a in range(5):
                    right[a] += design[k, a] * edges[k]
                    for b in range(5):
                        matrix[a, b] += design[k, a] * design[k, b]
        if kept < 12:
            return solution, 0, np.inf
        solution[:] = np.linalg.solve(matrix, right)
        scatter = math.sqrt(np.mean(residuals[:kept] ** 2) * kept / (kept - 5))
        limit = max(4.5 * np.median(residuals[:kept]), 0.75 * width)
        if kept == before:
            break
    return solution, kept, scatter


@numba.njit(cache=True, nogil=True)
def inner_variance(
    image: Image, valid: NDArray[np.bool_], row: float, column: float, radius: float
) -> tuple[float, float]:
    """(variance, mean) of the counts in the square within the disc: the thesis's measure.

    NaN where the square is not on the camera.
    """
    half = radius / math.sqrt(2.0)
    rows, columns = image.shape
    total, square, n = 0.0, 0.0, 0.0
    for i in range(max(0, math.ceil(row - half)), min(rows, int(row + half) + 1)):
        for j in range(max(0, math.ceil(column - half)), min(columns, int(column + half) + 1)):
            if valid[i, j]:
                value = float(image[i, j])
                total += value
                square += value * value
                n += 1.0
    if n < 2:
        return np.nan, np.nan
    mean = total / n
    return square / n - mean * mean, mean
