"""Where the direct beam is on a later image: fast, from the symmetry of its powder rings.

The calibration says how circles are distorted, so that every ring becomes straight in polar
coordinates about the right centre; about a wrong one it waves once around. In 128 or more
sectors the mean ring and its derivative along the radius are fitted to what is seen; the
derivative's amplitude is the shift. One robust least squares over all rings and sectors gives
the centre, with a radius for each ring, so that the substance need not be the calibrant.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks, peak_widths

from ..errors import UserError
from ..formats.image import DiffractionImage
from .calibration import RingCalibration
from .pixel_map import map_of
from .recentre_kernels import (
    SAMPLES_PER_SECTOR,
    binned,
    hide_liars,
    profile,
    sample,
    sector_shifts,
)
from .symmetry_start import inversion_centres

Floats = NDArray[np.float64]

_REACH = 0.55  # of the longer side of the image, to which rings are looked for
_TRIM = (0.1, 0.97)  # quantiles of the azimuths between which a profile is the mean
_SIGNIFICANT = 6.0  # standard errors that a ring must stand out
_MOST_RINGS = 10
_PASSES = 15
_CONVERGED_PX = 0.02  # a step is right to a few per cent, so that this leaves 0.001
_NEAR_PX = 0.5  # a last move from which every azimuth is worth its time
_LOST_PX = 2.0
_FINEST = 2  # every second azimuth: bilinear interpolation sees the pixels between
_AS_SHARP = 0.8
_CLEAR = 4.0  # sharpness of clear rings about their centre; elsewhere it is 1 to 3
_WIDEST = 3.0  # times the usual width of a ring: beyond it, the edge of a stop
_WIDE = 4 * SAMPLES_PER_SECTOR
_FLOOR_PX = 0.005  # what interpolation and edges of shadows leave, on simulated images
_TUKEY = 4.685
_BLOCKS = 16
_LEAST_COVERAGE = 0.2
_LARGEST_SD_PX = 1.0
_LARGEST_SCATTER = 0.05  # of the width of a ring's window
_SHADOW = 0.6  # a sector with less background than this part of the usual one lies in a shadow


class NoRings(UserError, ValueError):
    """No ring that the centre could be found from; also a ValueError."""


@dataclass(frozen=True)
class Recentred:
    """The direct beam on one image.

    Attributes
    ----------
    beam_centre_px : (row, column).
    covariance : (2, 2) of row and column, px^2, from the scatter of the rings.
    method : "rings", or "direct beam" where there were no rings to use.
    radii_px : radii of the rings used, undistorted.
    scale : radii seen over radii of the calibration's rings; NaN where it names no rings.
    scale_sd : its standard error.
    coverage : part of the azimuths where a ring was seen, 0 to 1.
    residual_px : weighted r.m.s. of observed minus calculated radius.
    notes : what to know, one sentence each.
    """

    beam_centre_px: tuple[float, float]
    covariance: Floats
    method: str = "rings"
    radii_px: Floats = field(default_factory=lambda: np.zeros(0))
    scale: float = float("nan")
    scale_sd: float = float("nan")
    coverage: float = 0.0
    residual_px: float = float("nan")
    notes: tuple[str, ...] = ()

    @property
    def sd_px(self) -> tuple[float, float]:
        """Standard errors of row and column."""
        row, column = np.sqrt(np.diag(self.covariance))
        return float(row), float(column)


@dataclass(frozen=True)
class _Window:
    """The radii (positions in the rays) about a ring, a stride apart, and its place among them."""

    first: int
    stop: int
    radius: float

    @property
    def stride(self) -> int:
        """Wide rings need no radius of every pixel."""
        return max(1, (self.stop - self.first) // 60)


def recentre(
    image: DiffractionImage | NDArray[np.generic],
    calibration: RingCalibration,
    *,
    mask: NDArray[np.bool_] | None = None,
    start: tuple[float, float] | None = None,
) -> Recentred:
    """Find the direct beam on an image taken with a calibrated camera.

    Parameters
    ----------
    image : of powder rings, of the calibrant or of another substance; with or without beam stop.
    calibration : gives shape, distortions and, where it has them, the radii of the rings.
    mask : (rows, columns), True where a pixel must not be used; stop and hot pixels need none.
    start : (row, column) to start from instead of the calibration's centre. The image's own
        centre of symmetry is tried besides either.

    Raises
    ------
    NoRings : a blank image, or one whose rings do not tell the centre (also a ValueError).
    UserError : image and calibration differ in shape.
    """
    clean, name = cleaned(image, calibration.shape, mask)
    rays = _rays(calibration)
    centre, sharpness = _start(clean, rays, start or calibration.beam_centre_px, name)
    windows = _windows(_profile(clean, rays, centre, 4), rays, name)
    inverse: Floats = np.asarray(np.linalg.inv(calibration.distortion.matrix), float)
    solution = _Solution(centre)
    step = 4
    for _ in range(_PASSES):
        solution = _solve(clean, rays, windows, centre, inverse, step, name)
        moved = float(np.hypot(solution.centre[0] - centre[0], solution.centre[1] - centre[1]))
        centre = solution.centre
        if moved < _CONVERGED_PX and step == _FINEST:
            break
        if moved > _LOST_PX:  # rings are sharper here: look for them again
            windows = _windows(_profile(clean, rays, centre, 4), rays, name)
        elif moved < _NEAR_PX:
            step = _FINEST
    else:
        raise NoRings(
            name, "rings about which no centre holds still", "concentric rings", "check the image"
        )
    _check(solution, calibration.shape, name)
    if not _sharpness(_profile(clean, rays, centre, 8)) > _AS_SHARP * sharpness:
        raise NoRings(
            name, "rings that are sharper about another point than about their centre",
            "concentric rings of the calibration's ellipse", "check image and calibration",
        )  # fmt: skip
    scale, scale_sd = _scale(solution.radii_px, calibration)
    return Recentred(
        solution.centre, solution.covariance, "rings", solution.radii_px, scale, scale_sd,
        solution.coverage, solution.residual_px,
    )  # fmt: skip


def cleaned(
    image: DiffractionImage | NDArray[np.generic],
    shape: tuple[int, int],
    mask: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], str]:
    """(rows, columns) float32 with NaN for pixels that say nothing, and what to call the image.

    Raises
    ------
    NoRings : every pixel says the same.
    UserError : a shape other than `shape`, of image or mask.
    """
    single = isinstance(image, DiffractionImage)
    name = (image.path or image.name) if isinstance(image, DiffractionImage) else "image"
    pixels = np.asarray(image.pixels if isinstance(image, DiffractionImage) else image)
    for what, found in ((name, pixels), ("mask", mask)):
        if found is not None and found.shape != tuple(shape):
            by = " x ".join(map(str, found.shape))
            raise UserError(
                what, f"{by} pixels", f"{shape[0]} x {shape[1]}, as the calibration has",
                "give the calibration of this camera and binning",
            )  # fmt: skip
    clean = np.array(pixels, np.float32, order="C")  # the loops are compiled for this order
    some = clean[::7, ::7]
    some = some[np.isfinite(some)]
    if some.size == 0 or (float(np.ptp(some)) == 0 and float(np.nanstd(clean)) == 0):
        raise NoRings(name, "a blank image", "powder rings", "take another image")
    full = image.saturation if isinstance(image, DiffractionImage) and single else None
    if full is None:
        full = _full(pixels)
    level = float(np.median(some))
    step = np.diff(clean[::9], axis=1)[:, ::5]
    step = np.abs(step[np.isfinite(step)])
    noise = 1.4826 / np.sqrt(2) * float(np.median(step)) if step.size else 0.0
    noise = max(noise, float(np.sqrt(max(level, 0.0))) if pixels.dtype.kind in "ui" else 0.0)
    if noise <= 0:
        noise = max(float(np.nanstd(some)), 1e-30)
    hide_liars(clean, level, noise, full)
    if mask is not None:
        clean[mask] = np.nan
    return clean, name


def _full(pixels: NDArray[np.generic]) -> float:
    """The value at which pixels are full, judged by many of them having the largest one."""
    highest = pixels.max()
    many = int(np.count_nonzero(pixels == highest)) > 20
    return float(highest) if many and pixels.dtype.kind in "ui" else float("inf")


_kept: OrderedDict[tuple[object, ...], NDArray[np.float32]] = OrderedDict()


def _rays(calibration: RingCalibration) -> NDArray[np.float32]:
    """(azimuth, radius, 2): where undistorted circles lie on the detector, from the centre, px.

    Kept for the last few calibrations, since it takes longer than to recentre an image.
    """
    key = (
        calibration.shape, calibration.distortion, calibration.three_fold_per_px,
        calibration.radial_per_mm2, calibration.rot1_rad, calibration.rot2_rad,
        calibration.distance_mm, calibration.pixel_size_mm,
    )  # fmt: skip
    if key not in _kept:
        reach = int(_REACH * max(calibration.shape))
        # half as many azimuths as pixels on the outermost circle: the inner ones have the rings
        sectors = int(np.clip(np.pi * reach / SAMPLES_PER_SECTOR, 64, 256)) // 4 * 4
        azimuth = np.arange(sectors * SAMPLES_PER_SECTOR) * 2 * np.pi
        azimuth /= sectors * SAMPLES_PER_SECTOR
        about = replace(calibration, beam_centre_px=(0.0, 0.0))
        places = np.stack(map_of(about).to_pixel(np.arange(reach), azimuth[:, None]), axis=-1)
        _kept[key] = places.astype(np.float32)
        while len(_kept) > 3:
            _kept.popitem(last=False)
    return _kept[key]


def _start(
    clean: NDArray[np.float32], rays: NDArray[np.float32], known: tuple[float, float], name: str
) -> tuple[tuple[float, float], float]:
    """The calibration's centre or the image's own, and how sharp the rings are about it."""
    factor = max(1, max(clean.shape) // 256)
    starts = [(float(known[0]), float(known[1]))]
    for row, column in inversion_centres(binned(clean, factor)):
        starts.append((factor * (row + 0.5) - 0.5, factor * (column + 0.5) - 0.5))
    sharpness: list[float] = []
    for one in starts:
        sharpness.append(_sharpness(_profile(clean, rays, one, 8)))
        # the first centre of symmetry is nearly always right; others only if it is not sharp
        if len(sharpness) > 1 and max(sharpness) > _CLEAR:
            break
    if not np.any(np.isfinite(sharpness)):
        raise NoRings(name, "no rings", "powder rings", "take another image")
    best = int(np.nanargmax(sharpness))
    return starts[best], sharpness[best]


def _profile(
    clean: NDArray[np.float32], rays: NDArray[np.float32], centre: tuple[float, float], step: int
) -> Floats:
    """(radius, 2): mean and standard error over wide sectors."""
    every = np.arange(rays.shape[1])
    line: Floats = profile(sample(clean, rays, every, *centre, _WIDE, step), 1, *_TRIM)
    return line


def _sharpness(line: Floats) -> float:
    """Curvature of a profile relative to its noise, away from the direct beam."""
    mean, error = line[:, 0], line[:, 1]
    step = 4
    curve = mean[2 * step :] - 2 * mean[step:-step] + mean[: -2 * step]
    noise = error[step:-step] + 1e-12 * np.abs(mean[step:-step])
    ratio = (curve / np.where(noise > 0, noise, np.nan))[len(mean) // 12 :]
    if not np.any(np.isfinite(ratio)):
        return float("nan")
    return float(np.nanmean(np.minimum(np.abs(ratio), 50.0)))


def _windows(line: Floats, rays: NDArray[np.float32], name: str) -> list[_Window]:
    """The rings that stand out of a radial profile (radius, 2), with the radii to use for each."""
    mean = line[:, 0].copy()
    known = np.isfinite(mean)
    if np.count_nonzero(known) < 30:
        raise NoRings(name, "hardly any pixels to use", "powder rings", "check the mask")
    inside = int(np.argmax(known))
    last = len(mean) - int(np.argmax(known[::-1]))
    mean[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), mean[known])
    error = np.interp(np.arange(len(mean)), np.flatnonzero(known), line[known, 1])
    smooth = np.convolve(np.pad(mean, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    peaks, found = find_peaks(smooth, prominence=0, width=1.5, rel_height=0.5)
    far = (peaks > inside + 5) & (peaks < last - 5) & (peaks > max(8, 0.02 * len(mean)))
    strength = found["prominences"] / np.maximum(error[peaks], 1e-30)
    strong = far & (strength > _SIGNIFICANT)
    if not np.any(strong):
        raise NoRings(
            name, "no ring that stands out of the noise", "powder rings",
            "expose longer, or take another image",
        )  # fmt: skip
    peaks, strength = peaks[strong], strength[strong]
    order = np.argsort(-strength)[:_MOST_RINGS]
    peaks, strength = peaks[np.sort(order)], strength[np.sort(order)]
    width = peak_widths(smooth, peaks, rel_height=0.5)[0]
    narrow = _no_edges(smooth, peaks, width)
    if not np.any(narrow):
        raise NoRings(name, "no ring but the edge of a stop", "powder rings", "check the image")
    peaks, width = peaks[narrow], width[narrow]
    windows = []
    for i, peak in enumerate(peaks):
        half = int(np.ceil(np.clip(1.5 * width[i], 5, 0.8 * peak)))
        first, stop = peak - half, peak + half + 1
        if i:
            first = max(first, (peaks[i - 1] + peak) // 2)
        if i + 1 < len(peaks):
            stop = min(stop, (peaks[i + 1] + peak) // 2 + 1)
        first, stop = max(first, inside, 1), min(stop, last, len(mean))
        if stop - first >= 7:
            windows.append(_Window(int(first), int(stop), float(peak)))
    if not windows:
        raise NoRings(name, "rings too narrow to measure", "rings of 2 px and more", "bin less")
    return windows


def _no_edges(smooth: Floats, peaks: NDArray[np.int64], width: Floats) -> NDArray[np.bool_]:
    """Which peaks are rings, not the brim of light around a beam stop.

    A brim is wider than rings, or, where there is nothing to compare with, dark inside.
    """
    if len(peaks) >= 3:
        kept: NDArray[np.bool_] = width < _WIDEST * np.median(width)
        return kept
    inner = np.array([smooth[int(0.3 * peak) : peak].min() for peak in peaks])
    outer = np.array([smooth[peak : int(1.5 * peak) + 1].min() for peak in peaks])
    return inner > 0.5 * outer


@dataclass(frozen=True)
class _Solution:
    """The centre after one pass, and how well it is known.

    `scatter`: of shifts beyond the noise of counts, relative to the width of a ring's window.
    """

    centre: tuple[float, float]
    covariance: Floats = field(default_factory=lambda: np.full((2, 2), np.nan))
    radii_px: Floats = field(default_factory=lambda: np.zeros(0))
    coverage: float = 0.0
    residual_px: float = float("nan")
    scatter: float = 0.0


def _solve(
    clean: NDArray[np.float32],
    rays: NDArray[np.float32],
    windows: list[_Window],
    centre: tuple[float, float],
    inverse: Floats,
    step: int,
    name: str,
) -> _Solution:
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
        mean = profile(polar, 4, *_TRIM)[:, 0]
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
    return _Solution(moved, covariance, np.array(radii), seen, rms, scatter / width)


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


def _check(solution: _Solution, shape: tuple[int, int], name: str) -> None:
    """Refuse a centre that the rings do not tell."""
    sd = float(np.sqrt(np.max(np.diag(solution.covariance))))
    row, column = solution.centre
    if not (-shape[0] < row < 2 * shape[0] and -shape[1] < column < 2 * shape[1]):
        raise NoRings(name, "rings about a point far off the image", "powder rings", "check it")
    if solution.coverage < _LEAST_COVERAGE:
        raise NoRings(
            name, f"rings in {solution.coverage:.0%} of the directions",
            f"at least {_LEAST_COVERAGE:.0%}", "take another image",
        )  # fmt: skip
    if solution.scatter > _LARGEST_SCATTER:
        raise NoRings(
            name, "rings that are not round about any point",
            "concentric rings of the calibration's ellipse", "check image and calibration",
        )  # fmt: skip
    if not sd < _LARGEST_SD_PX:
        raise NoRings(
            name, f"a centre that is uncertain by {sd:.2g} px", f"at most {_LARGEST_SD_PX:g} px",
            "expose longer, or take another image",
        )  # fmt: skip


def _scale(radii_px: Floats, calibration: RingCalibration) -> tuple[float, float]:
    """Radii found over those the calibration expects of its own rings, and its standard error.

    NaN unless three rings and more than half of those found agree on it within 1 %.
    """
    if len(calibration.rings) < 3 or len(radii_px) < 3:
        return float("nan"), float("nan")
    spacing = np.array([ring.d_A for ring in calibration.rings])
    length = calibration.distance_mm / calibration.pixel_size_mm
    expected = length * np.tan(2 * np.arcsin(calibration.wavelength_A / (2 * spacing)))
    ratio = radii_px[:, None] / expected
    nearest = ratio[np.arange(len(ratio)), np.argmin(np.abs(np.log(ratio)), axis=1)]
    middle = np.median(nearest)
    agree = nearest[np.abs(nearest / middle - 1) < 0.01]
    if len(agree) < max(3, len(radii_px) / 2 + 0.5):
        return float("nan"), float("nan")
    return float(np.mean(agree)), float(np.std(agree, ddof=1) / np.sqrt(len(agree)))
