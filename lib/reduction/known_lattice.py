"""Indexing on a known lattice: only its orientation is looked for.

Two directions of the Fourier transform whose lengths and angle are those of two short vectors
of the known lattice fix the orientation. That needs far fewer spots than finding a lattice, and
leaves chance far less to choose from.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, cell_from_real_basis, orthogonalisation
from ..crystal.centring import centring_translations, primitive_basis
from ..crystal.lattice_symmetry import lattice_candidates, reindex_absences, strain_basis
from ..crystal.niggli import niggli_reduce
from .indexing import BasisSearch, lattice_vectors
from .model import Model
from .solve_lattice import (
    ChosenLattice,
    Solution,
    refinable,
    refine_in_stages,
    weighted_points,
)
from .spot_finding import Spots

Floats = NDArray[np.float64]

# A camera length off by a few per cent scales all lengths alike; an axis error turns angles.
_LENGTH, _ANGLE_DEG = 0.06, 4.0
# Change of the cell that a series may ask for, as the sigma of a prior on the strain.
_STRAIN = 0.03
# |h - round(h)| of points when orientations are compared.
_NEAR = 0.25
_N_VECTORS, _N_REFINED = 60, 5
# Wrong lattices had up to 0.3 of the strongest spots close to their points, with cells that had
# run away; right ones nearly all, or the share of their crystal.
_LEAST_CLOSE = 0.3
# Vectors of the known lattice to compare with: the shortest ones carry the orientation.
_N_KNOWN = 24


def search_known_lattice(
    model: Model, spots: Spots, cell: Cell, bravais: str, search: BasisSearch
) -> Solution | None:
    """The orientation of a known lattice that explains the spots best, refined; or None.

    Parameters
    ----------
    model : geometry.
    spots : strong ones.
    cell, bravais : conventional cell of the lattice and its type, which is imposed.
    search : how finely directions are looked for.
    """
    some, points, weights = weighted_points(model, spots, search)
    known = _short_vectors(cell, bravais)
    length = np.linalg.norm(known, axis=1)
    vectors, _ = lattice_vectors(
        points, weights,
        replace(
            search,
            min_axis_A=(1 - _LENGTH) * float(length.min()),
            max_axis_A=(1 + _LENGTH) * float(length.max()),
            n_vectors=_N_VECTORS,
        ),
    )  # fmt: skip
    turns = _orientations(vectors, known)
    if len(turns) == 0:
        return None
    basis = orthogonalisation(cell)
    fraction = np.concatenate(
        [
            _indexed(points, weights, some_turns @ basis, bravais)
            for some_turns in np.array_split(turns, 1 + len(turns) // 500)
        ]
    )
    # as for an unknown lattice, what the lens does waits until there is one to hold it
    free = ("orientation", "strain", "axis_azimuth", "centre")
    priors = {"strain": _STRAIN, "axis_azimuth": 0.1, "centre": 1.5}
    best: Solution | None = None
    for turn in turns[_distinct(turns, fraction)]:
        start = replace(model, orientation=np.asarray(np.linalg.inv(turn @ basis).T, np.float64))
        solution = refine_in_stages(start, some, free, strain_basis(bravais), priors=priors)
        if solution is None or not _is_it(cell, solution.model.cell):
            continue
        if best is None or solution.score < best.score:
            best = solution
    return best if best is not None and best.close.mean() > _LEAST_CLOSE else None


def _is_it(known: Cell, found: Cell) -> bool:
    """Whether a refined cell is still the known one."""
    ratio = np.asarray(found[:3]) / np.asarray(known[:3])
    scale = float(np.exp(np.log(ratio).mean()))
    turned = np.abs(np.asarray(found[3:]) - np.asarray(known[3:]))
    return bool(
        abs(scale - 1) < 0.1 and np.abs(ratio / scale - 1).max() < _LENGTH
        and turned.max() < _ANGLE_DEG
    )  # fmt: skip


def impose_lattice(
    solution: Solution, cell: Cell, bravais: str, spots: Spots, *, lens_gain: float = 0.85
) -> ChosenLattice | None:
    """The lattice as chosen, without asking whether the metric or the intensities agree.

    None if it turns into another one when all spots are asked. The lens is freed where that
    improves the score to less than `lens_gain`.
    """

    def refined(lens: bool) -> Solution | None:
        free, priors = refinable(bravais, lens)
        return refine_in_stages(
            solution.model, spots, free, strain_basis(bravais), quantiles=(0.6, 1.0, 1.0),
            priors=priors,
        )  # fmt: skip

    without, with_lens = refined(lens=False) or solution, refined(lens=True)
    lens = with_lens is not None and with_lens.score < lens_gain * without.score
    chosen = with_lens if with_lens is not None and lens else without
    if not _is_it(cell, chosen.model.cell):
        return None
    real = np.linalg.inv(chosen.model.orientation).T
    niggli, _ = niggli_reduce(real @ primitive_basis(centring_translations(bravais)))
    candidates = tuple(c for c in lattice_candidates(niggli) if c.bravais == bravais)
    return ChosenLattice(
        bravais,
        chosen,
        cell_from_real_basis(niggli),
        candidates,
        lens,
        False,
        solution,
        (f"the known lattice {bravais} was imposed",),
        imposed=True,
    )


def _short_vectors(cell: Cell, bravais: str) -> Floats:
    """(n, 3) the shortest lattice vectors, Å, in the Cartesian frame of the cell; one of +-."""
    basis = orthogonalisation(cell) @ primitive_basis(centring_translations(bravais))
    reduced, _ = niggli_reduce(basis)
    whole = np.array([m for m in product(range(-2, 3), repeat=3) if m > (0, 0, 0)])
    vectors = whole @ reduced.T
    order = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")
    shortest: Floats = vectors[order[:_N_KNOWN]]
    return shortest


def _orientations(vectors: Floats, known: Floats) -> Floats:
    """(m, 3, 3) rotations that lay two known vectors along two found ones, if these can be they.

    Both pairs are made orthonormal the same way, the errors of the two shared evenly.
    """
    found, length = _units(vectors)
    wanted, size = _units(known)
    alike = np.abs(length[:, None] / size - 1) < _LENGTH
    i, p = np.nonzero(alike)
    one, other = np.triu_indices(len(i), 1)
    turns = []
    for sign in (1.0, -1.0):
        cosine = np.sum(found[i[one]] * found[i[other]], axis=1)
        known_cosine = sign * np.sum(wanted[p[one]] * wanted[p[other]], axis=1)
        angle, known_angle = np.arccos(np.clip([cosine, known_cosine], -1, 1))
        # the same camera length for both, and an angle that fixes something
        ratio = (length[i[one]] / size[p[one]]) / (length[i[other]] / size[p[other]])
        good = np.abs(angle - known_angle) < np.deg2rad(_ANGLE_DEG)
        good &= (np.sin(angle) > 0.25) & (np.abs(ratio - 1) < _LENGTH / 2)
        a, b = one[good], other[good]
        for turned in (1.0, -1.0):  # a vector and its negative are both in the lattice
            seen = _frames(turned * found[i[a]], turned * found[i[b]])
            meant = _frames(wanted[p[a]], sign * wanted[p[b]])
            turns.append(seen @ meant.transpose(0, 2, 1))
    every: Floats = np.concatenate(turns)
    return every


def _indexed(points: Floats, weights: Floats, bases: Floats, bravais: str) -> Floats:
    """(n,) weighted fraction of the points that bases (n, 3, 3) index."""
    coordinates = points @ bases  # (n, points, 3)
    index = np.rint(coordinates)
    near = np.abs(coordinates - index).max(axis=2) < _NEAR
    near &= ~reindex_absences(bravais, index.reshape(-1, 3)).reshape(near.shape)
    near &= np.any(index != 0, axis=2)
    fraction: Floats = near @ weights / weights.sum()
    return fraction


def _units(vectors: Floats) -> tuple[Floats, Floats]:
    length = np.linalg.norm(vectors, axis=1)
    return vectors / length[:, None], length


def _frames(a: Floats, b: Floats) -> Floats:
    """(n, 3, 3) columns: along a + b, along a - b, and normal to both."""
    x, y = a + b, a - b
    x /= np.linalg.norm(x, axis=1)[:, None]
    y /= np.linalg.norm(y, axis=1)[:, None]
    frames: Floats = np.stack([x, y, np.cross(x, y)], axis=2)
    return frames


def _distinct(turns: Floats, fraction: Floats) -> NDArray[np.int64]:
    """The best few that are more than 2 degrees apart."""
    kept: list[int] = []
    for k in np.argsort(-fraction, kind="stable"):
        trace = np.einsum("nij,ij->n", turns[kept], turns[k])
        if np.all(trace < 1 + 2 * np.cos(np.deg2rad(2.0))):
            kept.append(int(k))
            if len(kept) == _N_REFINED:
                break
    return np.array(kept, np.int64)
