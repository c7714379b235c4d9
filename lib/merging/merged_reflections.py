"""What merging ends in: unique reflections of one phase, with the symmetry they were merged in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats


@dataclass(frozen=True)
class MergedReflections:
    """Unique reflections of a phase.

    Attributes
    ----------
    hkl : (m, 3) int32, `reduction.statistics.asymmetric_unit` representatives.
    intensity, sigma : (m,) weighted means on a common scale, kinematically proportional to |F|^2.
    multiplicity : (m,) observations in each.
    n_saturated : (m,) of them with saturated pixels.
    cell : conventional cell, Å and degrees.
    space_group : Hermann-Mauguin symbol, as `gemmi.SpaceGroup` reads it, in the setting of `cell`;
        that of the Laue class without screws and glides where nothing more is known.
    wavelength_A : of the electrons.
    """

    hkl: NDArray[np.int32]
    intensity: Floats
    sigma: Floats
    multiplicity: NDArray[np.int64]
    n_saturated: NDArray[np.int64]
    cell: Cell
    space_group: str
    wavelength_A: float

    def __len__(self) -> int:
        return len(self.hkl)
