"""Which of the rotations that the metric allows the intensities of a phase obey.

Correlations come from `reduction.laue_symmetry`, which also proposes the group. Here every
subgroup of the lattice's rotations gets a probability from the correlation of each of its
rotations, and of those outside it (P. R. Evans, 2011, Acta Cryst. D67, 282):

    p(CC | symmetry)    ~ Lorentz(CC; f E, w), cut off at -1 and 1
    p(CC | no symmetry) = integral over m of Lorentz(CC; m E, w) p(m), 0 < m < 1

w is the spread that unrelated reflections of the data show for as many pairs, but at least 0.07.
E is the correlation that the sigmas of these very pairs allow; f, common to all rotations, is
one if the sigmas are honest, and summed over what it may be if they are not. p(m) is mostly
3 (1 - m)^2: rotations of the lattice alone leave little correlation, rarely much. (Evans takes
one E for all, and (1 - m^2)^(1/2).) Symmetry is kept only as far as it is sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Cell, Floats, Integers, d_spacing_A, orthogonalisation
from ..crystal.centring import centring_translations, primitive_basis
from ..crystal.lattice_symmetry import (
    LatticeCandidate,
    candidate_operators,
    lattice_candidates,
)
from ..crystal.niggli import niggli_reduce
from ..reduction.laue_symmetry import (
    OperatorCorrelation,
    laue_class_of,
    laue_verdict,
    normalised_amplitudes,
)
from ..reduction.statistics import correlation, equivalents, merge
from .verdict import SURE, LaueEvidence, LaueGroupScore, Rotation

# Correlations of true symmetry scatter by more than counting tells (scales, multiple scattering).
_LEAST_WIDTH = 0.07
# How far correlations may stay below what the sigmas allow, and how likely.
_HONESTY = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
_HONESTY_PRIOR = np.array([0.4, 0.3, 0.15, 0.08, 0.04, 0.02, 0.01])
# Part of rotations of the lattice alone that may correlate by any amount: pseudo-symmetry.
_PSEUDO_SYMMETRIC = 0.1
# Cells are measured to a few per cent; what asks for more strain is another lattice.
_MAX_STRAIN = 0.04
_RANDOM_PAIRINGS = 200


@dataclass(frozen=True)
class _Lattice:
    """A candidate with its rotations in the Niggli basis; `to_setting` from the data's basis."""

    bravais: str
    cell: Cell
    distance: float
    to_setting: Floats
    rotations: frozenset[bytes]
    from_niggli: Floats


def laue_evidence(
    hkl: ArrayLike,
    intensity: ArrayLike,
    sigma: ArrayLike,
    cell: Cell,
    bravais: str,
    *,
    translations: ArrayLike = (),
    max_obliquity_deg: float = 3.0,
    seed: int = 0,
) -> LaueEvidence:
    """The Laue group of observations on one scale.

    The data's own setting is kept where it is one of the group decided on.

    Parameters
    ----------
    hkl, intensity, sigma : (n, 3), (n,), (n,) in any setting.
    cell, bravais : of that setting; "aP" where nothing is known of it.
    translations : (k, 3) lattice translations besides those of `bravais`; no reflection may
        be absent by them.
    max_obliquity_deg : how far two-fold axes may be from exact in the measured cell.
    seed : of the random pairs.

    Raises
    ------
    ValueError : if a value is not finite or a sigma not positive, or an index is absent.
    """
    h = np.asarray(hkl, np.int64).reshape(-1, 3)
    lattices, to_niggli = _lattices(cell, bravais, np.asarray(translations, float).reshape(-1, 3),
                                    max_obliquity_deg)  # fmt: skip
    indices = h @ to_niggli
    if len(h) and np.abs(indices - np.rint(indices)).max() > 1e-3:
        raise ValueError("hkl: found reflections absent by the lattice, expected none")
    indices = np.rint(indices).astype(np.int64)
    d = d_spacing_A(h, cell)

    highest = [
        one for one in lattices if not any(one.rotations < two.rotations for two in lattices)
    ]
    tried = [
        (one, laue_verdict(indices, intensity, sigma, d, _matrices(one.rotations)))
        for one in highest
    ]
    lattice, verdict = max(tried, key=lambda pair: (pair[1].n_seen, -pair[0].distance))

    width_of = _UnrelatedPairs(indices, intensity, sigma, d, seed)
    groups = subgroups(_matrices(lattice.rotations))
    score = {c.operator.tobytes(): _evidence(c, width_of) for c in verdict.correlations}
    log_p = np.array([_log_probability(group, score) for group in groups])
    probability = np.exp(log_p - log_p.max())
    probability /= probability.sum()

    proposed = frozenset(op.tobytes() for op in verdict.operators)
    kept = max(
        (group for group in groups if group <= proposed and _sure(group, groups, probability)),
        key=len,
    )
    setting = min((one for one in lattices if kept <= one.rotations),
                  key=lambda one: (len(one.rotations), one.distance))  # fmt: skip
    p_kept = float(probability[groups.index(kept)])
    n_pairs = sum(c.n_pairs for c in verdict.correlations)
    cc = {c.operator.tobytes(): c.cc for c in verdict.correlations}
    in_lattice = {op: _in_setting(op, lattice.from_niggli) for op in lattice.rotations}
    names = {op: rotation_name(matrix) for op, matrix in in_lattice.items()}
    rotations = tuple(
        Rotation(
            name=names[key],
            operator=in_lattice[key],
            n_pairs=c.n_pairs,
            cc=c.cc,
            cc_sd=width_of(c.n_pairs),
            significance=width_of.significance(c),
            probability=_alone(score[key]) if c.n_pairs > 2 else float("nan"),
            seen=key in kept,
        )
        for c in verdict.correlations
        for key in [c.operator.tobytes()]
    )
    order = np.argsort(-probability, kind="stable")
    table = tuple(_score(groups[i], cc, names, float(probability[i])) for i in order)
    best = groups[int(order[0])]
    decided = p_kept >= SURE and kept == best
    return LaueEvidence(
        laue_class=laue_class_of(_matrices(kept)),
        bravais=setting.bravais,
        cell=setting.cell,
        transform=np.round(12 * setting.to_setting) / 12,
        operators=_identity_first([_in_setting(op, setting.from_niggli) for op in kept]),
        lattice=lattice.bravais,
        lattice_cell=lattice.cell,
        rotations=rotations,
        groups=table,
        probability=p_kept,
        decided=decided,
        n_pairs=n_pairs,
        metric_distance=setting.distance,
        reason=_reason(kept, best, p_kept, table[0], rotations, lattice, n_pairs, decided),
    )


# --- lattices --------------------------------------------------------------------------------


def _lattices(
    cell: Cell, bravais: str, translations: Floats, max_obliquity_deg: float
) -> tuple[list[_Lattice], Floats]:
    """Candidates, the data's own setting in place of the equal one, and (data -> Niggli)."""
    own = centring_translations(bravais)
    primitive = primitive_basis(np.concatenate([own, translations]))
    basis = orthogonalisation(cell)
    niggli, _ = niggli_reduce(basis @ primitive)
    to_niggli: Floats = np.asarray(np.linalg.solve(basis, niggli), np.float64)
    found = [
        _lattice(c, to_niggli)
        for c in lattice_candidates(basis @ primitive, max_obliquity_deg)
        if c.distance <= _MAX_STRAIN
    ]
    if len(translations) == 0:
        from_niggli: Floats = np.asarray(np.linalg.inv(to_niggli), np.float64)
        own_rotations = _rotations(bravais, from_niggli)
        given = _Lattice(bravais, cell, 0.0, np.eye(3), own_rotations, from_niggli)
        # P1 has no setting of its own: the reduced cell is as good, and better known
        if bravais != "aP":
            found = [one for one in found if one.rotations != given.rotations] + [given]
    return found, to_niggli


def _lattice(c: LatticeCandidate, to_niggli: Floats) -> _Lattice:
    transform = np.array(c.transform, np.float64)
    return _Lattice(
        c.bravais, c.cell, c.distance, to_niggli @ transform, _rotations(c.bravais, transform),
        transform,
    )  # fmt: skip


def _rotations(bravais: str, from_niggli: Floats) -> frozenset[bytes]:
    # rows: h_setting = h_niggli T and h' = h R^T, so that R_niggli = T^-T R T^T
    inverse = np.linalg.inv(from_niggli)
    return frozenset(
        np.rint(inverse.T @ op @ from_niggli.T).astype(np.int64).tobytes()
        for op in candidate_operators(bravais)
    )


def _matrices(rotations: frozenset[bytes]) -> Integers:
    return _identity_first([np.frombuffer(op, np.int64).reshape(3, 3) for op in sorted(rotations)])


def _identity_first(matrices: list[Integers]) -> Integers:
    matrices = sorted(matrices, key=lambda m: (-int(np.trace(m)), m.tolist()))
    return np.array(matrices, np.int64)


def _in_setting(operator: bytes, from_niggli: Floats) -> Integers:
    matrix = np.frombuffer(operator, np.int64).reshape(3, 3)
    turned = from_niggli.T @ matrix @ np.linalg.inv(from_niggli).T
    return np.rint(turned).astype(np.int64)


def rotation_name(operator: ArrayLike) -> str:
    """Order and axis in real space of a rotation (3, 3) that acts on columns of indices."""
    matrix = np.asarray(operator, float)
    order = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}[round(float(np.trace(matrix)))]
    if order == 1:
        return "1"
    # x' = W x with W = R^-T; its powers average to the projection on the axis
    turn = np.linalg.inv(matrix).T
    mean = np.sum([np.linalg.matrix_power(turn, k) for k in range(order)], axis=0)
    axis = mean[:, int(np.argmax(np.abs(mean).sum(axis=0)))]
    fractions = [Fraction(float(x / np.abs(axis).max())).limit_denominator(12) for x in axis]
    scale = int(np.lcm.reduce([f.denominator for f in fractions]))
    whole = np.array([int(f * scale) for f in fractions])
    whole //= max(int(np.gcd.reduce(whole)), 1)
    if whole[np.flatnonzero(whole)[0]] < 0:
        whole = -whole
    return f"{order} along [{' '.join(str(x) for x in whole)}]"


def subgroups(rotations: Integers) -> list[frozenset[bytes]]:
    """Every subgroup of a group of rotations; two elements generate any of them."""
    found = {frozenset([np.eye(3, dtype=np.int64).tobytes()])}
    for one in rotations:
        for two in rotations:
            found.add(_closure({one.tobytes(), two.tobytes()}))
    return sorted(found, key=lambda group: (len(group), sorted(group)))


def _closure(start: set[bytes]) -> frozenset[bytes]:
    members = {np.eye(3, dtype=np.int64).tobytes(), *start}
    while True:
        matrices = _matrices(frozenset(members))
        products = np.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 3, 3)
        more = {product.tobytes() for product in products}
        if more == members:
            return frozenset(members)
        members = more


# --- correlations ----------------------------------------------------------------------------


class _UnrelatedPairs:
    """Standard deviation of the correlation of n pairs of unrelated reflections."""

    def __init__(
        self, hkl: ArrayLike, intensity: ArrayLike, sigma: ArrayLike, d: Floats, seed: int
    ) -> None:
        group = equivalents(hkl, np.eye(3)[None])
        merged = merge(group, intensity, sigma)
        first = np.unique(group, return_index=True)[1]
        x = normalised_amplitudes(merged.intensity, merged.sigma, d[first])
        rng = np.random.default_rng(seed)
        n = min(len(x) // 2, 100)
        found = []
        for _ in range(_RANDOM_PAIRINGS if n >= 10 else 0):
            one, two = rng.choice(len(x), (2, n), replace=False)
            found.append(correlation(np.r_[x[one], x[two]], np.r_[x[two], x[one]]))
        spread = float(np.nanstd(found) * np.sqrt(n)) if found and np.ptp(x) > 0 else 1.0
        # fewer pairs than one over sqrt(n) asks for cannot be
        self.factor = max(spread, 1.0)

    def __call__(self, n_pairs: int) -> float:
        return self.factor / float(np.sqrt(max(n_pairs, 1)))

    def significance(self, c: OperatorCorrelation) -> float:
        """Fisher's z over its standard deviation for unrelated pairs."""
        if c.n_pairs <= 3 or not np.isfinite(c.cc):
            return float("nan")
        z = np.arctanh(np.clip(c.cc, -0.9999, 0.9999))
        return float(z * np.sqrt(c.n_pairs - 3) / self.factor)


def _evidence(c: OperatorCorrelation, width_of: _UnrelatedPairs) -> tuple[Floats, float]:
    """ln p(CC | symmetry) for each of `_HONESTY`, ln p(CC | none); equal where not measured."""
    if c.n_pairs < 3 or not np.isfinite(c.cc):
        return np.zeros(len(_HONESTY)), 0.0
    width = max(width_of(c.n_pairs), _LEAST_WIDTH)

    def lorentz(centre: Floats) -> Floats:
        area = np.arctan((1 - centre) / width) + np.arctan((1 + centre) / width)
        density: Floats = width / ((c.cc - centre) ** 2 + width**2) / area
        return density

    m = (np.arange(50) + 0.5) / 50
    weight = (1 - _PSEUDO_SYMMETRIC) * 3 * (1 - m) ** 2 + _PSEUDO_SYMMETRIC
    none = float(np.mean(weight * lorentz(m * c.attainable)))
    return np.log(lorentz(_HONESTY * c.attainable)), float(np.log(none))


def _log_probability(group: frozenset[bytes], score: dict[bytes, tuple[Floats, float]]) -> float:
    total = np.log(_HONESTY_PRIOR)
    for key, (with_it, without) in score.items():
        matrix = np.frombuffer(key, np.int64).reshape(3, 3)
        # a rotation and its inverse relate the same pairs
        inverse = np.rint(np.linalg.inv(matrix)).astype(np.int64).tobytes()
        weight = 1.0 if inverse == key else 0.5
        total = total + weight * (with_it if key in group else without)
    return float(np.logaddexp.reduce(total))


def _alone(evidence: tuple[Floats, float]) -> float:
    """Probability of a symmetry by its own correlation."""
    with_it = float(np.logaddexp.reduce(np.log(_HONESTY_PRIOR) + evidence[0]))
    return float(1 / (1 + np.exp(evidence[1] - with_it)))


def _sure(group: frozenset[bytes], groups: list[frozenset[bytes]], probability: Floats) -> bool:
    """Whether the true group holds this one with `SURE` probability."""
    holding = [p for other, p in zip(groups, probability, strict=True) if group <= other]
    return sum(holding) >= SURE or len(group) == 1


# --- words -----------------------------------------------------------------------------------


def _score(
    group: frozenset[bytes], cc: dict[bytes, float], names: dict[bytes, str], probability: float
) -> LaueGroupScore:
    inside = [value for key, value in cc.items() if key in group and np.isfinite(value)]
    outside = [value for key, value in cc.items() if key not in group and np.isfinite(value)]
    return LaueGroupScore(
        laue_class=laue_class_of(_matrices(group)),
        axes=tuple(sorted({names[key] for key in group} - {"1"})),
        order=len(group),
        cc_inside=float(np.mean(inside)) if inside else float("nan"),
        cc_outside=float(np.mean(outside)) if outside else float("nan"),
        probability=probability,
    )


def _reason(
    kept: frozenset[bytes], best: frozenset[bytes], probability: float, first: LaueGroupScore,
    rotations: tuple[Rotation, ...], lattice: _Lattice, n_pairs: int, decided: bool,
) -> str:  # fmt: skip
    name = laue_class_of(_matrices(kept))
    inside = [r.cc for r in rotations if r.seen and np.isfinite(r.cc)]
    outside = [r.cc for r in rotations if not r.seen and np.isfinite(r.cc)]
    seen = sum(r.seen for r in rotations)
    text = f"{seen} of {len(rotations)} rotations of the {lattice.bravais} lattice"
    if inside:
        text += f", CC {min(inside):.2f} to {max(inside):.2f}"
    if outside:
        text += f", others at most {max(outside):.2f}"
    text += f", {n_pairs} pairs"
    if decided:
        return f"Laue class {name} with p {probability:.2f} ({text})"
    rival = "" if best == kept else f", {first.laue_class} with p {first.probability:.2f}"
    return f"Laue class undecided: {name} kept with p {probability:.2f}{rival} ({text})"
