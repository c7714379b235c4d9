"""Calibration by powder rings: from images to a geometry, and whether it is to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.image import DiffractionImage
from .assignment import Assignment, Peaks, best_scales, find_rings
from .background import Mask
from .calibrant import Calibrant
from .calibration import Ring, RingCalibration
from .centre_start import RoundStart, find_round_start
from .config import RingConfig
from .joint_fit import HEIGHT, RADIAL, STRETCH, THREE_FOLD, TILT, JointFit, fit_jointly
from .masking import find_mask
from .pixel_map import PixelMap, map_of
from .ring_points import RingPoints, joined, measure_rings
from .verdict import Stated, judge

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
    elsewhere: Assignment | None


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
    drift = None if config.tilt else _tilt_hint(fit, tangent)
    calibrations = tuple(
        _calibration(i, view, fit, calibrant, config, (wavelength, pixel), drift)
        for i, view in enumerate(views)
    )
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
    return _View(image, counts, mask.good, round_start, peaks, stated, tuple(near), anywhere[0])


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


def _tilt_hint(fit: JointFit, tangent: Floats) -> float | None:
    """By how much the outermost ring leaves the centre of the others, px; None if it does not.

    Tilt shifts rings by ``rho^2 tilt / L``: a linear fit of that to what is left over, beside all
    that centre, distance and ellipse could take up.
    """
    p = fit.points
    used = p.used & (p.image == 0)
    if len(np.unique(p.ring[used])) < 3:
        return None
    rho = fit.maps[0].distance_px * tangent[p.ring[used]]
    rho /= rho.max()
    a = np.radians(p.azimuth_deg[used])
    columns = np.stack(
        [rho**2 * np.cos(a), rho**2 * np.sin(a), np.cos(a), np.sin(a), rho,
         rho * np.cos(2 * a), rho * np.sin(2 * a)], axis=1
    ) / p.sigma_px[used, None]  # fmt: skip
    covariance = np.linalg.pinv(columns.T @ columns)
    shift = (covariance @ (columns.T @ (p.residual_px[used] / p.sigma_px[used])))[:2]
    variance = covariance[:2, :2] * max(fit.chi2, 1.0)
    if shift @ np.linalg.solve(variance, shift) < SEEN_SIGMA**2:
        return None
    return float(np.hypot(*shift))


def _calibration(
    i: int,
    view: _View,
    fit: JointFit,
    calibrant: Calibrant,
    config: RingConfig,
    known: tuple[float, float],
    drift: float | None,
) -> RingCalibration:
    """What the fit says of image `i`, judged."""
    wavelength, pixel = known
    m = fit.maps[i]
    names, covariance = _outward(i, fit, pixel)
    plain = RingCalibration(
        name=view.image.name,
        shape=view.image.shape,
        calibrant=calibrant.name,
        wavelength_A=wavelength,
        pixel_size_mm=pixel,
        distance_mm=m.distance_px * pixel,
        beam_centre_px=m.centre_px,
        distortion=m.distortion,
        three_fold_per_px=m.three_fold_per_px,
        radial_per_mm2=m.radial_per_px2 / pixel**2,
        rot1_rad=m.rot1_rad,
        rot2_rad=m.rot2_rad,
        parameters=names,
        covariance=covariance,
        rings=_rings(i, view, fit, calibrant),
        background_level=float(np.median(view.counts[view.good])),
        camera_length_mm=view.image.camera_length_mm or config.camera_length_mm,
        height_um=config.heights_um[0] if config.heights_um else None,
        height_per_um=fit.height_per_um,
    )
    verdict, reasons = judge(
        plain, view.scales, view.elsewhere, view.stated, config, drift, _lengths(fit)
    )
    return replace(plain, verdict=verdict, reasons=reasons)


def _lengths(fit: JointFit) -> int:
    """How many different camera lengths were fitted together."""
    distances = sorted(m.distance_px for m in fit.maps)
    return 1 + sum(b > 1.15 * a for a, b in pairwise(distances))


def _rings(i: int, view: _View, fit: JointFit, calibrant: Calibrant) -> tuple[Ring, ...]:
    rings = []
    p = fit.points
    for k in np.unique(p.ring[p.image == i]):
        here = (p.image == i) & (p.ring == k)
        used = here & p.used
        if not np.any(used):
            continue
        rest, weight = p.residual_px[used], p.sigma_px[used] ** -2.0
        azimuths = np.unique(np.floor(p.azimuth_deg[used] / 12))
        h, k_, l_ = (int(v) for v in calibrant.hkl[k])
        rings.append(
            Ring(
                (h, k_, l_),
                float(calibrant.d_A[k]),
                int(np.count_nonzero(used)),
                int(np.count_nonzero(here & ~p.used)),
                len(azimuths) / 30,
                float(np.sqrt(np.mean(rest**2))),
                float(np.sum(weight * rest) / np.sum(weight)),
            )
        )
    return tuple(rings)


def _outward(i: int, fit: JointFit, pixel: float) -> tuple[tuple[str, ...], Floats]:
    """Names and covariance in the terms of a `RingCalibration`."""
    m = fit.maps[i]
    own = f":{i}" if f"log_distance:{i}" in fit.names else ":0"
    a, b = m.stretch
    size = max(math.hypot(a, b), 1e-9)
    ratio = math.exp(2 * size)
    half = math.degrees(0.5) / size**2
    rows: list[tuple[str, dict[str, float]]] = [
        ("beam_row_px", {f"row_px:{i}": 1.0}),
        ("beam_column_px", {f"column_px:{i}": 1.0}),
        ("distance_mm", {f"log_distance{own}": m.distance_px * pixel}),
        ("ratio", {"stretch_a": 2 * ratio * a / size, "stretch_b": 2 * ratio * b / size}),
        ("azimuth_deg", {"stretch_a": -b * half, "stretch_b": a * half}),
        *[(name, {name: 1.0}) for name in (*TILT, *THREE_FOLD)],
        ("radial_per_mm2", {RADIAL[0]: pixel**-2}),
        (HEIGHT[0], {HEIGHT[0]: 1.0}),
    ]
    rows = [row for row in rows if next(iter(row[1])) in fit.names]
    matrix = np.zeros((len(rows), len(fit.names)))
    for r, (_, parts) in enumerate(rows):
        for name, value in parts.items():
            matrix[r, fit.names.index(name)] = value
    return tuple(name for name, _ in rows), matrix @ fit.covariance @ matrix.T


__all__ = ["RingFit", "RingPoints", "calibrate_rings", "fit_rings", "map_of"]
