"""Centre of mass of every pattern of a scan, on raw counts, with counting errors.

The first moment of a pattern is the mean momentum that the specimen's field gave to the probe
(Ehrenfest's theorem; Müller et al., Nat. Commun. 5, 5653, 2014). Vectors are (row, column).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..overfocus.calibration import NOT_CALIBRATED, ScanCalibration
from .rows import for_each_rows
from .scan import Scan4D

Floats = NDArray[np.float64]
Reference = Literal["mean", "plane", "calibration"]


@dataclass(frozen=True)
class CentreOfMass:
    """Deflection of the beam at every scan point.

    Attributes
    ----------
    shift_px : (scan row, scan column, 2), on the detector, from `reference_px`; NaN where there
        is no pattern.
    sigma_px : the same shape: standard error from counting and read noise; NaN where the gain is
        not known.
    intensity : (scan row, scan column), counts over the pedestal in the pixels used.
    reference_px : (scan row, scan column, 2), the undeflected beam.
    detector_to_scan : (2, 2), turns a direction on the detector into one along the scan's axes;
        keeps lengths. The identity if there was no calibration.
    pixel_mrad : angle of a pixel; None if unknown.
    notes : what was found odd, one sentence each.
    """

    shift_px: Floats
    sigma_px: Floats
    intensity: Floats
    reference_px: Floats
    detector_to_scan: Floats
    pixel_mrad: float | None
    notes: tuple[str, ...] = ()

    @property
    def deflection(self) -> Floats:
        """(scan row, scan column, 2) along the scan's axes, mrad; px if no angle is known."""
        turned: Floats = self.shift_px @ self.detector_to_scan.T
        return (self.pixel_mrad or 1.0) * turned

    @property
    def magnitude(self) -> Floats:
        """(scan row, scan column), mrad; px if no angle is known."""
        return np.asarray(np.linalg.norm(self.deflection, axis=-1), float)

    @property
    def angle_rad(self) -> Floats:
        """(scan row, scan column): from the scan's column axis towards its row axis."""
        return np.arctan2(self.deflection[..., 0], self.deflection[..., 1])

    @property
    def magnitude_sigma(self) -> Floats:
        """Standard error of `magnitude`, its unit, where it is well above its own error."""
        length = np.linalg.norm(self.shift_px, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = ((self.shift_px * self.sigma_px) ** 2).sum(-1) / length**2
        return np.asarray((self.pixel_mrad or 1.0) * np.sqrt(variance), float)


def centre_of_mass(
    scan: Scan4D,
    calibration: ScanCalibration | None = None,
    *,
    reference: Reference = "mean",
    centre_px: tuple[float, float] | None = None,
    radius_px: float | None = None,
    gain: float | None = None,
    excess_noise: float = 1.0,
    read_noise_e: float = 0.0,
    threads: int = 1,
) -> CentreOfMass:
    """Centres of mass of a scan, read once.

    With counts I over the pedestal, N = sum I and c = sum I x / N, the error is
    ``var c = sum (x - c)² var I / N²``, ``var I = excess_noise gain I + (gain read_noise_e)²``.

    Parameters
    ----------
    calibration : scan to detector; gives directions along the scan's axes, and the reference if
        asked for: its centre plus descan.
    reference : the undeflected beam: the mean over the scan; a plane over it, which takes out
        descan; or the calibration's.
    centre_px, radius_px : only pixels within the radius of the centre (None: the middle); all if
        there is no radius.
    gain : counts per electron; None: the scan's.
    excess_noise : variance per electron, 1 for counting cameras.
    read_noise_e : r.m.s. electrons per pixel.

    Raises
    ------
    UserError : a calibration that is missing, not valid or of another shape; no usable pattern.
    """
    if calibration is not None:
        _check(scan, calibration)
    elif reference == "calibration":
        raise UserError(
            f"{scan.name}, overfocus calibration", "none", "one", "give it, or take the mean"
        )
    gain = scan.gain if gain is None else gain
    notes: list[str] = []
    used = ~scan.mask & _within(scan, centre_px, radius_px)
    if not used.any():
        raise UserError(f"{scan.name}, mask", "every pixel masked", "some left", "check the mask")
    masked = int((scan.mask & _within(scan, centre_px, radius_px)).sum())
    if masked:
        notes.append(f"{masked} masked pixels are left out; where the disc covers them it matters")
    moments, saturated = _moments(scan, used, threads)
    if saturated:
        notes.append(f"{saturated} patterns hold saturated pixels, whose counts are too low")
    total = moments[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = moments[..., 1:3] / total[..., None]
        spread = moments[..., 3:5] / total[..., None] - centre**2
    bad = ~(np.isfinite(total) & (total > 0))
    fresh = int((bad & ~scan.missing).sum())
    if bad.all():
        raise UserError(scan.name, "no pattern with intensity", "some", "check pedestal and mask")
    if fresh:
        where = tuple(int(i) for i in np.argwhere(bad & ~scan.missing)[0])
        notes.append(f"{fresh} patterns, the first at {where}, have no finite positive intensity")
    centre[bad], spread[bad], total[bad] = np.nan, np.nan, np.nan
    middle = (np.array(scan.shape) - 1) / 2  # moments count from it, for precision
    centre += middle
    sigma = np.full_like(centre, np.nan)
    if gain is None:
        notes.append("no gain is stated, so there are no counting errors")
    else:
        reading = np.empty_like(centre)
        for axis, coordinate in enumerate(np.indices(scan.shape, float)):
            c = coordinate[used]  # sum of (c - m)² without one array per pattern
            m = centre[..., axis]
            reading[..., axis] = (c**2).sum() - 2 * m * c.sum() + len(c) * m**2
        variance = excess_noise * gain * spread / total[..., None]
        variance += (gain * read_noise_e) ** 2 * reading / total[..., None] ** 2
        sigma = np.sqrt(np.maximum(variance, 0))
    origin = _reference(scan, centre, reference, calibration)
    turn: Floats = np.eye(2)
    if calibration is not None:
        turn = detector_rotation(scan, calibration).T
    pixel_mrad = None
    if scan.pixel_size_mm is not None and scan.camera_length_mm is not None:
        pixel_mrad = scan.pixel_size_mm / scan.camera_length_mm * 1e3
    if calibration is None:
        notes.append("no overfocus calibration: directions are those of the detector")
    return CentreOfMass(centre - origin, sigma, total, origin, turn, pixel_mrad, tuple(notes))


def detector_rotation(scan: Scan4D, calibration: ScanCalibration) -> Floats:
    """(2, 2) orthogonal: direction along the scan's axes to direction on the detector.

    The orthogonal factor of the polar decomposition of A, with the scan's steps in one unit;
    a reflection if scan and detector differ in handedness. Behind an underfocused probe the
    shadow is upside down and the deflection is not, so A's sign is turned.
    """
    step = np.array(scan.scan_step_nm or (1.0, 1.0))
    sign = 1.0 if calibration.overfocused else -1.0
    left, _, right = np.linalg.svd(sign * calibration.scan_to_detector / step)
    return np.asarray(left @ right, float)


def curl_and_divergence(field: Floats, step: tuple[float, float]) -> tuple[Floats, Floats]:
    """Curl and divergence (scan row, scan column) of a vector field (scan row, scan column, 2).

    ``d(column)/d(row) - d(row)/d(column)`` and ``d(row)/d(row) + d(column)/d(column)`` by central
    differences, per unit of `step`. A deflection by an electrostatic field has no curl where
    directions are right; its divergence follows the charge that the probe sees.
    """
    d_row = np.gradient(field, step[0], axis=0)
    d_column = np.gradient(field, step[1], axis=1)
    return d_row[..., 1] - d_column[..., 0], d_row[..., 0] + d_column[..., 1]


def rotation_without_curl(field: Floats, step: tuple[float, float]) -> float:
    """Angle in degrees, in [0, 180), by which turning a field leaves it the least curl.

    From the column axis towards the row axis. Curl and divergence turn into each other,
    ``curl' = c curl - s div``, so the least is where ``tan 2a = 2 <curl div> / (<div²> -
    <curl²>)``; the field and its opposite fit alike. A check on a calibration, or instead of one.
    """
    curl, divergence = curl_and_divergence(field, step)
    both = np.isfinite(curl) & np.isfinite(divergence)
    c, d = curl[both], divergence[both]
    angle = 0.5 * np.arctan2(2 * (c * d).mean(), (d * d).mean() - (c * c).mean())
    return float(np.rad2deg(angle) % 180)


def _check(scan: Scan4D, calibration: ScanCalibration) -> None:
    where = f"{scan.name}, overfocus calibration {calibration.name}"
    if calibration.verdict == NOT_CALIBRATED:
        raise UserError(where, NOT_CALIBRATED, "a valid one", "calibrate again, or give none")
    if calibration.shape != scan.shape:
        raise UserError(
            where,
            f"one for frames of {calibration.shape}",
            f"frames of {scan.shape}",
            "calibrate with the camera as it was for this scan",
        )


def _within(
    scan: Scan4D, centre_px: tuple[float, float] | None, radius_px: float | None
) -> NDArray[np.bool_]:
    if radius_px is None:
        return np.ones(scan.shape, bool)
    row, column = centre_px or ((scan.shape[0] - 1) / 2, (scan.shape[1] - 1) / 2)
    y, x = np.arange(scan.shape[0])[:, None] - row, np.arange(scan.shape[1]) - column
    return np.asarray(y**2 + x**2 <= radius_px**2)


def _moments(scan: Scan4D, used: NDArray[np.bool_], threads: int) -> tuple[Floats, int]:
    """(scan row, scan column, 5): sums of 1, y, x, y², x² times counts, from the middle.

    And how many patterns hold saturated pixels.
    """
    y = np.arange(scan.shape[0])[:, None] - (scan.shape[0] - 1) / 2
    x = np.arange(scan.shape[1]) - (scan.shape[1] - 1) / 2
    functions: Floats = np.stack([f * used for f in (1.0, y, x, y**2, x**2)]).reshape(5, -1)
    narrow = scan.frames.dtype.itemsize <= 2 or scan.frames.dtype == np.float32
    kind = np.float32 if narrow else np.float64
    rows = np.ascontiguousarray(functions.T, kind)
    out = np.full((scan.scan_shape[0] * scan.scan_shape[1], 5), np.nan)
    saturated = np.zeros(len(out), bool)
    unused = np.flatnonzero(~used)

    def work(first: int, frames: NDArray[Any]) -> None:
        flat: NDArray[Any] = frames.reshape(len(frames), -1).astype(kind)
        if scan.saturation is not None:
            part = slice(first, first + len(frames))
            saturated[part] = ((flat >= scan.saturation) & used.ravel()).any(1)
        flat -= kind(scan.pedestal)
        flat[:, unused] = 0  # masked pixels may hold anything, NaN too
        out[first : first + len(frames)] = flat @ rows

    for_each_rows(scan, work, threads=threads)
    out[scan.missing.ravel()] = np.nan
    return out.reshape(*scan.scan_shape, 5), int((saturated & ~scan.missing.ravel()).sum())


def _reference(
    scan: Scan4D, centre: Floats, reference: Reference, calibration: ScanCalibration | None
) -> Floats:
    rows, columns = scan.scan_shape
    s: Floats = np.moveaxis(np.indices(scan.scan_shape, float), 0, -1)
    s -= (np.array(scan.scan_shape) - 1) / 2
    if reference == "calibration" and calibration is not None:
        moved = np.einsum("rci,ji->rcj", s, calibration.descan)
        return np.asarray(moved + np.array(calibration.centre_px), float)
    good = np.isfinite(centre).all(-1)
    if reference == "mean":
        return np.broadcast_to(centre[good].mean(0), centre.shape).copy()
    terms = np.concatenate([np.ones((rows, columns, 1)), s], -1)
    fit = np.linalg.lstsq(terms[good], centre[good], rcond=None)[0]
    return np.asarray(np.einsum("rci,ij->rcj", terms, fit), float)
