"""One least squares over the shifts of all sectors of all rings: where the centre is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from .recentre_image import TRIM, NoRings
from .recentre_kernels import SAMPLES_PER_SECTOR, profile, sample, sector_shifts
from .recentre_windows import Window

Floats = NDArray[np.float64]

_FLOOR_PX = 0.005  # what interpolation and edges of shadows leave, on simulated images
_TUKEY = 4.685
_BLOCKS = 16
_SHADOW = 0.6  # a sector with less background than this part of the usual one lies in a shadow


@dataclass(frozen=True)
class Solution:
    """The centre after one pass, and how well it is known.

    `scatter`: of shifts beyond the noise of counts, relative to the width of a ring's window.
    """

    centre: tuple[float, float]
    covariance: Floats = field(default_factory=lambda: np.full((2, 2), np.nan))
    radii_px: Floats = field(default_factory=lambda: np.zeros(0))
    coverage: float = 0.0
    residual_px: float = float("nan")
    scatter: float = 0.0


def solve_centre(
    clean: NDArray[np.float32],
    rays: NDArray[np.float32],
    windows: list[Window],
    centre: tuple[float, float],
    inverse: Floats,
    step: int,
    name: str,
) -> Solution:
    """One step of Gauss-Newton for the centre, all rings and sectors together."""
    sectors = rays.shape[0] // SAMPLES_PER_SECTOR
    azimuth = (np.arange(sectors) + 0.5 - 0.5 * step / SAMPLES_PER_SECTOR) * 2 * np.pi / sectors
    # how far a ring moves outwards, in undistorted px, for a shift of the centre by one px
    outwards = np.stack([np.cos(azimuth), np.sin(azimuth)], 1) @ inverse  # by column, by row
    design, shift, weight, radii, ring = [], [], [], [], []
    for number, window in enumerate(windows):
        polar = sample(
            clean,
            rays,
            np.arange(window.first, window.stop, window.stride),
            *centre,
            SAMPLES_PER_SECTOR,
            step,
        )
        mean = profile(polar, 4, *TRIM)[:, 0]
        if not np.all(np.isfinite(mean)):
            radii.append(window.radius)
            continue
        # a template as smooth as its ring is wide, lest its own noise has a slope
        smooth = gaussian_filter1d(mean, len(mean) / 25, mode="nearest")
        shape = smooth - np.linspace(smooth[0], smooth[-1], len(mean))
        slope = np.gradient(shape) / window.stride
        fits = sector_shifts(polar, shape, slope)
        radii.append(window.first + window.stride * _peak(mean))
        amplitude, along, information, variance, background = fits.T
        usual = np.nanmedian(background)
        usable = (amplitude > 0.1) & (background > _SHADOW * usual) & np.isfinite(variance)
        if np.count_nonzero(usable) < 8:
            continue
        # the noise of counts, which a single sector's few samples tell too badly
        noise = np.maximum(background, 1e-6 * abs(usual)) * np.median(
            variance[usable] / background[usable]
        )
        noise = np.where(usable, np.maximum(noise, 1e-30), np.inf)
        design.append(np.column_stack([outwards[:, 1], outwards[:, 0]])[usable])
        shift.append(-along[usable] / amplitude[usable])
        weight.append((amplitude**2 * information / noise)[usable])
        ring.append(np.column_stack([np.full(sectors, number), np.arange(sectors)])[usable])
    if not design:
        raise NoRings(
            name, "no ring that is seen in enough directions", "powder rings", "check the image"
        )
    where = np.concatenate(ring)
    move, covariance, good, rms, scatter = _robust(
        np.concatenate(design), np.concatenate(shift), np.concatenate(weight), where, sectors
    )
    limit = min(1.0, 10.0 / max(1e-9, float(np.hypot(*move))))
    moved = (float(centre[0] + limit * move[0]), float(centre[1] + limit * move[1]))
    seen = len(np.unique(where[good, 1])) / sectors
    width = float(np.median([window.stop - window.first for window in windows]))
    return Solution(moved, covariance, np.array(radii), seen, rms, scatter / width)


def _peak(mean: Floats) -> float:
    """Place of a ring in its window: the centroid of what rises above half its height."""
    rise = mean - np.linspace(mean[0], mean[-1], len(mean))
    rise = np.maximum(rise - 0.5 * rise.max(), 0)
    return float(np.sum(rise * np.arange(len(mean))) / max(rise.sum(), 1e-30))


def _robust(
    design: Floats, shift: Floats, weight: Floats, where: NDArray[np.int64], sectors: int
) -> tuple[Floats, Floats, NDArray[np.bool_], float, float]:
    """Shift of the centre (row, column), its covariance, the sectors kept, r.m.s., scatter (px).

    Every ring has a radius of its own. Beside the noise of counts, sectors scatter because
    grains do; that scatter is estimated and added, so that a few bright spots do not decide.
    The covariance is the larger one of that of the fit and of leaving out one sixteenth of the
    azimuths at a time (jackknife), which knows of errors that neighbours share.
    """
    names, index = np.unique(where[:, 0], return_inverse=True)
    one_hot = np.zeros((len(where), len(names)))
    one_hot[np.arange(len(where)), index] = 1.0
    full = np.column_stack([design, one_hot])
    trust = np.ones(len(shift))
    scatter = 0.0
    solved = np.zeros(full.shape[1])
    normal = np.eye(full.shape[1])
    total, noise = weight, float(np.median(1 / weight))
    for _ in range(12):
        total = trust / (1 / weight + scatter**2)
        normal = full.T @ (total[:, None] * full)
        normal[np.diag_indices_from(normal)] += 1e-12 * np.trace(normal)
        before, solved = solved, np.linalg.solve(normal, full.T @ (total * shift))
        rest = shift - full @ solved
        # the median of a squared normal variable is 0.455
        spread = np.median(rest**2) / 0.455 - noise
        scatter = float(np.sqrt(max(0.0, spread)))
        ratio = np.abs(rest) / np.sqrt(1 / weight + scatter**2) / _TUKEY
        trust = np.where(ratio < 1, (1 - np.minimum(ratio, 1) ** 2) ** 2, 0.0)
        if np.max(np.abs(solved[:2] - before[:2])) < 1e-4:
            break
    good = trust > 0.1
    chi_squared = float(np.sum(total * rest**2) / max(1.0, np.sum(trust) - full.shape[1]))
    covariance = np.linalg.inv(normal)[:2, :2] * max(1.0, chi_squared)
    jackknife = _jackknife(full, shift, total, where[:, 1] * _BLOCKS // sectors, normal)
    if np.trace(jackknife) > np.trace(covariance):
        covariance = jackknife
    covariance = covariance + _FLOOR_PX**2 * np.eye(2)
    rms = float(np.sqrt(np.sum(total * rest**2) / max(1e-30, np.sum(total))))
    return solved[:2], covariance, good, rms, scatter


def _jackknife(
    full: Floats, shift: Floats, total: Floats, block: NDArray[np.int64], normal: Floats
) -> Floats:
    """(2, 2) covariance of the centre from solutions without one block of azimuths each."""
    weighted = total[:, None] * full
    right = full.T @ (total * shift)
    found = []
    for number in range(_BLOCKS):
        here = block == number
        without = normal - full[here].T @ weighted[here]
        found.append(np.linalg.lstsq(without, right - weighted[here].T @ shift[here])[0][:2])
    off = np.array(found) - np.mean(found, axis=0)
    spread: Floats = off.T @ off * (_BLOCKS - 1) / _BLOCKS
    return spread
