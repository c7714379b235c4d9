"""A trained ensemble on a new scan, and whether it may be used there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .checkpoint import Made, losses
from .patterns import Patterns
from .train import Ensemble, Latents

Floats = NDArray[np.float64]

PIXEL_TOLERANCE = 0.02  # relative, of the camera length
DISC_TOLERANCE = 0.05  # relative, of the disc's radius
CENTRE_TOLERANCE = 1.0  # px
DOSE_TOLERANCE = 3.0  # times more or fewer electrons
MEAN_LEAST = 0.98  # correlation of the mean patterns
OFTEN = 0.05  # of patterns that may be explained worse than 99 of 100 of those trained on


@dataclass(frozen=True)
class Applied:
    """Maps of a new scan.

    Attributes
    ----------
    latents : of all patterns and seeds.
    unlike : (n,) bool, explained worse than 99 % of the patterns that the model was trained on.
    in_distribution : whether the scan is like the one that the model was trained on.
    reasons : why not, one sentence each.
    """

    latents: Latents
    unlike: NDArray[np.bool_]
    in_distribution: bool
    reasons: tuple[str, ...]


def apply(ensemble: Ensemble, made: Made, patterns: Patterns) -> Applied:
    """Angles and content of a new scan.

    The mean pattern that is subtracted is that of training, so that latents mean the same; the
    noise is that of the new scan only in the verdict.

    Raises
    ------
    UserError : patterns of another shape, camera length or aperture, or off centre: to these the
        model says nothing.
    """
    if patterns.shape != made.shape:
        raise UserError(
            "patterns", f"shape {patterns.shape}", f"{made.shape} as in training",
            "prepare them as those that the model was trained on",
        )  # fmt: skip
    for what, found, expected, tolerance in (
        ("pixel_mrad", patterns.pixel_mrad, made.pixel_mrad, PIXEL_TOLERANCE),
        ("disc_radius_px", patterns.disc_radius_px, made.disc_radius_px, DISC_TOLERANCE),
    ):
        if found is None or expected is None:
            continue
        if abs(found / expected - 1) > tolerance:
            raise UserError(
                what, f"{found:.4g}", f"{expected:.4g} within {tolerance:.0%} as in training",
                "use a model of this camera length and aperture, or bin the patterns to match",
            )  # fmt: skip
    off = float(np.hypot(*np.subtract(patterns.centre_px, made.centre_px)))
    if off > CENTRE_TOLERANCE:
        raise UserError(
            "centre_px", f"{off:.1f} px from that in training",
            f"at most {CENTRE_TOLERANCE:g} px", "prepare the patterns about their centre",
        )  # fmt: skip
    scale = made.dose / patterns.dose
    counts = (patterns.data + patterns.mean) * np.float32(scale)
    alike = replace(
        patterns,
        data=np.where(patterns.mask, 0, counts - made.mean).astype(np.float32),
        variance=(patterns.variance * scale**2).astype(np.float32),
        mean=made.mean,
        dose=made.dose,
    )
    latents = ensemble.encode(alike)
    # the noise of another dose leaves other residuals: what is expected of it is taken out
    unlike = losses(ensemble, alike) - scale + 1 > made.loss_quantiles[99]
    reasons = []
    if not 1 / DOSE_TOLERANCE <= scale <= DOSE_TOLERANCE:
        reasons.append(
            f"{patterns.dose:.3g} electrons in a pattern, {made.dose:.3g} in training: content is "
            "drawn to the mean by as much as in training, not as the noise here would ask for"
        )
    mean = patterns.mean * scale
    used = ~patterns.mask
    likeness = float(np.corrcoef(mean[used], made.mean[used])[0, 1])
    if likeness < MEAN_LEAST:
        reasons.append(f"the mean pattern correlates with that of training by {likeness:.3f} only")
    if unlike.mean() > OFTEN:
        reasons.append(f"{unlike.mean():.0%} of the patterns are explained worse than in training")
    return Applied(latents, unlike, not reasons, tuple(reasons))
