"""Where the crystal is in the beam: its shadow in the disc of a defocused diffraction pattern.

The disc is divided by its level, and by the beam's own unevenness if that is known, so that the
shadow's darkness (0 for none, 1 for opaque) depends neither on beam current nor exposure. A shadow
that is seen whole is where its weighted mean is. One that the disc's edge cuts is where the last
whole one explains most of the darkness within the disc: with template T and darkness D,
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
from scipy.ndimage import label

from .darkness import BLOCKS_PER_RADIUS, Darkness, Flat, darkness_of
from .disc import Disc, find_disc, inner_variance
from .template import AMPLITUDES, match, shifted

Floats = NDArray[np.float64]
Image = NDArray[Any]

# Darkness below which nothing is a crystal, and in standard deviations of the map.
FAINTEST, FAINTEST_SIGMAS = 0.05, 2.5
# A shadow of fewer standard deviations of the map is pale: the map is smoothed by so many blocks.
PALE_SIGMAS, PALE_BLUR = 5.0, 2.0
# of the disc's area, the smallest shadow
SMALLEST_AREA = 0.004
# of its weight, what a whole shadow may have at the rim
CUT_WEIGHT = 0.02
# A whole shadow's area does not change more than this from one image to the next.
LARGEST_CHANGE = 1.7
# The level of the bare beam is not known better than this; less is no part of a crystal.
FAINTEST_CUT = 0.03
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

    @property
    def mean_darkness(self) -> float:
        """Of what is dark."""
        return self.weight / max(self.area, 1e-9)


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

    @property
    def mean_darkness(self) -> float:
        return self.weight / self.area


@dataclass(frozen=True)
class _Look:
    """An image's disc, its map, and what is dark in it."""

    disc: Disc
    variance: float
    mean: float
    dark: Darkness
    marks: NDArray[np.int32]
    components: list[_Component]

    @classmethod
    def at(cls, disc: Disc, counted: tuple[float, float], dark: Darkness) -> _Look:
        limit = max(FAINTEST, FAINTEST_SIGMAS * dark.noise)
        marks, n = label(dark.map * dark.inside > limit)
        smallest = SMALLEST_AREA * np.pi * (disc.radius_px / dark.block_px) ** 2
        return cls(disc, *counted, dark, marks, _components(dark, marks, n, smallest))

    def nothing(self, sought: Shadow | None) -> Sighting:
        nowhere = np.full(2, np.nan)
        return Sighting(self.disc, nowhere, math.inf, 0.0, self.variance, self.mean, sought)


def sight_crystal(
    image: Image,
    valid: NDArray[np.bool_],
    sought: Shadow | None = None,
    flat: Flat | None = None,
) -> Sighting:
    """Disc and crystal in a defocused image (rows, columns) of counts.

    Parameters
    ----------
    valid : (rows, columns) False on pixels that tell nothing (the detector's cross).
    sought : the shadow as last seen; None: the largest one near the centre.
    flat : the beam's own light over its disc; None: taken for even, and crystals hardly darker
        than it is uneven are not told from that.
    """
    disc = find_disc(image, valid)
    if disc is None:
        return Sighting(None, np.full(2, np.nan), math.inf, 0.0, math.nan, math.nan, sought)
    size = max(1, round(disc.radius_px / BLOCKS_PER_RADIUS))
    if sought is not None:
        if not 0.6 * size < sought.block_px < 1.7 * size:
            sought = None  # another magnification of the disc: begin anew
        else:  # a radius at the limit between two sizes must not change them
            size = sought.block_px
    row, column = (float(v) for v in disc.centre_px)
    counted = inner_variance(image, valid, row, column, disc.radius_px)

    def look_with(blur: float) -> _Look:
        dark = darkness_of(
            image, valid, disc, size, flat, blur=blur,
            known_level=sought.level if sought else 0.0,
            expected=sought.mean_darkness if sought else 1.0,
        )  # fmt: skip
        return _Look.at(disc, counted, dark)

    look = look_with(1.0)
    likely = sought or _largest_near_the_centre(look)
    if likely is None or likely.mean_darkness < PALE_SIGMAS * look.dark.noise:
        look = look_with(PALE_BLUR)
    if sought is None:
        best = _largest_near_the_centre(look)
        return look.nothing(None) if best is None else _seen(look, best, 1.0)
    whole = [
        one for one in look.components
        if one.cut <= CUT_WEIGHT
        and 1 / LARGEST_CHANGE < one.area * size**2 / max(sought.area, 1e-9) < LARGEST_CHANGE
        and AMPLITUDES[0] < one.weight * size**2 / max(sought.weight, 1e-9) < AMPLITUDES[1]
    ]  # fmt: skip
    if whole and sought.whole:
        area = sought.area / size**2
        return _seen(look, min(whole, key=lambda one: abs(math.log(one.area / area))), 1.0)
    return _matched(look, sought)


def _largest_near_the_centre(look: _Look) -> _Component | None:
    radius = look.disc.radius_px / look.dark.block_px
    return max(
        look.components,
        key=lambda one: one.weight * math.exp(-2 * (one.away / radius) ** 2),
        default=None,
    )


def _matched(look: _Look, sought: Shadow) -> Sighting:
    """A sighting by where the shadow sought explains most."""
    dark, disc, size = look.dark, look.disc, look.dark.block_px
    where, gain, curvature, covered = match(
        dark.map, dark.inside, sought.darkness, float(dark.centre[0]), float(dark.centre[1])
    )
    if not (gain > LEAST_GAIN and covered > FAINTEST_CUT):
        return look.nothing(sought)
    if not sought.whole:  # the first one was cut: take a better one as soon as there is one
        near = [
            one for one in look.components if np.hypot(*(one.centre - where)) < 0.3 * len(dark.map)
        ]
        best = max(near, key=lambda one: one.weight, default=None)
        if best and best.weight * size**2 > sought.weight:
            return _seen(look, best, gain)
    sigma = size * dark.noise / math.sqrt(max(curvature, 1e-9))
    sigma = math.hypot(sigma, (FLOOR + 0.1 * (1 - min(gain, 1.0))) * disc.radius_px)
    return Sighting(
        disc,
        (where - dark.centre) * size,
        sigma,
        min(float(gain), 1.0),
        look.variance,
        look.mean,
        sought,
    )


def _seen(look: _Look, one: _Component, gain: float) -> Sighting:
    """A sighting by the weighted mean of a shadow."""
    dark, disc, size = look.dark, look.disc, look.dark.block_px
    mask = look.marks == one.mark
    offsets = np.argwhere(mask) - one.centre
    spread = float(np.mean(np.sum(offsets**2, axis=1)) / 2)
    area = float(len(offsets))
    # smoothing by a block makes noise common to about 12 of them
    sigma = size * dark.noise * dark.blur * math.sqrt(12 * area * spread) / one.weight
    sigma = math.hypot(sigma, FLOOR * disc.radius_px)
    whole = one.cut <= CUT_WEIGHT
    if not whole:  # the centre of what is seen is not that of the crystal
        sigma = math.hypot(sigma, 0.5 * math.sqrt(spread) * size)
    half = dark.map.shape[0] // 2
    template = np.zeros((2 * half + 1, 2 * half + 1))
    middle = np.round(one.centre).astype(int)
    low = np.maximum(middle - half, 0)
    high = np.minimum(middle + half + 1, dark.map.shape)
    to = low - middle + half
    part = np.where(mask, dark.map, 0.0)[low[0] : high[0], low[1] : high[1]]
    template[to[0] : to[0] + part.shape[0], to[1] : to[1] + part.shape[1]] = part
    # the template is centred on a whole block: the fraction goes into the map's shift
    template = shifted(template, one.centre - middle)
    contrast = one.weight / area / max(dark.noise, 1e-9)
    return Sighting(
        disc,
        (one.centre - dark.centre) * size,
        sigma,
        float(min(gain, 1.0) * min(1.0, contrast / 4)),
        look.variance,
        look.mean,
        Shadow(template, size, one.weight * size**2, area * size**2, dark.level, whole),
    )


def _components(
    dark: Darkness, marks: NDArray[np.int32], n: int, smallest: float
) -> list[_Component]:
    sums = _moments(dark.map, marks, n, dark.inside)
    found = []
    for mark in range(1, n + 1):
        area, weight, row, column, rim = sums[mark]
        if area >= smallest and weight > 0:
            at = np.array([row, column]) / weight
            away = float(np.hypot(*(at - dark.centre)))
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
