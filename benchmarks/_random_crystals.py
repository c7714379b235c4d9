"""Crystals of random atoms in any space group, and the data that wedges of them give."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from ewaldflow.lib.crystal.cell import (
    Cell,
    cell_from_real_basis,
    d_spacing_A,
    orthogonalisation,
    reciprocal_basis,
)
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.simulation.structures import cell_of, structure_factors
from ewaldflow.lib.space_group.laue import centring_translations, primitive_basis

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Of each Laue class several groups, with and without inversion centre, screw axes and glides.
GROUPS = (
    "P 1", "P -1", "P 1 21 1", "P 1 2/m 1", "P 1 21/c 1", "P 1 21/n 1", "P 1 2/c 1", "C 1 2/c 1",
    "C 1 2 1", "C 1 c 1", "P 21 21 21", "P n m a", "P b c n", "P b c a", "P c a 21", "P n a 21",
    "C m c m", "C 2 2 21", "C m c a", "F d d 2", "F d d d:2", "I b c a", "I m m a", "P 41 21 2",
    "P 4/n:2", "P 42/n m c:2", "I 41/a:2", "I 41/a m d:2", "I -4 2 d", "P 31 2 1", "P 3 1 m",
    "R -3 c:H", "R -3:H", "R 3 m:H", "P 61 2 2", "P 63/m", "P 63/m m c", "P 63 m c", "P a -3",
    "P 21 3", "I a -3 d", "F d -3 m:2", "I 41 3 2", "P -4 3 n", "F m -3 c", "F -4 3 m",
)  # fmt: skip
_METRIC: dict[str, Cell] = {
    "triclinic": (9.1, 10.3, 11.7, 81.0, 76.0, 97.0),
    "monoclinic": (9.3, 12.1, 10.7, 90.0, 104.0, 90.0),
    "orthorhombic": (9.3, 12.9, 15.1, 90.0, 90.0, 90.0),
    "tetragonal": (11.3, 11.3, 14.9, 90.0, 90.0, 90.0),
    "trigonal": (12.7, 12.7, 15.9, 90.0, 90.0, 120.0),
    "hexagonal": (12.7, 12.7, 15.9, 90.0, 90.0, 120.0),
    "cubic": (14.1, 14.1, 14.1, 90.0, 90.0, 90.0),
}
_LETTER = {"triclinic": "a", "monoclinic": "m", "orthorhombic": "o", "tetragonal": "t",
           "trigonal": "h", "hexagonal": "h", "cubic": "c"}  # fmt: skip


@dataclass(frozen=True)
class Crystal:
    """hkl (n, 3) that the lattice allows, true |F|^2 (n,), and what it is."""

    hkl: Integers
    f2: Floats
    cell: Cell
    bravais: str
    group: gemmi.SpaceGroup

    @property
    def laue_class(self) -> str:
        """Without the orientation that gemmi adds to -3m."""
        name: str = self.group.laue_str()
        return "-3m" if name in ("-31m", "-3m1") else name


def bravais_of(group: gemmi.SpaceGroup) -> str:
    return _LETTER[group.crystal_system_str()] + group.centring_type()


def random_crystal(symbol: str, seed: int, *, n_atoms: int = 8, d_min_A: float = 1.0) -> Crystal:
    """Atoms of three weights anywhere in the cell, and their images."""
    group = gemmi.SpaceGroup(symbol)
    rng = np.random.default_rng(seed)
    cell = _METRIC[group.crystal_system_str()]
    operations = group.operations()
    hkl = np.indices((33,) * 3).reshape(3, -1).T - 16
    d = d_spacing_A(hkl, cell)
    hkl = hkl[(d >= d_min_A) & np.isfinite(d)]
    hkl = hkl[np.all(hkl @ np.array(operations.cen_ops).T % gemmi.Op.DEN == 0, axis=1)]
    xyz, weight = rng.random((n_atoms, 3)), rng.choice([1.0, 1.0, 1.2, 2.0], n_atoms)
    amplitude = np.zeros(len(hkl), complex)
    for op in operations.sym_ops:
        image = xyz @ (np.array(op.rot).T / op.DEN) + np.array(op.tran) / op.DEN
        amplitude += np.exp(2j * np.pi * (hkl @ image.T)) @ weight
    fall_off = np.exp(-4 / d_spacing_A(hkl, cell) ** 2)
    return Crystal(hkl, np.abs(amplitude) ** 2 * fall_off, cell, bravais_of(group), group)


def crystal_of(structure: gemmi.SmallStructure, d_min_A: float = 1.0) -> Crystal:
    hkl, amplitude = structure_factors(structure, d_min_A)
    group = structure.spacegroup
    return Crystal(
        hkl.astype(np.int64), np.abs(amplitude) ** 2, cell_of(structure), bravais_of(group), group
    )


def wedges(
    crystal: Crystal,
    seed: int,
    *,
    n_sets: int = 5,
    range_deg: float = 60.0,
    leakage: float = 0.19,
    noise: float = 0.1,
    scatter: float = 0.15,
) -> list[DataSet]:
    """Data sets of rotations about random axes, in the crystal's conventional setting.

    Parameters
    ----------
    leakage : mean of what multiple scattering adds, exponentially distributed and anew for each
        observation, over the mean intensity at the resolution.
    noise : over the mean intensity; scatter : relative error.
    """
    rng = np.random.default_rng(seed)
    hkl, f2 = crystal.hkl, crystal.f2
    d = d_spacing_A(hkl, crystal.cell)
    mean = np.empty(len(hkl))
    for shell in np.array_split(np.argsort(d), 20):
        mean[shell] = f2[shell].mean()
    q = hkl @ reciprocal_basis(crystal.cell).T
    found = []
    for k in range(n_sets):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        one = np.cross(axis, rng.normal(size=3))
        one /= np.linalg.norm(one)
        two = np.cross(axis, one)
        azimuth = np.rad2deg(np.arctan2(q @ two, q @ one)) - 180 * rng.random()
        near_axis = np.hypot(q @ one, q @ two) < 0.1 * np.linalg.norm(q, axis=1)
        seen = (azimuth % 180 < range_deg) & ~near_axis
        n = int(seen.sum())
        intensity = f2[seen] * (1 + scatter * rng.normal(size=n))
        intensity += leakage * mean[seen] * rng.exponential(size=n)
        error = noise * mean.mean()
        sigma = np.sqrt(error**2 + (scatter * intensity) ** 2 + (0.3 * leakage * mean[seen]) ** 2)
        found.append(
            DataSet(
                name=f"wedge {k}",
                cell=crystal.cell,
                bravais=crystal.bravais,
                hkl=hkl[seen].astype(np.int32),
                intensity=intensity + error * rng.normal(size=n),
                sigma=sigma,
                frame=np.zeros(n),
                d_A=d[seen],
                flags=np.zeros(n, np.uint32),
                wavelength_A=0.0251,
                range_deg=range_deg,
                n_frames=100,
            )
        )
    return found


def to_p1(data_sets: list[DataSet]) -> tuple[list[DataSet], Floats]:
    """The same on an oblique primitive cell, as nothing were known; and the transform to it."""
    bravais = data_sets[0].bravais
    transform = primitive_basis(centring_translations(bravais)) @ [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    return [
        replace(
            data,
            hkl=np.rint(data.hkl @ transform).astype(np.int32),
            cell=cell_from_real_basis(orthogonalisation(data.cell) @ transform),
            bravais="aP",
        )
        for data in data_sets
    ], transform
