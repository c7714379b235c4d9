"""Where a pixel would be without what calibration by rings found: lens distortion and tilt.

In order from the specimen on: the lens moves an ideal point at radius r (of the camera length of
the beam's own path) to ``r + radial r^3 + r^2 (c cos 3a + s sin 3a)``, then stretches it by the
ellipse; the ray so bent meets a detector that may be tilted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import EllipticalDistortion
from .calibration import RingCalibration

Floats = NDArray[np.float64]


def beam_length_mm(calibration: RingCalibration) -> float:
    """Camera length along the direct beam: that of a detector without tilt, mm."""
    tilt = np.cos(calibration.rot1_rad) * np.cos(calibration.rot2_rad)
    return float(calibration.distance_mm / tilt)


def is_plain(calibration: RingCalibration) -> bool:
    """Whether centre, camera length, ellipse and radial term say all of it."""
    return not any((*calibration.three_fold_per_px, calibration.rot1_rad, calibration.rot2_rad))


def to_ideal(calibration: RingCalibration, row: ArrayLike, column: ArrayLike) -> Floats:
    """(row, column) without distortion and tilt, (..., 2) px, of detector positions in px.

    The ideal detector is normal to the beam, has the same pixels and beam centre, and is
    `beam_length_mm` away.
    """
    rc = np.stack(np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float)), -1)
    centre = np.asarray(calibration.beam_centre_px)
    xy = _without_tilt(calibration, rc - centre)[..., ::-1]
    xy = xy @ np.linalg.inv(calibration.distortion.matrix).T
    found: Floats = centre + (xy * _shrunk(calibration, xy)[..., None])[..., ::-1]
    return found


def from_ideal(calibration: RingCalibration, row: ArrayLike, column: ArrayLike) -> Floats:
    """(row, column) on the detector, (..., 2) px, of positions without distortion and tilt."""
    rc = np.stack(np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float)), -1)
    centre = np.asarray(calibration.beam_centre_px)
    xy = (rc - centre)[..., ::-1]
    r = np.hypot(xy[..., 0], xy[..., 1])
    radial, fold = _radial_px(calibration), _three_fold(calibration, xy)
    xy = (xy * (1 + radial * r * r + fold * r)[..., None]) @ calibration.distortion.matrix.T
    found: Floats = centre + _with_tilt(calibration, xy[..., ::-1])
    return found


def effective(calibration: RingCalibration) -> tuple[float, EllipticalDistortion, float]:
    """What a geometry without tilt and three-fold term should be told.

    A tilt stretches the pattern along one direction: to first order about the beam that is an
    ellipse and a camera length.

    Returns
    -------
    Camera length in mm, ellipse, and the largest distance in px, anywhere on the detector, between
    where these put a ray and where it is.
    """
    if is_plain(calibration):
        return calibration.distance_mm, calibration.distortion, 0.0
    row, column = calibration.beam_centre_px
    step = 1.0
    ahead = from_ideal(calibration, [row, row + step], [column + step, column])
    behind = from_ideal(calibration, [row, row - step], [column - step, column])
    # columns: how x and y on the detector change along ideal x and y
    linear = ((ahead - behind) / (2 * step))[:, ::-1].T
    stretch = float(np.sqrt(np.linalg.det(linear)))
    told = EllipticalDistortion.from_matrix(linear)
    rows, columns = calibration.shape
    edge = np.stack(np.meshgrid(np.linspace(0, rows - 1, 9), np.linspace(0, columns - 1, 9)), -1)
    ideal = to_ideal(calibration, edge[..., 0], edge[..., 1])
    xy = (ideal - calibration.beam_centre_px)[..., ::-1] * stretch
    radial = _radial_px(calibration) / stretch**2
    xy = xy * (1 + radial * np.sum(xy * xy, axis=-1, keepdims=True))
    put = np.asarray(calibration.beam_centre_px) + (xy @ told.matrix.T)[..., ::-1]
    left = float(np.max(np.linalg.norm(put - edge, axis=-1)))
    return beam_length_mm(calibration) * stretch, told, left


def _radial_px(calibration: RingCalibration) -> float:
    """Radial distortion per px^2."""
    return calibration.radial_per_mm2 * calibration.pixel_size_mm**2


def _three_fold(calibration: RingCalibration, xy: Floats) -> Floats:
    """c cos 3a + s sin 3a of positions, per px."""
    c, s = calibration.three_fold_per_px
    cubed = (xy[..., 0] + 1j * xy[..., 1]) ** 3
    size = np.maximum(np.abs(cubed), 1e-300)
    fold: Floats = (c * cubed.real + s * cubed.imag) / size
    return fold


def _shrunk(calibration: RingCalibration, xy: Floats) -> Floats:
    """Ideal over observed radius of positions without ellipse, by Newton's method."""
    radial, fold = _radial_px(calibration), _three_fold(calibration, xy)
    observed = np.hypot(xy[..., 0], xy[..., 1])
    factor = np.ones_like(observed)
    a, b = fold * observed, radial * observed**2
    for _ in range(8):
        factor = factor - (factor + a * factor**2 + b * factor**3 - 1) / (
            1 + 2 * a * factor + 3 * b * factor**2
        )
    return factor


def _rotation(calibration: RingCalibration) -> Floats:
    """From the detector (rows, columns, normal) to the laboratory, as pyFAI has it.

    rot1 and rot2 are left-handed about the vertical and horizontal axis (pyFAI, "Geometry").
    """
    c1, s1 = np.cos(calibration.rot1_rad), np.sin(calibration.rot1_rad)
    c2, s2 = np.cos(calibration.rot2_rad), np.sin(calibration.rot2_rad)
    first = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
    second = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
    return np.asarray(second @ first)


def _beam_on_detector(calibration: RingCalibration, to_detector: Floats) -> Floats:
    """(2,) where the direct beam meets the detector, mm from the foot of its normal."""
    beam = to_detector @ np.array([0.0, 0.0, 1.0])
    return np.asarray(beam[:2] / beam[2] * calibration.distance_mm)


def _with_tilt(calibration: RingCalibration, offset: Floats) -> Floats:
    """(row, column) about the beam on the tilted detector, of those on the ideal one, px."""
    if not (calibration.rot1_rad or calibration.rot2_rad):
        return offset
    p, length = calibration.pixel_size_mm, beam_length_mm(calibration)
    to_detector = _rotation(calibration).T
    ray = np.concatenate([offset * p, np.full((*offset.shape[:-1], 1), length)], axis=-1)
    on = ray @ to_detector.T
    place = on[..., :2] / on[..., 2:] * calibration.distance_mm
    return np.asarray((place - _beam_on_detector(calibration, to_detector)) / p)


def _without_tilt(calibration: RingCalibration, offset: Floats) -> Floats:
    """(row, column) about the beam on the ideal detector, of those on the tilted one, px."""
    if not (calibration.rot1_rad or calibration.rot2_rad):
        return offset
    p, length = calibration.pixel_size_mm, beam_length_mm(calibration)
    rotation = _rotation(calibration)
    place = offset * p + _beam_on_detector(calibration, rotation.T)
    depth = np.full((*offset.shape[:-1], 1), calibration.distance_mm)
    ray = np.concatenate([place, depth], axis=-1) @ rotation.T
    return np.asarray(ray[..., :2] / ray[..., 2:] * length / p)
