"""Dividing data sets of one cell by structure: the model, the search, and how it is judged.

Noise lowers correlations as much as another structure does, so the two must be told apart.
In the model used, ``CC_ij = q_i q_j`` for crystals of one structure, with a quality q of each data
set that its noise sets, and ``CC_ij = rho q_i q_j`` for two of different structures: rho is the
correlation of the structures themselves, free of noise (the lengths and angles of
K. Diederichs, 2017, Acta Cryst. D73, 286).

A group of data sets is divided in two where that explains its CCs best. The division stands if
rho is below 0.85 and below anything that the same search finds where there is nothing to find:
in coefficients drawn about ``q_i q_j`` with Fisher's uncertainty and the scatter that the real ones
show beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .pairwise import Pairwise

# Structures whose noise-free intensities correlate better than this are taken as one: data sets
# that cover the same part of reciprocal space agree a little better than others.
MAX_RATIO = 0.85
# Divisions of noise alone, to judge one; and by how many of their standard deviations it must
# lie below them.
N_NULL, MIN_SIGNIFICANCE = 20, 3.5
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
class _Coefficients:
    """Coefficients and weights of a group, 0 where unknown and on the diagonal."""

    cc: Floats
    weight: Floats


def divide(
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
    model = np.arctanh(
        np.clip(np.outer(q, q) * np.where(side[:, None] == side, 1, ratio), 0, 0.999)
    )
    upper = np.triu(known, 1)
    excess = _excess_variance((part.z - model)[upper] ** 2, sd2[upper], len(members) + 1)
    # few pairs fitted by as many qualities leave no scatter to be seen
    excess = max(excess, _Z_SCATTER**2)
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
