"""Which of several phases a data set belongs to, when it indexes in more than one.

Each setting of the data set is compared with the merged intensities of its phase. The best is
that with the highest lower bound of its CC, two standard deviations below it, so that few
reflections that fit by chance do not win; it is chosen where it is beyond chance and enough
standard deviations above the best of every other phase (Fisher's z).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .data_set import DataSet
from .merged_reflections import MergedReflections
from .pairwise import MIN_COMMON, correlate, tabulate, z_sd


@dataclass(frozen=True)
class PhaseFit:
    """One setting of a data set against one phase.

    phase : number of the reference; candidate : number of the setting in the input.
    cc, n_common : over common reflections; NaN below `min_common`.
    significance : of the CC, in standard deviations from 0 (Fisher's z); NaN likewise.
    """

    phase: int
    candidate: int
    cc: float
    n_common: int
    significance: float


@dataclass(frozen=True)
class PhaseChoice:
    """The phase that the intensities of a data set fit.

    best : the fit chosen; None where the data do not decide.
    fits : all fits, the best first.
    margin : standard deviations between the best phase and the best fit to another one;
        infinite if there is no other.
    why : a sentence.
    """

    best: PhaseFit | None
    fits: tuple[PhaseFit, ...]
    margin: float
    why: str


def choose_phase(
    candidates: Sequence[tuple[int, DataSet]],
    references: Sequence[MergedReflections],
    rotations: Sequence[ArrayLike],
    *,
    min_common: int = MIN_COMMON,
    min_margin: float = 3.0,
) -> PhaseChoice:
    """The phase whose merged intensities a data set fits.

    Parameters
    ----------
    candidates : (phase, the data set in a setting of that phase), as many as there are, several
        per phase where its indexing is ambiguous.
    references : merged reflections of each phase, without the data set itself.
    rotations : (m, 3, 3) of each phase's Laue group, acting on columns of indices.
    min_margin : standard deviations that the choice needs.

    Raises
    ------
    ValueError : without candidates, or for a phase that has no reference.
    """
    if not candidates:
        raise ValueError("candidates: found none, expected one or more")
    fits = []
    for number, (phase, data_set) in enumerate(candidates):
        if not 0 <= phase < len(references):
            raise ValueError(f"candidates: found phase {phase}, expected below {len(references)}")
        table = tabulate([data_set, references[phase]], rotations[phase])
        cc, n, _ = correlate(table.select([0]), table.select([1]))
        value, common = float(cc[0, 0]), int(n[0, 0])
        if common < min_common or not np.isfinite(value):
            fits.append(PhaseFit(phase, number, float("nan"), common, float("nan")))
        else:
            z = float(np.arctanh(np.clip(value, -0.9999, 0.9999)))
            fits.append(PhaseFit(phase, number, value, common, z / float(z_sd(common))))
    # by the lower bound of the CC, so that few reflections that fit by chance do not win
    fits.sort(key=lambda f: -_lower(f))
    best, ordered = fits[0], tuple(fits)
    if not np.isfinite(best.cc):
        most = max(f.n_common for f in fits)
        return PhaseChoice(
            None, ordered, 0.0, f"{most} reflections in common at most, {min_common} are needed"
        )
    others = [f for f in fits if f.phase != best.phase and np.isfinite(f.cc)]
    margin = min((_margin(best, f) for f in others), default=float("inf"))
    said = f"phase {best.phase + 1} with CC {best.cc:.2f} ({best.n_common} reflections)"
    if others:
        said += f", phase {others[0].phase + 1} with {others[0].cc:.2f} ({others[0].n_common})"
    if best.significance < min_margin:
        return PhaseChoice(None, ordered, margin, f"no fit beyond chance: {said}")
    if margin < min_margin:
        return PhaseChoice(
            None, ordered, margin, f"not decided, {margin:.1f} standard deviations apart: {said}"
        )
    return PhaseChoice(best, ordered, margin, said)


def _lower(fit: PhaseFit) -> float:
    if not np.isfinite(fit.cc):
        return -np.inf
    z = np.arctanh(np.clip(fit.cc, -0.9999, 0.9999))
    return float(z - 2 * z_sd(fit.n_common))


def _margin(a: PhaseFit, b: PhaseFit) -> float:
    z = np.arctanh(np.clip([a.cc, b.cc], -0.9999, 0.9999))
    return float((z[0] - z[1]) / np.hypot(z_sd(a.n_common), z_sd(b.n_common)))
