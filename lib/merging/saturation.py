"""Whether saturated reflections are worth keeping: what their unsaturated equivalents say.

A saturated pixel is no measurement, but the flanks of the spot and of the rocking curve are. What
the intensity from those is worth depends on camera and detector; equivalents that were recorded
elsewhere, weaker or on another crystal, tell. As a control stand the unsaturated reflections of
the same strength, compared with their own equivalents alike: strong reflections agree worse than
weak ones anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, Integers
from .observations import observations
from .scaling import Scaled

# keep: as any other; fill: only where a reflection has no unsaturated observation; drop: never
SaturatedChoice = Literal["keep", "fill", "drop"]

_MIN_COMPARED = 10
# Beyond these a saturated intensity spoils a mean; and says less than "strong".
_SPOILS, _USELESS = 0.15, 0.6


@dataclass(frozen=True)
class SaturatedEvidence:
    """What was found, and what follows.

    Attributes
    ----------
    choice : for `merge.merge_scaled`.
    n_saturated : saturated observations.
    n_only : unique reflections with no unsaturated observation: lost if they are dropped.
    n_compared : saturated observations with an unsaturated equivalent.
    ratio, ratio_error : median of saturated over mean unsaturated intensity, and its error.
    spread : robust relative scatter of that ratio.
    control_spread : the same for unsaturated observations as strong; NaN if there are too few.
    reason : one sentence.
    """

    choice: SaturatedChoice
    n_saturated: int
    n_only: int
    n_compared: int
    ratio: float
    ratio_error: float
    spread: float
    control_spread: float
    reason: str


def saturated_evidence(scaled: Scaled) -> SaturatedEvidence:
    """Compare saturated observations with their unsaturated equivalents, and decide.

    Kept if the ratio is within 15 % of one (or of what its error allows) and scatters no more than
    twice as much as the control; only filled in where nothing else is known, if worse; dropped if
    ratio or scatter are off by more than 60 %. A ratio above one is expected, as of equivalents
    those saturate that happen to be strong: 1.5 times the control's scatter is allowed for that.
    With fewer than ten comparisons they are filled in: the strongest reflections are missed more
    than they are wrong.
    """
    obs = observations(scaled.data, scaled.operators)
    good = ~np.concatenate(scaled.outlier)
    # outliers among them are just what is in question
    saturated = obs.saturated
    clean = good & ~obs.saturated
    n_only = int(np.sum(_seen(obs.group, saturated) & ~_seen(obs.group, clean)))
    n_saturated = int(saturated.sum())
    if n_saturated == 0:
        nan = float("nan")
        return SaturatedEvidence("keep", 0, 0, 0, nan, nan, nan, nan, "nothing is saturated")
    mean, others = _mean_of_others(obs.group, obs.intensity, obs.sigma, clean)
    known = (others > 0) & (mean > 0)
    ratio = np.where(known, obs.intensity / np.where(known, mean, 1.0), np.nan)
    tested = saturated & known
    n_compared = int(tested.sum())
    if n_compared < _MIN_COMPARED:
        nan = float("nan")
        return SaturatedEvidence(
            "fill", n_saturated, n_only, n_compared, nan, nan, nan, nan,
            f"{n_compared} of {n_saturated} saturated observations have an unsaturated "
            f"equivalent, {_MIN_COMPARED} would decide: used only where nothing else is known",
        )  # fmt: skip
    middle, spread = _middle_and_spread(ratio[tested])
    error = 1.2533 * spread / np.sqrt(n_compared)
    control = clean & known & (mean >= np.quantile(mean[tested], 0.1))
    enough = int(control.sum()) >= _MIN_COMPARED
    control_spread = _middle_and_spread(ratio[control])[1] if enough else float("nan")
    allowed = 2 * control_spread if enough else 0.5
    # of equivalents those saturate that happen to be strong: up to the scatter that is no error
    bias = 1 - middle if middle < 1 else max(middle - 1 - 0.75 * allowed, 0.0)
    choice: SaturatedChoice = "keep"
    if bias - 2 * error > _USELESS or spread > _USELESS + (control_spread if enough else 0):
        choice = "drop"
    elif bias > max(_SPOILS, 2 * error) or spread > allowed:
        choice = "fill"
    what = {
        "keep": "kept",
        "fill": f"used only for the {n_only} reflections without any other observation",
        "drop": f"dropped, and with them {n_only} unique reflections",
    }[choice]
    reason = (
        f"{n_compared} saturated observations are {middle:.2f} ± {error:.2f} of their unsaturated "
        f"equivalents and scatter by {100 * spread:.0f} %"
        + (f" (others as strong: {100 * control_spread:.0f} %)" if enough else "")
        + f": {what}"
    )
    return SaturatedEvidence(
        choice, n_saturated, n_only, n_compared, middle, error, spread, control_spread, reason
    )


def _seen(group: Integers, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = np.bincount(group, which, int(group.max(initial=-1)) + 1) > 0
    return result


def _mean_of_others(
    group: Integers, intensity: Floats, sigma: Floats, clean: NDArray[np.bool_]
) -> tuple[Floats, Integers]:
    """Mean of the clean equivalents of each observation but itself, and how many they are."""
    weight = np.where(clean, 1 / sigma**2, 0.0)
    count = np.bincount(group, clean)[group] - clean
    rest = np.bincount(group, weight)[group] - weight
    total = np.bincount(group, weight * intensity)[group] - weight * intensity
    mean = np.where(count > 0, total / np.where(count > 0, rest, 1.0), 0.0)
    return mean, count.astype(np.int64)


def _middle_and_spread(ratio: Floats) -> tuple[float, float]:
    low, middle, high = np.quantile(ratio, [0.159, 0.5, 0.841])
    return float(middle), float((high - low) / 2)
