"""Unit cells and their bases.

A cell is six numbers (a, b, c in Å; alpha, beta, gamma in degrees). The orthogonalisation
matrix O follows the PDB convention (a along x, b in the xy plane); ``B = (O^-1)^T`` has a*,
b*, c* as columns, so that ``q = U B h``.
"""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Cell = tuple[float, float, float, float, float, float]


def orthogonalisation(cell: ArrayLike) -> Floats:
    """O, (3, 3): fractional to Cartesian, columns a, b, c in Å (PDB convention)."""
    return np.array(gemmi.UnitCell(*np.asarray(cell, float)).orth.mat.tolist())


def reciprocal_basis(cell: ArrayLike) -> Floats:
    """B = (O^-1)^T, (3, 3): columns a*, b*, c* in 1/Å."""
    return np.asarray(np.linalg.inv(orthogonalisation(cell)).T, np.float64)


def cell_from_real_basis(basis: ArrayLike) -> Cell:
    """Cell parameters of a basis whose *columns* are a, b, c in Å."""
    m = np.asarray(basis, float)
    a, b, c = np.linalg.norm(m, axis=0)
    unit = m / [a, b, c]
    cosines = np.clip(
        [unit[:, 1] @ unit[:, 2], unit[:, 2] @ unit[:, 0], unit[:, 0] @ unit[:, 1]], -1, 1
    )
    alpha, beta, gamma = np.rad2deg(np.arccos(cosines))
    return float(a), float(b), float(c), float(alpha), float(beta), float(gamma)


def cell_from_reciprocal_basis(basis: ArrayLike) -> Cell:
    """Cell parameters of ``A = U B`` (columns a*, b*, c* in 1/Å)."""
    return cell_from_real_basis(np.linalg.inv(np.asarray(basis, float)).T)


def cell_volume(cell: ArrayLike) -> float:
    """Volume in Å^3."""
    return float(abs(np.linalg.det(orthogonalisation(cell))))


def d_spacing_A(hkl: ArrayLike, cell: ArrayLike) -> Floats:
    """d of reflections (n, 3), in Å; infinite for 000."""
    length = np.linalg.norm(np.asarray(hkl, float) @ reciprocal_basis(cell).T, axis=-1)
    with np.errstate(divide="ignore"):
        d: Floats = 1.0 / length
    return d
