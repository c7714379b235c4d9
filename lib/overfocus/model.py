"""The model's parameters as matrices, and matrices as parameters (Weber et al., Methods).

With ds the scan point counted from the middle of the scan and x a detector pixel,

    specimen point (scan px) = B (x - c - D ds) + ds,
    B = k T,  k = d o / ((o + l) s),  T = R(rotation) F,

R(t) = ((cos t, sin t), (-sin t, cos t)) in the order (y, x), F = diag(-1, 1) if `flip_y`. So the
scan-to-detector matrix is ``A = B^-1`` of scale ``M = s (l + o) / (d o)`` detector px per scan px,
and what the frames show moves by ``G = D - A`` from one scan point to the next. The paper's
``M = s l / (d o)`` leaves out o beside l.

-o with a rotation by 180 degrees more gives the same A but for (l + o)/(l - o): the sign of the
overfocus must be known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from .calibration import ScanCalibration
from .parameters import OverfocusParameters

Floats = NDArray[np.float64]

#: What each length may be on an instrument, in metres. A length in a wrong unit is off by 1000.
PLAUSIBLE_m = {
    "overfocus_m": (1e-8, 1e-3),
    "scan_pixel_size_m": (1e-12, 2e-6),
    "camera_length_m": (1e-3, 100.0),
    "detector_pixel_size_m": (1e-6, 1e-3),
}
#: Detector px per scan px that any scan can be calibrated with, and more.
PLAUSIBLE_SCALE = (1e-3, 1e4)


@dataclass(frozen=True)
class ScanMatrices:
    """The linear map between scan and detector, all in (y, x).

    Attributes
    ----------
    scan_to_detector : A, (2, 2), detector px per scan px.
    descan : D, (2, 2), detector px by which the beam moves per scan px.
    centre_px : (2,) where the beam is at the middle of the scan.
    """

    scan_to_detector: Floats
    descan: Floats
    centre_px: Floats

    @property
    def detector_to_scan(self) -> Floats:
        """B = A^-1, (2, 2), scan px per detector px."""
        return np.asarray(np.linalg.inv(self.scan_to_detector), np.float64)

    @property
    def movement(self) -> Floats:
        """G = D - A, (2, 2): how the specimen's shadow moves on the detector, px per scan px."""
        out: Floats = self.descan - self.scan_to_detector
        return out


@dataclass(frozen=True)
class Similarity:
    """The rotation, flip and scale nearest to a scan-to-detector matrix.

    Attributes
    ----------
    rotation_deg : of the paper's model, in (-180, 180].
    flip_y : whether the handedness differs.
    scale : M, detector px per scan px; negative for underfocus.
    anisotropy : difference of A's singular values over their sum; 0 if A has no shear.
    """

    rotation_deg: float
    flip_y: bool
    scale: float
    anisotropy: float


def rotation(angle_deg: float) -> Floats:
    """R(angle) of the model, (2, 2), on (y, x)."""
    angle = np.deg2rad(angle_deg)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def flip(flip_y: bool) -> Floats:
    """F, (2, 2), on (y, x)."""
    return np.diag([-1.0 if flip_y else 1.0, 1.0])


def scale_of(parameters: OverfocusParameters) -> float:
    """M, detector px per scan px; negative for underfocus."""
    p = parameters
    return (
        p.scan_pixel_size_m
        * (p.camera_length_m + p.overfocus_m)
        / (p.detector_pixel_size_m * p.overfocus_m)
    )


def matrices_of(parameters: OverfocusParameters) -> ScanMatrices:
    """The matrices of a set of parameters.

    Raises
    ------
    UserError : a parameter that no instrument has; see `check_parameters`.
    """
    check_parameters(parameters)
    p = parameters
    turn = flip(p.flip_y) @ rotation(-p.scan_rotation_deg)
    return ScanMatrices(
        scale_of(p) * turn, np.array(p.descan_px, float), np.array([p.cy, p.cx], float)
    )


def matrices_of_calibration(calibration: ScanCalibration) -> ScanMatrices:
    """The matrices that a calibration found."""
    return ScanMatrices(
        np.asarray(calibration.scan_to_detector, float),
        np.asarray(calibration.descan, float),
        np.asarray(calibration.centre_px, float),
    )


def similarity_of(scan_to_detector: ArrayLike, overfocused: bool = True) -> Similarity:
    """The nearest (least squares) rotation, flip and scale of A, (2, 2).

    Parameters
    ----------
    overfocused : the sign of the overfocus, which A does not tell.

    Raises
    ------
    UserError : A is singular or not finite.
    """
    a = _matrix(scan_to_detector)
    sign = 1.0 if overfocused else -1.0
    flip_y = bool(np.linalg.det(a) < 0)
    straight = sign * flip(flip_y) @ a
    along, across = straight[0, 0] + straight[1, 1], straight[1, 0] - straight[0, 1]
    singular = np.linalg.svd(a, compute_uv=False)
    return Similarity(
        rotation_deg=float(np.rad2deg(np.arctan2(across, along))),
        flip_y=flip_y,
        scale=float(sign * 0.5 * np.hypot(along, across)),
        anisotropy=float((singular[0] - singular[1]) / (singular[0] + singular[1])),
    )


def similarity_errors(
    scan_to_detector: ArrayLike, covariance: ArrayLike, overfocused: bool = True
) -> tuple[float, float]:
    """Standard errors of the nearest similarity's rotation, in degrees, and scale, relative.

    Parameters
    ----------
    covariance : (n, n), n >= 4, of A row by row, and of what follows it.
    """
    found = similarity_of(scan_to_detector, overfocused)
    mirror = -1.0 if found.flip_y else 1.0
    # of (F A)'s trace and antisymmetric part, halved, by A's elements
    along = 0.5 * np.array([mirror, 0, 0, 1])
    across = 0.5 * np.array([0, -mirror, 1, 0])
    c, s = np.cos(np.deg2rad(found.rotation_deg)), np.sin(np.deg2rad(found.rotation_deg))
    part = np.asarray(covariance, float)[:4, :4] / found.scale**2
    turn, stretch = c * across - s * along, c * along + s * across
    return float(np.rad2deg(np.sqrt(turn @ part @ turn))), float(np.sqrt(stretch @ part @ stretch))


def parameters_of(
    matrices: ScanMatrices,
    *,
    scan_pixel_size_m: float,
    camera_length_m: float,
    detector_pixel_size_m: float,
    overfocused: bool = True,
) -> OverfocusParameters:
    """The parameters of the similarity nearest to A, with three lengths and a sign given.

    Raises
    ------
    UserError : A is singular or no overfocus gives so small a scale with these lengths.
    """
    found = similarity_of(matrices.scan_to_detector, overfocused)
    image_m = detector_pixel_size_m * found.scale  # of one scan step, on the detector
    if overfocused and image_m <= scan_pixel_size_m:
        raise UserError(
            "scan_to_detector", f"{found.scale:.4g} detector px per scan px",
            f"more than {scan_pixel_size_m / detector_pixel_size_m:.4g}, the shadow without"
            " magnification",
            "check scan_pixel_size_m and detector_pixel_size_m",
        )  # fmt: skip
    descan = np.asarray(matrices.descan, float)
    return OverfocusParameters(
        overfocus_m=scan_pixel_size_m * camera_length_m / (image_m - scan_pixel_size_m),
        scan_pixel_size_m=scan_pixel_size_m,
        camera_length_m=camera_length_m,
        detector_pixel_size_m=detector_pixel_size_m,
        cy=float(matrices.centre_px[0]),
        cx=float(matrices.centre_px[1]),
        scan_rotation_deg=found.rotation_deg,
        flip_y=found.flip_y,
        descan_px=(
            (float(descan[0, 0]), float(descan[0, 1])),
            (float(descan[1, 0]), float(descan[1, 1])),
        ),
    )


def check_parameters(parameters: OverfocusParameters) -> None:
    """Refuse parameters that no instrument has.

    Raises
    ------
    UserError : one that is not finite, a length out of `PLAUSIBLE_m` (millimetres for
        micrometres), an overfocus of zero, or lengths that do not go together.
    """
    for one in fields(parameters):
        value = np.asarray(getattr(parameters, one.name), float)
        if not np.isfinite(value).all():
            raise UserError(
                one.name, str(getattr(parameters, one.name)), "a finite number",
                "give its value, as the scan was recorded",
            )  # fmt: skip
    for name, (low, high) in PLAUSIBLE_m.items():
        value = getattr(parameters, name)
        size = abs(value) if name == "overfocus_m" else value
        if not low <= size <= high:
            raise UserError(
                name, f"{value:g} m", f"{low:g} to {high:g} m",
                "give it in metres (20 um is 2e-5), "
                + ("negative for underfocus" if name == "overfocus_m" else "positive"),
            )  # fmt: skip
    scale = abs(scale_of(parameters))
    if not PLAUSIBLE_SCALE[0] <= scale <= PLAUSIBLE_SCALE[1]:
        lengths = ", ".join(f"{name} {getattr(parameters, name):g}" for name in PLAUSIBLE_m)
        raise UserError(
            "overfocus parameters", f"{scale:.3g} detector px per scan px ({lengths})",
            f"{PLAUSIBLE_SCALE[0]:g} to {PLAUSIBLE_SCALE[1]:g}",
            "one of the four is in a wrong unit; give all in metres",
        )  # fmt: skip


def _matrix(scan_to_detector: ArrayLike) -> Floats:
    a = np.asarray(scan_to_detector, float)
    if a.shape != (2, 2) or not np.isfinite(a).all() or np.linalg.det(a) == 0:
        raise UserError(
            "scan_to_detector", str(a.tolist()), "an invertible 2 x 2 matrix",
            "calibrate the scan first",
        )  # fmt: skip
    return a
