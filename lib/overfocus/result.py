"""All that a calibration by an overfocused scan leaves behind, and the numbers people ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stem4d.scan import Scan4D
from .calibration import CALIBRATED, ScanCalibration
from .model import check_parameters, matrices_of_calibration, parameters_of, similarity_of
from .parameters import OverfocusParameters
from .views import Stage, Views

Floats = NDArray[np.float64]


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
    """Standard errors by linear propagation."""
    covariance = np.asarray(calibration.covariance, float)
    a = np.asarray(calibration.scan_to_detector, float)
    descan = np.sqrt(np.abs(np.diag(covariance)[4:])).reshape(2, 2)
    if not (np.isfinite(covariance[:4, :4]).all() and np.isfinite(a).all() and np.linalg.det(a)):
        return Errors(float("nan"), float("nan"), descan)
    step = 1e-6 * np.abs(a).max()
    jacobian = np.empty((2, 4))
    for k in range(4):
        off = np.zeros(4)
        off[k] = step
        above, below = (similarity_of(a + sign * off.reshape(2, 2)) for sign in (1, -1))
        turn = (above.rotation_deg - below.rotation_deg + 180) % 360 - 180
        jacobian[:, k] = turn / (2 * step), (above.scale - below.scale) / (2 * step)
    sd = np.sqrt(np.diag(jacobian @ covariance[:4, :4] @ jacobian.T))
    return Errors(float(sd[0]), float(sd[1] / abs(similarity_of(a).scale)), descan)


def named_parameters(
    scan: Scan4D, calibration: ScanCalibration
) -> tuple[OverfocusParameters | None, tuple[str, ...]]:
    """The paper's parameters of a calibration, and which lengths are lacking for them.

    Raises
    ------
    UserError : the lengths do not go together with the calibration, as in a wrong unit.
    """
    needed: dict[str, Any] = {
        "the distance of scan points": scan.scan_step_nm,
        "the camera length": scan.camera_length_mm,
        "the detector's pixel size": scan.pixel_size_mm,
    }
    lacking = tuple(name for name, value in needed.items() if value is None)
    if lacking or calibration.verdict != CALIBRATED:
        return None, lacking
    step_nm, length_mm, pixel_mm = needed.values()
    found = parameters_of(
        matrices_of_calibration(calibration),
        scan_pixel_size_m=float(np.sqrt(np.prod(step_nm))) * 1e-9,
        camera_length_m=length_mm * 1e-3,
        detector_pixel_size_m=pixel_mm * 1e-3,
        overfocused=calibration.overfocused,
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
