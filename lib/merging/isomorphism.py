"""One phase or several behind one cell: told by intensities, with nothing to configure.

Noise lowers correlations as much as another structure does, so the two must be told apart.
In the model used, ``CC_ij = q_i q_j`` for crystals of one structure, with a quality q of each data
set that its noise sets, and ``CC_ij = rho q_i q_j`` for two of different structures: rho is the
correlation of the structures themselves, free of noise (the lengths and angles of
K. Diederichs, 2017, Acta Cryst. D73, 286).

A group of data sets is divided in two where that explains its CCs best. The division stands if
rho is below 0.85 and below anything that the same search finds where there is nothing to find:
in coefficients drawn about ``q_i q_j`` with Fisher's uncertainty and the scatter that the real ones
show beside it. Parts are divided further until nothing stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm

from ..crystal.cell import Floats
from .data_set import DataSet
from .hca import Unassigned, labels_of, qualities
from .merged_reflections import MergedReflections
from .pairwise import MIN_COMMON, Pairwise, correlate, tabulate, z_sd

# Structures whose noise-free intensities correlate better than this are taken as one: data sets
# that cover the same part of reciprocal space agree a little better than others.
MAX_RATIO = 0.85
# Divisions of noise alone, to judge one; and by how many of their standard deviations it must
# lie below them.
N_NULL, MIN_SIGNIFICANCE = 20, 4.0
# A data set has to fit its group so well, beside what its noise lets expect: the first in any
# case, the second where the others scatter so little that it is an outlier.
MIN_FIT, GOOD_FIT = 0.6, 0.85
# Scatter of z that no number of reflections removes: crystals of one phase differ.
_Z_SCATTER = 0.1


@dataclass(frozen=True)
class Contrast:
    """Two groups of data sets compared.

    Attributes
    ----------
    first, second : numbers of the data sets.
    cc_first, cc_second, cc_between : mean CC inside each and between them.
    n_pairs : known pairs between them.
    ratio : rho, the correlation of the two structures corrected for noise.
    significance : standard deviations by which `ratio` is below that of divisions of noise.
    separate : whether they are different structures.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    cc_first: float
    cc_second: float
    cc_between: float
    n_pairs: int
    ratio: float
    significance: float
    separate: bool


@dataclass(frozen=True)
class IsomorphousGroups:
    """Data sets of one cell, by structure.

    Attributes
    ----------
    names : (n) of the data sets.
    groups : numbers of the data sets of each structure, the largest group first.
    unassigned : the others, each with its reason.
    contrasts : every division that was tried, with its evidence; the last of each branch did not
        stand.
    quality : (n,) q, square root of the CC that two such data sets of one structure have; NaN
        for data sets without a correlation.
    why : a sentence.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    unassigned: tuple[Unassigned, ...]
    contrasts: tuple[Contrast, ...]
    quality: Floats
    why: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) number of the group, -1 for none."""
        return labels_of(self.groups, len(self.names))


def isomorphous_groups(pairwise: Pairwise, *, seed: int = 0) -> IsomorphousGroups:
    """Groups of data sets of one structure each.

    Parameters
    ----------
    pairwise : correlations of data sets of one cell, their indexing ambiguity resolved.
    seed : of the noise that judges divisions.

    One data set is a group. Data sets that correlate with nothing, fit worse than their noise
    explains, or share too few reflections are unassigned.
    """
    n = len(pairwise)
    if n == 1:
        quality = np.full(1, np.nan)
        return IsomorphousGroups(pairwise.names, ((0,),), (), (), quality, "there is one data set")
    rng = np.random.default_rng(seed)
    contrasts: list[Contrast] = []
    found: list[NDArray[np.int64]] = []
    left = _strangers(pairwise)
    friends = np.array([i for i in range(n) if i not in left], np.int64)
    _, component = connected_components(
        csr_array(pairwise.known[np.ix_(friends, friends)]), directed=False
    )
    waiting = [friends[component == part] for part in np.unique(component)]
    while waiting:
        mine = waiting.pop()
        contrast = _divide(pairwise, mine, rng)
        if contrast is not None:
            contrasts.append(contrast)
        if contrast is not None and contrast.separate:
            waiting += [np.array(contrast.first), np.array(contrast.second)]
        else:
            found.append(mine)
    quality = np.full(n, np.nan)
    groups = []
    for mine in found:
        kept, reasons, q = _purge(pairwise, mine)
        quality[mine] = q
        left |= reasons
        if len(kept):
            groups.append(tuple(int(i) for i in kept))
    groups.sort(key=lambda g: (-len(g), g[0]))
    return IsomorphousGroups(
        names=pairwise.names,
        groups=tuple(groups),
        unassigned=tuple(Unassigned(i, pairwise.names[i], left[i]) for i in sorted(left)),
        contrasts=tuple(contrasts),
        quality=quality,
        why=_sentence(groups, left, contrasts, n),
    )


def _sentence(
    groups: Sequence[tuple[int, ...]], left: dict[int, str], contrasts: list[Contrast], n: int
) -> str:
    sizes = " + ".join(str(len(g)) for g in groups)
    said = f"{n} data sets: {len(groups)} structure{'' if len(groups) == 1 else 's'}"
    said += f" of {sizes}" if groups else ""
    said += f", {len(left)} unassigned" if left else ""
    stood = [c for c in contrasts if c.separate]
    if stood:
        worst = max(stood, key=lambda c: c.ratio)
        said += (
            f"; the most alike two have CC {worst.cc_between:.2f} between them, "
            f"{min(worst.cc_first, worst.cc_second):.2f} or more inside: {worst.ratio:.2f} corrected "
            f"for noise, {worst.significance:.0f} standard deviations below chance"
        )
    elif contrasts:
        best = min(contrasts, key=lambda c: c.ratio)
        said += (
            f"; the best division has CC {best.cc_between:.2f} between its parts, {best.ratio:.2f} "
            f"corrected for noise, {best.significance:.1f} standard deviations below chance"
        )
    return said


def _strangers(pairwise: Pairwise) -> dict[int, str]:
    """Data sets that correlate with no other beyond chance, each with its reason.

    They must go first: whatever divides a group may as well divide noise.
    """
    n, known = len(pairwise), pairwise.known
    with np.errstate(invalid="ignore"):
        strength = np.where(known, pairwise.z / pairwise.z_sd, -np.inf)
    bar = float(norm.isf(0.01 / max(n - 1, 1)))
    left = {}
    for i in range(n):
        if not np.isfinite(pairwise.cc[i, i]):
            left[i] = "its intensities do not vary"
        elif not known[i].any():
            most = int(np.max(np.delete(pairwise.n_common[i], i), initial=0))
            left[i] = (
                f"shares {most} reflections with others at most, {pairwise.min_common} are "
                "needed for a correlation"
            )
        elif strength[i].max() < bar:
            best = int(np.argmax(strength[i]))
            left[i] = (
                f"correlates with none of {int(known[i].sum())} others beyond chance: best "
                f"{pairwise.cc[i, best]:.2f} over {pairwise.n_common[i, best]} reflections, with "
                f"{pairwise.names[best]}"
            )
    return left


# --- division --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Coefficients:
    """Coefficients and weights of a group, 0 where unknown and on the diagonal."""

    cc: Floats
    weight: Floats


def _divide(
    pairwise: Pairwise, members: NDArray[np.int64], rng: np.random.Generator
) -> Contrast | None:
    """The best division of a group, judged; None below four data sets or without one."""
    if len(members) < 4:
        return None
    part = pairwise.select(members)
    known = part.known
    sd2 = np.where(known, part.z_sd**2, 1.0)
    group = _Coefficients(
        np.where(known, part.cc, 0.0), np.where(known, 1 / (sd2 + _Z_SCATTER**2), 0.0)
    )
    found = _bisect(group)
    if found is None:
        return None
    side, ratio = found
    q = _model_qualities(group, side, ratio)
    model = np.arctanh(np.clip(np.outer(q, q) * np.where(side[:, None] == side, 1, ratio), 0, 0.999))
    upper = np.triu(known, 1)
    excess = _excess_variance((part.z - model)[upper] ** 2, sd2[upper], len(members) + 1)
    expected = np.arctanh(np.clip(np.outer(q, q), 0, 0.999))
    null = []
    for _ in range(N_NULL):
        noise = np.triu(rng.normal(size=known.shape), 1)
        drawn = np.tanh(expected + np.sqrt(sd2 + excess) * (noise + noise.T))
        other = _bisect(_Coefficients(np.where(known, drawn, 0.0), group.weight))
        null.append(1.0 if other is None else other[1])
    # a spread of less than this is none to trust
    spread = max(float(np.std(null, ddof=1)), 0.02)
    significance = (float(np.mean(null)) - ratio) / spread
    separate = ratio < min(MAX_RATIO, *null) and significance > MIN_SIGNIFICANCE
    if np.sum(~side) < np.sum(side):
        side = ~side
    first, second = members[~side], members[side]
    return Contrast(
        first=tuple(int(i) for i in first),
        second=tuple(int(i) for i in second),
        cc_first=_mean_cc(pairwise, first, first),
        cc_second=_mean_cc(pairwise, second, second),
        cc_between=_mean_cc(pairwise, first, second),
        n_pairs=int(np.sum(known[np.ix_(~side, side)])),
        ratio=ratio,
        significance=significance,
        separate=bool(separate),
    )


def _excess_variance(squares: Floats, variance: Floats, n_fitted: int) -> float:
    """What must be added to the variances that the median of squares is that of chi^2 of one.

    The median, so that a few misfits do not widen what they are judged by.
    """
    freedom = max(1 - n_fitted / len(squares), 0.2)
    excess = 0.0
    for _ in range(50):
        ratio = float(np.median(squares / (variance + excess))) / (0.4549 * freedom)
        if abs(ratio - 1) < 0.01 or (ratio < 1 and excess == 0):
            break
        middle = float(np.median(variance)) + excess
        excess = max(excess + 0.7 * (ratio - 1) * middle, 0.0)
    return excess


def _mean_cc(pairwise: Pairwise, a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    square = np.ix_(a, b)
    cc = pairwise.cc[square][pairwise.known[square]]
    return float(cc.mean()) if len(cc) else float("nan")


def _bisect(group: _Coefficients) -> tuple[NDArray[np.bool_], float] | None:
    """(side, rho) of the division that leaves least unexplained; None if there is none.

    Starts: signs of the leading vector of what one structure leaves unexplained, and its largest
    elements. Then data sets change sides while that explains more.
    """
    n = len(group.cc)
    q = _model_qualities(group, np.zeros(n, bool), 1.0)
    rest = group.weight * (group.cc - np.outer(q, q))
    np.fill_diagonal(rest, 0)
    vector = np.linalg.eigh(rest)[1][:, -1]
    vector = vector * np.sign(vector[np.argmax(np.abs(vector))])
    best: tuple[float, NDArray[np.bool_], float] | None = None
    for start in (vector > 0, vector > 0.5 * vector.max()):
        found = _relocate(group, start)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else (best[1], best[2])


def _relocate(
    group: _Coefficients, side: NDArray[np.bool_]
) -> tuple[float, NDArray[np.bool_], float] | None:
    """(unexplained, side, rho) from a start; None where a side keeps fewer than two."""
    side, ratio = side.copy(), 0.5
    q = np.full(len(side), 0.7)
    for _ in range(30):
        if min(side.sum(), (~side).sum()) < 2:
            return None
        q = _model_qualities(group, side, ratio, q, 5)
        ratio = _ratio(group, side, q)
        # what each data set explains on either side, its own q the best for it there
        explained = []
        for other in (False, True):
            m = np.where(side == other, 1.0, ratio) * q
            top = np.maximum((group.weight * group.cc) @ m, 0)
            explained.append(top**2 / np.maximum(group.weight @ m**2, 1e-12))
        moved = explained[1] > explained[0]
        if np.array_equal(moved, side):
            break
        side = moved
    if min(side.sum(), (~side).sum()) < 2:
        return None
    q = _model_qualities(group, side, ratio, q)
    ratio = _ratio(group, side, q)
    model = np.outer(q, q) * np.where(side[:, None] == side, 1, ratio)
    return float(np.sum(group.weight * (group.cc - model) ** 2)), side, ratio


def _ratio(group: _Coefficients, side: NDArray[np.bool_], q: Floats) -> float:
    between = np.where(side[:, None] != side, group.weight, 0.0)
    qq = np.outer(q, q)
    below = float(np.sum(between * qq**2))
    # parts that no pair joins are not told apart
    return float(np.clip(np.sum(between * group.cc * qq) / below, 0, 1)) if below > 0 else 1.0


def _model_qualities(
    group: _Coefficients,
    side: NDArray[np.bool_],
    ratio: float,
    start: Floats | None = None,
    rounds: int = 30,
) -> Floats:
    """(n,) q by weighted least squares of the model, alternating with damped steps."""
    factor = np.where(side[:, None] == side, 1.0, ratio)
    numerator, below = group.weight * factor * group.cc, group.weight * factor**2
    q = np.full(len(side), 0.7) if start is None else start
    for _ in range(rounds):
        new = np.clip(numerator @ q / np.maximum(below @ q**2, 1e-12), 0.02, 0.9999)
        q = np.sqrt(q * new)
    return q


# --- who belongs -----------------------------------------------------------------------------


def _purge(
    pairwise: Pairwise, members: NDArray[np.int64]
) -> tuple[NDArray[np.int64], dict[int, str], Floats]:
    """Members of a group that fit it, the reasons of the others, and q of all."""
    part = pairwise.select(members)
    n = len(members)
    known, weight = part.known, np.where(part.known, np.maximum(part.n_effective - 3, 1), 0.0)
    keep, reasons = np.ones(n, bool), {}
    z = np.where(known, part.z, 0.0)
    while True:
        q = qualities(part, np.where(keep, 0, -1))
        # those left out are measured against those kept
        q_all = np.where(keep, q, _quality_beside(part, q, keep))
        w = weight * keep
        mean_cc = np.tanh(np.sum(w * z, axis=1) / np.maximum(w.sum(axis=1), 1e-12))
        strength = np.sum(w * z, axis=1) / np.sqrt(np.maximum(w.sum(axis=1), 1e-12))
        noise = 1 / np.sqrt(np.maximum(w.sum(axis=1), 1.0))
        root = np.sqrt(np.where(part.reliability > 0.01, part.reliability, np.nan))
        typical = float(np.nanmedian((q_all / root)[keep])) if np.isfinite(root[keep]).any() else 1.0
        middle = float(np.median(q_all[keep]))
        expected = np.where(np.isfinite(root), typical * root, middle)
        fit = q_all / expected
        lone = keep & (strength < 3)
        scatter = 1.4826 * float(np.median(np.abs(fit[keep] - np.median(fit[keep]))))
        bar = MIN_FIT if keep.sum() < 5 else float(np.clip(1 - 4 * scatter, MIN_FIT, GOOD_FIT))
        # pairs of two share what they lack
        poor = keep & (fit < bar) & ((1 - fit) * expected > 3 * noise) & (keep.sum() > 2)
        drop = lone | poor
        if not drop.any():
            break
        worst = int(np.argmin(np.where(drop, fit, np.inf)))
        every = np.flatnonzero(lone) if lone.sum() == keep.sum() else [worst]
        for i in every:
            common = int(part.n_common[i][known[i] & keep].sum())
            reasons[int(members[i])] = (
                f"correlates {mean_cc[i]:.2f} with the others ({common} common reflections), "
                + (
                    "no more than chance"
                    if lone[i]
                    else f"{fit[i]:.2f} of what its sigmas let expect"
                )
            )
            keep[i] = False
        if keep.sum() == 1:
            i = int(np.flatnonzero(keep)[0])
            reasons[int(members[i])] = "none of the others fits it, so that it confirms nothing"
            keep[i] = False
        if not keep.any():
            break
    return members[keep], reasons, q_all


def _quality_beside(part: Pairwise, q: Floats, keep: NDArray[np.bool_]) -> Floats:
    weight = np.where(part.known, np.maximum(part.n_effective - 3, 1), 0.0) * keep
    top = (weight * np.where(part.known, part.cc, 0.0)) @ q
    beside: Floats = np.clip(top / np.maximum(weight @ q**2, 1e-12), 0.0, 0.9999)
    return beside


# --- one data set against several phases -----------------------------------------------------


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
