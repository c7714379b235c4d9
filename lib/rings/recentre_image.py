"""An image made ready for recentring: pixels that lie hidden, rays laid out, a first centre."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.image import DiffractionImage
from .calibration import RingCalibration
from .pixel_map import map_of
from .recentre_kernels import SAMPLES_PER_SECTOR, binned, hide_liars, profile, sample
from .symmetry_start import inversion_centres

Floats = NDArray[np.float64]

_REACH = 0.55  # of the longer side of the image, to which rings are looked for
TRIM = (0.1, 0.97)  # quantiles of the azimuths between which a profile is the mean
_CLEAR = 4.0  # sharpness of clear rings about their centre; elsewhere it is 1 to 3
_WIDE = 4 * SAMPLES_PER_SECTOR


class NoRings(UserError, ValueError):
    """No ring that the centre could be found from; also a ValueError."""


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
    if isinstance(image, DiffractionImage):
        name, pixels, full = image.path or image.name, np.asarray(image.pixels), image.saturation
    else:
        name, pixels, full = "image", np.asarray(image), None
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


def rays_of(calibration: RingCalibration) -> NDArray[np.float32]:
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


def first_centre(
    clean: NDArray[np.float32], rays: NDArray[np.float32], known: tuple[float, float], name: str
) -> tuple[tuple[float, float], float]:
    """The calibration's centre or the image's own, and how sharp the rings are about it."""
    factor = max(1, max(clean.shape) // 256)
    starts = [(float(known[0]), float(known[1]))]
    for row, column in inversion_centres(binned(clean, factor)):
        starts.append((factor * (row + 0.5) - 0.5, factor * (column + 0.5) - 0.5))
    sharpness: list[float] = []
    for one in starts:
        sharpness.append(sharpness_of(profile_about(clean, rays, one, 8)))
        # the first centre of symmetry is nearly always right; others only if it is not sharp
        if len(sharpness) > 1 and max(sharpness) > _CLEAR:
            break
    if not np.any(np.isfinite(sharpness)):
        raise NoRings(name, "no rings", "powder rings", "take another image")
    best = int(np.nanargmax(sharpness))
    return starts[best], sharpness[best]


def profile_about(
    clean: NDArray[np.float32], rays: NDArray[np.float32], centre: tuple[float, float], step: int
) -> Floats:
    """(radius, 2): mean and standard error over wide sectors."""
    every = np.arange(rays.shape[1])
    line: Floats = profile(sample(clean, rays, every, *centre, _WIDE, step), 1, *TRIM)
    return line


def sharpness_of(line: Floats) -> float:
    """Curvature of a profile relative to its noise, away from the direct beam."""
    mean, error = line[:, 0], line[:, 1]
    step = 4
    curve = mean[2 * step :] - 2 * mean[step:-step] + mean[: -2 * step]
    noise = error[step:-step] + 1e-12 * np.abs(mean[step:-step])
    ratio = (curve / np.where(noise > 0, noise, np.nan))[len(mean) // 12 :]
    if not np.any(np.isfinite(ratio)):
        return float("nan")
    return float(np.nanmean(np.minimum(np.abs(ratio), 50.0)))
