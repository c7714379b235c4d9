"""Data sets of crystals in random orientations, from true structure factors, without frames.

For what begins with intensities: correlations, clusters, settings, scales. Which reflections a
crystal records is the Ewald sphere's choice; noise, scale and fall-off are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..crystal.cell import Cell, d_spacing_A, reciprocal_basis
from ..merging.data_set import DataSet
from .structures import cell_of, structure_factors, zeolite

Floats = NDArray[np.float64]
WAVELENGTH_A = 0.01968


class TrueIntensities:
    """True |F|^2 of every reflection to `d_min_A`."""

    def __init__(self, structure: gemmi.SmallStructure, bravais: str, d_min_A: float = 1.0) -> None:
        self.cell: Cell = cell_of(structure)
        self.bravais = bravais
        self.hkl, amplitude = structure_factors(structure, d_min_A)
        self.true = np.abs(amplitude) ** 2
        self.d_A = d_spacing_A(self.hkl, self.cell)


@cache
def framework(code: str, bravais: str = "oP", d_min_A: float = 1.0) -> TrueIntensities:
    """A zeolite as it is."""
    return TrueIntensities(zeolite(code), bravais, d_min_A)


@cache
def filled(
    code: str, bravais: str = "oP", n: int = 6, seed: int = 1, d_min_A: float = 1.0
) -> TrueIntensities:
    """The same framework, with `n` calcium sites in its pores: its cell, other intensities."""
    structure = zeolite(code)
    rng = np.random.default_rng(seed)
    for i in range(n):
        site = gemmi.SmallStructure.Site()
        site.label, site.type_symbol, site.element = f"Ca{i}", "Ca", gemmi.Element("Ca")
        site.fract = gemmi.Fractional(*rng.random(3))
        site.occ, site.u_iso = 1.0, 0.03
        structure.add_site(site)
    structure.setup_cell_images()
    return TrueIntensities(structure, bravais, d_min_A)


def crystal(
    truth: TrueIntensities,
    seed: int,
    *,
    range_deg: float = 30.0,
    noise: float = 0.05,
    systematic: float = 0.15,
    fall_off_A2: float = 3.0,
    scale: float | None = None,
    name: str | None = None,
    change: Callable[[Floats, np.random.Generator], Floats] = lambda i, rng: i,
) -> DataSet:
    """What one crystal in a random orientation records.

    noise : standard deviation of a weak reflection in units of the mean intensity.
    systematic : of the amplitudes, in units of each: what sigmas do not know of.
    fall_off_A2 : largest B of exp(-B / (2 d^2)), Å^2, that is drawn.
    scale : of the intensities; drawn from 0.3 to 3 if None.
    change : of the true intensities, e.g. to mix in another crystal.
    """
    rng = np.random.default_rng(seed)
    q = truth.hkl @ reciprocal_basis(truth.cell).T @ Rotation.random(rng=rng).as_matrix().T
    angles = np.deg2rad(np.linspace(0, range_deg, max(int(range_deg), 2) + 1))
    beam = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)]) / WAVELENGTH_A
    side = np.sum(q**2, axis=1)[:, None] + 2 * q @ beam > 0
    crossing = side[:, 1:] != side[:, :-1]
    seen = crossing.any(axis=1)
    intensity = change(truth.true, rng)[seen]
    intensity *= np.abs(1 + systematic * rng.normal(size=len(intensity))) ** 2
    s = 1 / truth.d_A[seen] ** 2
    drawn = rng.uniform(0.3, 3)
    intensity *= (drawn if scale is None else scale) * np.exp(-rng.uniform(0, fall_off_A2) * s / 2)
    mean = float(intensity.mean()) if len(intensity) else 1.0
    sigma = np.sqrt((noise * mean) ** 2 + (0.05 * intensity) ** 2)
    return DataSet(
        name=name or f"crystal {seed}",
        cell=truth.cell,
        bravais=truth.bravais,
        hkl=truth.hkl[seen].astype(np.int32),
        intensity=intensity + sigma * rng.normal(size=len(sigma)),
        sigma=sigma,
        frame=np.argmax(crossing[seen], axis=1).astype(float),
        d_A=truth.d_A[seen],
        flags=np.zeros(len(sigma), np.uint32),
        wavelength_A=WAVELENGTH_A,
        range_deg=range_deg,
        n_frames=len(angles) - 1,
    )
