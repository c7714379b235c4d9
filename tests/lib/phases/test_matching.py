import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import cell_from_real_basis, orthogonalisation, reciprocal_basis
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.phases.cell_record import CellRecord
from ewaldflow.lib.phases.matching import best_phases, matches_phase, pseudo_symmetries
from ewaldflow.lib.phases.phases import mean_phase

MFI = (20.09, 19.738, 13.142, 90.0, 90.0, 90.0)
MOR = (18.256, 20.534, 7.542, 90.0, 90.0, 90.0)


def phase_of(cell, bravais, name="p"):
    return mean_phase(name, [CellRecord("a", cell, bravais)])


def test_indices_follow_the_setting():
    """Reflections keep their places in reciprocal space when a series comes to the phase's axes."""
    phase = phase_of(MOR, "oC")
    # another right-handed description of the same crystal: primitive, then sheared
    primitive = CellRecord("x", MOR, "oC").primitive_basis @ [[1, 1, 0], [0, 1, 0], [0, 1, 1]]
    cell = cell_from_real_basis(primitive)
    (match,) = matches_phase(CellRecord("x", cell, "aP"), phase)
    hkl = np.random.default_rng(0).integers(-6, 7, (50, 3)).astype(np.int32)
    data = DataSet(
        "x", cell, "aP", hkl, np.ones(50), np.ones(50), np.zeros(50), np.ones(50),
        np.zeros(50, np.uint32), 0.025, 10.0, 20, orientation=reciprocal_basis(cell),
    )  # fmt: skip
    moved = data.reindexed(match.transform, match.bravais)
    np.testing.assert_allclose(moved.cell, phase.cell, atol=1e-6)
    assert moved.bravais == "oC"
    assert np.all((moved.hkl[:, 0] + moved.hkl[:, 1]) % 2 == 0)  # C-centring
    np.testing.assert_allclose(moved.hkl @ moved.orientation.T, hkl @ data.orientation.T, atol=1e-9)
    assert match.strain == pytest.approx(0, abs=1e-9)
    assert match.scale == pytest.approx(1)


def test_another_lattice_is_no_match():
    assert matches_phase(CellRecord("x", MFI, "oP"), phase_of(MOR, "oC")) == ()


def test_a_scaled_cell_matches_and_says_by_how_much():
    scaled = (*(1.02 * v for v in MOR[:3]), 90.0, 90.0, 90.0)
    (match,) = matches_phase(CellRecord("x", scaled, "oC"), phase_of(MOR, "oC"))
    assert match.scale == pytest.approx(1.02)
    assert match.strain == pytest.approx(0.5 * np.log(1.02))


def test_near_equal_axes_are_ambiguous():
    # ZSM-5: a and b differ by 1.8 %, and only intensities tell which is which
    found = matches_phase(CellRecord("x", MFI, "oP"), phase_of(MFI, "oP"), ambiguity=0.03)
    assert len(found) == 2
    assert found[0].strain == pytest.approx(0, abs=1e-9)
    x = np.log(20.09 / 19.738)
    assert found[1].strain == pytest.approx(x * np.sqrt(2 / 3))
    cells = [cell_from_real_basis(orthogonalisation(MFI) @ m.transform) for m in found]
    assert cells[0][:3] == pytest.approx((13.142, 19.738, 20.09))
    assert cells[1][:3] == pytest.approx((13.142, 20.09, 19.738))
    (one,) = matches_phase(CellRecord("x", MFI, "oP"), phase_of(MFI, "oP"), ambiguity=0.01)
    assert one.transform.tolist() == found[0].transform.tolist()


def test_rotations_of_the_lattice_count_once():
    cubic = (12.058, 12.058, 12.058, 90.0, 90.0, 90.0)
    (match,) = matches_phase(CellRecord("x", cubic, "cI"), phase_of(cubic, "cI"))
    np.testing.assert_array_equal(match.transform, np.eye(3))


def test_the_nearest_phase_comes_first():
    similar = (18.165, 20.600, 7.565, 90.0, 90.0, 90.0)
    phases = [phase_of(MFI, "oP", "1"), phase_of(MOR, "oC", "2"), phase_of(similar, "oC", "3")]
    found = best_phases(CellRecord("x", similar, "oC"), phases)
    assert [m.phase for m in found] == ["3", "2"]


def test_pseudo_symmetries_start_with_none():
    found = pseudo_symmetries(phase_of(MFI, "oP"))
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], np.eye(3))
    # b and c of the phase's setting (13.1, 19.7, 20.1 Å) change places
    np.testing.assert_array_equal(np.abs(found[1]), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert np.linalg.det(found[1]) == pytest.approx(1)
    assert len(pseudo_symmetries(phase_of(MOR, "oC"))) == 1
    cubic = (12.058, 12.058, 12.058, 90.0, 90.0, 90.0)
    assert len(pseudo_symmetries(phase_of(cubic, "cI"))) == 1


def test_a_tetragonal_mistake_comes_back_with_both_ways():
    wrong = CellRecord("x", (19.9, 19.9, 13.13, 90.0, 90.0, 90.0), "tP")
    found = matches_phase(wrong, phase_of(MFI, "oP"))
    assert len(found) == 2
    assert found[0].strain == pytest.approx(found[1].strain, abs=1e-3)
