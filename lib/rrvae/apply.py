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
CONTENT_SHIFT = 0.2  # between the distributions of the leading content (Kolmogorov & Smirnov)
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
    # the noise of another dose leaves other residuals: what is expected of it is taken out, the
    # mean of chi squared over its degrees of freedom and 2.33 times its spread, for 99 %
    expected = (scale - 1) * (1 + 2.33 * np.sqrt(2 / len(ensemble.model.pixels)))
    unlike = losses(ensemble, alike) > made.loss_quantiles[99] + expected
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
    shift = content_shift(made.content_quantiles, latents.leading_content[0])
    # patterns of a weaker signal, as of a blurred probe, are explained well: by the mean
    if shift > CONTENT_SHIFT + 1.63 / np.sqrt(len(patterns)):
        reasons.append(
            f"the leading content is distributed otherwise than in training, by {shift:.2f} of 1"
        )
    if unlike.mean() > OFTEN:
        reasons.append(f"{unlike.mean():.0%} of the patterns are explained worse than in training")
    return Applied(latents, unlike, not reasons, tuple(reasons))


def content_shift(quantiles: Floats, content: Floats) -> float:
    """Greatest difference of the distribution of content (n,) from one with these percentiles.

    The statistic of Kolmogorov and Smirnov, 0 to 1, at percentiles (101,).
    """
    below = np.searchsorted(np.sort(content), quantiles[1:-1], side="right") / len(content)
    return float(np.abs(below - np.arange(1, 100) / 100).max())
