"""Calibrants: spacings by hand, electron intensities, CIF."""

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.rings.calibrants import (
    CALIBRANTS,
    calibrant_from_atoms,
    calibrant_from_cif,
    gold,
    graphitised_carbon,
    load_calibrant,
    thallium_chloride,
)

GOLD_CIF = """data_gold
_cell_length_a 4.0782
_cell_length_b 4.0782
_cell_length_c 4.0782
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Au1 Au 0 0 0 1
"""


def test_gold_is_face_centred():
    rings = gold(0.9)
    squares = [3, 4, 8, 11, 12, 16, 19, 20]
    assert rings.d_A == pytest.approx(4.0782 / np.sqrt(squares))
    assert rings.multiplicity.tolist() == [8, 6, 12, 24, 8, 6, 24, 24]
    assert rings.hkl[:4].tolist() == [[1, 1, 1], [2, 0, 0], [2, 2, 0], [3, 1, 1]]
    assert rings.intensity[0] == 1


def test_intensities_are_those_of_electrons():
    # from the tables of gemmi: f = 8.017 Å at s = 1/(2 d) of 111, with B = 0.5 Å^2
    from ewaldflow.lib.structure.scattering import electron_factor

    rings = gold(2.0)
    f = electron_factor("Au", 1 / (2 * rings.d_A)) * np.exp(-0.5 / (4 * rings.d_A**2))
    expected = [8 * f[0] ** 2 * rings.d_A[0], 6 * f[1] ** 2 * rings.d_A[1]]
    assert rings.intensity[1] == pytest.approx(expected[1] / expected[0])


def test_thallium_chloride_is_primitive():
    rings = thallium_chloride(1.5)
    assert rings.d_A == pytest.approx(3.842 / np.sqrt([1, 2, 3, 4, 5, 6]))
    # Tl and Cl scatter against each other where h + k + l is odd
    assert rings.intensity[0] < 0.3 * rings.intensity[1]


def test_graphite_begins_with_its_layers():
    rings = graphitised_carbon()
    assert rings.d_A[0] == pytest.approx(3.354)
    assert rings.hkl[0].tolist() == [0, 0, 2]
    assert [0, 0, 1] not in rings.hkl.tolist()


@pytest.mark.parametrize("name", CALIBRANTS)
def test_spacings_fall(name):
    rings = load_calibrant(name)
    assert np.all(np.diff(rings.d_A) < 0)
    assert rings.d_A[-1] >= 0.5
    assert rings.intensity.max() == 1
    assert rings.intensity.min() > 0


def test_a_cif_gives_the_same_rings(tmp_path):
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    path = tmp_path / "gold.cif"
    path.write_text(GOLD_CIF)
    of_cif, known = calibrant_from_cif(path, 0.8), gold(0.8)
    assert of_cif.d_A == pytest.approx(known.d_A)
    assert of_cif.multiplicity.tolist() == known.multiplicity.tolist()
    assert of_cif.intensity == pytest.approx(known.intensity)
    assert of_cif.name == "Au"
    assert load_calibrant(path, 0.8).d_A == pytest.approx(known.d_A)


def test_bad_cifs_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        calibrant_from_cif(tmp_path / "absent.cif")
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    path = tmp_path / "empty.cif"
    path.write_text("data_nothing\n")
    with pytest.raises(UserError, match="not readable as a crystal structure"):
        calibrant_from_cif(path)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="gold, aluminium, TlCl"):
        load_calibrant("unobtainium")


def test_nothing_in_range_is_refused():
    with pytest.raises(UserError, match="no ring down to 3"):
        gold(3.0)


def test_unknown_elements_are_refused():
    with pytest.raises(UserError, match="expected a chemical symbol"):
        calibrant_from_atoms("x", (4, 4, 4, 90, 90, 90), [("Qq", (0.0, 0.0, 0.0), 1.0)])
