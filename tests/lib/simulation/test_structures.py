"""Structure factors against sums done by hand and against gemmi's own calculator."""

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.simulation import (
    structure_factors,
    structure_factors_at,
    structure_from_cif,
    zeolite,
)

ANISOTROPIC = """data_two_atoms
_cell_length_a 6.1
_cell_length_b 7.3
_cell_length_c 9.7
_cell_angle_alpha 90
_cell_angle_beta 103.4
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1 21/c 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
_atom_site_occupancy
O1 O 0.11 0.23 0.37 0.04 1
N1 N 0 0 0 0.03 0.5
loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
O1 0.05 0.02 0.04 0.006 0.011 -0.007
"""


def one_atom(x: float, y: float, z: float) -> gemmi.SmallStructure:
    """A silicon atom without displacement in a 4 x 5 x 6 Å box."""
    structure = gemmi.SmallStructure()
    structure.cell = gemmi.UnitCell(4, 5, 6, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    structure.determine_and_set_spacegroup("1")
    site = gemmi.SmallStructure.Site()
    site.element, site.type_symbol = gemmi.Element("Si"), "Si"
    site.fract, site.occ, site.u_iso = gemmi.Fractional(x, y, z), 1.0, 0.0
    structure.add_site(site)
    return structure


def by_gemmi(structure: gemmi.SmallStructure, hkl: np.ndarray) -> np.ndarray:
    structure.change_occupancies_to_crystallographic()
    calculator = gemmi.StructureFactorCalculatorE(structure.cell)
    return np.array(
        [calculator.calculate_sf_from_small_structure(structure, h) for h in hkl.tolist()]
    )


def test_one_atom_by_hand():
    # f(Si) at 200 of the 4 Å edge: d = 2 Å, s^2 = 1/16; c4322 coefficients of silicon (Peng).
    a = [0.2519, 0.6372, 1.3795, 2.5082, 1.0500]
    b = [0.3075, 2.0174, 9.6746, 29.3744, 80.4732]
    f = sum(ai * np.exp(-bi / 16) for ai, bi in zip(a, b, strict=True))
    # exp(2 pi i (2 * 0.125)) = i
    factor = structure_factors_at(one_atom(0.125, 0.3, 0.4), np.array([[2, 0, 0]]))
    np.testing.assert_allclose(factor, [1j * f], atol=1e-4)


def test_forward_scattering_sums_the_atoms():
    # F(000): MFI holds 96 Si and 192 O; f(0) = 5.8268 and 1.9834 Å (sums of c4322's a).
    (factor,) = structure_factors_at(zeolite("MFI"), np.zeros((1, 3), int))
    assert factor == pytest.approx(96 * 5.8268 + 192 * 1.9834, rel=1e-3)


@pytest.mark.parametrize(("code", "silicons"), [("MFI", 96), ("MOR", 48), ("CHA", 36)])
def test_frameworks_are_complete(code, silicons):
    sites = zeolite(code).get_all_unit_cell_sites()
    elements = [site.element.name for site in sites]
    assert (elements.count("Si"), elements.count("O")) == (silicons, 2 * silicons)


@pytest.mark.parametrize("code", ["MFI", "MOR", "CHA"])
def test_frameworks_agree_with_gemmi(code):
    structure = zeolite(code)
    hkl, factor = structure_factors(structure, 1.5)
    some = np.linspace(0, len(hkl) - 1, 60).astype(int)
    np.testing.assert_allclose(factor[some], by_gemmi(structure, hkl[some]), atol=1e-4)


def test_anisotropic_and_special_positions_agree_with_gemmi(tmp_path):
    (tmp_path / "two.cif").write_text(ANISOTROPIC)
    structure = structure_from_cif(tmp_path / "two.cif")
    hkl, factor = structure_factors(structure, 1.0)
    np.testing.assert_allclose(factor, by_gemmi(structure, hkl), atol=1e-4)


def test_full_sphere_and_friedel():
    hkl, factor = structure_factors(zeolite("CHA"), 1.2)
    table = {tuple(h): f for h, f in zip(hkl.tolist(), factor, strict=True)}
    assert len(table) == len(hkl)
    assert (0, 0, 0) not in table
    assert all(
        table[(-h, -k, -el)] == pytest.approx(f.conjugate()) for (h, k, el), f in table.items()
    )
    # R centring (obverse): only -h + k + l = 3n are points of the lattice
    assert np.all((-hkl[:, 0] + hkl[:, 1] + hkl[:, 2]) % 3 == 0)
    # as many points as the sphere holds: 4/3 pi d^-3 V / 3
    volume = zeolite("CHA").cell.volume
    assert len(hkl) == pytest.approx(4 / 3 * np.pi / 1.2**3 * volume / 3, rel=0.05)


def test_absences_of_the_glides():
    hkl, factor = structure_factors(zeolite("MFI"), 1.0)  # Pnma: 0kl k+l odd, hk0 h odd
    h, k, el = hkl.T
    absent = ((h == 0) & ((k + el) % 2 == 1)) | ((el == 0) & (h % 2 == 1))
    assert np.abs(factor[absent]).max() < 1e-9
    assert np.median(np.abs(factor[~absent])) > 1

    hkl, factor = structure_factors(zeolite("MOR"), 1.0)  # Cmcm: hkl h+k odd, h0l l odd
    assert np.all((hkl[:, 0] + hkl[:, 1]) % 2 == 0)
    absent = (hkl[:, 1] == 0) & (hkl[:, 2] % 2 == 1)
    assert np.abs(factor[absent]).max() < 1e-9


@given(st.tuples(*[st.integers(-12, 12)] * 3))
def test_mirror_equivalents_of_mordenite(h):
    signs = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    moduli = np.abs(structure_factors_at(zeolite("MOR"), np.array(h) * signs))
    np.testing.assert_allclose(moduli, moduli[0], atol=1e-9)


def test_bad_structures(tmp_path):
    with pytest.raises(UserError, match="one of MFI, MOR, CHA"):
        zeolite("XYZ")
    with pytest.raises(UserError, match="crystallographic CIF"):
        structure_from_cif(tmp_path / "absent.cif")
    (tmp_path / "empty.cif").write_text("data_nothing\n_cell_length_a 5\n")
    with pytest.raises(UserError, match="no unit cell"):
        structure_from_cif(tmp_path / "empty.cif")
    with pytest.raises(ValueError, match="d_min_A"):
        structure_factors(zeolite("MOR"), 0)
