"""Which rotations of the lattice the intensities obey, and the Laue class they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Floats, Integers
from .statistics import correlation, equivalents, merge, reflection_keys


@dataclass(frozen=True)
class OperatorCorrelation:
    """How well one rotation maps the intensities onto each other.

    Attributes
    ----------
    operator : (3, 3) int, acting on columns of indices.
    n_pairs : pairs of different reflections that it relates (each counted once).
    cc : correlation of normalised amplitudes over the pairs; NaN below three pairs.
    significance : cc in units of its standard deviation for random pairs, 1 / sqrt(n).
    seen : the intensities obey it (see `operator_correlations`).
    """

    operator: Integers
    n_pairs: int
    cc: float
    significance: float
    seen: bool


def normalised_amplitudes(intensity: ArrayLike, d_A: ArrayLike, per_shell: int = 50) -> Floats:
    """Signed sqrt(|I| / <I>) with <I> of resolution shells of about `per_shell` reflections.

    Like |E|, but negative intensities keep their sign instead of being clipped. NaN in shells
    whose mean is not positive: they hold no signal to normalise by.
    """
    i, d = np.asarray(intensity, float), np.asarray(d_A, float)
    result = np.full(len(i), np.nan)
    for shell in np.array_split(np.argsort(-d), max(len(i) // per_shell, 1)):
        mean = i[shell].mean() if len(shell) else 0.0
        if mean > 0:
            result[shell] = np.sign(i[shell]) * np.sqrt(np.abs(i[shell]) / mean)
    return result


def operator_correlations(
    hkl: ArrayLike, intensity: ArrayLike, sigma: ArrayLike, d_A: ArrayLike, operators: ArrayLike
) -> tuple[OperatorCorrelation, ...]:
    """For each rotation of the lattice, whether the intensities obey it.

    Observations of hkl and -hkl are merged first. The correlation is taken over the pairs
    (hkl, R hkl) in both orders, of amplitudes normalised in resolution shells, so that the
    fall-off with resolution alone correlates nothing. Randomly paired values have mean
    correlation 0 and standard deviation 1 / sqrt(n) (Pitman, 1937, Suppl. J. R. Stat. Soc. 4,
    225). A rotation counts as `seen` where it has at least ten pairs, exceeds random pairs by
    three standard deviations, and reaches half the correlation of the best rotation that does:
    pseudo-symmetry correlates too, but worse than symmetry.

    Parameters
    ----------
    hkl, intensity, sigma, d_A : (n, 3), (n,), (n,), (n,).
    operators : (m, 3, 3), as `crystal.lattice_symmetry.candidate_operators`; the identity
        is among the results with no pairs, cc 1 and `seen`.

    Raises
    ------
    ValueError : if a value is not finite or a sigma is not positive.
    """
    rotations = np.asarray(operators, np.int64)
    identity = np.eye(3, dtype=np.int64)
    group = equivalents(hkl, identity[None])
    merged = merge(group, intensity, sigma)
    first = np.unique(group, return_index=True)[1]
    unique = np.asarray(hkl, np.int64)[first]
    amplitude = normalised_amplitudes(merged.intensity, np.asarray(d_A, float)[first])
    unique, amplitude = unique[np.isfinite(amplitude)], amplitude[np.isfinite(amplitude)]

    key = reflection_keys(unique, identity[None])  # ascending, as the groups are numbered
    rows = []
    for rotation in rotations:
        if np.array_equal(rotation, identity):
            rows.append((rotation, 0, 1.0, np.inf))
            continue
        turned = reflection_keys(unique @ rotation.T, identity[None])
        partner = np.minimum(np.searchsorted(key, turned), len(key) - 1)
        mine = np.flatnonzero((key[partner] == turned) & (turned != key))
        low, high = np.minimum(mine, partner[mine]), np.maximum(mine, partner[mine])
        low, high = np.divmod(np.unique(low * len(key) + high), len(key))
        x, y, n = amplitude[low], amplitude[high], len(low)
        cc = correlation(np.r_[x, y], np.r_[y, x]) if n > 2 else float("nan")
        rows.append((rotation, n, cc, cc * np.sqrt(n)))

    sure = [n >= 10 and z > 3 for _, n, _, z in rows]
    best = max((row[2] for row, is_sure in zip(rows, sure, strict=True) if is_sure), default=1.0)
    return tuple(
        OperatorCorrelation(
            rotation, n, cc, float(z), bool(np.isinf(z) or (is_sure and cc > best / 2))
        )
        for (rotation, n, cc, z), is_sure in zip(rows, sure, strict=True)
    )


@dataclass(frozen=True)
class LaueVerdict:
    """The Laue class that the intensities show.

    Attributes
    ----------
    laue_class : Hermann-Mauguin symbol, e.g. "2/m" or "m-3m".
    operators : (m, 3, 3) its rotations, a subset of those tried.
    n_seen, n_tried : rotations other than the identity that were seen, of those tried.
    lowest_cc, highest_rejected_cc : worst correlation inside the class and best outside it;
        NaN if there is none.
    """

    laue_class: str
    operators: Integers
    n_seen: int
    n_tried: int
    lowest_cc: float
    highest_rejected_cc: float


_LAUE_CLASS = {  # rotations of order 2, 3, 4, 6
    (0, 0, 0, 0): "-1",
    (1, 0, 0, 0): "2/m",
    (3, 0, 0, 0): "mmm",
    (1, 0, 2, 0): "4/m",
    (5, 0, 2, 0): "4/mmm",
    (0, 2, 0, 0): "-3",
    (3, 2, 0, 0): "-3m",
    (1, 2, 0, 2): "6/m",
    (7, 2, 0, 2): "6/mmm",
    (3, 8, 0, 0): "m-3",
    (9, 8, 6, 0): "m-3m",
}


def laue_verdict(correlations: tuple[OperatorCorrelation, ...]) -> LaueVerdict:
    """The largest group made only of rotations that were seen; of equals, the best correlated.

    `correlations` must cover a whole group (as from the lattice's operators).

    Raises
    ------
    ValueError : if the operators are not a group.
    """
    operators = np.array([c.operator for c in correlations])
    index = {op.tobytes(): i for i, op in enumerate(operators)}
    products = np.einsum("aij,bjk->abik", operators, operators)
    try:
        table = [[index[p.tobytes()] for p in line] for line in products]
        identity = index[np.eye(3, dtype=operators.dtype).tobytes()]
    except KeyError:
        raise ValueError("operators: found a set that is no group, expected one") from None

    seen = [i for i, c in enumerate(correlations) if c.seen]
    ccs = np.array([c.cc for c in correlations])

    def rank(members: frozenset[int]) -> tuple[int, float]:
        return len(members), float(np.mean(ccs[sorted(members)]))

    # every rotation group needs at most two generators
    groups = {_generated(table, frozenset({identity, i, j})) for i in seen for j in seen}
    chosen = max((g for g in groups if g <= set(seen)), key=rank, default=frozenset({identity}))
    inside = sorted(chosen - {identity})
    outside = [i for i in range(len(ccs)) if i not in chosen and np.isfinite(ccs[i])]
    # order from the trace, 1 + 2 cos(angle)
    traces = np.trace(operators[inside], axis1=1, axis2=2).tolist()
    return LaueVerdict(
        laue_class=_LAUE_CLASS[tuple(traces.count(t) for t in (-1, 0, 1, 2))],
        operators=operators[[identity, *inside]],
        n_seen=len(set(seen) - {identity}),
        n_tried=len(correlations) - 1,
        lowest_cc=float(np.min(ccs[inside])) if inside else float("nan"),
        highest_rejected_cc=float(np.max(ccs[outside])) if outside else float("nan"),
    )


def _generated(table: list[list[int]], start: frozenset[int]) -> frozenset[int]:
    members = start
    while True:
        more = members | {table[i][j] for i in members for j in members}
        if more == members:
            return members
        members = more
