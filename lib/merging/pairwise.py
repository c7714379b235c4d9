"""Correlation of every data set with every other, over the reflections they share.

The sums that Pearson's coefficient needs, over the common reflections of all pairs at once, are
products of matrices with a row per data set and a column per unique reflection: of the values
X, their squares and the pattern of what was measured M, ``n = M M^T``, ``sum x = X M^T``,
``sum x^2 = X^2 M^T``, ``sum xy = X X^T``. Columns that many data sets hold are multiplied as
dense blocks, the others as sparse matrices; pairs are never looped over.

Values are by default logarithmic where strong and linear where weak (asinh(I / 2 sigma)), less
a smooth function of resolution, so that the fall-off alone correlates nothing and few strong
reflections do not rule. The uncertainty of a coefficient is Fisher's: ``z = artanh(CC)`` has
standard deviation ``1 / sqrt(n - 3)`` (R. A. Fisher, 1921, Metron 1, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from ..crystal.cell import Floats, d_spacing_A
from ..reduction.result import Flag
from ..reduction.statistics import merge, reflection_keys
from .data_set import UNUSABLE, DataSet
from .merged_reflections import MergedReflections

# Fewer common reflections than this say nothing of a pair: the standard deviation of z is 0.24.
MIN_COMMON = 20
# Columns that more than this part of the rows hold are faster as dense blocks.
_DENSE = 1 / 20
_BLOCK = 2048
# |z| beyond this (CC 0.9998) is as good as certain; keeps identical copies finite.
_Z_MAX = 4.6


@dataclass(frozen=True)
class Pairwise:
    """Correlation coefficients of all pairs of data sets.

    Attributes
    ----------
    names : (n) of the data sets.
    cc : (n, n), symmetric, 1 on the diagonal; NaN where fewer than `min_common` reflections are
        shared, or where one of the two does not vary over them. Absent is not zero.
    n_common : (n, n) unique reflections that both hold; on the diagonal that each holds.
    n_effective : (n, n) what `n_common` is worth with the weights; the same without weights.
    reliability : (n,) part of each data set's variance that its sigmas leave to the crystal, 0
        to 1; NaN where nothing varies.
    min_common : least number of common reflections for a coefficient.
    """

    names: tuple[str, ...]
    cc: Floats
    n_common: NDArray[np.int64]
    n_effective: Floats
    reliability: Floats
    min_common: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n, n) pairs with a coefficient; False on the diagonal."""
        result: NDArray[np.bool_] = np.isfinite(self.cc)
        np.fill_diagonal(result, False)
        return result

    @property
    def z(self) -> Floats:
        """(n, n) Fisher's artanh(CC), kept within +-4.6; NaN where the CC is."""
        limit = np.tanh(_Z_MAX)
        z: Floats = np.arctanh(np.clip(self.cc, -limit, limit))
        return z

    @property
    def z_sd(self) -> Floats:
        """(n, n) standard deviation of `z`, 1 / sqrt(n - 3); infinite up to three reflections."""
        return z_sd(self.n_effective)

    @property
    def expected(self) -> Floats:
        """(n, n) CC of isomorphous crystals if the sigmas were the only difference."""
        root = np.sqrt(self.reliability)
        expected: Floats = np.outer(root, root)
        return expected

    def interval(self, standard_deviations: float = 1.0) -> tuple[Floats, Floats]:
        """Lower and upper bound of each coefficient, (n, n) both."""
        with np.errstate(invalid="ignore"):
            reach = standard_deviations * self.z_sd
            return np.tanh(self.z - reach), np.tanh(self.z + reach)

    def select(self, index: ArrayLike) -> Pairwise:
        """Some of the data sets (a mask or indices)."""
        chosen = np.arange(len(self))[np.asarray(index)]
        square = np.ix_(chosen, chosen)
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            cc=self.cc[square],
            n_common=self.n_common[square],
            n_effective=self.n_effective[square],
            reliability=self.reliability[chosen],
        )


def z_sd(n: ArrayLike) -> Floats:
    """Standard deviation of Fisher's z from n pairs; infinite up to three."""
    count = np.asarray(n, float)
    with np.errstate(divide="ignore"):
        sd: Floats = 1 / np.sqrt(np.maximum(count - 3, 0))
    return sd


def strangers(pairwise: Pairwise) -> dict[int, str]:
    """Data sets that correlate with no other beyond chance, each with its reason.

    Beyond chance: above what the best of that many unrelated pairs reaches once in a hundred.
    They must go before others are divided, as noise divides as well as structure does.
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


@dataclass(frozen=True)
class ValueTable:
    """Values of unique reflections, a row per data set and a column per reflection.

    Attributes
    ----------
    keys : (m,) of the columns, `reduction.statistics.reflection_keys`, ascending.
    columns, values, weights : per row, what it holds: column numbers, values with mean 0 and
        variance 1, weights.
    reliability : (n,) see `Pairwise`.
    """

    keys: Floats
    columns: tuple[NDArray[np.int64], ...]
    values: tuple[Floats, ...]
    weights: tuple[Floats, ...]
    reliability: Floats

    def __len__(self) -> int:
        return len(self.columns)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> ValueTable:
        """Some of the rows, in the order given; the columns stay."""
        return ValueTable(
            self.keys,
            tuple(self.columns[i] for i in rows),
            tuple(self.values[i] for i in rows),
            tuple(self.weights[i] for i in rows),
            self.reliability[np.asarray(rows, np.int64)],
        )


def pairwise_correlations(
    data_sets: Sequence[DataSet],
    rotations: ArrayLike,
    *,
    normalise: bool = True,
    weighted: bool = False,
    min_common: int = MIN_COMMON,
) -> Pairwise:
    """CC of the merged intensities of all pairs of data sets.

    Parameters
    ----------
    data_sets : in one setting of one phase.
    rotations : (m, 3, 3) symmetry acting on columns of indices, e.g. `candidate_operators`;
        Friedel's law is always used.
    normalise : see `values_of`; False compares the intensities themselves, as XSCALE does.
    weighted : weight reflections by what noise leaves of them.
    min_common : pairs with fewer common reflections have no coefficient.

    Raises
    ------
    ValueError : without data sets, or for a `min_common` below 4.
    """
    table = tabulate(data_sets, rotations, normalise=normalise, weighted=weighted)
    return pairwise_of_table(table, [one.name for one in data_sets], min_common=min_common)


def pairwise_of_table(
    table: ValueTable, names: Sequence[str], *, min_common: int = MIN_COMMON
) -> Pairwise:
    """`pairwise_correlations` of values that are at hand. Raises as it does."""
    if min_common < 4:
        raise ValueError(f"min_common: found {min_common}, expected 4 or more")
    cc, n_common, n_effective = correlate(table, table)
    cc[n_common < min_common] = np.nan
    vary = np.array([len(v) > 1 and bool(np.any(v)) for v in table.values])
    np.fill_diagonal(cc, np.where(vary, 1.0, np.nan))
    return Pairwise(tuple(names), cc, n_common, n_effective, table.reliability, min_common)


def tabulate(
    data_sets: Sequence[DataSet | MergedReflections],
    rotations: ArrayLike,
    *,
    normalise: bool = True,
    weighted: bool = False,
) -> ValueTable:
    """Merge each data set under `rotations` and Friedel's law, and bring them on common columns.

    Parameters as `pairwise_correlations`. Observations that cannot be used and outliers are
    left out.

    Raises
    ------
    ValueError : without data sets.
    """
    if not data_sets:
        raise ValueError("data_sets: found none, expected one or more")
    keys, values, weights, reliability = [], [], [], []
    for one in data_sets:
        key, x, w, part = _row(one, rotations, normalise, weighted)
        keys.append(key)
        values.append(x)
        weights.append(w)
        reliability.append(part)
    every, at = np.unique(np.concatenate(keys), return_inverse=True)
    ends = np.cumsum([len(key) for key in keys])[:-1]
    columns = tuple(part.astype(np.int64) for part in np.split(at.reshape(-1), ends))
    return ValueTable(every, columns, tuple(values), tuple(weights), np.array(reliability))


def _row(
    one: DataSet | MergedReflections, rotations: ArrayLike, normalise: bool, weighted: bool
) -> tuple[Floats, Floats, Floats, float]:
    """Keys, values, weights and reliability of one data set."""
    if isinstance(one, DataSet):
        use = ~one.has(UNUSABLE | Flag.OUTLIER)
        hkl, intensity, sigma = one.hkl[use], one.intensity[use], one.sigma[use]
        d_A = one.d_A[use]
    else:
        hkl, intensity, sigma = one.hkl, one.intensity, one.sigma
        d_A = d_spacing_A(one.hkl, one.cell)
    key = reflection_keys(hkl, rotations)
    unique, first, group = np.unique(key, return_index=True, return_inverse=True)
    if len(unique) == 0:
        return unique, unique, unique, float("nan")
    merged = merge(group.reshape(-1), intensity, sigma)
    x, sd = values_of(merged.intensity, merged.sigma, d_A[first], normalise=normalise)
    spread = float(np.std(x))
    # rounding, not the crystal
    if spread <= 1e-9 * max(float(np.abs(x).max()), 1e-300):
        return unique, np.zeros(len(x)), np.ones(len(x)), float("nan")
    reliability = float(np.clip(1 - np.mean(sd**2) / spread**2, 0, 1))
    weight = np.ones(len(x))
    if weighted:
        weight = 1 / (1 + sd**2 / (max(reliability, 0.05) * spread**2))
    return unique, (x - x.mean()) / spread, weight, reliability


def values_of(
    intensity: Floats, sigma: Floats, d_A: Floats, *, normalise: bool = True
) -> tuple[Floats, Floats]:
    """The numbers that are correlated, and their standard deviations.

    With `normalise`, asinh(I / 2 s) with s the median sigma, less a polynomial in 1/d^2 fitted to
    it (of the third degree where there are 150 reflections or more, down to the first below
    50); otherwise the intensities as they are.
    """
    if not normalise:
        return intensity, sigma
    typical = float(np.median(sigma))
    x = np.arcsinh(intensity / (2 * typical))
    sd: Floats = sigma / np.sqrt(intensity**2 + (2 * typical) ** 2)
    if len(x) < 8:
        return x - x.mean(), sd
    s = 1 / d_A**2
    reach = float(np.ptp(s))
    if reach == 0:
        return x - x.mean(), sd
    powers = np.vander(2 * (s - s.min()) / reach - 1, int(np.clip(len(x) // 50, 1, 3)) + 1)
    smooth: Floats = powers @ np.linalg.lstsq(powers, x, rcond=None)[0]
    return x - smooth, sd


def correlate(a: ValueTable, b: ValueTable) -> tuple[Floats, NDArray[np.int64], Floats]:
    """CC of each row of `a` with each of `b` over the columns both hold.

    Parameters
    ----------
    a, b : with the same columns, e.g. selections from one table.

    Returns
    -------
    cc (n_a, n_b), NaN below three common columns or where a row is constant over them; the
    number of common columns (n_a, n_b) int64, and what it is worth with the weights.
    """
    ones, plain = (np.ones_like(c, float) for c in (np.concatenate(a.columns),
                                                    np.concatenate(b.columns)))  # fmt: skip
    xa, xb = np.concatenate(a.values), np.concatenate(b.values)
    wa, wb = np.concatenate(a.weights), np.concatenate(b.weights)
    weighted = bool(np.any(wa != 1) or np.any(wb != 1))
    left = _Rows(a, (wa, wa * xa, wa * xa**2))
    right = left if a is b else _Rows(b, (wb, wb * xb, wb * xb**2))
    # w w, wx w, w wx, wxx w, w wxx, wx wx
    pairs = ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1))
    total, x, y, xx, yy, xy = left.products(right, pairs)
    if weighted:
        (count,) = _Rows(a, (ones,)).products(_Rows(b, (plain,)), ((0, 0),))
        (squares,) = _Rows(a, (wa**2,)).products(_Rows(b, (wb**2,)), ((0, 0),))
        with np.errstate(invalid="ignore", divide="ignore"):
            effective = np.where(count > 0, total**2 / squares, 0.0)
    else:
        count, effective = total, total
    n = np.rint(count).astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx - x * x / total, yy - y * y / total
        cc = (xy - x * y / total) / np.sqrt(var_x * var_y)
        # what is left of a constant by rounding is no variance
        flat = (var_x <= 1e-9 * np.maximum(xx, 1e-9)) | (var_y <= 1e-9 * np.maximum(yy, 1e-9))
    cc = np.where((n < 3) | flat, np.nan, np.clip(cc, -1, 1))
    return cc, n, np.asarray(effective, float)


class _Rows:
    """Several matrices of one pattern, split into columns that many rows hold and the others."""

    def __init__(self, table: ValueTable, data: tuple[Floats, ...]) -> None:
        indices = np.concatenate(table.columns)
        indptr = np.r_[0, np.cumsum([len(c) for c in table.columns])]
        shape = (len(table), len(table.keys))
        self.matrices = [csr_array((d, indices, indptr), shape=shape).tocsc() for d in data]
        self.count = np.bincount(indices, minlength=shape[1])

    def products(self, other: _Rows, pairs: Sequence[tuple[int, int]]) -> list[Floats]:
        """``A[i] B[j]^T`` for each (i, j); those that mirror another are not computed again."""
        size = (self.matrices[0].shape[0], other.matrices[0].shape[0])
        same = self is other
        needed = [p for p in pairs if not (same and p[::-1] in pairs and p[0] < p[1])]
        result = {p: np.zeros(size) for p in needed}
        both = (self.count > 0) & (other.count > 0)
        much = both & (
            self.count.astype(float) * other.count > _DENSE**2 * float(size[0]) * size[1]
        )
        rare = np.flatnonzero(both & ~much)
        if len(rare):
            a = [m[:, rare].tocsr() for m in self.matrices]
            b = a if same else [m[:, rare].tocsr() for m in other.matrices]
            for i, j in needed:
                result[i, j] += (a[i] @ b[j].T).toarray()
        dense = np.flatnonzero(much)
        for block in np.array_split(dense, max(-(-len(dense) // _BLOCK), 1)):
            if len(block) == 0:
                continue
            full = [m[:, block].toarray() for m in self.matrices]
            others = full if same else [m[:, block].toarray() for m in other.matrices]
            for i, j in needed:
                result[i, j] += full[i] @ others[j].T
        return [result[p] if p in result else result[p[::-1]].T for p in pairs]
