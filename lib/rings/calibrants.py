"""The powders that cameras are calibrated with: known spacings, kinematic electron intensities.

Intensity of a whole ring, as far as single scattering holds (Vainshtein, Structure Analysis by
Electron Diffraction, 1964): ``m |F|^2 d``, with F from electron scattering factors, not X-ray
ones. They serve to tell strong rings from weak ones, never to judge a spacing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, cell_from_real_basis, reciprocal_basis
from ..errors import UserError
from ..structure.scattering import electron_factor
from .calibrant import Calibrant

Atoms = Sequence[tuple[str, tuple[float, float, float], float]]

D_MIN_A = 0.5
# Mean-square displacement of atoms at room temperature, where the source states none.
B_A2 = 0.5
# Weaker rings than this, relative to the strongest, are left out: absent or never seen.
WEAKEST = 1e-4
# Spacings closer than this, relative, are one ring.
SAME_D = 1e-6

FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))


def calibrant_from_atoms(
    name: str, cell: Cell, atoms: Atoms, *, d_min_A: float = D_MIN_A, source: str = ""
) -> Calibrant:
    """The rings of a crystal from all atoms of its cell, down to `d_min_A`.

    Parameters
    ----------
    name : of the substance.
    cell : a, b, c in Å, angles in degrees.
    atoms : (element, fractional position, occupancy) of every atom of the cell, not only of the
        asymmetric unit.
    d_min_A : smallest spacing.
    source : where cell and atoms come from.

    Raises
    ------
    UserError : no ring down to `d_min_A`; an element without electron scattering factor.
    """
    basis = reciprocal_basis(cell)
    most = np.ceil(np.asarray(cell[:3]) / d_min_A).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in most], indexing="ij"), -1)
    hkl = grid.reshape(-1, 3)
    inverse_d = np.linalg.norm(hkl @ basis.T, axis=1)
    kept = (inverse_d > 0) & (inverse_d <= 1 / d_min_A)
    hkl, inverse_d = hkl[kept], inverse_d[kept]
    if len(hkl) == 0:
        raise UserError(name, f"no ring down to {d_min_A} Å", "at least one", "lower d_min_A")
    factor = np.zeros(len(hkl), complex)
    most = np.zeros(len(hkl))  # if all atoms scattered in phase
    thermal = np.exp(-B_A2 * inverse_d**2 / 4)
    for element in {atom[0] for atom in atoms}:
        try:
            f = electron_factor(element, inverse_d / 2) * thermal
        except ValueError as error:
            raise UserError(name, str(error), "elements with a known factor", "mend it") from error
        for _, position, occupancy in (atom for atom in atoms if atom[0] == element):
            most += occupancy * f
            factor += occupancy * f * np.exp(2j * np.pi * (hkl @ np.asarray(position, float)))
    # what cancels leaves but rounding
    strength = np.where(np.abs(factor) > 1e-6 * most, np.abs(factor) ** 2, 0.0)
    # rounded, so that rings of one length stay in the order of their indices
    order = np.lexsort((*(-hkl.T[::-1]), np.round(inverse_d, 9)))
    hkl, inverse_d, strength = hkl[order], inverse_d[order], strength[order]
    starts = np.flatnonzero(np.diff(inverse_d, prepend=0.0) > SAME_D * inverse_d)
    if len(starts) == 0:
        raise UserError(name, f"no ring down to {d_min_A:.4g} Å", "at least one", "lower d_min_A")
    first = _representatives(hkl, strength, starts)
    d = 1 / inverse_d[starts]
    intensity = np.add.reduceat(strength, starts) * d
    multiplicity = np.diff(np.append(starts, len(hkl)))
    seen = intensity > WEAKEST * intensity.max()
    if not np.any(seen):
        raise UserError(name, f"no ring down to {d_min_A} Å", "at least one", "lower d_min_A")
    return Calibrant(
        name, d[seen], first[seen], multiplicity[seen], intensity[seen] / intensity.max(), source
    )


def _representatives(
    hkl: NDArray[np.int64], strength: NDArray[np.float64], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One reflection of each group: the strongest, of those the one with the largest indices."""
    chosen = [
        begin + int(np.argmax(strength[begin:end] > 0.999 * strength[begin:end].max()))
        for begin, end in zip(starts, [*starts[1:], len(hkl)], strict=True)
    ]
    return hkl[chosen].astype(np.int64)


def gold(d_min_A: float = D_MIN_A) -> Calibrant:
    """Gold, a = 4.0782 Å (the value of pyFAI's calibrant file, from AMCSD 0011140)."""
    return _cubic("gold", 4.0782, [("Au", x) for x in FCC], d_min_A, "a = 4.0782 Å, Fm-3m")


def aluminium(d_min_A: float = D_MIN_A) -> Calibrant:
    """Aluminium, a = 4.0495 Å (Swanson & Tatge, NBS Circular 539 I, 1953, at 25 °C)."""
    return _cubic("aluminium", 4.0495, [("Al", x) for x in FCC], d_min_A, "a = 4.0495 Å, Fm-3m")


def thallium_chloride(d_min_A: float = D_MIN_A) -> Calibrant:
    """Thallous chloride, a = 3.842 Å (the value that its sellers state)."""
    atoms = [("Tl", (0.0, 0.0, 0.0)), ("Cl", (0.5, 0.5, 0.5))]
    return _cubic("TlCl", 3.842, atoms, d_min_A, "a = 3.842 Å, Pm-3m")


def graphitised_carbon(d_min_A: float = D_MIN_A) -> Calibrant:
    """Graphite, a = 2.461 Å, c = 6.708 Å (P63/mmc).

    What is sold as graphitised carbon has layers 3.36 to 3.44 Å apart, depending on how hot it
    was made, and rows rather than reflections (turbostratic): its 00l rings bear a scale no better
    than that.
    """
    third = (1 / 3, 2 / 3)
    atoms = [(0.0, 0.0, 0.25), (0.0, 0.0, 0.75), (*third, 0.25), (*third[::-1], 0.75)]
    return calibrant_from_atoms(
        "graphitised carbon", (2.461, 2.461, 6.708, 90.0, 90.0, 120.0),
        [("C", x, 1.0) for x in atoms], d_min_A=d_min_A, source="graphite, P63/mmc",
    )  # fmt: skip


def _cubic(
    name: str, a: float, atoms: list[tuple[str, tuple[float, float, float]]], d: float, source: str
) -> Calibrant:
    full = [(element, x, 1.0) for element, x in atoms]
    return calibrant_from_atoms(name, (a, a, a, 90.0, 90.0, 90.0), full, d_min_A=d, source=source)


CALIBRANTS: dict[str, Callable[[float], Calibrant]] = {
    "gold": gold,
    "aluminium": aluminium,
    "TlCl": thallium_chloride,
    "graphitised carbon": graphitised_carbon,
}


def load_calibrant(name_or_cif: str | Path, d_min_A: float = D_MIN_A) -> Calibrant:
    """A calibrant by its name in `CALIBRANTS`, or the path of a CIF.

    Raises
    ------
    UserError : neither a known name nor a file; what `calibrant_from_cif` raises.
    """
    if str(name_or_cif) in CALIBRANTS:
        return CALIBRANTS[str(name_or_cif)](d_min_A)
    if not Path(name_or_cif).is_file():
        known = ", ".join(CALIBRANTS)
        raise UserError(
            "calibrant", f"'{name_or_cif}'", f"one of {known}, or a CIF", "name one of these"
        )
    return calibrant_from_cif(name_or_cif, d_min_A)


def calibrant_from_cif(path: str | Path, d_min_A: float = D_MIN_A) -> Calibrant:
    """The rings of the first structure of a CIF, read and expanded by symmetry with pymatgen.

    Raises
    ------
    UserError : no such file, no structure in it, disorder without elements, no ring in range.
    """
    where = Path(path)
    if not where.is_file():
        raise UserError(where, "no such file", "a CIF", "check the path")
    try:
        from pymatgen.core.structure import Structure
    except ImportError as error:
        raise UserError(
            where, "no pymatgen to read it with", "ewaldflow[cif]", "install ewaldflow[cif]"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the symmetry was written
            structure = Structure.from_file(where)
    except Exception as error:  # pymatgen raises many kinds
        raise UserError(
            where, f"not readable as a crystal structure ({error})",
            "a CIF with cell, symmetry and atoms", "check the file",
        ) from error  # fmt: skip
    cell = cell_from_real_basis(np.asarray(structure.lattice.matrix).T)
    atoms = [
        (_element(kind), _three(site.frac_coords), float(amount))
        for site in structure
        for kind, amount in site.species.items()
    ]
    name = structure.composition.reduced_formula
    return calibrant_from_atoms(name, cell, atoms, d_min_A=d_min_A, source=f"{where.name}")


def _three(position: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in position)
    return x, y, z


def _element(kind: object) -> str:
    """The element of a pymatgen species, its charge left off (deuterium is hydrogen)."""
    symbol = str(getattr(kind, "symbol", kind))
    return "H" if symbol in {"D", "T"} else symbol
