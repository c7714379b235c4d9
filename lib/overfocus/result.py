"""All that a calibration by an overfocused scan leaves behind, and the numbers people ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stem4d.scan import Scan4D
from .calibration import CALIBRATED, ScanCalibration
from .model import (
    check_parameters,
    matrices_of_calibration,
    parameters_of,
    similarity_of,
)
from .parameters import OverfocusParameters
from .views import Stage, Views

Floats = NDArray[np.float64]

_IN_WORDS = {
    "scan_pixel_size_m": "the distance of scan points",
    "camera_length_m": "the camera length",
    "detector_pixel_size_m": "the detector's pixel size",
}


@dataclass(frozen=True)
class PublishedSearch:
    """What the published method found on the same scan.

    Attributes
    ----------
    start, end : before and after.
    blur : of the superposition at the end.
    path : (evaluations, 3) rotation in degrees, overfocus in metres, blur.
    at_bound : the end lies at the border of what was searched.
    starts : how many starts were tried.
    stage : the control images at the end.
    """

    start: OverfocusParameters
    end: OverfocusParameters
    blur: float
    path: Floats
    at_bound: bool
    starts: int
    stage: Stage


@dataclass(frozen=True)
class OverfocusResult:
    """A calibration, with what it rests on.

    Attributes
    ----------
    calibration : the result.
    parameters : the same in the paper's parameters; None if lengths of the microscope are unknown
        or there is no calibration.
    lacking : the lengths that are unknown.
    twin_difference : of the matrices from those of TemGym's rays, relative; NaN if not compared.
    views : images.
    published : what the published method found; None if not asked for.
    """

    calibration: ScanCalibration
    parameters: OverfocusParameters | None
    lacking: tuple[str, ...]
    twin_difference: float
    views: Views
    published: PublishedSearch | None = None


@dataclass(frozen=True)
class Errors:
    """Standard errors of the derived numbers, from the covariance of A and D; NaN if unknown.

    Attributes
    ----------
    rotation_deg : of the rotation.
    scale : of the scale, relative.
    descan_px : (2, 2) of D.
    """

    rotation_deg: float
    scale: float
    descan_px: Floats


def errors_of(calibration: ScanCalibration) -> Errors:
    """Standard errors by linear propagation; NaN where A or its covariance is not known."""
    covariance = np.asarray(calibration.covariance, float)
    descan = np.sqrt(np.abs(np.diag(covariance)[4:])).reshape(2, 2)
    if not np.isfinite(calibration.scan_to_detector).all():
        return Errors(float("nan"), float("nan"), descan)
    found = similarity_of(calibration.scan_to_detector, calibration.overfocused)
    mirror = -1.0 if found.flip_y else 1.0
    # of the trace and antisymmetric part of F A, halved, by A's elements
    along, across = 0.5 * np.array([mirror, 0, 0, 1]), 0.5 * np.array([0, -mirror, 1, 0])
    turn = np.deg2rad(found.rotation_deg)
    c, s = np.cos(turn), np.sin(turn)
    rotation, scale = (
        float(np.sqrt(row @ covariance[:4, :4] @ row)) / abs(found.scale)
        for row in (c * across - s * along, c * along + s * across)
    )
    return Errors(float(np.rad2deg(rotation)), scale, descan)


def lengths_m(scan: Scan4D) -> dict[str, float | None]:
    """The three lengths that overfocus needs, in metres, by the names of `OverfocusParameters`."""
    step, length, pixel = scan.scan_step_nm, scan.camera_length_mm, scan.pixel_size_mm
    return {
        "scan_pixel_size_m": None if step is None else float(np.sqrt(step[0] * step[1])) * 1e-9,
        "camera_length_m": None if length is None else length * 1e-3,
        "detector_pixel_size_m": None if pixel is None else pixel * 1e-3,
    }


def named_parameters(
    scan: Scan4D, calibration: ScanCalibration
) -> tuple[OverfocusParameters | None, tuple[str, ...]]:
    """The paper's parameters of a calibration, and which lengths are lacking for them.

    Raises
    ------
    UserError : the lengths do not go together with the calibration, as in a wrong unit.
    """
    lengths = lengths_m(scan)
    known = {name: value for name, value in lengths.items() if value is not None}
    lacking = tuple(_IN_WORDS[name] for name in lengths if name not in known)
    if lacking or calibration.verdict != CALIBRATED:
        return None, lacking
    found = parameters_of(
        matrices_of_calibration(calibration), overfocused=calibration.overfocused, **known
    )
    check_parameters(found)
    return found, ()


def figures_of(result: OverfocusResult) -> dict[str, Any]:
    """The few numbers that stand for a calibration in a table; None where there is none."""
    calibration, errors = result.calibration, errors_of(result.calibration)
    quality = calibration.quality
    numbers: dict[str, Any] = {"verdict": calibration.verdict}
    if calibration.verdict == CALIBRATED:
        found = similarity_of(calibration.scan_to_detector, calibration.overfocused)
        numbers |= {
            "scan_rotation_deg": found.rotation_deg,
            "scan_rotation_sd_deg": errors.rotation_deg,
            "flip_y": found.flip_y,
            "scale_px": found.scale,
            "scale_sd": errors.scale,
            "descan_px": np.asarray(calibration.descan, float).tolist(),
        }
        if result.parameters is not None:
            numbers["overfocus_um"] = result.parameters.overfocus_m * 1e6
    numbers |= {
        "anisotropy": quality.anisotropy,
        "lag_snr": quality.lag_snr,
        "sharpness": quality.sharpness,
        "bootstrap_spread": quality.bootstrap_spread,
        "twin_difference": result.twin_difference,
    }
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in numbers.items()
    }
