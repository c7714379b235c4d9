"""Whether a calibration can be believed, and if not, why: no wrong number leaves unmarked."""

from __future__ import annotations

from dataclasses import dataclass

from .calibration import CALIBRATED, NOT_CALIBRATED, Quality
from .config import OverfocusConfig

#: Total movement of the shadow over the scan, detector px, that a scale can be measured on to 1 %:
#: of less, the aperture's edge shows descan by no more than some per cent of the map.
LEAST_TRAVEL_PX = 8.0
#: Share of saturated pixels that spoils contrast.
MOST_SATURATED = 0.01
#: Difference of descan from two halves of the aperture's edge, over |A|.
MOST_APART = 0.03
#: The same of a slow shadow, whose specimen and aperture are hard to tell apart.
MOST_APART_SLOW = 0.01
#: Relative change of G from the cross-spectra to the fit: more, and it went elsewhere.
MOST_WALK = 0.3
#: Movement left in the frames, binned pixels r.m.s., beyond which the model is wrong.
MOST_RESIDUAL = 0.35

#: Contrast that does not move with the fit, over that which does: a periodic part alone fits.
MOST_UNEXPLAINED = 0.1


@dataclass(frozen=True)
class Evidence:
    """What the verdict looks at beside `Quality`.

    Attributes
    ----------
    travel_px : movement of the shadow across the scan, detector px.
    walk : relative change of G from the first one to the last.
    halves_snr : smaller signal to noise of the movement's peaks in two halves of the scan.
    disagreement : of G fitted to two halves of the scan, relative.
    saturated : share of pixels.
    binning : detector px per binned px.
    descan_known : whether the aperture's edge gave D.
    sectors_apart : difference of D from every other sector of the edge and the rest, over |A|.
    unexplained : contrast that does not move with the fit, over that which does.
    slow : the shadow moves by less than the disc's radius over the scan.
    """

    travel_px: float
    walk: float
    halves_snr: float
    disagreement: float
    saturated: float
    binning: int
    descan_known: bool
    sectors_apart: float
    unexplained: float
    slow: bool = False


def judge(
    quality: Quality, evidence: Evidence, config: OverfocusConfig
) -> tuple[str, tuple[str, ...]]:
    """The verdict and the reasons against a calibration, one sentence each."""
    q, e = quality, evidence
    residual = q.predictive_residual_px / e.binning
    checks = [
        (
            q.lag_snr >= config.min_lag_snr,
            f"no common movement stands out of the frames (signal to noise {q.lag_snr:.1f}, needs"
            f" {config.min_lag_snr:g}): no specimen, in focus, or too few electrons",
        ),
        (
            e.travel_px >= LEAST_TRAVEL_PX,
            f"the shadow moves {e.travel_px:.1f} px over the whole scan (needs"
            f" {LEAST_TRAVEL_PX:g}): in focus, too far out, or too few scan points",
        ),
        (e.descan_known, "the aperture's edge is not in the frames, so descan is not known"),
        (
            e.sectors_apart <= (MOST_APART_SLOW if e.slow else MOST_APART),
            f"parts of the aperture's edge give descan that differs by"
            f" {100 * e.sectors_apart:.1f} % of the map",
        ),
        (
            q.anisotropy <= config.max_anisotropy,
            f"the map is sheared by {100 * q.anisotropy:.1f} % (believed:"
            f" {100 * config.max_anisotropy:g} %): a wrong movement, or a distorted scan",
        ),
        (
            q.bootstrap_spread <= config.max_spread,
            f"regions of the scan scatter by {100 * q.bootstrap_spread:.2f} % in scale or rotation"
            f" (standard error; believed: {100 * config.max_spread:g} %)",
        ),
        (
            e.halves_snr >= 0.3 * q.lag_snr,
            f"one half of the scan does not show the movement of the whole (signal to noise"
            f" {e.halves_snr:.1f})",
        ),
        (
            e.disagreement <= config.max_disagreement,
            f"fits to two halves of the scan differ by {100 * e.disagreement:.1f} %",
        ),
        (
            e.walk <= MOST_WALK,
            f"the fit ended {100 * e.walk:.0f} % away from the movement it began with",
        ),
        (
            residual <= MOST_RESIDUAL,
            f"regions still move by {q.predictive_residual_px:.1f} px r.m.s. against the fit",
        ),
        (
            e.unexplained <= MOST_UNEXPLAINED,
            f"{100 * e.unexplained:.0f} % of the frames' contrast does not move with the fit: a"
            " wrong movement, or a specimen that changes",
        ),
        (
            e.saturated <= MOST_SATURATED,
            f"{100 * e.saturated:.1f} % of the pixels are saturated",
        ),
        (
            q.sharpness > 1.0,
            "the superposition shows nothing but noise: no specimen, or too few electrons",
        ),
    ]
    reasons = tuple(text for passed, text in checks if not passed)  # NaN passes nothing
    return (NOT_CALIBRATED if reasons else CALIBRATED), reasons
