"""Ring images in polar view, for plots: rings are straight lines where the calibration is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .background import Mask
from .calibration import RingCalibration
from .masking import find_mask
from .pixel_map import PixelMap, ideal_profiles, map_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PolarView:
    """An image along azimuth and radius.

    Attributes
    ----------
    azimuth_deg : (n_azimuth,) middle of each row, from +x towards +y, -180 to 180.
    inverse_d_per_A : (n_radius,) middle of each column.
    counts : (n_azimuth, n_radius) mean counts, NaN where no pixel is good.
    profile : (n_radius,) mean over all good pixels, NaN where there is none.
    """

    azimuth_deg: Floats
    inverse_d_per_A: Floats
    counts: Floats
    profile: Floats


def polar_view(
    pixels: NDArray[np.generic],
    calibration: RingCalibration,
    good: Mask | None = None,
    *,
    corrected: bool = True,
    n_azimuth: int = 360,
    n_radius: int = 800,
) -> PolarView:
    """An image (rows, columns) in polar view about the beam centre of `calibration`.

    Parameters
    ----------
    good : pixels to use; None: as `find_mask` has it.
    corrected : with tilt and distortions taken out; otherwise about the centre only, where an
        ellipse makes waves of the rings.
    n_azimuth, n_radius : size of the view. Pixels are summed into it, not interpolated; near the
        centre some azimuths have none.
    """
    if good is None:
        good = find_mask(pixels).good
    full = map_of(calibration)
    map_ = full if corrected else PixelMap(full.centre_px, full.distance_px)
    rows, columns = np.asarray(pixels).shape
    edge, _ = map_.to_ideal(
        np.array([0, 0, 1, 1]) * (rows - 1.0), np.array([0, 1, 0, 1]) * (columns - 1.0)
    )
    step = float(edge.max()) / n_radius
    image = np.nan_to_num(np.asarray(pixels, np.float32), nan=0, posinf=0, neginf=0)
    total, number, _ = ideal_profiles(
        image, good, map_.packed(), n_azimuth, n_radius, step, np.ones(n_radius, bool)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        counts = total / number
        profile = total.sum(axis=0) / number.sum(axis=0)
    angle = np.arctan((np.arange(n_radius) + 0.5) * step / map_.distance_px)
    return PolarView(
        (np.arange(n_azimuth) + 0.5) * 360 / n_azimuth - 180,
        2 * np.sin(angle / 2) / calibration.wavelength_A,
        counts,
        profile,
    )
