"""Indexing ambiguity: lattices with more symmetry than the crystal, by nature or nearly.

Where the lattice allows several settings (`ambiguity_operators`) each data set was indexed in one
of them by chance.

Each data set enters in all its settings. They are placed in a space of few dimensions so that
scalar products reproduce the CCs (Brehm & Diederichs, 2014, Acta Cryst. D70, 101; with copies as
Gildea & Winter, 2018, Acta Cryst. D74, 405): settings that belong together point one way. From
every setting of some good data sets as a start, the copies nearest to its direction are taken
and then changed one by one while the sum of weighted artanh(CC) grows; the best sum wins. At
last each data set is compared, in each setting, with the mean of all others in theirs: that
gives the confidence, and tells an ambiguity from symmetry that the crystals have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from ..crystal.cell import Floats
from .ambiguity_operators import ambiguity_operators, among
from .data_set import DataSet
from .hca import Unassigned
from .pairwise import MIN_COMMON, ValueTable, correlate, tabulate, z_sd

# Settings whose CCs, corrected for noise, come closer than this to each other are symmetry.
SYMMETRY_RATIO = 0.9
# Standard deviations by which a setting must lead the next to be called resolved.
MIN_SIGNIFICANCE = 2.0
# Copies that are embedded; data sets beyond are compared with the mean of those that are.
MAX_COPIES = 600


@dataclass(frozen=True)
class Ambiguity:
    """The settings that bring data sets together.

    Attributes
    ----------
    names : (n) of the data sets.
    operators : (k, 3, 3) the settings as transforms for `DataSet.reindexed`, the identity first.
        Whole numbers, or fractions that keep the indices of a centred lattice whole.
    choice : (n,) the operator of each data set.
    confidence : (n,) probability that no other setting fits better; 1 where all are alike.
    significance : (n,) standard deviations between the best setting and the next; NaN where
        nothing can be compared.
    symmetry : (k,) operators that the intensities obey, the identity among them; settings that
        differ by one of these are not told apart, and need not be.
    operator_cc : (k,) mean CC with the others after each operator is applied to the choice; NaN
        where nothing can be compared.
    unresolved : data sets that may be in another setting, each with its reason.
    why : a sentence.
    """

    names: tuple[str, ...]
    operators: Floats
    choice: NDArray[np.int64]
    confidence: Floats
    significance: Floats
    symmetry: NDArray[np.bool_]
    operator_cc: Floats
    unresolved: tuple[Unassigned, ...]
    why: str

    @property
    def transforms(self) -> Floats:
        """(n, 3, 3) for `DataSet.reindexed`."""
        return self.operators[self.choice]

    def apply(self, data_sets: Sequence[DataSet]) -> tuple[DataSet, ...]:
        """The data sets in the settings chosen."""
        return tuple(
            one.reindexed(t) if number else one
            for one, t, number in zip(data_sets, self.transforms, self.choice, strict=True)
        )


# --- the choice ------------------------------------------------------------------------------


def resolve_ambiguity(
    data_sets: Sequence[DataSet],
    rotations: ArrayLike,
    operators: ArrayLike | None = None,
    *,
    min_common: int = MIN_COMMON,
    seed: int = 0,
) -> Ambiguity:
    """The setting of each data set in which it agrees with the others.

    Parameters
    ----------
    data_sets : of one phase, each in any of its settings.
    rotations : (m, 3, 3) of the Laue group, acting on columns of indices.
    operators : settings to choose from, the identity first; by default `ambiguity_operators` of
        the mean cell of the data sets.
    min_common : pairs with fewer common reflections are not compared.
    seed : of the embedding's start.

    One setting is free; it is the one that leaves most data sets as they are. Without an
    ambiguity, and for one data set, the identity is returned without work.

    Raises
    ------
    ValueError : without data sets, or as `ambiguity_operators`.
    """
    if not data_sets:
        raise ValueError("data_sets: found none, expected one or more")
    n = len(data_sets)
    if operators is None:
        a, b, c, alpha, beta, gamma = np.mean([one.cell for one in data_sets], axis=0).tolist()
        operators = ambiguity_operators(
            (a, b, c, alpha, beta, gamma), data_sets[0].bravais, rotations
        )
    settings = np.asarray(operators, float)
    k = len(settings)
    if k == 1 or n == 1:
        why = (
            "the lattice has no rotation that the crystal lacks"
            if k == 1
            else "one data set: each of its settings is as good"
        )
        alone = np.full(k, np.nan)
        return _unchanged(data_sets, settings, np.arange(k) == 0, alone, why)

    copies = [one.reindexed(t) if c else one for one in data_sets for c, t in enumerate(settings)]
    table = tabulate(copies, rotations)
    own = np.asarray(rotations, float).transpose(0, 2, 1)
    relative = _relative(settings, own)
    first = _first_choice(table, n, k, min_common, seed)
    choice, cc, common = _by_mean_of_others(table, first, min_common)
    return _judged(data_sets, settings, relative, own, choice, cc, common, min_common)


def _unchanged(
    data_sets: Sequence[DataSet],
    settings: Floats,
    symmetry: NDArray[np.bool_],
    operator_cc: Floats,
    why: str,
) -> Ambiguity:
    n = len(data_sets)
    return Ambiguity(
        names=tuple(one.name for one in data_sets),
        operators=settings,
        choice=np.zeros(n, np.int64),
        confidence=np.ones(n),
        significance=np.full(n, np.nan),
        symmetry=symmetry,
        operator_cc=operator_cc,
        unresolved=(),
        why=why,
    )


def _relative(settings: Floats, own: Floats) -> NDArray[np.int64]:
    """(k, k) number of the operator that leads from setting g to setting c."""
    k = len(settings)
    table = np.zeros((k, k), np.int64)
    for g in range(k):
        for c in range(k):
            step = np.linalg.solve(settings[g], settings[c])
            table[g, c] = next(
                (p for p in range(k) if among(np.linalg.solve(settings[p], step), own)), 0
            )
    return table


def _first_choice(
    table: ValueTable, n: int, k: int, min_common: int, seed: int
) -> NDArray[np.int64]:
    """(n,) by embedding and then by pairs; -1 for data sets left to the mean of the others."""
    size = np.array([len(c) for c in table.columns]).reshape(n, k)[:, 0]
    reliability = np.nan_to_num(table.reliability.reshape(n, k)[:, 0])
    order = np.argsort(-size * reliability, kind="stable")[: max(MAX_COPIES // k, 2)]
    chosen = np.sort(order)
    m = len(chosen)
    part = table.select((chosen[:, None] * k + np.arange(k)).reshape(-1))
    cc, common, _ = correlate(part, part)
    known = np.isfinite(cc) & (common >= min_common)
    known &= np.repeat(np.repeat(~np.eye(m, dtype=bool), k, 0), k, 1)
    weight = np.where(known, 1 / (z_sd(np.maximum(common, 4)) ** 2 + 0.01), 0.0)
    cc = np.where(known, cc, 0.0)
    places = embed(cc, weight, k, seed)
    gain = (weight * np.arctanh(np.clip(cc, -0.999, 0.999))).reshape(m, k, m, k)
    best: tuple[float, NDArray[np.int64]] | None = None
    strength = weight.reshape(m, k, -1).sum(axis=(1, 2))
    unit = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)
    unit = unit.reshape(m, k, -1)
    for anchor in np.argsort(-strength, kind="stable")[: min(m, 10)]:
        for c in range(k):
            choice = np.argmax(unit @ unit[anchor, c], axis=1)
            choice = _improve(gain, choice)
            total = float(gain[np.arange(m), choice][:, np.arange(m), choice].sum())
            if best is None or total > best[0] + 1e-9:
                best = (total, choice)
    assert best is not None
    result = np.full(n, -1, np.int64)
    result[chosen] = best[1]
    return result


def embed(cc: Floats, weight: Floats, dimensions: int, seed: int = 0) -> Floats:
    """(n, dimensions) coordinates whose scalar products are the CCs, by weighted least squares.

    cc, weight : (n, n), the weight 0 where a coefficient is unknown and on the diagonal.
    Each point is the solution of a linear problem with the others fixed; started from the
    eigenvectors, with the unknown elements 0, and a little noise.
    """
    known = weight > 0
    values, vectors = np.linalg.eigh(np.where(known, cc, 0.0))
    top = np.argsort(-values)[:dimensions]
    points = vectors[:, top] * np.sqrt(np.maximum(values[top], 1e-6))
    points = points + np.random.default_rng(seed).normal(scale=0.01, size=points.shape)
    ridge = 1e-3 * max(float(weight.sum(axis=1).mean()), 1e-9) * np.eye(points.shape[1])
    for _ in range(40):
        outer = (points[:, :, None] * points[:, None]).reshape(len(points), -1)
        matrix = (weight @ outer).reshape(len(points), *ridge.shape) + ridge
        new = np.linalg.solve(matrix, ((weight * cc) @ points)[:, :, None])[:, :, 0]
        # half a step: all move at once, and would swing
        points = 0.5 * (points + new)
    result: Floats = points
    return result


def _improve(gain: Floats, choice: NDArray[np.int64]) -> NDArray[np.int64]:
    """Change one data set at a time while the sum of the gains grows."""
    m = len(choice)
    choice = choice.copy()
    rows = np.arange(m)
    # support[i, c]: what setting c of i gains with the others as they are
    support = gain[:, :, rows, choice].sum(axis=2)
    for _ in range(20 * m):
        more = support.max(axis=1) - support[rows, choice]
        i = int(np.argmax(more))
        if more[i] <= 1e-9:
            break
        new = int(np.argmax(support[i]))
        support += gain[:, :, i, new] - gain[:, :, i, choice[i]]
        choice[i] = new
    return choice


def _by_mean_of_others(
    table: ValueTable, choice: NDArray[np.int64], min_common: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """(choice, cc (n, k), common (n, k)) against the mean of the others as chosen."""
    n = len(choice)
    k = len(table) // n
    cc, common = np.full((n, k), np.nan), np.zeros((n, k), np.int64)
    for _ in range(5):
        total, weight = np.zeros(len(table.keys)), np.zeros(len(table.keys))
        parts = []
        for i in range(n):
            row = i * k + max(int(choice[i]), 0)
            w = 0.0 if choice[i] < 0 else float(np.nan_to_num(table.reliability[row]))
            parts.append((table.columns[row], w * table.values[row], w))
            total[parts[-1][0]] += parts[-1][1]
            weight[parts[-1][0]] += w
        for i, (columns, values, w) in enumerate(parts):
            total[columns] -= values
            weight[columns] -= w
            for c in range(k):
                at = table.columns[i * k + c]
                seen = weight[at] > 1e-9
                common[i, c] = int(seen.sum())
                x, y = table.values[i * k + c][seen], total[at][seen] / weight[at][seen]
                enough = len(x) >= min_common and np.ptp(x) > 0 and np.ptp(y) > 0
                cc[i, c] = np.corrcoef(x, y)[0, 1] if enough else np.nan
            total[columns] += values
            weight[columns] += w
        best = np.argmax(np.where(np.isfinite(cc), cc, -2.0), axis=1)
        better = np.where(np.isfinite(cc).any(axis=1), best, np.maximum(choice, 0))
        if np.array_equal(better, choice):
            break
        choice = better
    return choice, cc, common


def _judged(
    data_sets: Sequence[DataSet],
    settings: Floats,
    relative: NDArray[np.int64],
    own: Floats,
    choice: NDArray[np.int64],
    cc: Floats,
    common: NDArray[np.int64],
    min_common: int,
) -> Ambiguity:
    n, k = cc.shape
    rows = np.arange(n)
    z, sd = np.arctanh(np.clip(cc, -0.9999, 0.9999)), z_sd(common)
    with np.errstate(invalid="ignore"):
        lead = (z[rows, choice][:, None] - z) / np.hypot(sd[rows, choice][:, None], sd)
    # each operator's mean CC, applied to the choice of all
    steps = relative[choice]
    operator_cc, leads = np.full(k, np.nan), np.full(k, np.nan)
    for p in range(k):
        mine = (steps == p) & np.isfinite(cc) & np.isfinite(cc[rows, choice])[:, None]
        if mine.any():
            operator_cc[p] = np.tanh(np.average(z[mine], weights=np.maximum(common[mine] - 3, 1)))
            leads[p] = float(lead[mine].mean())
    if not np.isfinite(operator_cc[0]):
        unresolved = tuple(
            Unassigned(i, one.name, _too_few(int(common[i].max()), min_common))
            for i, one in enumerate(data_sets)
        )
        result = _unchanged(data_sets, settings, np.arange(k) == 0, operator_cc, "")
        return Ambiguity(
            **{
                **result.__dict__,
                "confidence": np.full(n, 1 / k),
                "unresolved": unresolved,
                "why": f"no two of {n} data sets share {min_common} reflections",
            }
        )
    # a mean lead of |N(0, 1)| is what chance makes of two settings that are alike
    bar = max(2.0, 3.0 / np.sqrt(max(n - 1, 1)))
    with np.errstate(invalid="ignore"):
        differs = (operator_cc < SYMMETRY_RATIO * operator_cc[0]) & (leads > bar)
    symmetry = ~differs
    symmetry[0] = True
    # where settings are alike, the first of them
    choice = np.array([min(np.flatnonzero(symmetry[relative[g]])) for g in choice])
    choice = _most_unchanged(settings, own, choice)
    significance = np.full(n, np.nan)
    unresolved_list = []
    for i, one in enumerate(data_sets):
        others = lead[i][~symmetry[steps[i]] & np.isfinite(lead[i])]
        if symmetry.all():
            continue
        if len(others) == 0:
            reason = _too_few(int(common[i].max()), min_common)
            unresolved_list.append(Unassigned(i, one.name, reason))
            continue
        significance[i] = others.min()
        if significance[i] < MIN_SIGNIFICANCE:
            unresolved_list.append(
                Unassigned(
                    i,
                    one.name,
                    f"CC {np.nanmax(cc[i]):.2f} with the others in the setting chosen, only "
                    f"{significance[i]:.1f} standard deviations above the next",
                )
            )
    confidence = np.where(np.isfinite(significance), norm.cdf(significance), 1 / k)
    if symmetry.all():
        confidence = np.ones(n)
    return Ambiguity(
        names=tuple(one.name for one in data_sets),
        operators=settings,
        choice=choice,
        confidence=confidence,
        significance=significance,
        symmetry=symmetry,
        operator_cc=operator_cc,
        unresolved=tuple(unresolved_list),
        why=_sentence(operator_cc, symmetry, choice, len(unresolved_list)),
    )


def _too_few(most: int, min_common: int) -> str:
    return f"shares {most} reflections with the others, {min_common} are needed"


def _most_unchanged(settings: Floats, own: Floats, choice: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same relative settings, with most data sets (then the first) as they were."""
    best: tuple[int, bool] | None = None
    result = choice
    for common in settings:
        # a change of all that would leave the setting the rotations are given in is none
        if not all(among(np.linalg.solve(common, one @ common), own) for one in own):
            continue
        moved = np.array(
            [
                next(
                    p
                    for p in range(len(settings))
                    if among(np.linalg.solve(settings[p], settings[g] @ common), own)
                )
                for g in choice
            ]
        )
        rank = (int(np.sum(moved == 0)), bool(moved[0] == 0))
        if best is None or rank > best:
            best, result = rank, moved
    return result


def _sentence(
    operator_cc: Floats, symmetry: NDArray[np.bool_], choice: NDArray[np.int64], unresolved: int
) -> str:
    said = f"mean CC with the others {operator_cc[0]:.2f}"
    if symmetry.all():
        others = np.nanmin(operator_cc[1:]) if np.isfinite(operator_cc[1:]).any() else np.nan
        return f"all settings are alike ({said}, {others:.2f} in the worst): nothing to resolve"
    differing = np.nanmax(operator_cc[~symmetry])
    return (
        f"{said}, {differing:.2f} in the next setting; {int(np.sum(choice > 0))} of {len(choice)} "
        f"data sets reindexed, {unresolved} unresolved"
    )
