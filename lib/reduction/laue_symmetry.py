"""Which rotations of the lattice the intensities obey, and the Laue class they make.

For a rotation R the intensities of hkl and R hkl are correlated over all pairs in the data, as
amplitudes normalised in resolution shells, so that the fall-off with resolution alone
correlates nothing. Randomly paired values have mean correlation 0 and standard deviation
1 / sqrt(n) (Pitman, 1937, Suppl. J. R. Stat. Soc. 4, 225), which holds for independent pairs
only. Pairs that are themselves equivalent are not independent; so symmetry is accepted one
rotation at a time, and what is left is judged on data merged under what was accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Floats, Integers
from .statistics import correlation, equivalents, merge, reflection_keys

_MIN_PAIRS = 10
_MIN_SIGNIFICANCE = 3.0


@dataclass(frozen=True)
class OperatorCorrelation:
    """How well one rotation maps the intensities onto each other.

    Attributes
    ----------
    operator : (3, 3) int, acting on columns of indices.
    n_pairs : pairs of different merged reflections that it relates, each counted once.
    cc : correlation of normalised amplitudes over the pairs, in both orders; NaN below three.
    attainable : the correlation that their sigmas allow, 1 - <error^2> / variance, 0 at least;
        NaN below three pairs.
    """

    operator: Integers
    n_pairs: int
    cc: float
    attainable: float = float("nan")

    @property
    def significance(self) -> float:
        """`cc` in standard deviations of the correlation of as many random pairs."""
        return self.cc * float(np.sqrt(self.n_pairs))

    @property
    def beyond_chance(self) -> bool:
        """Ten pairs or more, correlated three standard deviations above random ones."""
        return self.n_pairs >= _MIN_PAIRS and self.significance > _MIN_SIGNIFICANCE


def normalised_amplitudes(
    intensity: ArrayLike, sigma: ArrayLike, d_A: ArrayLike, per_shell: int = 50
) -> Floats:
    """asinh(I / 2 sigma), less its mean over resolution shells of about `per_shell` reflections.

    sigma is the shell's median. Logarithmic where strong, linear where weak: noise stays
    small beside signal, whereas sqrt(I) blows it up, and a few strong ones do not rule. With
    the shells' means gone, the fall-off with resolution alone correlates nothing.
    """
    return _amplitudes_and_errors(intensity, sigma, d_A, per_shell)[0]


def _amplitudes_and_errors(
    intensity: ArrayLike, sigma: ArrayLike, d_A: ArrayLike, per_shell: int = 50
) -> tuple[Floats, Floats]:
    i, s, d = (np.asarray(x, float) for x in (intensity, sigma, d_A))
    result, error = np.zeros(len(i)), np.zeros(len(i))
    for shell in np.array_split(np.argsort(-d), max(len(i) // per_shell, 1)):
        if len(shell):
            scale = 2 * np.median(s[shell])
            x = np.arcsinh(i[shell] / scale)
            result[shell] = x - x.mean()
            error[shell] = s[shell] / np.hypot(scale, i[shell])  # d asinh(I / scale)
    return result, error


def operator_correlations(
    hkl: ArrayLike,
    intensity: ArrayLike,
    sigma: ArrayLike,
    d_A: ArrayLike,
    operators: ArrayLike,
    merged_under: ArrayLike | None = None,
) -> tuple[OperatorCorrelation, ...]:
    """For each rotation, the correlation of the intensities it relates.

    Parameters
    ----------
    hkl, intensity, sigma, d_A : (n, 3), (n,), (n,), (n,).
    operators : (m, 3, 3), as `crystal.lattice_symmetry.candidate_operators`.
    merged_under : (k, 3, 3), the group under which observations are merged first; the identity
        by default. Friedel's law is always used. Rotations of this group relate no pairs.

    Raises
    ------
    ValueError : if a value is not finite or a sigma is not positive.
    """
    group = np.eye(3, dtype=np.int64)[None] if merged_under is None else np.asarray(merged_under)
    number = equivalents(hkl, group)
    merged = merge(number, intensity, sigma)
    first = np.unique(number, return_index=True)[1]
    amplitude, error = _amplitudes_and_errors(
        merged.intensity, merged.sigma, np.asarray(d_A, float)[first]
    )
    # every index once, whatever its merged reflection: R need not map merged onto merged
    unique, at = np.unique(np.asarray(hkl, np.int64).reshape(-1, 3), axis=0, return_index=True)
    mine = number[at]
    keys = reflection_keys(np.asarray(hkl, np.int64).reshape(-1, 3)[first], group)  # ascending

    def correlate(rotation: Integers) -> OperatorCorrelation:
        turned = reflection_keys(unique @ rotation.T, group)
        partner = np.minimum(np.searchsorted(keys, turned), len(keys) - 1)
        pair = (keys[partner] == turned) & (partner != mine)
        one, other = mine[pair], partner[pair]
        code = np.unique(np.minimum(one, other) * len(keys) + np.maximum(one, other))
        one, other = np.divmod(code, len(keys))
        x, y = amplitude[one], amplitude[other]
        if len(x) <= 2:
            return OperatorCorrelation(rotation, len(x), float("nan"))
        variance = float(np.var(np.r_[x, y]))
        noise = float(np.mean(np.r_[error[one], error[other]] ** 2))
        attainable = max(1 - noise / variance, 0.0) if variance > 0 else 0.0
        return OperatorCorrelation(
            rotation, len(x), correlation(np.r_[x, y], np.r_[y, x]), attainable
        )

    return tuple(correlate(rotation) for rotation in np.asarray(operators, np.int64))


@dataclass(frozen=True)
class LaueVerdict:
    """The Laue class that the intensities show.

    Attributes
    ----------
    laue_class : Hermann-Mauguin symbol, e.g. "2/m" or "m-3m".
    operators : (m, 3, 3) its rotations, the identity first; a subgroup of those tried.
    correlations : of every rotation tried but the identity, on data merged under Friedel's law
        only, in the order given.
    seen : for each of `correlations`, whether it is among `operators`.
    lowest_cc : worst correlation inside the class, NaN if there is none.
    highest_rejected_cc : best of the others with ten pairs or more, on data merged under
        the class; NaN if none.
    contradicted : for each of `correlations`, whether it is clearly no symmetry: eight pairs
        or more, and 2.5 standard deviations above its correlation (Fisher's z) still less than
        0.7 of what the best one reaches.
        Not to be seen for want of data is no contradiction.
    """

    laue_class: str
    operators: Integers
    correlations: tuple[OperatorCorrelation, ...]
    seen: tuple[bool, ...]
    lowest_cc: float
    highest_rejected_cc: float
    contradicted: tuple[bool, ...] = ()

    @property
    def n_seen(self) -> int:
        """Rotations seen other than the identity."""
        return sum(self.seen)


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


def laue_class_of(operators: ArrayLike) -> str:
    """Hermann-Mauguin symbol of the Laue class of a group of rotations (m, 3, 3)."""
    traces = np.trace(np.asarray(operators), axis1=1, axis2=2).tolist()  # 1 + 2 cos(angle)
    return _LAUE_CLASS[(traces.count(-1), traces.count(0), traces.count(1), traces.count(2))]


def laue_verdict(
    hkl: ArrayLike, intensity: ArrayLike, sigma: ArrayLike, d_A: ArrayLike, operators: ArrayLike
) -> LaueVerdict:
    """The largest group of rotations that the intensities obey.

    From the identity on, the best-correlated rotation that is beyond chance joins the group,
    with all that it then implies. Each rotation so implied must be beyond chance and reach
    half the best correlation (pseudo-symmetry correlates too, but worse than symmetry), unless
    the data hold fewer than ten pairs to test it by.

    Parameters and errors as `operator_correlations`; also

    Raises
    ------
    ValueError : if `operators` are not a group.
    """
    rotations = np.asarray(operators, np.int64)
    index = {op.tobytes(): i for i, op in enumerate(rotations)}
    products = np.einsum("aij,bjk->abik", rotations, rotations)
    try:
        table = [[index[p.tobytes()] for p in line] for line in products]
        identity = index[np.eye(3, dtype=np.int64).tobytes()]
    except KeyError:
        raise ValueError("operators: found a set that is no group, expected one") from None

    first = operator_correlations(hkl, intensity, sigma, d_A, rotations)
    group, judged, best = frozenset({identity}), first, 0.0
    while True:
        sure = [i for i, c in enumerate(judged) if c.beyond_chance]
        best = max([best, *(judged[i].cc for i in sure)])
        passing = {i for i in sure if judged[i].cc > best / 2}
        passing |= {i for i, c in enumerate(judged) if c.n_pairs < _MIN_PAIRS}
        for i in sorted(sure, key=lambda i: -judged[i].cc):
            larger = _generated(table, {*group, i})
            if larger <= passing | group:
                break
        else:
            break
        group = larger
        judged = operator_correlations(
            hkl, intensity, sigma, d_A, rotations, rotations[sorted(group)]
        )

    inside = sorted(group - {identity})
    outside = [i for i, c in enumerate(judged) if i not in group and c.n_pairs >= _MIN_PAIRS]
    tried = [i for i in range(len(rotations)) if i != identity]
    return LaueVerdict(
        laue_class=laue_class_of(rotations[inside]),
        operators=rotations[[identity, *inside]],
        correlations=tuple(first[i] for i in tried),
        seen=tuple(i in group for i in tried),
        lowest_cc=min((first[i].cc for i in inside), default=float("nan")),
        highest_rejected_cc=max((judged[i].cc for i in outside), default=float("nan")),
        contradicted=tuple(i not in group and _contradicted(first[i], best) for i in tried),
    )


def _contradicted(c: OperatorCorrelation, best: float) -> bool:
    # where nothing correlates it is the data that are poor
    if c.n_pairs < _MIN_PAIRS - 2 or best < 0.4:
        return False
    upper = np.tanh(np.arctanh(np.clip(c.cc, -0.9999, 0.9999)) + 2.5 / np.sqrt(c.n_pairs - 3))
    return bool(upper < 0.7 * best)


def generated_group(rotations: ArrayLike, members: ArrayLike) -> Integers:
    """(k, 3, 3) what `members` generate, the identity first; all of them are among `rotations`."""
    every = np.asarray(rotations, np.int64)
    index = {op.tobytes(): i for i, op in enumerate(every)}
    products = np.einsum("aij,bjk->abik", every, every)
    table = [[index[p.tobytes()] for p in line] for line in products]
    identity = index[np.eye(3, dtype=np.int64).tobytes()]
    start = [identity, *(index[op.tobytes()] for op in np.asarray(members, np.int64))]
    group = _generated(table, start)
    return np.asarray(every[[identity, *sorted(group - {identity})]], np.int64)


def _generated(table: list[list[int]], start: Iterable[int]) -> frozenset[int]:
    """All products of the members, by the multiplication table."""
    members = frozenset(start)
    while True:
        more = members | {table[i][j] for i in members for j in members}
        if more == members:
            return members
        members = more
