"""What tests of structures share: perfect reflections of a framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.merged_reflections import MergedReflections
from ewaldflow.lib.reduction.statistics import unique_reflections
from ewaldflow.lib.simulation.structures import cell_of, structure_factors_at, zeolite
from ewaldflow.lib.structure.solution import Atom


@pytest.fixture(scope="session")
def perfect() -> Callable[..., MergedReflections]:
    """Unique reflections of a zeolite with the intensities of its structure."""

    def make(code: str, d_min_A: float, bravais: str) -> MergedReflections:
        structure = zeolite(code)
        cell = cell_of(structure)
        hkl = unique_reflections(cell, bravais, d_min_A, candidate_operators(bravais))
        intensity = np.abs(structure_factors_at(structure, hkl)) ** 2
        return MergedReflections(
            hkl=hkl.astype(np.int32),
            intensity=intensity,
            sigma=0.02 * intensity + 1e-3 * intensity.max(),
            multiplicity=np.full(len(hkl), 3, np.int64),
            n_saturated=np.zeros(len(hkl), np.int64),
            cell=cell,
            space_group=structure.spacegroup.xhm(),
            wavelength_A=0.0250793,
        )

    return make


@pytest.fixture(scope="session")
def known_atoms() -> Callable[[str], tuple[Atom, ...]]:
    """The atoms of a zeolite."""

    def make(code: str) -> tuple[Atom, ...]:
        atoms = []
        for i, site in enumerate(zeolite(code).sites):
            x, y, z = site.fract.tolist()
            element = site.element.name
            atoms.append(Atom(f"{element}{i}", element, (x, y, z), site.u_iso))
        return tuple(atoms)

    return make
