"""The settings that a lattice allows beside the one a crystal was indexed in.

A rotation of the lattice that is none of the crystal's gives another setting with the same cell
(merohedral), or nearly the same where the metric comes close to a higher symmetry
(pseudo-merohedral; MFI with a = 20.1 and b = 19.7 Å).
"""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Cell, Floats, orthogonalisation
from ..crystal.niggli import niggli_reduce
from ..crystal.two_folds import group_rotations, obliquity_deg, two_fold_groups, two_folds

# A metric is taken for one of higher symmetry within these: two-fold axes off by so much, and
# the r.m.s. strain that the symmetry asks for. Errors of cells from electrons are about 1 %.
MAX_OBLIQUITY_DEG, MAX_STRAIN = 2.0, 0.015


def ambiguity_operators(
    cell: Cell,
    bravais: str,
    rotations: ArrayLike,
    *,
    max_obliquity_deg: float = MAX_OBLIQUITY_DEG,
    max_strain: float = MAX_STRAIN,
) -> Floats:
    """Settings with (nearly) the same cell that the crystal's symmetry does not relate.

    Parameters
    ----------
    cell, bravais : of the phase.
    rotations : (m, 3, 3) of its Laue group, acting on columns of indices.
    max_obliquity_deg, max_strain : how nearly.

    Returns
    -------
    (k, 3, 3) transforms of the real basis (`DataSet.reindexed`), one per coset of the crystal's
    rotations in those of the lattice, the identity first; k = 1 where there is no ambiguity.

    Raises
    ------
    ValueError : if the lattice does not have the symmetry of `rotations`.
    """
    own = np.asarray(rotations, float).transpose(0, 2, 1)
    lattice = _lattice_rotations(cell, bravais, own, max_obliquity_deg, max_strain)
    # nearest to the identity first, so that the simplest stands for its coset
    traces = -np.trace(lattice, axis1=1, axis2=2)
    size = np.abs(lattice).sum(axis=(1, 2))
    flat = np.round(lattice.reshape(-1, 9), 6)
    order = np.lexsort((*(-flat.T[::-1]), size, traces))
    chosen: list[Floats] = []
    for transform in lattice[order]:
        if not any(among(np.linalg.solve(one, transform), own) for one in chosen):
            chosen.append(transform)
    return np.array(chosen)


def _lattice_rotations(
    cell: Cell, bravais: str, own: Floats, max_obliquity_deg: float, max_strain: float
) -> Floats:
    basis = orthogonalisation(cell)
    centring = bravais[1]
    primitive = np.array(gemmi.UnitCell(*cell).primitive_orth_matrix(centring).tolist())
    niggli, _ = niggli_reduce(primitive)
    inverse = np.linalg.inv(niggli)
    to_niggli = inverse @ basis
    back = np.linalg.inv(to_niggli)
    metric = niggli.T @ niggli
    allowed = frozenset(np.flatnonzero(obliquity_deg(metric) <= max_obliquity_deg).tolist())
    best: tuple[int, float, Floats] | None = None
    for group in two_fold_groups(allowed):
        turns = group_rotations(two_folds().matrices[sorted(group)])
        mean = np.mean(turns.transpose(0, 2, 1) @ metric @ turns, axis=0)
        strain = 0.5 * (inverse.T @ mean @ inverse - np.eye(3))
        distance = float(np.sqrt(np.sum(strain**2) / 3))
        transforms = back @ turns @ to_niggli
        if distance > max_strain or not all(among(one, transforms) for one in own):
            continue
        if best is None or (len(turns), -distance) > best[:2]:
            best = (len(turns), -distance, np.round(transforms * 12) / 12)
    if best is None:
        raise ValueError(
            f"rotations: found symmetry that the lattice {bravais} with cell "
            f"{tuple(round(x, 3) for x in cell)} does not have"
        )
    return best[2] + 0.0  # no negative zeros


def among(one: Floats, transforms: Floats) -> bool:
    """Whether a transform (3, 3) is one of several (m, 3, 3)."""
    return bool(np.any(np.all(np.abs(transforms - one) < 1e-4, axis=(1, 2))))
