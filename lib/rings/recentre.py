"""Where the direct beam is on a later image: fast, from the symmetry of its powder rings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..formats.image import DiffractionImage
from .calibration import RingCalibration


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
    covariance: NDArray[np.float64]
    method: str = "rings"
    radii_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
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
    start : (row, column) to start from as well as from the calibration's centre.

    Raises
    ------
    NoRings : a blank image, or one on which no rings are found (a UserError and ValueError).
    UserError : image and calibration differ in shape.
    """
    raise NotImplementedError
