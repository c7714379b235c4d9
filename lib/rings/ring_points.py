"""Where each ring lies in each sector of the azimuth, measured from the pixels themselves.

Under the present `PixelMap` the rings are straight in (radius, azimuth). In every sector the
profile about a ring is a linear sum of the ring's shape T, its derivative T', a background with
slope and curvature, and the rings beside it; ``-[T'] / [T]`` is how far the ring lies from where
the map puts it. No image is interpolated.

T is a Gaussian times R/r: a spherical shell of reciprocal space that small grains widen by the
same amount in all directions is denser inside than outside by that factor, which moves the maximum
inwards by ``sigma^2 / R``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .background import Mask
from .pixel_map import PixelMap, ideal_profiles

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Sectors of the finest division; weak rings are measured in fewer.
SECTORS = 120
DIVISIONS = (120, 60, 30, 15)
# A ring is measured in as many sectors as leave it this many standard deviations tall.
TALL = 6.0
# A ring is followed so many of its standard deviations to either side.
REACH = 3.2
# A ring with another one nearer than so many standard deviations is not measured, ...
BLENDED = 1.2
# ... unless that is weaker than this part of it; ...
NEGLIGIBLE = 0.02
# ... nor is one on the flank of a stronger one, whose shape is not known so well.
FLANK = 3.5
# A ring is not measured if it can be in fewer than this part of its sectors, or so few.
LEAST_SEEN = 0.4
LEAST_POINTS = 8
# A sector needs this part of its pixels.
LEAST_FILLED = 0.5


@dataclass(frozen=True)
class RingPoints:
    """Where the rings were seen, one row for each sector of a ring.

    Attributes
    ----------
    image : (n,) int, of which image.
    ring : (n,) int, index into the calibrant's spacings.
    row_px, column_px : (n,) where the ring was seen.
    azimuth_deg : (n,) about the beam centre, from +x towards +y, without distortion.
    residual_px : (n,) observed minus calculated radius.
    sigma_px : (n,) its standard error.
    used : (n,) bool, False for outliers.
    """

    image: Integers
    ring: Integers
    row_px: Floats
    column_px: Floats
    azimuth_deg: Floats
    residual_px: Floats
    sigma_px: Floats
    used: NDArray[np.bool_]


@dataclass(frozen=True)
class SeenRing:
    """What the profile over all azimuths says of a ring.

    Attributes
    ----------
    ring : index into the calibrant's spacings.
    height : counts above the background.
    sigma : height over its standard error.
    width_px : standard deviation along the radius.
    """

    ring: int
    height: float
    sigma: float
    width_px: float


@dataclass(frozen=True)
class Measured:
    """The rings of one image under one map.

    Attributes
    ----------
    points : on the rings, with `image` 0.
    seen : the rings that were looked at.
    """

    points: RingPoints
    seen: tuple[SeenRing, ...]


def measure_rings(
    image: NDArray[np.float32],
    good: Mask,
    map_: PixelMap,
    tangent: Floats,
    strength: Floats,
    width_px: float,
) -> Measured:
    """Points on the rings of `tangent` = tan(2 theta), strongest per pixel `strength`.

    `width_px`: about the standard deviation of a ring along its radius.
    """
    rho = map_.distance_px * tangent
    corners = map_.to_ideal(
        np.array([0, 0, 1, 1]) * (image.shape[0] - 1), np.array([0, 1, 0, 1]) * (image.shape[1] - 1)
    )[0]
    inside = np.flatnonzero(rho < corners.max())
    bin_px = min(0.5, width_px / 3)
    n_bins = int(corners.max() / bin_px) + 2
    reach = REACH * 1.3 * width_px
    middle = (np.arange(n_bins, dtype=np.float64) + 0.5) * bin_px
    wanted = np.zeros(n_bins, bool)
    for k in inside:
        wanted |= np.abs(middle - rho[k]) < reach
    sums = ideal_profiles(image, good, map_.packed(), SECTORS, n_bins, bin_px, wanted)
    total, number, _ = (np.asarray(a.sum(axis=0)) for a in sums)
    mean = total / np.maximum(number, 1)
    seen, parts = [], []
    for k in inside:
        window = _window(rho[k], reach, bin_px, n_bins)
        beside = [int(j) for j in inside if j != k and abs(rho[j] - rho[k]) < 2 * reach]
        apart = {j: abs(rho[j] - rho[k]) / width_px for j in beside}
        blended = any(
            (apart[j] < BLENDED and strength[j] > NEGLIGIBLE * strength[k])
            or (apart[j] < FLANK and strength[j] > strength[k])
            for j in beside
        )
        if blended or np.count_nonzero(number[window]) < 12:
            continue
        beside = [j for j in beside if apart[j] >= BLENDED][:4]
        variance = np.maximum(mean[window], 0.02 * max(float(mean[window].max()), 1e-9))
        one = _shape(
            int(k), middle[window], mean[window], number[window] / variance,
            rho[k], rho[beside], width_px,
        )  # fmt: skip
        if one is None:
            continue
        seen.append(one)
        if one.sigma > 2 * TALL:
            parts.append(
                _points(one, [a[:, window] for a in sums], variance, rho[k], rho[beside], map_)
            )
    return Measured(joined([_empty(), *parts]), tuple(seen))


def _empty() -> RingPoints:
    n, x = np.zeros(0, np.int64), np.zeros(0)
    return RingPoints(n, n, x, x, x, x, x, np.zeros(0, bool))


def joined(parts: list[RingPoints]) -> RingPoints:
    """All points of `parts`."""
    names = RingPoints.__dataclass_fields__
    return RingPoints(*[np.concatenate([getattr(p, n) for p in parts]) for n in names])


def _window(rho: float, reach: float, bin_px: float, n_bins: int) -> slice:
    return slice(max(int((rho - reach) / bin_px), 0), min(int((rho + reach) / bin_px) + 1, n_bins))


def _columns(r: Floats, rho: float, beside: Floats, width: float) -> Floats:
    """(..., 5 + neighbours) at radii r: ring, derivative, background to 2nd order, neighbours."""
    x = r - rho
    bell = np.exp(-(x**2) / (2 * width**2)) * rho / np.maximum(r, 1e-6)
    slope = bell * (-x / width**2 - 1 / np.maximum(r, 1e-6))
    others = [np.exp(-((r - other) ** 2) / (2 * width**2)) for other in beside]
    return np.stack([bell, slope, np.ones_like(x), x / width, (x / width) ** 2, *others], axis=-1)


def _solved(
    columns: Floats, values: Floats, weight: Floats
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Weighted least squares: coefficients, covariance, chi squared, whether it can be solved.

    Shapes (..., m, q), (..., m), (..., m) give (..., q), (..., q, q), (...), (...).
    """
    normal = np.einsum("...mi,...m,...mj->...ij", columns, weight, columns)
    right = np.einsum("...mi,...m,...m->...i", columns, weight, values)
    size = np.sqrt(np.maximum(np.diagonal(normal, axis1=-2, axis2=-1), 1e-300))
    scaled = normal / size[..., :, None] / size[..., None, :]
    ok = np.linalg.cond(np.where(np.isfinite(scaled), scaled, 0)) < 1e7
    identity = np.eye(columns.shape[-1])
    inverse = np.linalg.inv(np.where(ok[..., None, None], scaled, identity))
    covariance = inverse / size[..., :, None] / size[..., None, :]
    solution = np.einsum("...ij,...j->...i", covariance, right)
    rest = values - np.einsum("...mi,...i->...m", columns, solution)
    return solution, covariance, np.sum(weight * rest**2, axis=-1), ok


def _shape(
    ring: int, r: Floats, mean: Floats, weight: Floats, rho: float, beside: Floats, width: float
) -> SeenRing | None:
    """Height and width of a ring from the profile over all azimuths; None if it has none."""
    best: SeenRing | None = None
    least = np.inf
    trials = width * np.geomspace(0.6, 1.7, 10)
    for trial in trials:
        near = np.abs(r - rho) < REACH * min(trial, 1.3 * width)
        if np.count_nonzero(near & (weight > 0)) < 8:
            continue
        columns = _columns(r, rho, beside, trial)
        solution, covariance, chi2, ok = _solved(columns, mean, weight)
        if not ok or chi2 >= least:
            continue
        freedom = max(int(np.count_nonzero(weight)) - columns.shape[-1], 1)
        # the weights know the counts; what the shape does not fit counts as noise too
        error = np.sqrt(covariance[0, 0] * max(chi2 / freedom, 1e-12))
        least = float(chi2)
        best = SeenRing(ring, float(solution[0]), float(solution[0] / error), float(trial))
    # as wide as can be: a bump of the background
    if best is None or best.height <= 0 or best.width_px == trials[-1]:
        return None
    return best


def _points(
    seen: SeenRing, sums: list[Floats], variance: Floats, rho: float, beside: Floats,
    map_: PixelMap,
) -> RingPoints:  # fmt: skip
    """The ring sector by sector, in as many sectors as it is bright enough for."""
    width = seen.width_px
    for sectors in DIVISIONS:
        total, number, radii = (
            a.reshape(sectors, SECTORS // sectors, -1).sum(axis=1) for a in sums
        )
        r = radii / np.maximum(number, 1)
        near = (np.abs(r - rho) < REACH * width) & (number > 0)
        weight = np.where(near, number / variance, 0.0)
        columns = _columns(r, rho, beside, width)
        solution, covariance, chi2, ok = _solved(columns, total / np.maximum(number, 1), weight)
        full = np.median(np.sum(number * near, axis=1)[ok]) if np.any(ok) else 0.0
        freedom = np.sum(near, axis=1) - columns.shape[-1]
        # filled on both sides of the ring
        inner = np.sum(number * (near & (r < rho)), axis=1)
        outer = np.sum(number * (near & (r >= rho)), axis=1)
        ok &= (np.minimum(inner, outer) > LEAST_FILLED * full / 2) & (freedom > 3)
        noise = chi2 / np.maximum(freedom, 1)
        # no sector is quieter than most
        noise = np.maximum(noise, np.median(noise[ok])) if np.any(ok) else noise
        height = solution[:, 0] / np.sqrt(covariance[:, 0, 0] * np.maximum(noise, 1e-12))
        if np.any(ok) and np.median(height[ok]) > TALL:
            break
    shift = -solution[:, 1] / np.where(solution[:, 0] > 0, solution[:, 0], np.inf)
    sigma = np.sqrt(covariance[:, 1, 1] * noise) / np.maximum(solution[:, 0], 1e-12)
    clear = ok & (height > 0.6 * TALL) & (np.abs(shift) < 1.5 * width)
    enough = max(LEAST_SEEN * np.count_nonzero(ok), LEAST_POINTS)
    ok = clear if np.count_nonzero(clear) >= enough else ok & False
    shift, sigma = shift[ok], sigma[ok]
    azimuth = ((np.arange(len(ok)) + 0.5) * 2 * np.pi / len(ok) - np.pi)[ok]
    row, column = map_.to_pixel(rho + shift, azimuth)
    ring = np.full(len(shift), seen.ring)
    return RingPoints(
        np.zeros(len(shift), int), ring, row, column, np.degrees(azimuth), shift, sigma,
        np.ones(len(shift), bool),
    )  # fmt: skip
