"""Crystal structures and their kinematic electron structure factors.

``F(h) = sum_j o_j f_j(|g|) T_j(h) exp(2 pi i h . x_j)`` over the atoms of the unit cell, with
gemmi's c4322 electron scattering factors f (Peng et al., Acta Cryst. A52, 257, 1996; neutral
atoms, Å), occupancies o and displacement factors T.

The zeolite frameworks are the DLS76-optimised SiO2 structures of the IZA Database of Zeolite
Structures (Ch. Baerlocher and L. B. McCusker, http://www.iza-structure.org/databases/). The
garnet is from G. A. Novak and G. V. Gibbs, Am. Mineral. 56, 791 (1971).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, reciprocal_basis
from ..errors import UserError

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

# The IZA structures carry no displacement parameters; these are usual for calcined zeolites.
U_ISO_A2 = {"Si": 0.015, "O": 0.03}

# Usual for silicate garnets at room temperature.
GARNET_U_ISO_A2 = {"Ca": 0.007, "Fe": 0.005, "Si": 0.005, "O": 0.007}

# Images of an atom closer than this are the same atom on a special position (as in gemmi).
SAME_ATOM_A = 0.4


@dataclass(frozen=True)
class Framework:
    """A framework: name (a zeolite's IZA code), cell, space group, atoms (element, x, y, z)."""

    code: str
    cell: Cell
    space_group: str
    atoms: tuple[tuple[str, float, float, float], ...]


MFI = Framework(  # ZSM-5
    "MFI",
    (20.090, 19.738, 13.142, 90.0, 90.0, 90.0),
    "P n m a",
    (
        ("O", 0.5012, 0.0699, 0.7018),
        ("O", 0.3875, 0.0743, 0.8008),
        ("O", 0.3995, 0.1366, 0.6251),
        ("O", 0.3972, 0.0034, 0.6326),
        ("O", 0.3290, 0.0385, 0.9722),
        ("O", 0.3297, 0.9555, 0.8155),
        ("O", 0.2571, 0.0663, 0.8106),
        ("O", 0.2910, 0.1296, 0.1060),
        ("O", 0.2034, 0.0455, 0.0275),
        ("O", 0.2936, 0.0010, 0.1564),
        ("O", 0.1075, 0.1265, 0.0883),
        ("O", 0.0846, 0.0370, 0.9443),
        ("O", 0.1301, 0.0781, 0.7670),
        ("O", 0.0728, 0.9589, 0.7832),
        ("O", 0.2201, 0.1313, 0.6456),
        ("O", 0.4911, 0.8548, 0.7169),
        ("O", 0.3681, 0.8311, 0.7743),
        ("O", 0.4263, 0.7500, 0.6431),
        ("O", 0.3217, 0.8611, 0.9561),
        ("O", 0.2410, 0.8582, 0.7990),
        ("O", 0.2943, 0.7500, 0.0579),
        ("O", 0.1976, 0.8313, 0.0003),
        ("O", 0.0948, 0.7500, 0.0205),
        ("O", 0.0809, 0.8670, 0.9275),
        ("O", 0.1177, 0.8370, 0.7406),
        ("O", 0.2116, 0.7500, 0.6913),
        ("Si", 0.4214, 0.0711, 0.6898),
        ("Si", 0.3259, 0.0336, 0.8500),
        ("Si", 0.2792, 0.0536, 0.0655),
        ("Si", 0.1246, 0.0514, 0.0481),
        ("Si", 0.0721, 0.0360, 0.8233),
        ("Si", 0.2034, 0.0687, 0.7197),
        ("Si", 0.4195, 0.8274, 0.6805),
        ("Si", 0.3152, 0.8765, 0.8361),
        ("Si", 0.2733, 0.8278, 0.0402),
        ("Si", 0.1185, 0.8279, 0.0183),
        ("Si", 0.0657, 0.8794, 0.8087),
        ("Si", 0.1947, 0.8288, 0.7092),
    ),
)

MOR = Framework(  # mordenite
    "MOR",
    (18.256, 20.534, 7.542, 90.0, 90.0, 90.0),
    "C m c m",
    (
        ("O", 0.2811, 0.0000, 0.0000),
        ("O", 0.3268, 0.0795, 0.2500),
        ("O", 0.3757, 0.0924, 0.9243),
        ("O", 0.2391, 0.1223, 0.9992),
        ("O", 0.3253, 0.3089, 0.2500),
        ("O", 0.2500, 0.2500, 0.0000),
        ("O", 0.3757, 0.3058, 0.9242),
        ("O", 0.0000, 0.4005, 0.2500),
        ("O", 0.0906, 0.3009, 0.2500),
        ("O", 0.0000, 0.2013, 0.2500),
        ("Si", 0.3057, 0.0736, 0.0435),
        ("Si", 0.3028, 0.3106, 0.0437),
        ("Si", 0.0848, 0.3791, 0.2500),
        ("Si", 0.0848, 0.2227, 0.2500),
    ),
)

CHA = Framework(  # chabazite
    "CHA",
    (13.675, 13.675, 14.767, 90.0, 90.0, 120.0),
    "R -3 m :H",
    (
        ("O", 0.9020, 0.0980, 0.1227),
        ("O", 0.9767, 0.3101, 0.1667),
        ("O", 0.1203, 0.2405, 0.1315),
        ("O", 0.0000, 0.2577, 0.0000),
        ("Si", 0.9997, 0.2264, 0.1051),
    ),
)

ANDRADITE = Framework(  # garnet, Ca3 Fe2 (SiO4)3
    "andradite",
    (12.058, 12.058, 12.058, 90.0, 90.0, 90.0),
    "I a -3 d",
    (
        ("Ca", 0.125, 0.0, 0.25),
        ("Fe", 0.0, 0.0, 0.0),
        ("Si", 0.375, 0.0, 0.25),
        ("O", 0.0395, 0.0488, 0.6555),
    ),
)

# Mordenite with caesium in its channels: another phase on nearly the same lattice. Cell and sites
# are ours: Cs in the middle of the eight-ring and, in part, in the main channel, off its wall.
CS_MOR = Framework(
    "Cs-MOR",
    (18.165, 20.600, 7.565, 90.0, 90.0, 90.0),
    "C m c m",
    (*MOR.atoms, ("Cs", 0.0, 0.5, 0.0), ("Cs", 0.0, 0.052, 0.25)),
)

# Electrons of mobile ions: large displacements, and the second site half empty.
CS_U_ISO_A2 = {**U_ISO_A2, "Cs": 0.05}
CS_CHANNEL_OCCUPANCY = 0.45

FRAMEWORKS = {framework.code: framework for framework in (MFI, MOR, CHA)}


def zeolite(code: str) -> gemmi.SmallStructure:
    """The pure-silica framework of an IZA code: MFI (ZSM-5), MOR (mordenite) or CHA."""
    if code not in FRAMEWORKS:
        raise UserError(
            "structure", repr(code), f"one of {', '.join(FRAMEWORKS)}", "choose one or read a CIF"
        )
    return _built(FRAMEWORKS[code], U_ISO_A2)


def garnet() -> gemmi.SmallStructure:
    """Andradite: a structure with many reflections that only its glide planes forbid."""
    return _built(ANDRADITE, GARNET_U_ISO_A2)


def caesium_mordenite() -> gemmi.SmallStructure:
    """Mordenite with caesium: its cell is within 0.5 % of mordenite's, its intensities are not."""
    structure = _built(CS_MOR, CS_U_ISO_A2)
    structure.sites[-1].occ = CS_CHANNEL_OCCUPANCY
    return structure


def structure_named(name: str) -> gemmi.SmallStructure:
    """A zeolite by its IZA code, ``andradite``, or the structure of the CIF of that path."""
    if name == ANDRADITE.code:
        return garnet()
    return zeolite(name) if name in FRAMEWORKS else structure_from_cif(name)


def _built(framework: Framework, u_iso_A2: dict[str, float]) -> gemmi.SmallStructure:
    structure = gemmi.SmallStructure()
    structure.name = framework.code
    structure.cell = gemmi.UnitCell(*framework.cell)
    structure.spacegroup_hm = framework.space_group
    structure.determine_and_set_spacegroup("1")
    for number, (element, x, y, z) in enumerate(framework.atoms, 1):
        site = gemmi.SmallStructure.Site()
        site.label = f"{element}{number}"
        site.type_symbol = element
        site.element = gemmi.Element(element)
        site.fract = gemmi.Fractional(x, y, z)
        site.occ = 1.0
        site.u_iso = u_iso_A2[element]
        structure.add_site(site)
    structure.setup_cell_images()
    return structure


def structure_from_cif(path: Path | str) -> gemmi.SmallStructure:
    """The (first) structure of a small-molecule CIF.

    Raises
    ------
    UserError : the file cannot be read, or holds no cell, space group or atoms.
    """
    try:
        structure = gemmi.read_small_structure(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(path, str(error), "a crystallographic CIF", "check the file") from error
    missing = [
        word
        for word, there in (
            ("unit cell", structure.cell.is_crystal()),
            ("space group", structure.spacegroup is not None),
            ("atoms", len(structure.sites) > 0),
        )
        if not there
    ]
    if missing:
        raise UserError(
            path, f"no {' and no '.join(missing)}", "a complete structure", "complete the CIF"
        )
    return structure


def cell_of(structure: gemmi.SmallStructure) -> Cell:
    """Cell parameters of a structure, Å and degrees."""
    a, b, c, alpha, beta, gamma = structure.cell.parameters
    return a, b, c, alpha, beta, gamma


def structure_factors(
    structure: gemmi.SmallStructure, d_min_A: float
) -> tuple[NDArray[np.int32], Complexes]:
    """Structure factors of the full sphere of reflections to `d_min_A`.

    000 and the reflections that the lattice centring forbids are left out (those are no
    points of the reciprocal lattice); systematic absences of screws and glides are in, as zeros.

    Returns
    -------
    hkl (n, 3) int32 and F (n,) complex, Å.
    """
    if not d_min_A > 0:
        raise ValueError(f"d_min_A: found {d_min_A}, expected a positive number")
    limit = np.floor(np.array(cell_of(structure)[:3]) / d_min_A).astype(int)
    axes = [np.arange(-m, m + 1, dtype=np.int32) for m in limit]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(hkl @ reciprocal_basis(cell_of(structure)).T, axis=1)
    hkl = hkl[(length > 0) & (length <= 1 / d_min_A)]
    centrings = np.array(structure.spacegroup.operations().cen_ops) / gemmi.Op.DEN
    shift = hkl @ centrings.T
    hkl = hkl[np.all(np.abs(shift - np.rint(shift)) < 1e-6, axis=1)]
    half = len(hkl) // 2  # the list is centrosymmetric about its middle: F(-h) = F(h)*
    first = structure_factors_at(structure, hkl[:half])
    return hkl, np.concatenate([first, first[::-1].conj()])


def structure_factors_at(structure: gemmi.SmallStructure, hkl: NDArray[np.integer]) -> Complexes:
    """Structure factors (n,) complex, in Å, of any reflections (n, 3), 000 included."""
    group = structure.spacegroup
    if group is None:
        raise ValueError("structure: found no space group, expected one")
    operations = [
        (np.array(op.rot) / op.DEN, np.array(op.tran) / op.DEN) for op in group.operations()
    ]
    sites = list(structure.sites)
    xyz = np.array([site.fract.tolist() for site in sites])
    weight = np.array([site.occ / _order_on_site(structure, site, operations) for site in sites])
    u_iso = np.array([site.u_iso for site in sites])
    anisotropic = [
        (j, np.array(s.aniso.as_mat33().tolist())) for j, s in enumerate(sites) if s.aniso.nonzero()
    ]
    u_iso[[j for j, _ in anisotropic]] = 0.0

    h = np.asarray(hkl, float)
    basis = reciprocal_basis(cell_of(structure))
    quarter_g2 = 0.25 * np.sum((h @ basis.T) ** 2, axis=1)  # (sin(theta) / lambda)^2
    factors = weight * np.exp(-8 * np.pi**2 * quarter_g2[:, None] * u_iso)
    for element in {site.element.name for site in sites}:
        coefficients = np.array(gemmi.Element(element).c4322.get_coefs())
        a, b = coefficients[:5], coefficients[5:]
        f = np.exp(-quarter_g2[:, None] * b) @ a
        factors[:, [site.element.name == element for site in sites]] *= f[:, None]

    total = np.zeros(len(h), complex)
    reciprocal_lengths = np.linalg.norm(basis, axis=0)  # a*, b*, c*: U_ij are along these
    for rotation, translation in operations:
        rotated = h @ rotation
        terms = factors * np.exp(2j * np.pi * (rotated @ xyz.T))
        scaled = rotated * reciprocal_lengths
        for j, u in anisotropic:
            terms[:, j] *= np.exp(-2 * np.pi**2 * np.sum((scaled @ u) * scaled, axis=1))
        total += terms.sum(axis=1) * np.exp(2j * np.pi * (h @ translation))
    return total


def _order_on_site(
    structure: gemmi.SmallStructure,
    site: gemmi.SmallStructure.Site,
    operations: list[tuple[Floats, Floats]],
) -> int:
    """How many symmetry operations leave the atom where it is."""
    x = np.array(site.fract.tolist())
    to_cartesian = np.array(structure.cell.orth.mat.tolist())
    shifts = np.array([rotation @ x + translation - x for rotation, translation in operations])
    shifts -= np.rint(shifts)
    distance = np.linalg.norm(shifts @ to_cartesian.T, axis=1)
    return int(np.count_nonzero(distance < SAME_ATOM_A))
