"""What calibrations by rings state about a series of frames: scale, distortion, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..instrument import SeriesMetadata
from .calibration import CALIBRATED, RingCalibration
from .camera_lengths import SAME, camera_lengths
from .ideal import effective

#: Numbers of pixels that agree to this part are the same detector's, binned or not.
_BINNING = 0.005
#: What a geometry cannot be told counts from here on.
_LEFT_PX = 0.05


@dataclass(frozen=True)
class Stated:
    """What calibrations state about a series.

    Attributes
    ----------
    name : of the calibration, for people.
    metadata : what wins over the files: the scale and the distortions.
    otherwise : what holds where no file says so.
    wavelength_A : at which it holds.
    notes : one sentence each.
    """

    name: str
    metadata: SeriesMetadata
    otherwise: SeriesMetadata
    wavelength_A: float
    notes: tuple[str, ...]


def stated_by(
    calibrations: Sequence[RingCalibration],
    shape: tuple[int, int],
    camera_length_mm: float | None = None,
) -> Stated:
    """What calibrations state about a series.

    The scale in 1/Å per pixel is what rings calibrate, and what is stated: an error of the nominal
    pixel size or wavelength drops out of it. Of several camera lengths the one of the series is
    taken, or interpolated (`camera_lengths`); the distortion is that of the nearest.

    Parameters
    ----------
    calibrations : of one camera; one, or several at different camera lengths.
    shape : (rows, columns) of the series' frames; they may be binned.
    camera_length_mm : what the series' files say was displayed; None if they do not.

    Raises
    ------
    UserError : a calibration failed; its camera length is not that of the series, or not known
        where there are several; its images are of another camera.
    """
    if not calibrations:
        raise UserError("calibration", "none", "one or more", "name one")
    for one in calibrations:
        if one.verdict != CALIBRATED:
            why = one.reasons[0] if one.reasons else "no reason is kept"
            raise UserError(one.name, f"'{one.verdict}': {why}", f"'{CALIBRATED}'", "name another")
    notes: list[str] = []
    scale, nearest = _scale(calibrations, camera_length_mm, notes)
    binning = _binning(nearest, shape)
    _, ellipse, left = effective(nearest)
    if left > _LEFT_PX:
        notes.append(
            f"tilt and three-fold distortion of the calibration {nearest.name} are not in the "
            f"series' geometry: up to {left:.1f} px are left; the maps kept with it hold them"
        )
    row, column = ((c + 0.5) / binning - 0.5 for c in nearest.beam_centre_px)
    return Stated(
        name=f"the calibration {nearest.name}",
        metadata=SeriesMetadata(
            per_A_per_px=scale * binning,
            distortion=ellipse,
            radial_per_mm2=nearest.radial_per_mm2 or None,
        ),
        otherwise=SeriesMetadata(
            wavelength_A=nearest.wavelength_A,
            pixel_size_mm=nearest.pixel_size_mm * binning,
            beam_centre_px=(row, column),
        ),
        wavelength_A=nearest.wavelength_A,
        notes=tuple(notes),
    )


def _scale(
    calibrations: Sequence[RingCalibration], camera_length_mm: float | None, notes: list[str]
) -> tuple[float, RingCalibration]:
    """1/Å per pixel of the calibrations, and the calibration nearest to the series."""
    lengths = [one.camera_length_mm for one in calibrations]
    if len(calibrations) > 1:
        if camera_length_mm is None:
            raise UserError(
                "camera length", "none stated by the files of the series",
                "one, to choose among several calibrations", "name the one calibration that holds",
            )  # fmt: skip
        wanted = camera_length_mm
        table = camera_lengths(calibrations)
        scale, sd = table.per_A_per_px(wanted)
        nearest = min(calibrations, key=lambda one: abs((one.camera_length_mm or 0) / wanted - 1))
        if np.min(np.abs(table.nominal_mm / wanted - 1)) > SAME:
            notes.append(
                f"the scale at camera length {wanted:g} mm, {scale:.7f} +- {sd:.7f} 1/Å per px, is "
                f"interpolated between {', '.join(f'{one:g}' for one in table.nominal_mm)} mm"
            )
        return scale, nearest
    (only,), (length,) = calibrations, lengths
    if length is not None and camera_length_mm is not None:
        if abs(length / camera_length_mm - 1) > SAME:
            raise UserError(
                f"calibration {only.name}", f"a camera length of {length:g} mm",
                f"{camera_length_mm:g} mm, as the files of the series say",
                "name the calibration of that camera length, or several to interpolate between",
            )  # fmt: skip
    else:
        whose = "the calibration" if length is None else "the series"
        notes.append(
            f"no file of {whose} states its camera length; both are taken to be of the same"
        )
    distance, _, _ = effective(only)
    return only.pixel_size_mm / (distance * only.wavelength_A), only


def _binning(calibration: RingCalibration, shape: tuple[int, int]) -> float:
    """Pixels of the calibration to one of the series, along both edges."""
    rows, columns = (a / b for a, b in zip(calibration.shape, shape, strict=True))
    whole = max(round(rows), 1) if rows > 0.75 else 1 / max(round(1 / rows), 1)
    if abs(rows / whole - 1) > _BINNING or abs(columns / whole - 1) > _BINNING:
        raise UserError(
            f"calibration {calibration.name}",
            f"images of {calibration.shape[0]} x {calibration.shape[1]}",
            f"{shape[0]} x {shape[1]} like the series, or binned otherwise",
            "name a calibration of the camera that took the series",
        )  # fmt: skip
    return float(whole)
