"""What a calibration by powder rings is: the one type that every stage after it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..geometry import EllipticalDistortion

CALIBRATED = "calibrated"
NOT_CALIBRATED = "not calibrated"


@dataclass(frozen=True)
class Ring:
    """How one ring of the calibrant agrees with the calibration.

    Attributes
    ----------
    hkl, d_A : of the calibrant.
    n_points : points on it that were used.
    n_rejected : points that were left out as outliers.
    coverage : part of the azimuths where it was seen, 0 to 1.
    residual_px : r.m.s. of observed minus calculated radius.
    mean_px : its mean, which tells a wrong spacing from a wrong centre.
    """

    hkl: tuple[int, int, int]
    d_A: float
    n_points: int
    n_rejected: int
    coverage: float
    residual_px: float
    mean_px: float


@dataclass(frozen=True)
class RingCalibration:
    """Geometry of a detector from one or more images of powder rings.

    Without tilt the detector is normal to the beam and `distance_mm` is the effective camera
    length. With tilt, `distance_mm` is the distance of the detector's plane along its normal, as
    in a PONI, and the beam arrives at ``distance / (cos rot1 cos rot2)``.

    Attributes
    ----------
    name : of the calibration.
    shape : (rows, columns) of the images it holds for.
    calibrant : name of the powder.
    wavelength_A, pixel_size_mm : taken as known.
    distance_mm : fitted.
    beam_centre_px : (row, column) where the direct beam meets the detector.
    distortion : ellipse of the projector lenses, about the beam centre.
    three_fold_per_px : (cosine, sine) of a three-fold distortion: an ideal radius r appears as
        ``r + r^2 (c cos 3 a + s sin 3 a)`` with a the azimuth from +x towards +y; 0 if not fitted.
    radial_per_mm2 : as in `Geometry`; 0 if not fitted.
    rot1_rad, rot2_rad : tilt of the detector in pyFAI's sense; 0 if not fitted.
    parameters : names of the fitted parameters, in the order of `covariance`.
    covariance : (n, n), in the units that the names state.
    rings : how each ring agrees.
    verdict : "calibrated" or "not calibrated".
    reasons : why not, or what to know, one sentence each.
    camera_length_mm : camera length that the microscope displayed; None where it is not known.
    height_um : sample height that `distance_mm` is for, where heights were given.
    height_per_um : relative change of the distance with sample height; 0 if not fitted.
    """

    name: str
    shape: tuple[int, int]
    calibrant: str
    wavelength_A: float
    pixel_size_mm: float
    distance_mm: float
    beam_centre_px: tuple[float, float]
    distortion: EllipticalDistortion = field(default_factory=EllipticalDistortion)
    three_fold_per_px: tuple[float, float] = (0.0, 0.0)
    radial_per_mm2: float = 0.0
    rot1_rad: float = 0.0
    rot2_rad: float = 0.0
    parameters: tuple[str, ...] = ()
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    rings: tuple[Ring, ...] = ()
    verdict: str = CALIBRATED
    reasons: tuple[str, ...] = ()
    camera_length_mm: float | None = None
    height_um: float | None = None
    height_per_um: float = 0.0

    @property
    def per_A_per_px(self) -> float:
        """Reciprocal-space size of a pixel at the centre, 1/Å."""
        return self.pixel_size_mm / (self.distance_mm * self.wavelength_A)

    def sd(self, parameter: str) -> float:
        """Standard error of a fitted parameter; NaN if it was not fitted."""
        if parameter not in self.parameters:
            return float("nan")
        i = self.parameters.index(parameter)
        return float(np.sqrt(self.covariance[i, i]))
