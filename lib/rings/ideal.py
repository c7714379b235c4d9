"""What is left of a calibration for those who know neither tilt nor three-fold distortion."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import EllipticalDistortion
from .calibration import RingCalibration

Floats = NDArray[np.float64]


def to_ideal(calibration: RingCalibration, row: ArrayLike, column: ArrayLike) -> Floats:
    """(row, column) without distortion and tilt, (..., 2) px, of detector positions in px.

    The ideal detector is normal to the beam, has the same pixels and beam centre, and is
    `distance_mm` away along the beam.
    """
    from .pixel_map import map_of  # compiles

    rho, azimuth = map_of(calibration).to_ideal(row, column)
    ideal = rho[..., None] * np.stack([np.sin(azimuth), np.cos(azimuth)], axis=-1)
    return np.asarray(calibration.beam_centre_px) + ideal


def from_ideal(calibration: RingCalibration, row: ArrayLike, column: ArrayLike) -> Floats:
    """(row, column) on the detector, (..., 2) px; undoes `to_ideal`."""
    from .pixel_map import map_of

    y = np.asarray(row, float) - calibration.beam_centre_px[0]
    x = np.asarray(column, float) - calibration.beam_centre_px[1]
    return np.stack(map_of(calibration).to_pixel(np.hypot(y, x), np.arctan2(y, x)), axis=-1)


def is_plain(calibration: RingCalibration) -> bool:
    """Whether centre, camera length, ellipse and radial term say all of it."""
    return not any((*calibration.three_fold_per_px, calibration.rot1_rad, calibration.rot2_rad))


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
    ahead = from_ideal(calibration, [row, row + 1], [column + 1, column])
    behind = from_ideal(calibration, [row, row - 1], [column - 1, column])
    # columns: how x and y on the detector change along ideal x and y
    linear = ((ahead - behind) / 2)[:, ::-1].T
    stretch = float(np.sqrt(np.linalg.det(linear)))
    told = EllipticalDistortion.from_matrix(linear)
    rows, columns = calibration.shape
    edge = np.stack(np.meshgrid(np.linspace(0, rows - 1, 9), np.linspace(0, columns - 1, 9)), -1)
    ideal = to_ideal(calibration, edge[..., 0], edge[..., 1])
    xy = (ideal - calibration.beam_centre_px)[..., ::-1] * stretch
    radial = calibration.radial_per_mm2 * calibration.pixel_size_mm**2
    xy = xy * (1 + radial * np.sum(xy * xy, axis=-1, keepdims=True))
    put = np.asarray(calibration.beam_centre_px) + (xy @ told.matrix.T)[..., ::-1]
    left = float(np.max(np.linalg.norm(put - edge, axis=-1)))
    return calibration.distance_mm * stretch, told, left
