"""Where the origin of a space group lies in phases that were found without symmetry.

If ``F(h) = G(h) exp(2 pi i h.s)`` is what P1 phases G become after a shift s, the space group
wants ``F(hR) = F(h) exp(-2 pi i h.w)`` for each operation (R, w). So the sum over operations and
reflections of ``conj(G(hR)) G(h) exp(2 pi i (h.w + (h - hR).s))`` is largest at the right s: one
Fourier synthesis gives it for all s. Plain numpy, for processes with cctbx in them. Compare
Palatinus & van der Lee (2008), J. Appl. Cryst. 41, 975.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compare import origin_shifts, polar_directions

Floats = NDArray[np.float64]

# Strongest reflections of P1 that vote, and how far apart, Å, two proposals are different.
N_VOTERS = 1500
APART_A = 0.5


def likely_origins(
    hkl: ArrayLike,
    phased: ArrayLike,
    rotations: ArrayLike,
    translations: ArrayLike,
    orthogonalisation: ArrayLike,
    n: int,
) -> Floats:
    """(up to n, 3) shifts s, the likeliest first, none equivalent to another.

    Parameters
    ----------
    hkl, phased : (m, 3), (m,) complex G of a whole sphere or half of it, without repeats.
    rotations, translations : (k, 3, 3), (k, 3) all operations, centrings included.
    orthogonalisation : (3, 3), fractional to Å.
    """
    indices, g = np.asarray(hkl, int).reshape(-1, 3), np.asarray(phased, complex)
    both = np.concatenate([indices, -indices])
    values = np.concatenate([g, g.conj()])
    both, first = np.unique(both, axis=0, return_index=True)
    values = values[first]
    turn, move = np.asarray(rotations, int), np.asarray(translations, float)
    largest = np.abs(both).max(axis=0)
    size = 2 * largest + 1
    lookup = np.full(size, -1)
    lookup[tuple((both + largest).T)] = np.arange(len(both))

    strong = np.argsort(-np.abs(values))[:N_VOTERS]
    reach = 2 * np.abs(both[strong]).max(axis=0)
    # an image hR may have larger indices than h
    for rotation in turn:
        reach = np.maximum(reach, np.abs(both[strong] - both[strong] @ rotation).max(axis=0))
    grid = np.array([_smooth(2 * int(r) + 2) for r in reach])
    coefficients = np.zeros(grid, complex)
    for rotation, translation in zip(turn, move, strict=True):
        image = both[strong] @ rotation
        inside = np.all(np.abs(image) <= largest, axis=1)
        at = np.where(inside, lookup[tuple((np.clip(image, -largest, largest) + largest).T)], -1)
        known = at >= 0
        h, target = both[strong][known], at[known]
        term = values[strong][known] * values[target].conj()
        term = term * np.exp(2j * np.pi * (h @ translation))
        np.add.at(coefficients, tuple(((h - image[known]) % grid).T), term)
    votes = np.fft.ifftn(coefficients).real

    ortho = np.asarray(orthogonalisation, float)
    centrings = move[np.all(turn == np.eye(3), axis=(1, 2))]
    same = (origin_shifts(turn, move)[:, None] + centrings).reshape(-1, 3)
    polar = polar_directions(turn)
    across = np.eye(3) - polar.T @ polar
    order = np.argsort(-votes, axis=None)[: 400 * n]
    chosen: list[Floats] = []
    for flat in order:
        place = np.array(np.unravel_index(flat, votes.shape)) / grid
        apart = [place - one - same for one in chosen]
        near = [
            np.linalg.norm(((d - np.rint(d)) @ across.T) @ ortho.T, axis=1).min() for d in apart
        ]
        if not near or min(near) > APART_A:
            chosen.append(place)
            if len(chosen) == n:
                break
    return np.array(chosen).reshape(-1, 3)


def _smooth(n: int) -> int:
    """The next number without prime factors beyond 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
