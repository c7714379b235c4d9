"""Calibration by powder rings: from images to a geometry, and whether it is to be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..formats.image import DiffractionImage
from .calibrant import Calibrant
from .calibration import RingCalibration
from .config import RingConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RingPoints:
    """Where the rings were seen, one row for each sector of a ring.

    Attributes
    ----------
    image : (n,) int, of which image.
    ring : (n,) int, index into the calibrant's spacings.
    row_px, column_px : (n,) where the ring was seen.
    azimuth_deg : (n,) about the beam centre, from +x towards +y, without distortion.
    residual_px : (n,) observed minus calculated radius.
    sigma_px : (n,) its standard error.
    used : (n,) bool, False for outliers.
    """

    image: NDArray[np.int64]
    ring: NDArray[np.int64]
    row_px: Floats
    column_px: Floats
    azimuth_deg: Floats
    residual_px: Floats
    sigma_px: Floats
    used: NDArray[np.bool_]


@dataclass(frozen=True)
class RingFit:
    """A calibration with what it rests on, for plots.

    Attributes
    ----------
    calibrations : one for each image.
    points : on all rings of all images.
    good : for each image, (rows, columns) bool: the pixels that were used.
    """

    calibrations: tuple[RingCalibration, ...]
    points: RingPoints
    good: tuple[NDArray[np.bool_], ...]


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
    """Geometry from powder rings."""
    raise NotImplementedError
