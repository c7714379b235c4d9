"""Has the microscope moved since it was last calibrated?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .calibration import CALIBRATED, RingCalibration


class DriftLimits(BaseModel):
    """From which change on a person is warned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distance_percent: float = Field(0.3, gt=0, description="camera length, %")
    centre_px: float = Field(20.0, gt=0, description="beam centre, px")
    ellipse: float = Field(0.002, gt=0, description="elliptical distortion, relative")
    sigmas: float = Field(
        4.0, gt=0, description="a smaller change than so many of its errors is none"
    )


@dataclass(frozen=True)
class Change:
    """How one quantity changed.

    Attributes
    ----------
    what : the quantity, with its unit.
    before, now : values.
    change, sd : how much it changed in its limit's unit, and the error of that (NaN if unknown).
    limit : beyond which a person is warned.
    warns : whether it changed beyond the limit, and beyond errors.
    """

    what: str
    before: float
    now: float
    change: float
    sd: float
    limit: float
    warns: bool


@dataclass(frozen=True)
class Drift:
    """A calibration compared with an earlier one.

    Attributes
    ----------
    since : name of the earlier one.
    changes : of each quantity.
    warnings : one sentence each; empty if nothing moved.
    """

    since: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


def comparable(now: RingCalibration, before: RingCalibration) -> bool:
    """Whether both are good, of one camera and one setting of the microscope.

    Where one does not say what camera length was displayed, the setting is the same if the true
    ones are alike to 15 %.
    """
    if now.verdict != CALIBRATED or before.verdict != CALIBRATED:
        return False
    if now.camera_length_mm and before.camera_length_mm:
        same = abs(now.camera_length_mm / before.camera_length_mm - 1) < 0.005
    else:
        same = abs(now.distance_mm / before.distance_mm - 1) < 0.15
    return (
        same
        and now.shape == before.shape
        and abs(now.pixel_size_mm / before.pixel_size_mm - 1) < 1e-3
        and abs(now.wavelength_A / before.wavelength_A - 1) < 1e-3
    )


def drift(
    now: RingCalibration, before: RingCalibration, since: str, limits: DriftLimits | None = None
) -> Drift:
    """Compare a calibration with an earlier one.

    Parameters
    ----------
    since : name of the earlier one, for people.
    limits : None for the defaults.
    """
    chosen = limits or DriftLimits()
    percent = 100 * (now.distance_mm / before.distance_mm - 1)
    percent_sd = 100 * float(np.hypot(_relative(now), _relative(before)))
    moved = float(np.hypot(*np.subtract(now.beam_centre_px, before.beam_centre_px)))
    moved_sd = float(np.hypot(_centre_sd(now), _centre_sd(before)))
    # the difference of two ellipses is one: what undoes the first and makes the second
    bent = np.linalg.solve(before.distortion.matrix, now.distortion.matrix)
    ellipse = float(np.ptp(np.linalg.svd(bent, compute_uv=False)))
    ellipse_sd = float(np.hypot(_ellipse_sd(now), _ellipse_sd(before)))
    rows = (
        ("camera length / mm", before.distance_mm, now.distance_mm, percent, percent_sd,
         chosen.distance_percent),
        ("beam centre, moved / px", 0.0, moved, moved, moved_sd, chosen.centre_px),
        ("ellipse, changed by", before.distortion.ratio, now.distortion.ratio, ellipse, ellipse_sd,
         chosen.ellipse),
    )  # fmt: skip
    changes = tuple(
        Change(what, a, b, change, sd, limit, _warns(change, sd, limit, chosen.sigmas))
        for what, a, b, change, sd, limit in rows
    )
    words = (
        f"the camera length changed by {percent:+.2f} % since {since}: "
        f"{before.distance_mm:.2f} mm then, {now.distance_mm:.2f} mm now",
        f"the beam moved by {moved:.1f} px since {since}",
        f"the elliptical distortion changed by {ellipse:.4f} since {since}: ratio "
        f"{before.distortion.ratio:.4f} at {before.distortion.azimuth_deg:.1f} degrees then, "
        f"{now.distortion.ratio:.4f} at {now.distortion.azimuth_deg:.1f} now",
    )
    warnings = tuple(text for text, one in zip(words, changes, strict=True) if one.warns)
    return Drift(since, changes, warnings)


def _warns(change: float, sd: float, limit: float, sigmas: float) -> bool:
    # NaN errors are unknown ones: the limit alone decides then
    return abs(change) > limit and not abs(change) <= sigmas * sd


def _relative(one: RingCalibration) -> float:
    return one.sd("distance_mm") / one.distance_mm


def _centre_sd(one: RingCalibration) -> float:
    return max(one.sd("beam_row_px"), one.sd("beam_column_px"))


def _ellipse_sd(one: RingCalibration) -> float:
    return one.sd("ratio")
