"""What a calibration by an overfocused scan is: the one type that every stage after it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CALIBRATED = "calibrated"
NOT_CALIBRATED = "not calibrated"

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """What the verdict rests on.

    Attributes
    ----------
    anisotropy : how far A is from a rotation (or reflection) times a scale: the difference of
        its singular values over their sum.
    lag_snr : smallest signal-to-noise ratio of the cross-correlation peaks used.
    sharpness : coverage-normalised variance of the superposition, over that expected of noise.
    bootstrap_spread : standard error of the scale (relative) or of the rotation (radians), the
        larger, from scan regions or, if that is more, from the counts.
    predictive_residual_px : r.m.s. movement left in the frames after the fit.
    """

    anisotropy: float = float("nan")
    lag_snr: float = float("nan")
    sharpness: float = float("nan")
    bootstrap_spread: float = float("nan")
    predictive_residual_px: float = float("nan")


@dataclass(frozen=True)
class ScanCalibration:
    """Map between scan and detector; the matrices are canonical, angles are derived from them.

    Attributes
    ----------
    name : of the scan.
    scan_shape, shape : of the scan and of its frames.
    scan_to_detector : A, (2, 2) in detector px per scan px: a point of the specimen that lies at
        scan position s beside the beam appears at ``centre + A s``.
    descan : D, (2, 2) in the same unit: how the aperture moves with the beam.
    centre_px : (row, column) of the aperture at the middle of the scan.
    disc_radius_px : radius of the aperture's image.
    drift_px : (2,) movement of the specimen in detector px from one scan row to the next, 0 if
        not fitted; a drift during the scan that is linear in time acts on G's first column
        otherwise.
    covariance : (8, 8) of A then D, row by row, from the bootstrap.
    overfocused : the sign that was stated: True if the focus lay above the specimen. The other
        sign turns A by 180 degrees.
    quality : what the verdict rests on.
    verdict : "calibrated" or "not calibrated".
    reasons : why not, or what to know, one sentence each.
    """

    name: str
    scan_shape: tuple[int, int]
    shape: tuple[int, int]
    scan_to_detector: Matrix
    descan: Matrix
    centre_px: tuple[float, float]
    disc_radius_px: float
    drift_px: tuple[float, float] = (0.0, 0.0)
    covariance: Matrix = field(default_factory=lambda: np.full((8, 8), np.nan))
    overfocused: bool = True
    quality: Quality = field(default_factory=Quality)
    verdict: str = CALIBRATED
    reasons: tuple[str, ...] = ()
