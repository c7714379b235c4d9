"""What each data set does to CC1/2: left out, the merged data should become worse, not better.

CC1/2 without random halves is ``(V - e) / (V + e)``, with V the variance of the merged intensities
and e the mean of their own variances, s^2 / n (Assmann, Brehm & Diederichs, 2016, J. Appl. Cryst.
49, 1021); over resolution shells of equal numbers of reflections, weighted by those that count.
Count, sum and sum of squares of each reflection are enough, so that leaving a data set out
costs no more than the reflections it holds.

Data sets whose delta = CC1/2(all) - CC1/2(without it) is negative and lies more than four standard
deviations below the others are removed, in cycles, up to a tenth of them (as xia2.multiplex
does: Gildea et al., 2022, Acta Cryst. D78, 752). The others are spoken for by their median and
the spread above it, which those that do harm do not widen: of n numbers none can be further
than (n - 1) / sqrt(n) ordinary standard deviations from their mean, so that fewer than 18 data
sets could never lose one. As few numbers tell little of their spread, the four become the
equally improbable value of Student's t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from ..crystal.cell import Floats
from ..reduction.result import Flag
from ..reduction.statistics import equivalents
from .data_set import UNUSABLE, DataSet
from .hca import Unassigned

N_SHELLS = 10
# Differences of CC1/2 below this are rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class DeltaCCHalf:
    """CC1/2 with and without each data set.

    Attributes
    ----------
    names : (n) of the data sets.
    cc_half : of all; NaN with fewer than two reflections measured twice.
    without : (n,) CC1/2 of the others.
    delta : (n,) `cc_half` - `without`: positive for a data set that helps; NaN where either is.
    """

    names: tuple[str, ...]
    cc_half: float
    without: Floats
    delta: Floats


@dataclass(frozen=True)
class Rejection:
    """Data sets that CC1/2 is better without.

    Attributes
    ----------
    kept : numbers of the data sets that stay.
    rejected : the others, each with its reason, in the order of their removal.
    cycles : delta CC1/2 of each cycle, of the data sets that were left; the first of all.
    why : a sentence.
    """

    kept: tuple[int, ...]
    rejected: tuple[Unassigned, ...]
    cycles: tuple[DeltaCCHalf, ...]
    why: str


def delta_cc_half(
    data_sets: Sequence[DataSet], rotations: ArrayLike, *, n_shells: int = N_SHELLS
) -> DeltaCCHalf:
    """CC1/2 with and without each data set.

    Parameters
    ----------
    data_sets : on one scale, in one setting.
    rotations : (m, 3, 3) of the Laue group, acting on columns of indices.
    n_shells : resolution shells, fewer where there are not 50 reflections for each.

    Raises
    ------
    ValueError : without data sets.
    """
    return _Contributions.of(data_sets, rotations, n_shells).deltas(np.arange(len(data_sets)))


def reject_by_delta_cc_half(
    data_sets: Sequence[DataSet],
    rotations: ArrayLike,
    *,
    max_sd: float = 4.0,
    max_cycles: int = 6,
    max_fraction: float = 0.1,
    min_left: int = 3,
    n_shells: int = N_SHELLS,
) -> Rejection:
    """Remove what lowers CC1/2.

    Parameters
    ----------
    data_sets, rotations, n_shells : see `delta_cc_half`.
    max_sd : a delta further below the median in so many standard deviations is removed; more
        where there are few (Student's t).
    max_cycles : the worst are removed, and all deltas made again, at most so often.
    max_fraction : of the data sets that may be removed, rounded up to a whole one.
    min_left : nothing is removed beyond so few.

    Raises
    ------
    ValueError : as `delta_cc_half`, or for limits that are negative or no numbers.
    """
    for name, value in (
        ("max_sd", max_sd), ("max_cycles", max_cycles), ("max_fraction", max_fraction),
    ):  # fmt: skip
        if not value >= 0:
            raise ValueError(f"{name}: found {value}, expected 0 or more")
    table = _Contributions.of(data_sets, rotations, n_shells)
    n = len(data_sets)
    allowed = min(int(np.ceil(max_fraction * n)), n - min_left)
    kept, rejected = np.arange(n), list[Unassigned]()
    cycles = [table.deltas(kept)]
    for _ in range(max_cycles):
        now = cycles[-1]
        room = allowed - len(rejected)
        sound = np.isfinite(now.delta)
        if room <= 0 or sound.sum() < min_left:
            break
        middle = float(np.median(now.delta[sound]))
        above = now.delta[sound & (now.delta >= middle)] - middle
        sd = max(float(np.sqrt(np.mean(above**2))), _ROUNDING)
        limit = middle - sd * float(student_t.isf(norm.sf(max_sd), int(sound.sum()) - 1))
        worst = np.argsort(np.where(sound, now.delta, np.inf), kind="stable")[:room]
        # one that helps is never removed, however much the others help
        out = [i for i in worst if now.delta[i] < min(limit, -_ROUNDING)]
        if not out:
            break
        rejected += [
            Unassigned(
                int(kept[i]),
                table.names[kept[i]],
                f"CC1/2 is {now.cc_half:.4f} with it and {now.without[i]:.4f} without: delta "
                f"{now.delta[i]:+.4f}, {(middle - now.delta[i]) / sd:.1f} standard deviations "
                f"below the median (cycle {len(cycles)})",
            )
            for i in out
        ]
        kept = np.delete(kept, out)
        cycles.append(table.deltas(kept))
    first, last = cycles[0].cc_half, cycles[-1].cc_half
    return Rejection(
        kept=tuple(int(i) for i in kept),
        rejected=tuple(rejected),
        cycles=tuple(cycles),
        why=(
            f"{len(rejected)} of {n} data sets removed, at most {max(allowed, 0)} may be; "
            f"CC1/2 {first:.4f} before, {last:.4f} after"
        ),
    )


@dataclass(frozen=True)
class _Contributions:
    """What each data set adds to each reflection it holds, an element per such pair.

    names : of the data sets. owner, group : (p,) data set and reflection. count, total, square :
        (p,) number, sum and sum of squares of intensities about `centre` of the reflection.
    centre : (m,) of the reflections, about the mean of the shell. shell : (m,).
    """

    names: tuple[str, ...]
    owner: NDArray[np.int64]
    group: NDArray[np.int64]
    count: Floats
    total: Floats
    square: Floats
    centre: Floats
    shell: NDArray[np.int64]

    @classmethod
    def of(
        cls, data_sets: Sequence[DataSet], rotations: ArrayLike, n_shells: int
    ) -> _Contributions:
        if not data_sets:
            raise ValueError("data_sets: found none, expected one or more")
        used = [one.select(~one.has(UNUSABLE | Flag.OUTLIER)) for one in data_sets]
        owner = np.repeat(np.arange(len(used)), [len(one) for one in used])
        group = equivalents(np.concatenate([one.hkl for one in used]), rotations)
        intensity = np.concatenate([one.intensity for one in used])
        intensity = intensity / (float(np.abs(intensity).max(initial=0.0)) or 1.0)
        m = int(group.max(initial=-1)) + 1
        d_A = np.zeros(m)
        d_A[group] = np.concatenate([one.d_A for one in used])
        shells = int(np.clip(m // 50, 1, n_shells))
        shell = np.empty(m, np.int64)
        shell[np.argsort(-d_A, kind="stable")] = np.arange(m) * shells // max(m, 1)
        # variances are differences of large sums unless the means are taken out first
        mean = np.bincount(group, intensity, m) / np.maximum(np.bincount(group, minlength=m), 1)
        level = np.bincount(shell, mean, shells) / np.maximum(np.bincount(shell), 1)
        code, at = np.unique(owner * max(m, 1) + group, return_inverse=True)
        rest = intensity - mean[group]
        at = at.reshape(-1)
        return cls(
            tuple(one.name for one in data_sets),
            code // max(m, 1),
            code % max(m, 1),
            np.asarray(np.bincount(at), float),
            np.asarray(np.bincount(at, rest), float),
            np.asarray(np.bincount(at, rest**2), float),
            mean - level[shell],
            shell,
        )

    def deltas(self, kept: NDArray[np.int64]) -> DeltaCCHalf:
        """CC1/2 of the data sets `kept`, and without each of them."""
        place = np.full(len(self.names), -1)
        place[kept] = np.arange(len(kept))
        mine = place[self.owner] >= 0
        owner, group = place[self.owner[mine]], self.group[mine]
        parts = self.count[mine], self.total[mine], self.square[mine]
        m, shells = len(self.shell), int(self.shell.max(initial=0)) + 1
        sums = [np.asarray(np.bincount(group, part, m), float) for part in parts]
        before = self._terms(np.arange(m), *sums)
        every = [np.asarray(np.bincount(self.shell, t, shells), float) for t in before]
        after = self._terms(
            group, *(total[group] - part for total, part in zip(sums, parts, strict=True))
        )
        code = owner * shells + self.shell[group]
        without = [
            total
            + np.asarray(np.bincount(code, new - old[group], len(kept) * shells), float).reshape(
                -1, shells
            )
            for total, new, old in zip(every, after, before, strict=True)
        ]
        overall = float(_cc_half(*every)[()])
        others = _cc_half(*without)
        names = tuple(self.names[i] for i in kept)
        return DeltaCCHalf(names, overall, others, overall - others)

    def _terms(
        self, group: NDArray[np.int64], count: Floats, total: Floats, square: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """What reflections add to the sums of a shell: 1, mean, mean^2, variance of the mean."""
        repeated = count > 1.5
        n = np.where(repeated, count, 2.0)
        mean = np.where(repeated, self.centre[group] + total / n, 0.0)
        variance = np.where(repeated, np.maximum(square - total**2 / n, 0) / (n - 1) / n, 0.0)
        return repeated.astype(float), mean, mean**2, variance


def _cc_half(n: Floats, mean: Floats, square: Floats, variance: Floats) -> Floats:
    """CC1/2 of shells (..., shells) from the sums over their reflections."""
    enough = n > 1.5
    count = np.where(enough, n, 2.0)
    between = np.maximum(square - mean**2 / count, 0) / (count - 1)
    error = np.maximum(variance, 0) / count
    enough &= between + error > 0
    cc = (between - error) / np.where(enough, between + error, 1.0)
    weight = np.where(enough, n, 0.0)
    total = weight.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        overall: Floats = (weight * cc).sum(axis=-1) / total
    return overall
