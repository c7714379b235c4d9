"""Where the direct beam is on a later image: fast, from the symmetry of its powder rings.

The calibration says how circles are distorted, so that every ring becomes straight in polar
coordinates about the right centre; about a wrong one it waves once around. In 128 or more
sectors the mean ring and its derivative along the radius are fitted to what is seen; the
derivative's amplitude is the shift. One robust least squares over all rings and sectors gives
the centre, with a radius for each ring, so that the substance need not be the calibrant.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..formats.image import DiffractionImage
from .calibration import RingCalibration
from .recentre_image import (
    NoRings,
    cleaned,
    first_centre,
    profile_about,
    rays_of,
    sharpness_of,
)
from .recentre_solve import Solution, solve_centre
from .recentre_windows import ring_windows

__all__ = ["NoRings", "Recentred", "recentre"]

Floats = NDArray[np.float64]

_PASSES = 15
_CONVERGED_PX = 0.02  # a step is right to a few per cent, so that this leaves 0.001
_NEAR_PX = 0.5  # a last move from which every azimuth is worth its time
_LOST_PX = 2.0
_FINEST = 2  # every second azimuth: bilinear interpolation sees the pixels between
_AS_SHARP = 0.8
_LEAST_COVERAGE = 0.2
_LARGEST_SD_PX = 1.0
_LARGEST_SCATTER = 0.05  # of the width of a ring's window


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
    rays = rays_of(calibration)
    centre, sharpness = first_centre(clean, rays, start or calibration.beam_centre_px, name)
    windows = ring_windows(profile_about(clean, rays, centre, 4), name)
    inverse: Floats = np.asarray(np.linalg.inv(calibration.distortion.matrix), float)
    solution = Solution(centre)
    step = 4
    for _ in range(_PASSES):
        solution = solve_centre(clean, rays, windows, centre, inverse, step, name)
        moved = float(np.hypot(solution.centre[0] - centre[0], solution.centre[1] - centre[1]))
        centre = solution.centre
        if moved < _CONVERGED_PX and step == _FINEST:
            break
        if moved > _LOST_PX:  # rings are sharper here: look for them again
            windows = ring_windows(profile_about(clean, rays, centre, 4), name)
        elif moved < _NEAR_PX:
            step = _FINEST
    else:
        raise NoRings(
            name, "rings about which no centre holds still", "concentric rings", "check the image"
        )
    _check(solution, calibration.shape, name)
    if not sharpness_of(profile_about(clean, rays, centre, 8)) > _AS_SHARP * sharpness:
        raise NoRings(
            name, "rings that are sharper about another point than about their centre",
            "concentric rings of the calibration's ellipse", "check image and calibration",
        )  # fmt: skip
    scale, scale_sd = _scale(solution.radii_px, calibration)
    return Recentred(
        solution.centre, solution.covariance, "rings", solution.radii_px, scale, scale_sd,
        solution.coverage, solution.residual_px,
    )  # fmt: skip


def _check(solution: Solution, shape: tuple[int, int], name: str) -> None:
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
