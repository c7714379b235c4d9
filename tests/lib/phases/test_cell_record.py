import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import cell_volume
from ewaldflow.lib.crystal.lattice_symmetry import reindex_absences
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.phases.cell_record import (
    CellRecord,
    primitive_transform,
    record_from_space_group,
    record_from_text,
)


@pytest.mark.parametrize(
    ("bravais", "cell", "points"),
    [
        ("oP", (20.09, 19.738, 13.142, 90, 90, 90), 1),
        ("oC", (18.256, 20.534, 7.542, 90, 90, 90), 2),
        ("cI", (12.058, 12.058, 12.058, 90, 90, 90), 2),
        ("cF", (24.0, 24.0, 24.0, 90, 90, 90), 4),
        ("hR", (13.675, 13.675, 14.767, 90, 90, 120), 3),
        ("hR", (9.42, 9.42, 9.42, 94.2, 94.2, 94.2), 1),  # rhombohedral axes
    ],
)
def test_the_primitive_cell_holds_one_lattice_point(bravais, cell, points):
    record = CellRecord("x", cell, bravais)
    assert record.volume_A3 == pytest.approx(cell_volume(cell) / points)


@pytest.mark.parametrize("bravais", ["oC", "oI", "oF", "hR", "oP"])
def test_primitive_indices_are_whole_where_the_centring_allows_reflections(bravais):
    cell = (10, 10, 15, 90, 90, 120) if bravais == "hR" else (10, 11, 15, 90, 90, 90)
    hkl = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    primitive = hkl @ primitive_transform(bravais, cell)
    whole = np.all(np.abs(primitive - np.rint(primitive)) < 1e-9, axis=1)
    np.testing.assert_array_equal(whole, ~reindex_absences(bravais, hkl))


def test_reduced_cells_known_by_hand():
    # I-centred cube of edge a: a sqrt(3)/2 and cos = -1/3; F-centred: a/sqrt(2) and 60 degrees
    bcc = CellRecord("x", (10, 10, 10, 90, 90, 90), "cI").niggli
    np.testing.assert_allclose(bcc[:3], 10 * np.sqrt(3) / 2)
    np.testing.assert_allclose(bcc[3:], 109.4712, atol=1e-3)
    fcc = CellRecord("x", (10, 10, 10, 90, 90, 90), "cF").niggli
    np.testing.assert_allclose(fcc, [*[10 / np.sqrt(2)] * 3, 60, 60, 60])


def test_the_strain_of_esds_worked_out_by_hand():
    # edges 1 %, 0, 0; then an angle of 1 degree alone: two shears of half a degree each
    record = CellRecord("x", (10, 10, 10, 90, 90, 90), "aP", (0.1, 0, 0, 0, 0, 0))
    assert record.strain_esd == pytest.approx(0.01 / np.sqrt(3))
    record = CellRecord("x", (10, 10, 10, 90, 90, 90), "aP", (0, 0, 0, 1, 0, 0))
    assert record.strain_esd == pytest.approx(np.deg2rad(1) * np.sqrt(0.5 / 3))
    assert CellRecord("x", (10, 10, 10, 90, 90, 90)).strain_esd is None


def test_text():
    record = record_from_text("MFI 20.09, 19.74, 13.14, 90, 90, 90 oP")
    assert (record.name, record.bravais) == ("MFI", "oP")
    assert record.cell == (20.09, 19.74, 13.14, 90, 90, 90)
    assert record_from_text("18.2 20.5 7.5 90 90 90 63", name="m").bravais == "oC"
    assert record_from_text("18.2 20.5 7.5 90 90 90", name="m").bravais == "aP"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MFI 20.09 19.74 13.14", "six numbers"),
        ("20.09 19.74 13.14 90 90 190", "gamma = 190 degrees"),
        ("0.2 19.74 13.14 90 90 90", "a = 0.2 Å"),
        ("10 10 10 60 60 150", "close no cell"),
        ("10 10 10 90 90 90 xP", "'xP'"),
        ("10 10 10 90 90 90 231", "space group 231"),
        ("10 10 10 90 90 90 oP oC", "'oP oC'"),
        ("nan 10 10 90 90 90", "nan"),
    ],
)
def test_what_is_no_cell_is_refused_in_one_line(text, words):
    with pytest.raises(UserError, match=words) as caught:
        record_from_text(text, name="here")
    assert "\n" not in str(caught.value)


def test_space_groups_of_xds():
    record = record_from_space_group("x", (14.07, 25.88, 28.93, 90, 90, 90), 69, weight=100)
    assert (record.bravais, record.weight) == ("oF", 100)
    with pytest.raises(UserError, match="38 to 41"):
        record_from_space_group("x", (14.07, 25.88, 28.93, 90, 90, 90), 40)
