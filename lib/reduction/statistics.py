"""What repeated and equivalent measurements say about a data set.

Everything starts from `equivalents`, which numbers the observations by unique reflection; the
figures of merit then take those numbers and plain arrays. All intensities must be finite:
leave out what was not measured before, so that it is counted somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Cell, Floats, Integers, d_spacing_A, reciprocal_basis
from ..crystal.lattice_symmetry import candidate_operators, reindex_absences
from .result import Reflections

# hkl as one number: lexicographic order is numeric order, and -hkl is its negative. Exact in
# float64 while every index stays below 2^15.
_INDEX_LIMIT = 2**15
_WEIGHTS = np.array([2.0**34, 2.0**17, 1.0])


# --- equivalent reflections ------------------------------------------------------------------


def asymmetric_unit(hkl: ArrayLike, operators: ArrayLike, friedel: bool = True) -> Integers:
    """The lexicographically largest equivalent of each reflection: (n, 3) int64.

    Parameters
    ----------
    hkl : (n, 3) int.
    operators : (m, 3, 3) int, a group of rotations acting on columns of indices.
    friedel : whether hkl and -hkl are equivalent as well.

    Raises
    ------
    ValueError : if an index is 32768 or more.
    """
    key = reflection_keys(hkl, operators, friedel)
    h = np.rint(key / _WEIGHTS[0])
    key -= h * _WEIGHTS[0]
    k = np.rint(key / _WEIGHTS[1])
    return np.stack([h, k, key - k * _WEIGHTS[1]], axis=1).astype(np.int64)


def equivalents(hkl: ArrayLike, operators: ArrayLike, friedel: bool = True) -> NDArray[np.int64]:
    """Number of the unique reflection that each observation belongs to: (n,) int, 0 ... m - 1.

    Parameters and errors as `asymmetric_unit`.
    """
    inverse = np.unique(reflection_keys(hkl, operators, friedel), return_inverse=True)[1]
    return inverse.reshape(-1).astype(np.int64)


def reflection_keys(hkl: ArrayLike, operators: ArrayLike, friedel: bool = True) -> Floats:
    """(n,) whole numbers, equal for equivalent reflections; in the order of their indices.

    Parameters and errors as `asymmetric_unit`.
    """
    indices = np.asarray(hkl, np.int64).reshape(-1, 3)
    if len(indices) and np.abs(indices).max() >= _INDEX_LIMIT:
        raise ValueError(f"hkl: found {np.abs(indices).max()}, expected below {_INDEX_LIMIT}")
    # (hkl @ M.T) @ w = hkl @ (M.T @ w): one product of thin matrices for all operators
    weights = np.asarray(operators, float).reshape(-1, 3, 3).transpose(0, 2, 1) @ _WEIGHTS
    keys = indices.astype(float) @ weights.T
    largest: Floats = np.max(np.abs(keys) if friedel else keys, axis=1)
    return largest


@dataclass(frozen=True)
class Merged:
    """Weighted means of unique reflections, in the order of the group numbers.

    intensity, sigma : (m,) mean with weights 1/sigma^2, and its sigma by propagation.
    multiplicity : (m,) observations in each.
    """

    intensity: Floats
    sigma: Floats
    multiplicity: NDArray[np.int64]


def merge(group: ArrayLike, intensity: ArrayLike, sigma: ArrayLike) -> Merged:
    """Means of equivalent observations with weights 1/sigma^2.

    Raises
    ------
    ValueError : if shapes differ, a value is not finite or a sigma is not positive.
    """
    g, i, s = _checked(group, intensity, sigma)
    weight = 1 / s**2
    total = np.bincount(g, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, error = np.bincount(g, weight * i) / total, 1 / np.sqrt(total)
    return Merged(mean, error, np.bincount(g))


def _checked(
    group: ArrayLike, intensity: ArrayLike, sigma: ArrayLike | None = None
) -> tuple[NDArray[np.int64], Floats, Floats]:
    g, i = np.asarray(group, np.int64), np.asarray(intensity, float)
    s = np.ones_like(i) if sigma is None else np.asarray(sigma, float)
    if not g.shape == i.shape == s.shape or g.ndim != 1:
        raise ValueError(f"intensity: found shapes {g.shape}, {i.shape}, {s.shape}, expected (n,)")
    bad = int(np.sum(~np.isfinite(i) | ~np.isfinite(s) | (s <= 0)))
    if bad:
        raise ValueError(
            f"intensity: found {bad} without finite intensity and positive sigma, expected none"
        )
    return g, i, s


# --- figures of merit ------------------------------------------------------------------------


def _deviations(group: ArrayLike, intensity: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """|I - mean|, multiplicity and I of the observations measured more than once."""
    g, i, _ = _checked(group, intensity)
    n = np.bincount(g)
    mean = np.bincount(g, i) / np.maximum(n, 1)
    repeated = n[g] > 1
    return np.abs(i - mean[g])[repeated], n[g][repeated].astype(float), i[repeated]


def r_merge(group: ArrayLike, intensity: ArrayLike) -> float:
    """sum |I - <I>| / sum I over reflections measured more than once; NaN if there are none."""
    deviation, _, i = _deviations(group, intensity)
    return float(deviation.sum() / i.sum()) if len(i) else float("nan")


def r_meas(group: ArrayLike, intensity: ArrayLike) -> float:
    """R_merge with each term times sqrt(n / (n - 1)), independent of multiplicity.

    Source: Diederichs & Karplus (1997), Nat. Struct. Biol. 4, 269.
    """
    deviation, n, i = _deviations(group, intensity)
    return float(np.sum(deviation * np.sqrt(n / (n - 1))) / i.sum()) if len(i) else float("nan")


def cc_half(group: ArrayLike, intensity: ArrayLike, seed: int = 0) -> float:
    """CC1/2: correlation of the means of random halves of each reflection's observations.

    An odd observation goes to either half by chance. NaN with fewer than two reflections
    measured more than once. Source: Karplus & Diederichs (2012), Science 336, 1030.
    """
    g, i, _ = _checked(group, intensity)
    n = np.bincount(g)
    order = np.lexsort((np.random.default_rng(seed).random(len(g)), g))
    start = np.cumsum(n) - n
    position = np.arange(len(g)) - start[g[order]]
    flip = np.random.default_rng([seed, 1]).integers(0, 2, len(n))
    half = (position + flip[g[order]]) % 2
    means = []
    for side in (0, 1):
        mine = order[half == side]
        count = np.bincount(g[mine], minlength=len(n))
        means.append(np.bincount(g[mine], i[mine], minlength=len(n)) / np.maximum(count, 1))
    return correlation(means[0][n > 1], means[1][n > 1])


def cc_half_sigma_tau(group: ArrayLike, intensity: ArrayLike) -> float:
    """CC1/2 without random numbers, from the spread within and between reflections.

    ``(V - e) / (V + e)`` with V the variance of the means and e the mean of their own variances
    s^2/n. Source: Assmann, Brehm & Diederichs (2016), J. Appl. Cryst. 49, 1021.
    """
    g, i, _ = _checked(group, intensity)
    n = np.bincount(g)
    repeated = n > 1
    if repeated.sum() < 2:
        return float("nan")
    mean = np.bincount(g, i) / np.maximum(n, 1)
    within = np.bincount(g, (i - mean[g]) ** 2)[repeated]
    n_repeated = n[repeated]
    error = np.mean(within / (n_repeated - 1) / n_repeated)
    between = np.var(mean[repeated], ddof=1)
    return float((between - error) / (between + error))


def chi_square_of_equivalents(group: ArrayLike, intensity: ArrayLike, sigma: ArrayLike) -> float:
    """sum ((I - <I>) / sigma)^2 / sum (n - 1) with the weighted mean: 1 for honest sigmas.

    Its standard deviation for N = sum (n - 1) degrees of freedom is sqrt(2 / N). NaN if no
    reflection was measured twice.
    """
    g, i, s = _checked(group, intensity, sigma)
    mean = merge(g, i, s).intensity
    n = np.bincount(g)
    freedom = int(np.sum(n[n > 0] - 1))
    return float(np.sum(((i - mean[g]) / s) ** 2) / freedom) if freedom else float("nan")


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's correlation coefficient; NaN below two points or where one is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


# --- resolution shells -----------------------------------------------------------------------


@dataclass(frozen=True)
class Shell:
    """Figures of merit of one resolution shell.

    `n_possible`, `completeness` and `multiplicity` count unique reflections under the
    operators used; `i_over_sigma` is the mean over unique reflections, merged.
    """

    d_max_A: float
    d_min_A: float
    n_observed: int
    n_unique: int
    n_possible: int
    completeness: float
    multiplicity: float
    i_over_sigma: float
    r_meas: float
    cc_half: float


def unique_reflections(
    cell: Cell, bravais: str, d_min_A: float, operators: ArrayLike | None = None
) -> Integers:
    """Every unique hkl (n, 3) with d >= d_min_A that the centring allows, without 000.

    Unique under `operators` (by default all rotations of the lattice) and Friedel's law, each
    as its `asymmetric_unit` representative.
    """
    rotations = candidate_operators(bravais) if operators is None else np.asarray(operators)
    basis = reciprocal_basis(cell)
    # h = q.a, so that |h| <= a / d
    h_max, k_max, l_max = (int(edge / d_min_A + 1e-6) for edge in cell[:3])
    plane = np.indices([2 * k_max + 1, 2 * l_max + 1]).reshape(2, -1).T - [k_max, l_max]
    found = []
    for h in range(h_max + 1):  # representatives have h >= 0; by planes to spare memory
        hkl = np.column_stack([np.full(len(plane), h), plane])
        length = np.linalg.norm(hkl @ basis.T, axis=1)
        hkl = hkl[(length > 0) & (length * d_min_A <= 1 + 1e-9)]
        hkl = hkl[~reindex_absences(bravais, hkl)]
        found.append(hkl[hkl @ _WEIGHTS == reflection_keys(hkl, rotations, True)])
    return np.concatenate(found)


def shells(
    reflections: Reflections,
    cell: Cell,
    bravais: str,
    *,
    operators: ArrayLike | None = None,
    n: int = 10,
    seed: int = 0,
) -> tuple[Shell, ...]:
    """Figures of merit in `n` resolution shells of equal volume; n = 1 gives the overall ones.

    Parameters
    ----------
    reflections : observations to count; leave out the untrusted ones beforehand.
    cell, bravais : of the lattice they are indexed on.
    operators : (m, 3, 3) rotations taken as symmetry; by default all of the lattice.
    seed : for the random halves of CC1/2.

    Raises
    ------
    ValueError : if there are no reflections, or an intensity is unusable.
    """
    if len(reflections) == 0:
        raise ValueError("reflections: found none, expected some")
    rotations = candidate_operators(bravais) if operators is None else np.asarray(operators)
    group = equivalents(reflections.hkl, rotations)
    _checked(group, reflections.intensity, reflections.sigma)
    d = d_spacing_A(reflections.hkl, cell)
    d_min = float(d.min())
    d_possible = d_spacing_A(unique_reflections(cell, bravais, d_min, rotations), cell)
    edges = [d_possible.max(), *(d_min * (n / np.arange(1, n + 1)) ** (1 / 3))]

    def shell_of(spacing: Floats) -> NDArray[np.int64]:
        # rounding must not part equivalents that lie on an edge
        return np.minimum(np.round((d_min / spacing) ** 3 * n, 6), n - 1).astype(np.int64)

    observed, possible = shell_of(d), np.bincount(shell_of(d_possible), minlength=n)
    rows = []
    for k in range(n):
        mine = observed == k
        g, i = group[mine], reflections.intensity[mine]
        merged = merge(g, i, reflections.sigma[mine])
        unique = merged.multiplicity > 0
        n_unique = int(unique.sum())
        some = n_unique > 0
        ratio = merged.intensity[unique] / merged.sigma[unique]
        rows.append(
            Shell(
                d_max_A=float(edges[k]),
                d_min_A=float(edges[k + 1]),
                n_observed=len(g),
                n_unique=n_unique,
                n_possible=int(possible[k]),
                completeness=n_unique / possible[k] if possible[k] else float("nan"),
                multiplicity=len(g) / n_unique if some else float("nan"),
                i_over_sigma=float(ratio.mean()) if some else float("nan"),
                r_meas=r_meas(g, i),
                cc_half=cc_half(g, i, seed),
            )
        )
    return tuple(rows)
