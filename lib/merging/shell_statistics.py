"""Figures of merit of unmerged observations by resolution shell.

R factors depend on which mean they refer to, so that it is named: see `Weights`. CC1/2 is of means,
weighted likewise, of random halves with a stated seed; its significance is that of Student's
``t = CC sqrt((n - 2) / (1 - CC^2))``. The sigma-tau form, without random numbers, stands beside it.
Completeness is of a stated range, by default from the lowest reflection of the lattice on.

Sources: Diederichs & Karplus (1997) Nat. Struct. Biol. 4, 269 (R_meas); Weiss (2001) J. Appl.
Cryst. 34, 130 (R_pim); Karplus & Diederichs (2012) Science 336, 1030 (CC1/2); Assmann, Brehm &
Diederichs (2016) J. Appl. Cryst. 49, 1021 (sigma-tau).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from ..crystal.cell import Cell, Floats, Integers, d_spacing_A
from ..reduction import statistics
from ..reduction.statistics import correlation, unique_reflections

# The mean that R factors refer to, and what they are divided by. "unweighted": sum of I (gemmi's
# U); "xds": mean with weights 1/sigma^2, sum of I (gemmi's X; cctbx); "aimless": the same mean,
# n times it (gemmi's Y)
Weights = Literal["unweighted", "xds", "aimless"]

SIGNIFICANT = 0.001


@dataclass(frozen=True)
class MergingShell:
    """Figures of merit of one resolution shell, or of all data.

    Attributes
    ----------
    d_max_A, d_min_A : the range that everything holds for.
    n_observed, n_unique, n_possible : observations; unique reflections with one; and all there
        are in the range that the lattice centring (and the space group, if given) allows.
    completeness, multiplicity : ``n_unique / n_possible`` and ``n_observed / n_unique``.
    mean_intensity : of the unique reflections, merged.
    i_over_sigma : mean over the unique reflections of merged I / sigma.
    r_merge, r_meas, r_pim : over reflections with two observations or more.
    cc_half, cc_half_n, cc_half_p : CC1/2, from so many reflections, and the chance of as much or
        more among unrelated ones.
    cc_half_sigma_tau : CC1/2 without random halves, of the mean that the R factors refer to.
    chi_square : of equivalents about their mean; 1 if the sigmas are honest.
    """

    d_max_A: float
    d_min_A: float
    n_observed: int
    n_unique: int
    n_possible: int
    completeness: float
    multiplicity: float
    mean_intensity: float
    i_over_sigma: float
    r_merge: float
    r_meas: float
    r_pim: float
    cc_half: float
    cc_half_n: int
    cc_half_p: float
    cc_half_sigma_tau: float
    chi_square: float

    @property
    def significant(self) -> bool:
        """Whether CC1/2 is beyond chance at the level of 0.1 % (the asterisk of XDS)."""
        return bool(self.cc_half_p < SIGNIFICANT)


def shell_statistics(
    hkl: ArrayLike,
    intensity: ArrayLike,
    sigma: ArrayLike,
    cell: Cell,
    bravais: str,
    operators: ArrayLike,
    *,
    n_shells: int = 10,
    d_max_A: float | None = None,
    d_min_A: float | None = None,
    weights: Weights = "xds",
    space_group: str | None = None,
    internal_variance: bool = False,
    seed: int = 0,
) -> tuple[MergingShell, ...]:
    """Figures of merit of unmerged observations (n, 3), (n,), (n,) in shells of equal volume.

    Parameters
    ----------
    operators : (m, 3, 3) rotations of the Laue class, acting on columns of indices.
    internal_variance : whether merged sigmas are the larger of what the observations' sigmas and
        what their scatter gives, as cctbx has it; by default the former.
    others : as `merging_statistics`.

    Raises
    ------
    ValueError : if there is no observation in the range, or one without a finite intensity and a
        positive sigma.
    """
    indices = np.asarray(hkl, np.int64).reshape(-1, 3)
    i, s = np.asarray(intensity, float), np.asarray(sigma, float)
    d = d_spacing_A(indices, cell)
    inside = np.ones(len(d), bool)
    if d_max_A is not None:
        inside &= d <= d_max_A * (1 + 1e-9)
    if d_min_A is not None:
        inside &= d >= d_min_A * (1 - 1e-9)
    if space_group is not None:
        inside &= ~_absent(space_group, indices)
    if not inside.any():
        raise ValueError(f"d_min_A: found no observation of {len(d)} in the range, expected some")
    indices, i, s, d = indices[inside], i[inside], s[inside], d[inside]
    lowest, finest = d_max_A, d_min_A or float(d.min())
    possible = unique_reflections(cell, bravais, finest * (1 - 1e-9), operators)
    if space_group is not None:
        possible = possible[~_absent(space_group, possible)]
    d_possible = d_spacing_A(possible, cell)
    if lowest is None:
        lowest = float(d_possible.max())
    d_possible = d_possible[d_possible <= lowest * (1 + 1e-9)]
    edges = (np.linspace(lowest**-3, finest**-3, n_shells + 1)) ** (-1 / 3)

    def shell_of(spacing: Floats) -> NDArray[np.int64]:
        width = max(finest**-3 - lowest**-3, 1e-12)
        # rounding must not part equivalents that lie on an edge
        part = np.round((spacing**-3 - lowest**-3) / width * n_shells, 6)
        return np.clip(part, 0, n_shells - 1).astype(np.int64)

    groups = _Groups.of(indices, i, s, np.asarray(operators), weights, internal_variance, seed)
    unique_d = np.zeros(len(groups.n))
    unique_d[groups.number] = d
    shell, n_possible = shell_of(unique_d), np.bincount(shell_of(d_possible), minlength=n_shells)
    return tuple(
        groups.shell(shell == k, int(n_possible[k]), (float(edges[k]), float(edges[k + 1])))
        for k in range(n_shells)
    )


@dataclass(frozen=True)
class _Groups:
    """Sums over each unique reflection (m,), and the reflection of each observation (n,)."""

    number: Integers
    n: Integers
    mean: Floats
    sigma: Floats
    deviation: Floats  # sum |I - mean|
    denominator: Floats
    halves: tuple[Floats, Floats]
    referred_mean: Floats  # by the weights chosen
    referred_variance: Floats  # of that mean, from scatter
    square: Floats  # sum ((I - weighted mean) / sigma)^2

    @staticmethod
    def of(
        hkl: Integers,
        i: Floats,
        s: Floats,
        operators: Integers,
        weights: Weights,
        internal_variance: bool,
        seed: int,
    ) -> _Groups:
        g = statistics.equivalents(hkl, operators)
        merged = statistics.merge(g, i, s)
        n = merged.multiplicity
        total = _sum(g, i)
        mean = total / n if weights == "unweighted" else merged.intensity
        square = _sum(g, ((i - merged.intensity[g]) / s) ** 2)
        sigma = merged.sigma
        if internal_variance:
            total_w, squares_w = _sum(g, 1 / s**2), _sum(g, 1 / s**4)
            spread = np.where(n > 1, total_w**2 - squares_w, 1.0)
            scatter_sigma = np.sqrt(square * total_w / spread / n)
            sigma = np.where(n > 1, np.maximum(sigma, scatter_sigma), sigma)
        w = np.ones_like(s) if weights == "unweighted" else 1 / s**2
        scatter = _sum(g, w * (i - mean[g]) ** 2) / _sum(g, w)
        return _Groups(
            number=g,
            n=n,
            mean=merged.intensity,
            sigma=sigma,
            deviation=_sum(g, np.abs(i - mean[g])),
            denominator=n * mean if weights == "aimless" else total,
            halves=_half_means(g, i, w, seed),
            referred_mean=mean,
            referred_variance=scatter / np.maximum(n - 1, 1),
            square=square,
        )

    def shell(
        self, mine: NDArray[np.bool_], n_possible: int, limits: tuple[float, float]
    ) -> MergingShell:
        nan = float("nan")
        n_unique, n_observed = int(mine.sum()), int(self.n[mine].sum())
        some = mine & (self.n > 1)
        n, deviation = self.n[some].astype(float), self.deviation[some]
        bottom = float(self.denominator[some].sum())
        cc = correlation(self.halves[0][some], self.halves[1][some])
        freedom = int(np.sum(self.n[some] - 1))

        def over(top: Floats) -> float:
            return float(top.sum() / bottom) if len(n) and bottom != 0 else nan

        return MergingShell(
            d_max_A=limits[0],
            d_min_A=limits[1],
            n_observed=n_observed,
            n_unique=n_unique,
            n_possible=n_possible,
            completeness=n_unique / n_possible if n_possible else nan,
            multiplicity=n_observed / n_unique if n_unique else nan,
            mean_intensity=float(self.mean[mine].mean()) if n_unique else nan,
            i_over_sigma=float(np.mean(self.mean[mine] / self.sigma[mine])) if n_unique else nan,
            r_merge=over(deviation),
            r_meas=over(deviation * np.sqrt(n / (n - 1))),
            r_pim=over(deviation / np.sqrt(n - 1)),
            cc_half=cc,
            cc_half_n=len(n),
            cc_half_p=cc_significance(cc, len(n)),
            cc_half_sigma_tau=_sigma_tau(self.referred_mean[some], self.referred_variance[some]),
            chi_square=float(self.square[some].sum() / freedom) if freedom else nan,
        )


def _half_means(group: Integers, i: Floats, w: Floats, seed: int) -> tuple[Floats, Floats]:
    """Weighted means of halves drawn as in `reduction.statistics.cc_half`; 0 for lone ones."""
    n = np.bincount(group)
    order = np.lexsort((np.random.default_rng(seed).random(len(group)), group))
    position = np.arange(len(group)) - (np.cumsum(n) - n)[group[order]]
    flip = np.random.default_rng([seed, 1]).integers(0, 2, len(n))
    half = (position + flip[group[order]]) % 2
    means = []
    for side in (0, 1):
        mine = order[half == side]
        total = np.bincount(group[mine], w[mine], len(n))
        weighted = np.bincount(group[mine], w[mine] * i[mine], len(n))
        means.append(weighted / np.where(total > 0, total, 1.0))
    return means[0], means[1]


def _sigma_tau(mean: Floats, variance: Floats) -> float:
    if len(mean) < 2:
        return float("nan")
    between, error = np.var(mean, ddof=1), np.mean(variance)
    total = between + error
    return float((between - error) / total) if total > 0 else float("nan")


def cc_significance(cc: float, n: int) -> float:
    """Chance of a CC this high among n unrelated pairs (Student, one-sided); NaN if n < 3."""
    if n < 3 or not np.isfinite(cc):
        return float("nan")
    rest = max(1 - cc**2, 1e-300)
    return float(student.sf(cc * np.sqrt((n - 2) / rest), n - 2))


def _absent(space_group: str, hkl: Integers) -> NDArray[np.bool_]:
    operations = gemmi.SpaceGroup(space_group).operations()
    result: NDArray[np.bool_] = np.asarray(
        operations.systematic_absences(np.asarray(hkl, np.int32)), bool
    )
    return result


def _sum(group: Integers, value: Floats) -> Floats:
    return np.asarray(np.bincount(group, value), np.float64)
