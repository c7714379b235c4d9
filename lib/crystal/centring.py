"""Lattice translations of centred cells, and primitive bases of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .cell import Floats
from .lattice_symmetry import holohedral_group


def primitive_basis(translations: ArrayLike) -> Floats:
    """(3, 3) columns: a primitive basis of the integer vectors and the translations (k, 3)."""
    extra = np.rint(24 * np.asarray(translations, float).reshape(-1, 3)).astype(np.int64)
    rows = [row.tolist() for row in np.concatenate([24 * np.eye(3, dtype=np.int64), extra])]
    basis = []
    for column in range(3):  # Euclid's algorithm on the rows, one column after the other
        while sum(row[column] != 0 for row in rows) > 1:
            pivot = min((row for row in rows if row[column]), key=lambda row: abs(row[column]))
            for row in rows:
                if row is not pivot and row[column]:
                    times = row[column] // pivot[column]
                    row[:] = [x - times * y for x, y in zip(row, pivot, strict=True)]
        pivot = next(row for row in rows if row[column])
        rows.remove(pivot)
        basis.append(pivot)
    matrix = np.array(basis, float).T / 24
    return matrix if np.linalg.det(matrix) > 0 else -matrix


def centring_translations(bravais: str) -> Floats:
    """(k, 3) fractional translations of a conventional cell, without 0 0 0."""
    centring = np.array(holohedral_group(bravais).operations().cen_ops, float) / 24
    return centring[np.any(centring != 0, axis=1)]
