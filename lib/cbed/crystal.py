"""Specimens one atom thin, or nearly: periodic in the plane, thinner than the depth of focus."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GRAPHENE_A = 2.464


@dataclass(frozen=True)
class PlaneCrystal:
    """Atoms of a cell that repeats in the plane normal to the beam.

    Attributes
    ----------
    cell_A : (2, 2), its rows the cell's vectors as (row, column) in ångström.
    elements : of the atoms.
    positions_A : (atoms, 2), (row, column) in ångström.
    msd_A2 : mean square displacement along one axis, for all atoms; 0.0036 Å² for graphene at
        room temperature. It smears the potential (Debye-Waller factor).
    """

    cell_A: Floats
    elements: tuple[str, ...]
    positions_A: Floats
    msd_A2: float = field(default=0.0)

    @property
    def area_A2(self) -> float:
        """Area of the cell."""
        return abs(float(np.linalg.det(self.cell_A)))

    @property
    def reciprocal_per_A(self) -> Floats:
        """(2, 2), its rows the reciprocal vectors."""
        return np.asarray(np.linalg.inv(self.cell_A).T, float)

    def with_(self, **changes: Any) -> PlaneCrystal:
        """A copy with some fields changed."""
        return replace(self, **changes)


def graphene(msd_A2: float = 0.0) -> PlaneCrystal:
    """Graphene's primitive cell: two atoms, one in the origin, zigzag rows along columns."""
    cell = GRAPHENE_A * np.array([[0.0, 1.0], [math.sqrt(3) / 2, 0.5]])
    positions = np.array([[0.0, 0.0], (cell[0] + cell[1]) / 3])
    return PlaneCrystal(cell, ("C", "C"), positions, msd_A2)


def scattering_factor_A(element: str, g_per_A: Floats) -> Floats:
    """Electron scattering factor in ångström, without the relativistic factor.

    Five Gaussians to s = g/2 = 2 per Å (International Tables C, 4.3.2.2; Peng et al., 1996).
    """
    coefficients = gemmi.Element(element).c4322.get_coefs()
    half, s2 = len(coefficients) // 2, np.asarray(g_per_A, float) ** 2 / 4
    out = np.zeros_like(s2)
    for a, b in zip(coefficients[:half], coefficients[half:], strict=True):
        out += a * np.exp(-b * s2)
    return out
