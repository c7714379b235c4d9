"""The beam's disc as a map of darkness, with the beam's own unevenness divided out.

No beam is even over its disc (gradients, domes, fringes at the rim), and what is uneven by a fifth
hides a crystal that takes a tenth. The unevenness stays where it is in the disc, wherever on the
specimen the beam is: images of the bare beam beside the crystal tell it. It is the *flat*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .disc import Disc, add_blocks, find_disc

Floats = NDArray[np.float64]
Image = NDArray[Any]

# Blocks of a map to the disc's radius.
BLOCKS_PER_RADIUS = 28
# The map is used within this part of the radius: the rim is not flat.
USED_RADIUS = 0.92
# A flat reaches so many radii, for discs are elliptical, and is smoothed by so many blocks, which
# bridges the detector's cross.
FLAT_REACH, FLAT_BLUR = 1.15, 1.2
# In fewer images of the bare beam one cannot tell a neighbour that lies in one of them.
FEWEST_IMAGES = 3
# A flat is no darker than this part of its level.
DARKEST_FLAT = 0.1
# The noise of a block falls by so much in a smoothing by one block. The brightest part of the map
# (per cent) lies so many standard deviations below zero darkness.
SMOOTHED, BRIGHTEST, BRIGHTEST_SIGMAS = 3.5, 8.0, 1.4
# A brightest part darker than the level known by half of the crystal's darkness, but not by less or
# more than this, means that all of the beam is covered.
COVERED_BY = (0.03, 0.12)


@dataclass(frozen=True)
class Flat:
    """The beam's own light over its disc.

    Attributes
    ----------
    light : (n, n) over its level, in blocks of a `BLOCKS_PER_RADIUS`-th of the disc's radius, the
        disc's centre in the middle.
    n_images : of which it is the median.
    """

    light: Floats
    n_images: int

    @property
    def uneven_by(self) -> float:
        """Brightest minus darkest light within the part of the disc that is used."""
        return float(np.ptp(self.light[_away(len(self.light)) < USED_RADIUS]))

    def over_blocks(self, n: int, centre: Floats, blocks_per_radius: float) -> Floats:
        """(n, n) light in blocks of another size, the disc's centre at `centre` (blocks)."""
        return _resampled(
            self.light, n, float(centre[0]), float(centre[1]), BLOCKS_PER_RADIUS / blocks_per_radius
        )


def flat_of(images: Sequence[Image], valid: NDArray[np.bool_]) -> Flat | None:
    """The flat from defocused images (rows, columns) of the beam beside the crystal.

    The median over images: what lies in the beam in less than half of them does not count. None
    if fewer than `FEWEST_IMAGES` show the whole disc.
    """
    maps = []
    for image in images:
        disc = find_disc(image, valid)
        if disc is not None and disc.is_whole(image.shape):
            maps.append(_over_disc(image, valid, disc))
    if len(maps) < FEWEST_IMAGES:
        return None
    stack = np.array(maps)
    used = _away(stack.shape[1]) < 0.8 * USED_RADIUS
    for _ in range(2):  # what lies in the beam changes the level of its image
        light = np.median(stack, axis=0)
        stack /= np.median(stack[:, used] / light[used], axis=1)[:, None, None]
    light = np.median(stack, axis=0)
    return Flat(np.maximum(light / np.median(light[used]), DARKEST_FLAT), len(maps))


def _away(n: int) -> Floats:
    """(n, n) distance from the disc's centre, in its radii."""
    away: Floats = np.hypot(*(np.indices((n, n)) - (n - 1) / 2)) / BLOCKS_PER_RADIUS
    return away


def _over_disc(image: Image, valid: NDArray[np.bool_], disc: Disc) -> Floats:
    """Light over the disc's level in blocks as `Flat.light` has them."""
    half = math.ceil(FLAT_REACH * BLOCKS_PER_RADIUS)
    n = 2 * half + 1
    row, column = np.nonzero(valid)
    at = np.stack([row, column]) - disc.centre_px[:, None]
    block = np.rint(at * BLOCKS_PER_RADIUS / disc.radius_px).astype(int) + half
    inside = ((block >= 0) & (block < n)).all(axis=0)
    flat = block[0, inside] * n + block[1, inside]
    counts = image[row[inside], column[inside]].astype(np.float64) - disc.background
    total = np.bincount(flat, counts, minlength=n * n).reshape(n, n)
    number = np.bincount(flat, minlength=n * n).reshape(n, n).astype(np.float64)
    share = gaussian_filter(number, FLAT_BLUR)
    light: Floats = gaussian_filter(total, FLAT_BLUR) / np.maximum(share, 1e-3) / disc.level
    return np.maximum(light, DARKEST_FLAT)


@numba.njit(cache=True, nogil=True)
def _resampled(light: Floats, n: int, row: float, column: float, scale: float) -> Floats:
    """Bilinear; the nearest value beyond the edge."""
    result = np.empty((n, n))
    size = light.shape[0]
    middle = 0.5 * (size - 1)
    for i in range(n):
        y = min(max(middle + (i - row) * scale, 0.0), size - 1.001)
        a = int(y)
        for j in range(n):
            x = min(max(middle + (j - column) * scale, 0.0), size - 1.001)
            b = int(x)
            u, v = y - a, x - b
            result[i, j] = (1 - u) * ((1 - v) * light[a, b] + v * light[a, b + 1]) + u * (
                (1 - v) * light[a + 1, b] + v * light[a + 1, b + 1]
            )
    return result


@dataclass(frozen=True)
class Darkness:
    """The disc in blocks.

    Attributes
    ----------
    map : (n, n) 1 - light over the beam's level; 0 for a bare beam, 1 for none.
    inside : (n, n) where it counts.
    noise : standard deviation of `map`.
    level : counts per pixel of the bare beam, above the background.
    centre : (2,) the disc's, in blocks.
    block_px : pixels to a block.
    blur : standard deviation of its smoothing, blocks.
    """

    map: Floats
    inside: NDArray[np.bool_]
    noise: float
    level: float
    centre: Floats
    block_px: int
    blur: float = 1.0


def darkness_of(
    image: Image,
    valid: NDArray[np.bool_],
    disc: Disc,
    block_px: int,
    flat: Flat | None = None,
    *,
    blur: float = 1.0,
    known_level: float = 0.0,
    expected: float = 1.0,
) -> Darkness:
    """The map of an image's disc, smoothed by a Gaussian of `blur` blocks.

    The level is that of the brightest part, for a crystal may cover most of the beam; or the
    known one where the brightest part is darker than that, as it is under a crystal of the
    darkness expected that covers all of it.
    """
    n = 2 * math.ceil(1.05 * disc.radius_px / block_px) + 1
    first = np.round(disc.centre_px - (n * block_px - 1) / 2).astype(int)
    total, number = add_blocks(image, valid, block_px, int(first[0]), int(first[1]), n, n)
    centre: Floats = (disc.centre_px - first - (block_px - 1) / 2) / block_px
    inside = _inside(n, centre, disc, block_px)
    seen = inside & (number > 0)
    if not seen.any():
        return Darkness(np.zeros((n, n)), inside, 1.0, known_level, centre, block_px, blur)
    net = np.where(seen, total / np.maximum(number, 1) - disc.background, 0.0)
    if flat is not None:
        net /= flat.over_blocks(n, centre, disc.radius_px / block_px)
    share = gaussian_filter(seen.astype(float), blur)
    light = gaussian_filter(net, blur) / np.maximum(share, 0.05)
    poisson = math.sqrt(max(disc.level, 1.0)) / block_px / (SMOOTHED * blur)
    level = float(np.percentile(light[seen], 100 - BRIGHTEST)) - BRIGHTEST_SIGMAS * poisson
    least, most = COVERED_BY
    covered_by = most if flat is None else min(max(0.5 * expected, least), most)
    if level < (1 - covered_by) * known_level:
        level = known_level
    level = max(level, 1e-9)
    darkness = 1 - light / level
    bright = darkness[seen & (darkness < 0)]
    noise = float(np.sqrt(np.mean(bright**2))) if bright.size > 20 else poisson / level
    return Darkness(darkness, inside, noise, level, centre, block_px, blur)


def _inside(n: int, centre: Floats, disc: Disc, size: int) -> NDArray[np.bool_]:
    """(n, n) True within `USED_RADIUS` of the disc."""
    row = (np.arange(n) - centre[0])[:, None]
    column = (np.arange(n) - centre[1])[None, :]
    square = row**2 + column**2
    c, d = disc.ellipse
    twice = (c * (row**2 - column**2) + d * 2 * row * column) / np.maximum(square, 1e-9)
    edge: NDArray[np.bool_] = np.sqrt(square) < USED_RADIUS * disc.radius_px / size * (1 + twice)
    return edge
