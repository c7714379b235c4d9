"""Whether an old calibration holds on a new scan, in one pass over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .begin import Tell
from .calibrate import calibrate
from .calibration import CALIBRATED, ScanCalibration
from .config import OverfocusConfig
from .model import similarity_of

HOLDS, HOLDS_NOT, CANNOT_TELL = "holds", "does not hold", "cannot tell"
#: Differences that matter to nobody, whatever the errors.
SMALL_DEG, SMALL_PERCENT, SMALL_DESCAN = 0.1, 0.2, 0.01
SIGMA = 4.0


@dataclass(frozen=True)
class Check:
    """An old calibration against a new scan.

    Attributes
    ----------
    verdict : "holds", "does not hold" or "cannot tell".
    reasons : what differs, or why nothing can be told.
    rotation_deg, scale_percent, descan_px : new less old; descan the largest element.
    new : calibration of the new scan.
    """

    verdict: str
    reasons: tuple[str, ...]
    rotation_deg: float
    scale_percent: float
    descan_px: float
    new: ScanCalibration


def check(
    scan: Scan4D,
    old: ScanCalibration,
    config: OverfocusConfig | None = None,
    tell: Tell | None = None,
) -> Check:
    """Calibrate a new scan and compare; scan step, detector and optics as for the old one.

    A difference counts if it is larger than `SIGMA` standard errors of both and larger than
    `SMALL_DEG`, `SMALL_PERCENT` or `SMALL_DESCAN`.

    Raises
    ------
    UserError : the old one is no calibration, or of a detector of another shape.
    """
    if old.verdict != CALIBRATED or not np.isfinite(old.scan_to_detector).all():
        raise UserError(
            old.name, "a scan that was not calibrated", "a calibration", "give one that holds"
        )
    if old.shape != scan.shape:
        raise UserError(
            scan.name, f"frames {scan.shape}", f"{old.shape}, as calibrated",
            "calibrate this detector's own scan",
        )  # fmt: skip
    new = calibrate(scan, config, tell)
    nan = float("nan")
    if new.verdict != CALIBRATED:
        return Check(CANNOT_TELL, new.reasons, nan, nan, nan, new)
    a, b = (similarity_of(one.scan_to_detector) for one in (new, old))
    turned = (a.rotation_deg - b.rotation_deg + 180) % 360 - 180
    scaled = 100 * (a.scale / b.scale - 1)
    descan = float(np.abs(new.descan - old.descan).max())
    # of |A|, relative, as of an angle in radians
    error = sum(_relative_error(one) ** 2 for one in (new, old)) ** 0.5
    error_descan = sum(_largest_error(one, 4) ** 2 for one in (new, old)) ** 0.5
    reasons = []
    if a.flip_y != b.flip_y:
        reasons.append("the handedness has changed")
        turned = nan
    elif abs(turned) > max(SMALL_DEG, SIGMA * np.rad2deg(error)):
        reasons.append(f"the scan is rotated by {turned:+.3f} degrees")
    if abs(scaled) > max(SMALL_PERCENT, SIGMA * 100 * error):
        reasons.append(f"a scan step covers {scaled:+.2f} % on the detector")
    if descan > max(SMALL_DESCAN, SIGMA * error_descan):
        reasons.append(f"descan differs by {descan:.4f} px per scan px")
    verdict = HOLDS_NOT if reasons else HOLDS
    return Check(verdict, tuple(reasons), float(turned), float(scaled), descan, new)


def _relative_error(one: ScanCalibration) -> float:
    size = np.sqrt(abs(np.linalg.det(one.scan_to_detector)))
    return float(np.nan_to_num(_largest_error(one, 0) / size))


def _largest_error(one: ScanCalibration, first: int) -> float:
    """Standard error of A (first = 0) or D (4), the largest element's; 0 if not known."""
    variance = np.diag(one.covariance)[first : first + 4]
    return float(np.sqrt(np.nan_to_num(variance).max()))
