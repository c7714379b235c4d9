"""Particle finding by local threshold: what is darker than its surroundings, in um.

A pixel is dark where it falls below the mean of the block about it (as `threshold_local` of the
thesis) by an offset that is relative to that mean and to the noise about it. Other than there,
the mean is taken over what is not dark itself, so neither a large crystal nor a grid bar pulls it
down; two levels (hysteresis) keep outlines whole in noise; outlines lie at half the contrast.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from scipy.ndimage import (
    distance_transform_edt,
    find_objects,
    label,
    maximum_filter,
    minimum_filter,
    uniform_filter,
)
from skimage.morphology import reconstruction
from skimage.segmentation import watershed

from .background import binned, local_mean
from .outlines import Outlines, distances_um, outlines_of, solidity, to_edge_um

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

# A picture with fewer counts in a pixel is dark.
DARK_COUNTS = 0.5

# Standard deviations below the mean: a particle has a pixel beyond the first and ends at the
# second.
SEED_SIGMA, EDGE_SIGMA = 5.0, 2.5

# Noisy pictures are smoothed up to so many times more.
WIDEST = 3.0

# Bins from the outline inwards that blur and bevels reach.
RIM_PX = 3

# A particle less convex than this may be several.
CONVEX = 0.92

# At a neck the half width is smaller by so much, in bins, and by so much of itself.
NECK_PX, NECK = 2.0, 0.25


class Finding(BaseModel):
    """How particles are found.

    Attributes
    ----------
    block_um : edge of the block whose mean a pixel is compared with; about twice a crystal.
    smooth_um : of the picture before; less than the smallest crystal's radius.
    contrast : relative fall below the local mean that makes a pixel dark, whatever the noise.
    smallest_um2 : smaller specks are neither particles nor neighbours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    block_um: PositiveFloat = 2.5
    smooth_um: PositiveFloat = 0.03
    contrast: float = Field(default=0.05, gt=0, lt=1)
    smallest_um2: PositiveFloat = 0.01


@dataclass(frozen=True)
class Particles:
    """Particles of a picture, one row each.

    Attributes
    ----------
    row, column : centroid of the mass thickness, px.
    area_um2 : within the outline at half contrast.
    contrast : mean relative fall below the surroundings.
    solidity : area over that of the convex hull.
    elongation : ratio of the principal axes, >= 1.
    unevenness : spread of the mass thickness inside over its mean, beyond noise: steps within
        the outline are crystals that lie on each other.
    edge_um : from the outline to the edge of the picture; 0 when it touches it.
    """

    row: Floats
    column: Floats
    area_um2: Floats
    contrast: Floats
    solidity: Floats
    elongation: Floats
    unevenness: Floats
    edge_um: Floats

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: object) -> Particles:
        """Some of the rows (anything numpy indexes with)."""
        return Particles(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class Found:
    """What a picture shows.

    Attributes
    ----------
    particles : all of them, suitable or not.
    labels : (rows, columns) int32; 0 the background, i + 1 particle i.
    distance_um : (n, n) from outline to outline; infinite on the diagonal.
    level : mean of the background, counts in a pixel.
    noise : standard deviation of the smoothed background over its mean.
    dark : hardly any electrons, so nothing can be found: a grid bar, or no beam.
    """

    particles: Particles
    labels: Labels
    distance_um: Floats
    level: float
    noise: float
    dark: bool = False


def find_particles(
    image: ArrayLike,
    um_per_px: ArrayLike,
    finding: Finding | None = None,
    *,
    valid: Mask | None = None,
) -> Found:
    """The particles of a bright-field picture.

    Parameters
    ----------
    image : (rows, columns) counts.
    um_per_px : a number, or the (2, 2) inverse of the stage calibration in imaging:
        um (x, y) = um_per_px @ px (row, column).
    finding : None takes the defaults.
    valid : (rows, columns) False on pixels that tell nothing; they are filled from neighbours.
    """
    finding = finding or Finding()
    scale = np.asarray(um_per_px, float)
    scale = scale * np.eye(2) if scale.ndim == 0 else scale
    px_um = float(np.sqrt(abs(np.linalg.det(scale))))
    counts = np.asarray(image, np.float32)
    if valid is not None:
        counts = _filled(counts, valid)
    if counts.mean() < DARK_COUNTS:
        nothing = np.zeros(counts.shape, np.int32)
        particles = _measured(nothing, counts, counts, outlines_of(nothing), scale)
        return Found(particles, nothing, np.zeros((0, 0)), float(counts.mean()), 0.0, dark=True)
    # what would be smoothed away anyhow is binned, which is quicker
    n = max(1, int(finding.smooth_um / px_um))
    found = _find(binned(counts, n), n * scale, finding)
    if n == 1:
        return found
    labels = np.repeat(np.repeat(found.labels, n, axis=0), n, axis=1)
    p = found.particles
    return replace(
        found,
        particles=replace(p, row=n * p.row + (n - 1) / 2, column=n * p.column + (n - 1) / 2),
        labels=labels[: counts.shape[0], : counts.shape[1]],
    )


def _find(counts: Singles, scale: Floats, finding: Finding) -> Found:
    """`find_particles` on binned counts."""
    px_um = float(np.sqrt(abs(np.linalg.det(scale))))
    width = 2 * round(0.7 * finding.smooth_um / px_um) + 1
    # two boxes: nearly a bell of the deviation wanted
    smooth = uniform_filter(uniform_filter(counts, width), width)
    level, opaque = local_mean(smooth, finding.block_um / px_um)
    root = np.sqrt(level / level.mean())
    noise = _noise(smooth, level, root)
    reach = width - 1  # of the blur
    wider = min(WIDEST, SEED_SIGMA * noise / finding.contrast)
    if wider > 1.2:  # a picture too noisy for the contrast wanted is smoothed more
        width = 2 * round(0.5 * width * wider) + 1
        smooth = uniform_filter(smooth, width)
        reach += width // 2
        noise = _noise(smooth, level, root)
    fall = 1 - smooth / level
    sigma = noise / root * np.outer(*(_mirrored(n, width) for n in counts.shape))
    seed = np.maximum(finding.contrast, SEED_SIGMA * sigma)
    edge = np.maximum(0.5 * finding.contrast, EDGE_SIGMA * sigma)

    dark = _with_a_seed(fall > edge, fall > seed)
    plateau = maximum_filter(fall, 2 * reach + 1)
    half = np.minimum(0.5 * plateau, plateau - 4 * sigma)
    dark &= (fall > half) | opaque
    dark = _with_a_seed(dark, fall > seed)  # not what is left of a blurred rim
    labels = _large_enough(_whole(dark), finding.smallest_um2 / px_um**2)
    labels = _split(labels)
    outlines = outlines_of(labels)
    return Found(
        particles=_measured(labels, fall, sigma, outlines, scale),
        labels=labels,
        distance_um=distances_um(outlines, scale, px_um),
        level=float(level.mean()),
        noise=noise,
    )


def _noise(smooth: Singles, level: Singles, root: Singles) -> float:
    """Standard deviation of the background, from what is brighter: particles only darken."""
    few = (slice(None, None, 3),) * 2
    bright = ((smooth[few] / level[few] - 1) * root[few]).ravel()
    bright = bright[bright > 0]
    return 1.4826 * float(np.median(bright)) if len(bright) else 0.0


def _mirrored(n: int, width: int) -> Singles:
    """(n,) how much noisier the smoothed picture is where mirrored pixels fill its windows."""
    noisier = np.ones(n, np.float32)
    noisier[:width] = noisier[-width:] = np.sqrt(2)
    return noisier


def _filled(counts: Singles, valid: Mask) -> Singles:
    """Bad pixels as the mean of the good ones about them."""
    share = uniform_filter(valid.astype(np.float32), 9)
    mean = uniform_filter(np.where(valid, counts, np.float32(0)), 9)
    return np.where(valid, counts, mean / np.maximum(share, np.float32(1e-3)))


def _with_a_seed(low: Mask, high: Mask) -> Mask:
    """The connected parts of `low` that hold a pixel of `high`."""
    labels, number = label(low)
    seeded = np.bincount(labels[high & low], minlength=number + 1) > 0
    seeded[0] = False
    return seeded[labels]


def _whole(dark: Mask) -> Mask:
    """Without holes."""
    holes, number = label(~dark)
    outside = np.zeros(number + 1, bool)
    for side in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        outside[side] = True
    outside[0] = False  # what is dark
    return ~outside[holes]


def _large_enough(dark: Mask, smallest_px: float) -> Labels:
    labels, number = label(dark)
    enough = np.bincount(labels.ravel(), minlength=number + 1) >= smallest_px
    enough[0] = False
    new = np.where(enough, np.cumsum(enough), 0).astype(np.int32)
    return new[labels]


def _split(labels: Labels) -> Labels:
    """Touching particles parted at their necks (watershed of the distance from the edge)."""
    labels = labels.copy()
    number = int(labels.max())
    for i, window in enumerate(find_objects(labels), 1):
        inside = labels[window] == i
        if solidity(np.argwhere(inside & ~_eroded(inside)), int(inside.sum())) > CONVEX:
            continue
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        # tops that no way leads from to a higher one but down by so much
        drop = max(NECK_PX, NECK * float(depth.max()))
        lowered = reconstruction(depth - drop, depth)
        tops, n_tops = label(depth - lowered > 0.999 * drop, np.ones((3, 3)))
        if n_tops < 2:
            continue
        parts = watershed(-depth, tops, mask=inside)
        for part in range(2, n_tops + 1):
            number += 1
            labels[window][parts == part] = number
    return labels


def _eroded(inside: Mask) -> Mask:
    """Without the pixels that touch the outside or the edge of the array by a side."""
    core = np.zeros_like(inside)
    core[1:-1, 1:-1] = (
        inside[1:-1, 1:-1]
        & inside[:-2, 1:-1]
        & inside[2:, 1:-1]
        & inside[1:-1, :-2]
        & inside[1:-1, 2:]
    )
    return core


def _measured(
    labels: Labels, fall: Singles, sigma: Singles, outlines: Outlines, scale: Floats
) -> Particles:
    number = int(labels.max())
    where = np.flatnonzero(labels)
    owner = labels.ravel()[where] - 1
    place = np.stack(np.unravel_index(where, labels.shape)).astype(float)
    n_pixels = np.bincount(owner, minlength=number)

    def mean(values: Floats, weight: Floats | None = None) -> Floats:
        weight = np.ones(len(owner)) if weight is None else weight
        total = np.bincount(owner, weight, number)
        return np.bincount(owner, weight * values, number) / np.maximum(total, 1e-12)

    drop = np.clip(fall.ravel()[where], 1e-3, 0.999).astype(float)
    mass = -np.log1p(-drop)  # mass thickness, in mean free paths
    um = scale @ place
    off = um - np.stack([mean(one) for one in um])[:, owner]
    xx, yy, xy = mean(off[0] ** 2), mean(off[1] ** 2), mean(off[0] * off[1])
    half, root = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    pixel_area = abs(np.linalg.det(scale))
    floor = pixel_area / 12  # a pixel is not a point
    pieces = [
        outlines.pixels[a:b] for a, b in zip(outlines.first[:-1], outlines.first[1:], strict=True)
    ]
    return Particles(
        row=mean(place[0], mass),
        column=mean(place[1], mass),
        area_um2=n_pixels * pixel_area,
        contrast=mean(drop),
        solidity=np.array([solidity(p, n) for p, n in zip(pieces, n_pixels, strict=True)]),
        elongation=np.sqrt((half + root + floor) / (half - root + floor)),
        unevenness=_unevenness(labels, fall, sigma),
        edge_um=np.array([to_edge_um(p, labels.shape, scale) for p in pieces]),
    )


def _unevenness(labels: Labels, fall: Singles, sigma: Singles) -> Floats:
    """(n,) see `Particles`; from the pixels that the outline's blur does not reach."""
    size = 2 * RIM_PX + 1
    inside = (minimum_filter(labels, size) == labels) & (maximum_filter(labels, size) == labels)
    inside &= labels > 0
    through = np.clip(1 - fall[inside], 1e-3, 1).astype(float)
    mass, noise = -np.log(through), sigma[inside] / through
    owner = labels[inside]
    result = np.zeros(int(labels.max()))
    for i in np.unique(owner):
        its = owner == i
        if np.count_nonzero(its) >= 20:
            low, high = np.quantile(mass[its], [0.1, 0.9])
            width = (high - low) / 2.56  # a standard deviation, were it noise
            excess = max(0.0, width**2 - float(np.mean(noise[its] ** 2)))
            result[i - 1] = np.sqrt(excess) / max(float(mass[its].mean()), 1e-3)
    return result
