"""Calibration by powder rings: from images to a geometry, and whether it is to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.image import DiffractionImage
from .assignment import Assignment, Peaks, best_scales, find_rings
from .background import Mask
from .calibrant import Calibrant
from .calibration import RingCalibration
from .centre_start import RoundStart, find_round_start
from .config import RingConfig
from .joint_fit import RADIAL, STRETCH, THREE_FOLD, TILT, fit_jointly
from .masking import find_mask
from .outcome import Fitted, outcome
from .pixel_map import PixelMap
from .ring_points import RingPoints, joined, measure_rings
from .verdict import Stated

Floats = NDArray[np.float64]

# Measuring and fitting in turn, until the rings are straight under the map they are measured with.
ROUNDS = 3
# A term that is fitted "if seen" is kept beyond so many standard deviations.
SEEN_SIGMA = 4.5


@dataclass(frozen=True)
class RingFit:
    """A calibration with what it rests on, for plots.

    Attributes
    ----------
    calibrations : one for each image.
    points : on all rings of all images.
    good : for each image, (rows, columns) bool: the pixels that were used.
    starts : for each image, the profile by which rings were recognised.
    peaks : for each image, the rings seen in it.
    """

    calibrations: tuple[RingCalibration, ...]
    points: RingPoints
    good: tuple[Mask, ...]
    starts: tuple[RoundStart, ...]
    peaks: tuple[Peaks, ...]


@dataclass(frozen=True)
class _View:
    """One image as it enters the fit."""

    image: DiffractionImage
    counts: NDArray[np.float32]
    good: Mask
    start: RoundStart
    peaks: Peaks
    stated: Stated | None
    scales: tuple[Assignment, ...]


def calibrate_rings(
    images: Sequence[DiffractionImage],
    calibrant: Calibrant,
    config: RingConfig | None = None,
    start: RingCalibration | None = None,
) -> RingCalibration:
    """The calibration of the first image; see `fit_rings`."""
    return fit_rings(images, calibrant, config, start).calibrations[0]


def fit_rings(
    images: Sequence[DiffractionImage],
    calibrant: Calibrant,
    config: RingConfig | None = None,
    start: RingCalibration | None = None,
) -> RingFit:
    """Geometry from powder rings, with a verdict for each image.

    Parameters
    ----------
    images : of one calibrant on one camera; each has its own beam centre and camera length, tilt
        and distortions are common. Images of two camera lengths tell tilt from ellipse.
    calibrant : its spacings are taken as true.
    config : choices, and what the files do not state.
    start : an earlier calibration; its distance is a start for the first image, and a check.

    Raises
    ------
    UserError : nothing can be fitted: no images, no wavelength or pixel size, different shapes, an
        image without contrast, no rings. Whatever could be fitted but not be trusted is returned,
        "not calibrated", with its reasons.
    """
    config = config or RingConfig()
    _check(images, config)
    wavelength, pixel = _known(images, config)
    sine = wavelength / (2 * calibrant.d_A)
    possible = sine < 0.7
    tangent = np.tan(2 * np.arcsin(np.where(possible, sine, 0.7)))
    strength = np.where(possible, calibrant.intensity / tangent, 0.0)
    views = [
        _view(image, calibrant, config, wavelength, pixel, start if i == 0 else None)
        for i, image in enumerate(images)
    ]
    maps = [_first_map(view, config) for view in views]
    in_range = _in_range(calibrant, config)
    shared = _shared(config)
    widths = [view.peaks.fwhm_px / 2.355 for view in views]
    for turn in range(ROUNDS):
        points, widths = _measure(views, maps, tangent, strength, widths, in_range)
        if turn >= 1 and config.three_fold == "if seen" and THREE_FOLD[0] not in shared:
            shared = _with_three_fold(points, maps, tangent, shared, config)
        fit = fit_jointly(points, maps, tangent, shared, config.heights_um)
        maps = list(fit.maps)
    calibrations = tuple(
        outcome(
            Fitted(i, view.image, view.counts, view.good, view.stated, view.scales, fit),
            calibrant, tangent, config, (wavelength, pixel),
        )
        for i, view in enumerate(views)
    )  # fmt: skip
    return RingFit(
        calibrations,
        fit.points,
        tuple(view.good for view in views),
        tuple(view.start for view in views),
        tuple(view.peaks for view in views),
    )


def _check(images: Sequence[DiffractionImage], config: RingConfig) -> None:
    if not images:
        raise UserError("images", "none", "at least one image of rings", "name an image")
    for image in images[1:]:
        if image.shape != images[0].shape:
            raise UserError(
                image.name, f"{image.shape[0]} x {image.shape[1]} pixels",
                f"{images[0].shape[0]} x {images[0].shape[1]}, as in {images[0].name}",
                "calibrate images of different shape one by one",
            )  # fmt: skip
    n = len(config.heights_um)
    if n and (n != len(images) or len(set(config.heights_um)) < 2):
        raise UserError(
            "heights_um", f"{n} heights, {len(set(config.heights_um))} different",
            f"one for each of {len(images)} images, at least two different",
            "state all heights, or none",
        )  # fmt: skip


def _known(images: Sequence[DiffractionImage], config: RingConfig) -> tuple[float, float]:
    """Wavelength in Å and pixel size in mm, from the config or as all files state them."""
    known = []
    for name, given, unit in (
        ("wavelength_A", config.wavelength_A, "the accelerating voltage"),
        ("pixel_size_mm", config.pixel_size_mm, "the edge of a pixel"),
    ):
        stated = {getattr(image, name) for image in images}
        if given is None and (len(stated) > 1 or None in stated):
            found = "none" if stated == {None} else " and ".join(str(v) for v in stated)
            raise UserError(
                images[0].name, f"{name}: {found}", f"{unit}, the same in all images",
                f"state {name}",
            )  # fmt: skip
        known.append(given if given is not None else float(stated.pop()))
    return known[0], known[1]


def _view(
    image: DiffractionImage,
    calibrant: Calibrant,
    config: RingConfig,
    wavelength: float,
    pixel: float,
    start: RingCalibration | None,
) -> _View:
    """Mask, centre, rings and scale of one image."""
    counts = np.nan_to_num(np.asarray(image.pixels, np.float32), nan=0, posinf=0, neginf=0)
    mask = find_mask(image.pixels, config.saturation or image.saturation)
    used = counts[mask.good]
    if used.size < 0.2 * counts.size or np.ptp(used) == 0:
        raise UserError(
            image.name, f"{used.size / counts.size:.0%} of its pixels usable, no contrast in them",
            "rings of a powder", "check the image",
        )  # fmt: skip
    round_start = find_round_start(counts, mask.good)
    peaks = find_rings(round_start)
    if len(peaks.radius_px) == 0:
        raise UserError(
            image.name, "no ring that stands out from the background", "rings of a powder",
            "check the image; expose longer, or take a denser powder",
        )  # fmt: skip
    stated = _stated(image, config, wavelength, pixel, start)
    anywhere = best_scales(peaks, calibrant, wavelength, (1.0, math.inf))
    if not anywhere:
        raise UserError(
            image.name, "no ring where the calibrant could have one", "rings of a powder",
            "check the calibrant",
        )  # fmt: skip
    near = anywhere
    if stated is not None:
        limits = [stated.distance_px * (1 + s * config.tolerance) for s in (-1, 1)]
        near = best_scales(peaks, calibrant, wavelength, (limits[0], limits[1]))
        if not near or near[0].score < 0.8 * anywhere[0].score:
            near = anywhere
    return _View(image, counts, mask.good, round_start, peaks, stated, tuple(near))


def _stated(
    image: DiffractionImage,
    config: RingConfig,
    wavelength: float,
    pixel: float,
    start: RingCalibration | None,
) -> Stated | None:
    """The distance to begin from and check with, in pixels, and who says so."""
    if start is not None:
        if start.shape != image.shape:
            raise UserError(
                image.name, f"{image.shape[0]} x {image.shape[1]} pixels",
                f"{start.shape[0]} x {start.shape[1]}, as the start {start.name} is for",
                "start from a calibration of this camera",
            )  # fmt: skip
        # what rings measure is the distance times the wavelength
        length = start.distance_mm * start.wavelength_A / wavelength
        return Stated(length / pixel, f"the calibration {start.name}")
    if not config.use_stated_scale:
        return None
    if config.camera_length_mm is not None:
        return Stated(config.camera_length_mm / pixel, "the camera length given")
    if image.per_A_per_px is not None:
        return Stated(1 / (wavelength * image.per_A_per_px), "the file's scale")
    if image.camera_length_mm is not None:
        return Stated(image.camera_length_mm / pixel, "the file's camera length")
    return None


def _first_map(view: _View, config: RingConfig) -> PixelMap:
    stretch = view.start.stretch
    if config.known_distortion is not None:
        ratio, azimuth = config.known_distortion
        size, turn = math.log(ratio) / 2, 2 * math.radians(azimuth)
        stretch = (size * math.cos(turn), size * math.sin(turn))
    elif not config.ellipse:
        stretch = (0.0, 0.0)
    return PixelMap(view.start.centre_px, view.scales[0].distance_px, stretch)


def _in_range(calibrant: Calibrant, config: RingConfig) -> NDArray[np.bool_]:
    d = calibrant.d_A
    chosen: NDArray[np.bool_] = (d <= (config.d_max_A or math.inf)) & (d >= (config.d_min_A or 0))
    if not np.any(chosen):
        raise UserError(
            "d_min_A and d_max_A", "no ring between them", f"some of {calibrant.name}", "widen them"
        )
    return chosen


def _shared(config: RingConfig) -> tuple[str, ...]:
    names: tuple[str, ...] = ()
    if config.ellipse and config.known_distortion is None:
        names += STRETCH
    if config.tilt:
        names += TILT
    if config.three_fold == "fit":
        names += THREE_FOLD
    if config.radial:
        names += RADIAL
    return names


def _measure(
    views: Sequence[_View],
    maps: Sequence[PixelMap],
    tangent: Floats,
    strength: Floats,
    widths: Sequence[float],
    in_range: NDArray[np.bool_],
) -> tuple[RingPoints, list[float]]:
    """Points on the rings of all images, and the usual width of a ring in each."""
    parts, new = [], []
    for i, (view, map_, width) in enumerate(zip(views, maps, widths, strict=True)):
        measured = measure_rings(view.counts, view.good, map_, tangent, strength, width)
        points = measured.points
        here = in_range[points.ring]
        points = RingPoints(*[getattr(points, n)[here] for n in RingPoints.__dataclass_fields__])
        if len(points.ring) < 12:
            raise UserError(
                view.image.name, "no ring that can be followed around the centre",
                "rings of the calibrant", "check the calibrant; expose longer",
            )  # fmt: skip
        parts.append(replace(points, image=np.full(len(points.ring), i)))
        clear = [s for s in measured.seen if s.sigma > 20] or list(measured.seen)
        new.append(float(np.median([s.width_px for s in clear])))
    return joined(parts), new


def _with_three_fold(
    points: RingPoints,
    maps: Sequence[PixelMap],
    tangent: Floats,
    shared: tuple[str, ...],
    config: RingConfig,
) -> tuple[str, ...]:
    """`shared` with the three-fold distortion, if it is there."""
    fit = fit_jointly(points, maps, tangent, (*shared, *THREE_FOLD), config.heights_um)
    index = [fit.names.index(name) for name in THREE_FOLD]
    value = np.asarray(fit.maps[0].three_fold_per_px)
    ratio = value @ np.linalg.solve(fit.covariance[np.ix_(index, index)], value)
    return (*shared, *THREE_FOLD) if ratio > SEEN_SIGMA**2 else shared


__all__ = ["RingFit", "RingPoints", "calibrate_rings", "fit_rings"]
