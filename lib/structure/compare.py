"""Whether two lists of atoms are the same structure, up to the choice of origin and hand.

Plain numpy, so that processes with cctbx in them can use it too.

A space group leaves some shifts of the origin open: those t with ``(R - 1) t`` a lattice
translation for every operation (R, w), among them any shift along a polar axis. Where the group
has no inversion, diffraction does not tell x from -x either: ``x' = t - x`` obeys the same
operations if ``(1 - R) t = 2 w`` up to a lattice translation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Origins that are not along a polar axis lie at multiples of this in every space group
_GRID = 24
_POLAR_TRIALS = 6


@dataclass(frozen=True)
class Match:
    """Sites found near the sites of a reference.

    Attributes
    ----------
    pairs : (k, 2) rows of the reference and of the list found; no row twice.
    distance_A : (k,) between them.
    shift : (3,) fractional; ``found + shift`` (or ``shift - found``) is compared.
    inverted : whether the list found has the other hand.
    """

    pairs: NDArray[np.int64]
    distance_A: Floats
    shift: Floats
    inverted: bool

    def __len__(self) -> int:
        return len(self.pairs)


def match_positions(
    reference: ArrayLike,
    found: ArrayLike,
    *,
    orthogonalisation: ArrayLike,
    rotations: ArrayLike,
    translations: ArrayLike,
    reference_kind: ArrayLike | None = None,
    found_kind: ArrayLike | None = None,
    tolerance_A: float = 0.5,
) -> Match:
    """The origin and hand that bring most sites together, then closest.

    Parameters
    ----------
    reference, found : (n, 3), (m, 3) fractional, of orbits: one site of each.
    orthogonalisation : (3, 3) of the cell, fractional to Å.
    rotations, translations : (k, 3, 3), (k, 3) all operations of the group, centrings included.
    reference_kind, found_kind : (n,), (m,) only equal ones pair; by default all may.
    tolerance_A : sites farther apart are no pair.
    """
    ref = np.asarray(reference, float).reshape(-1, 3)
    other = np.asarray(found, float).reshape(-1, 3)
    ortho = np.asarray(orthogonalisation, float)
    turn, move = np.asarray(rotations, float), np.asarray(translations, float)
    allowed = np.ones((len(ref), len(other)), bool)
    if reference_kind is not None and found_kind is not None:
        allowed = np.asarray(reference_kind)[:, None] == np.asarray(found_kind)[None, :]
    best = Match(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(3), False)
    if not len(ref) or not len(other):
        return best
    hands = [False] if _has_inversion(turn) else [False, True]
    for inverted in hands:
        sites = -other if inverted else other
        # images of each site, before the shift: an operation of the shifted group
        for shift in origin_shifts(turn, move, inverted):
            trials = _along_polar_axes(ref, sites + shift, turn, move, ortho)
            for trial in trials:
                one = _paired(ref, sites + shift + trial, turn, move, ortho, allowed, tolerance_A)
                pairs, distance = one
                better = len(pairs) > len(best) or (
                    len(pairs) == len(best) and distance.sum() < best.distance_A.sum()
                )
                if better:
                    best = Match(pairs, distance, (shift + trial) % 1.0, inverted)
    return best


def _has_inversion(turn: Floats) -> bool:
    return bool(np.any(np.all(turn == -np.eye(3), axis=(1, 2))))


def origin_shifts(rotations: ArrayLike, translations: ArrayLike, inverted: bool = False) -> Floats:
    """(s, 3) shifts that keep the group's operations, none along a polar axis, not repeated.

    With `inverted`, those that do so together with an inversion.
    """
    turn, move = np.asarray(rotations, float), np.asarray(translations, float)
    centrings = move[np.all(turn == np.eye(3), axis=(1, 2))]
    steps = np.arange(_GRID) / _GRID
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    polar = polar_directions(turn)
    fixed = np.flatnonzero(np.abs(polar).max(axis=0) > 1e-6) if len(polar) else np.zeros(0, int)
    # along a polar axis only the first of all shifts is wanted
    lead = fixed[: len(polar)] if len(polar) else fixed
    candidates = candidates[np.all(candidates[:, lead] == 0, axis=1)]
    for rotation, translation in zip(turn, move, strict=True):
        moved = candidates @ (rotation - np.eye(3)).T
        if inverted:
            moved = -moved - 2 * translation
        rest = moved[:, None, :] - centrings
        candidates = candidates[np.any(np.all(np.abs(rest - np.rint(rest)) < 1e-3, axis=2), axis=1)]
    # origins that differ by a centring are one
    kept: list[Floats] = []
    for shift in candidates:
        same = [np.abs((d := shift - k - centrings) - np.rint(d)).max(1).min() for k in kept]
        if not same or min(same) > 1e-3:
            kept.append(shift)
    return np.array(kept).reshape(-1, 3)


def polar_directions(rotations: ArrayLike) -> Floats:
    """(d, 3) orthonormal fractional directions that every rotation leaves; d is 0 to 3."""
    turn = np.asarray(rotations, float)
    stacked = (turn - np.eye(3)).reshape(-1, 3)
    _, singular, rows = np.linalg.svd(stacked)
    result: Floats = rows[np.pad(singular, (0, 3 - len(singular))) < 1e-6]
    return result


def _along_polar_axes(
    ref: Floats, sites: Floats, turn: Floats, move: Floats, ortho: Floats
) -> Floats:
    """(s, 3) shifts along the polar axes that bring some strong site onto one of the reference."""
    polar = polar_directions(turn)
    if not len(polar):
        return np.zeros((1, 3))
    images = np.einsum("kij,mj->mki", turn, sites) + move
    differences = ref[:_POLAR_TRIALS, None, None, :] - images[None]
    shifts = differences.reshape(-1, 3) @ polar.T @ polar
    # every pair of strong sites proposes; near-equal proposals are one
    rounded = np.unique(np.round(shifts % 1.0, 2), axis=0)
    if len(polar) == 3:
        return rounded
    # refine each by the mean of what it brings together
    result = []
    for shift in rounded:
        rest = differences - shift
        rest -= np.rint(rest)
        near = np.linalg.norm(rest @ ortho.T, axis=-1) < 0.6
        step = rest[near].mean(axis=0) @ polar.T @ polar if near.any() else np.zeros(3)
        result.append(shift + step)
    return np.array(result)


def _paired(
    ref: Floats,
    sites: Floats,
    turn: Floats,
    move: Floats,
    ortho: Floats,
    allowed: NDArray[np.bool_],
    tolerance_A: float,
) -> tuple[NDArray[np.int64], Floats]:
    """Pairs, the closest first, each site once."""
    images = np.einsum("kij,mj->mki", turn, sites) + move
    apart = ref[:, None, None, :] - images[None]
    apart -= np.rint(apart)
    distance = np.linalg.norm(apart @ ortho.T, axis=-1).min(axis=2)
    distance[~allowed] = np.inf
    rows, columns = np.nonzero(distance <= tolerance_A)
    pairs: list[tuple[int, int]] = []
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    for k in np.argsort(distance[rows, columns], kind="stable"):
        i, j = int(rows[k]), int(columns[k])
        if i not in taken_rows and j not in taken_columns:
            pairs.append((i, j))
            taken_rows.add(i)
            taken_columns.add(j)
    matched = np.array(pairs, np.int64).reshape(-1, 2)
    return matched, distance[matched[:, 0], matched[:, 1]]
