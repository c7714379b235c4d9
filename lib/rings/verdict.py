"""Whether a ring calibration is to be believed, and why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..optics import electron_wavelength_A
from .assignment import Assignment
from .calibration import CALIBRATED, NOT_CALIBRATED, RingCalibration
from .config import RingConfig

# The calibrant must explain at least this part of what is seen, and be seen to this part itself.
LEAST_EXPLAINED = 0.7
LEAST_FOUND = 0.65
# Another scale is a rival if it does nearly as well.
RIVAL = 0.75
# Rings leave their places by no more than this part of their radius (r.m.s.), beyond their errors.
LARGEST_MISFIT = 1.5e-3
# A ring counts if it was measured at so many places.
LEAST_POINTS = 8
# A drift of centres along the radius spoils the common centre by about this part of it, inverted.
DRIFT_PER_CENTRE = 5.0
# Accelerating voltages that a wrong one may be mistaken for, kV.
VOLTAGES_KV = (60.0, 80.0, 100.0, 120.0, 160.0, 200.0, 300.0)


@dataclass(frozen=True)
class Stated:
    """A distance in px that someone states, and who."""

    distance_px: float
    by: str


@dataclass(frozen=True)
class LeftOver:
    """What a fit could not take up, at the outermost ring, px; 0 where it is not clear of noise.

    Attributes
    ----------
    drift_px : by how much that ring leaves the centre of the others.
    ellipse_px : amplitude of an ellipse other than the one fitted.
    """

    drift_px: float
    ellipse_px: float


def judge(
    found: RingCalibration,
    scales: Sequence[Assignment],
    stated: Stated | None,
    config: RingConfig,
    left: LeftOver,
    n_lengths: int,
) -> tuple[str, tuple[str, ...]]:
    """The verdict, and its reasons: first those against, then what to know.

    Parameters
    ----------
    found : the fit of one image.
    scales : scales that were possible, best first; the first was taken.
    stated : the distance that the scale was to be near, if any.
    left : what the fit could not take up.
    n_lengths : how many camera lengths were fitted together.
    """
    against = [
        *_assignment(found, scales, config),
        *_stated(found, stated, config),
        *_numbers(found, config),
        *_misfit(found),
        *_drift(left, config),
    ]
    notes = [
        *_known(found, stated),
        *_small_drift(left, config),
        *_tilt(found, config, n_lengths),
    ]
    return (NOT_CALIBRATED if against else CALIBRATED), (*against, *notes)


def _assignment(
    found: RingCalibration, scales: Sequence[Assignment], config: RingConfig
) -> list[str]:
    best = scales[0]
    reasons = []
    rings = sum(ring.n_points >= LEAST_POINTS for ring in found.rings)
    if rings < config.min_rings or best.matched < config.min_rings:
        n = min(rings, best.matched)
        reasons.append(
            f"only {n} ring{'s' * (n != 1)} of {found.calibrant} could be measured, "
            f"{config.min_rings} are needed to know which ring is which"
        )
    if best.explained < LEAST_EXPLAINED or best.found < LEAST_FOUND:
        reasons.append(
            f"{found.calibrant} explains {best.explained:.0%} of the rings seen, and "
            f"{best.found:.0%} of its own rings were found: another substance, or more than one"
        )
    for rival in scales[1:]:
        if rival.score > RIVAL * best.score:
            part = rival.distance_px / best.distance_px
            reasons.append(
                f"a distance {part:.3f} times as long explains the rings nearly as well; state a "
                "camera length"
            )
            break
    return reasons


def _stated(found: RingCalibration, stated: Stated | None, config: RingConfig) -> list[str]:
    """Against what the file or an earlier calibration says."""
    if stated is None:
        return []
    ratio = found.distance_mm / found.pixel_size_mm / stated.distance_px
    if abs(ratio - 1) <= config.tolerance:
        return []
    text = (
        f"the rings ask for {found.distance_mm:.1f} mm, {ratio:.3f} times what {stated.by} says; "
        "voltage, calibrant or camera length is wrong"
    )
    # rings measure wavelength times distance
    for voltage in VOLTAGES_KV:
        part = electron_wavelength_A(voltage) / (found.wavelength_A * ratio)
        if abs(part - 1) < 0.5 * config.tolerance:
            text += f" (a voltage of {voltage:g} kV would explain it)"
            break
    return [text]


def _numbers(found: RingCalibration, config: RingConfig) -> list[str]:
    reasons = []
    centre = max(found.sd("beam_row_px"), found.sd("beam_column_px"))
    if not centre <= config.largest_centre_sd_px:
        reasons.append(
            f"the centre is known to {centre:.2f} px only, {config.largest_centre_sd_px:g} px is "
            "asked for"
        )
    scale = found.sd("distance_mm") / found.distance_mm
    if not scale <= config.largest_scale_sd:
        reasons.append(
            f"the distance is known to {scale:.2%} only, {config.largest_scale_sd:.2%} is asked for"
        )
    return reasons


def _misfit(found: RingCalibration) -> list[str]:
    """Rings that are not where their spacings put them."""
    rings = [ring for ring in found.rings if ring.n_points >= LEAST_POINTS]
    if len(rings) < 2:
        return []
    length = found.distance_mm / found.pixel_size_mm
    radius = np.array(
        [length * math.tan(2 * math.asin(found.wavelength_A / (2 * r.d_A))) for r in rings]
    )
    mean = np.array([ring.mean_px for ring in rings])
    error = np.array([ring.residual_px / math.sqrt(ring.n_points) for ring in rings])
    # what noise does not account for, the clearer rings counting more
    weight = 1 / (error**2 + (LARGEST_MISFIT * radius) ** 2)
    beyond = float(np.sum(weight * (mean**2 - error**2) / radius**2) / np.sum(weight))
    misfit = math.sqrt(max(beyond, 0.0))
    if misfit <= LARGEST_MISFIT:
        return []
    worst = rings[int(np.argmax(np.abs(mean) / radius))]
    return [
        f"rings lie {misfit:.2%} of their radius from where {found.calibrant} has them, "
        f"{worst.hkl} by {worst.mean_px:+.2f} px: another calibrant, or a strong lens distortion"
    ]


def _known(found: RingCalibration, stated: Stated | None) -> list[str]:
    """What rings cannot tell, whatever their number."""
    product = found.distance_mm * found.wavelength_A
    text = (
        f"rings measure wavelength times distance ({product:.5g} Å mm) on the scale of "
        f"{found.calibrant}: a wrong voltage, or another crystal of the same lattice type, goes "
        "into the distance unnoticed"
    )
    if stated is None:
        return [text + "; no camera length was stated to check it with"]
    ratio = found.distance_mm / found.pixel_size_mm / stated.distance_px
    return [text + f"; {stated.by} agrees to {abs(ratio - 1):.1%}"]


def _drift(left: LeftOver, config: RingConfig) -> list[str]:
    """Against one centre for rings that have none, one ellipse for images that have several."""
    reasons = []
    if left.drift_px > DRIFT_PER_CENTRE * config.largest_centre_sd_px:
        reasons.append(
            f"the rings are not concentric: the outermost leaves the others' centre by "
            f"{left.drift_px:.2f} px, as a tilted camera or an off-axis lens would have it"
            + ("" if config.tilt else "; fit the tilt")
        )
    if left.ellipse_px > DRIFT_PER_CENTRE * config.largest_centre_sd_px:
        reasons.append(
            f"the ellipse leaves the outermost ring by {left.ellipse_px:.2f} px: not that of all "
            "images, or not the one that was given"
        )
    return reasons


def _small_drift(left: LeftOver, config: RingConfig) -> list[str]:
    if not 0 < left.drift_px <= DRIFT_PER_CENTRE * config.largest_centre_sd_px:
        return []
    return [f"the outermost ring leaves the others' centre by {left.drift_px:.2f} px"]


def _tilt(found: RingCalibration, config: RingConfig, n_lengths: int) -> list[str]:
    if "rot1_rad" not in found.parameters:
        return []
    if config.known_distortion is not None:
        return ["the tilt rests on the ellipse that was given"]
    if n_lengths > 1:
        return [f"tilt and ellipse were told apart by {n_lengths} camera lengths"]
    degrees = math.degrees(math.hypot(found.rot1_rad, found.rot2_rad))
    return [
        f"tilt ({degrees:.2f} degrees) and ellipse come from one camera length: they are told "
        "apart only by rings that are not concentric, which an off-axis lens makes too; give two "
        "camera lengths or a known distortion"
    ]
