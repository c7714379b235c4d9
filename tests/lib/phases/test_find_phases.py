import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import cell_from_real_basis, orthogonalisation
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.phases.cell_record import CellRecord
from ewaldflow.lib.phases.phases import find_phases, mean_phase, setting_transforms

MFI = (20.09, 19.738, 13.142, 90.0, 90.0, 90.0)
MOR = (18.256, 20.534, 7.542, 90.0, 90.0, 90.0)
CS_MOR = (18.165, 20.600, 7.565, 90.0, 90.0, 90.0)


def strained(cell, rng, size=0.004):
    return cell_from_real_basis(
        (np.eye(3) + size * rng.normal(size=(3, 3))) @ orthogonalisation(cell)
    )


def many(name, cell, bravais, n, rng, size=0.004):
    return [CellRecord(f"{name}{i}", strained(cell, rng, size), bravais, None, 100 + i)
            for i in range(n)]  # fmt: skip


def test_two_zeolites_and_three_wild_cells():
    rng = np.random.default_rng(1)
    records = many("mfi", MFI, "oP", 9, rng) + many("mor", MOR, "oC", 7, rng)
    wild = [(23.65, 28.55, 32.8, 64.7, 69.4, 71.0), (5.1, 6.2, 7.3, 80, 85, 95),
            (11.0, 31.0, 47.0, 101, 93, 88)]  # fmt: skip
    records += [CellRecord(f"wild{i}", cell) for i, cell in enumerate(wild)]
    order = rng.permutation(len(records))
    found = find_phases([records[i] for i in order])
    assert [sorted(p.names) for p in found.phases] == [
        sorted(f"mfi{i}" for i in range(9)),
        sorted(f"mor{i}" for i in range(7)),
    ]
    assert sorted(o.record.name for o in found.outliers) == ["wild0", "wild1", "wild2"]
    for outlier in found.outliers:
        assert "no other series has its cell" in outlier.reason
        assert "phase" in outlier.reason
    assert found.phase_of("mor3") is found.phases[1]
    assert found.phase_of("wild1") is None
    np.testing.assert_allclose(sorted(found.phases[0].cell[:3]), sorted(MFI[:3]), rtol=0.005)
    assert found.phases[1].bravais == "oC"
    assert "gap" in found.cut_reason


def test_members_come_to_one_setting():
    rng = np.random.default_rng(2)
    records = []
    for i in range(8):
        cell = np.array(strained(MOR, rng, 0.001))
        turn = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]) if i % 2 else np.eye(3)
        basis = orthogonalisation(cell) @ turn
        records.append(CellRecord(f"s{i}", cell_from_real_basis(basis), "oC"))
    (phase,) = find_phases(records).phases
    np.testing.assert_allclose(sorted(phase.cell[:3]), sorted(MOR[:3]), rtol=0.002)
    assert max(phase.spread[:3]) < 0.06  # 1.9 Å, were a and b mixed
    for record, transform in zip(phase.members, phase.transforms, strict=True):
        moved = cell_from_real_basis(orthogonalisation(record.cell) @ transform)
        np.testing.assert_allclose(moved, phase.cell, atol=0.2)
        assert np.linalg.det(transform) == pytest.approx(1)
    # and the setting itself is not turned about
    own = [np.allclose(t, np.eye(3)) for t in phase.transforms]
    assert sum(own) in (4, 8)


def test_centred_and_primitive_descriptions_of_one_lattice():
    primitive = CellRecord("p", MOR, "oC").niggli
    monoclinic = orthogonalisation(MOR) @ np.array([[0.5, 0, -0.5], [0.5, 0, 0.5], [0, 1, 0]])
    records = [
        CellRecord("c", MOR, "oC", None, 500),
        CellRecord("p", primitive, "aP", None, 200),
        CellRecord("m", cell_from_real_basis(monoclinic), "mP", None, 100),
    ]
    (phase,) = find_phases(records).phases
    assert (phase.bravais, phase.vote) == ("oC", {"oC": 500, "aP": 200, "mP": 100})
    np.testing.assert_allclose(sorted(phase.cell), sorted(MOR), atol=1e-6)
    assert phase.strain.max() < 1e-6
    for record, transform in zip(phase.members, phase.transforms, strict=True):
        moved = cell_from_real_basis(orthogonalisation(record.cell) @ transform)
        np.testing.assert_allclose(moved, phase.cell, atol=1e-5)


def test_a_similar_cell_is_not_split_off_by_cells():
    # within 0.5 % of one another: cells cannot tell, so the series stay together
    rng = np.random.default_rng(3)
    records = many("mor", MOR, "oC", 8, rng, 0.003) + many("cs", CS_MOR, "oC", 8, rng, 0.003)
    records += many("mfi", MFI, "oP", 8, rng, 0.003)
    found = find_phases(records)
    assert [len(p.members) for p in found.phases] == [16, 8]


def test_precise_cells_two_percent_apart_are_two_phases():
    rng = np.random.default_rng(4)
    other = (18.8, 20.0, 7.542, 90, 90, 90)
    records = many("a", MOR, "oC", 8, rng, 0.0005) + many("b", other, "oC", 8, rng, 0.0005)
    assert [len(p.members) for p in find_phases(records).phases] == [8, 8]
    unsure = [CellRecord(r.name, r.cell, r.bravais, (0.4, 0.4, 0.15, 0, 0, 0)) for r in records]
    assert len(find_phases(unsure).phases) == 1


def test_two_hundred_identical_cells():
    found = find_phases([CellRecord(f"s{i}", MFI, "oP") for i in range(200)])
    (phase,) = found.phases
    assert len(phase.members) == 200
    assert not found.outliers
    np.testing.assert_allclose(sorted(phase.cell), sorted(MFI))
    np.testing.assert_allclose(phase.spread, 0, atol=1e-6)


def test_one_cell_and_none():
    found = find_phases([CellRecord("s", MFI, "oP")])
    assert [p.names for p in found.phases] == [("s",)]
    empty = find_phases([])
    assert (empty.phases, empty.outliers) == ((), ())


def test_two_different_cells_are_two_phases_of_one():
    found = find_phases([CellRecord("a", MFI, "oP"), CellRecord("b", MOR, "oC")])
    assert [p.names for p in found.phases] == [("a",), ("b",)]
    assert not found.outliers


def test_two_poor_cells_of_one_lattice_stay_together():
    other = (21.0, 19.2, 13.3, 90, 90, 90)
    (phase,) = find_phases([CellRecord("a", MFI, "oP"), CellRecord("b", other, "oP")]).phases
    assert len(phase.members) == 2


def test_hexagonal_and_rhombohedral_axes_of_one_lattice():
    hexagonal = (13.675, 13.675, 14.767, 90, 90, 120)
    # a_r = sqrt(a^2/3 + c^2/9) and sin(alpha/2) = 3 / (2 sqrt(3 + (c/a)^2))
    a = np.sqrt(13.675**2 / 3 + 14.767**2 / 9)
    alpha = 2 * np.rad2deg(np.arcsin(1.5 / np.sqrt(3 + (14.767 / 13.675) ** 2)))
    records = [
        CellRecord("h", hexagonal, "hR"),
        CellRecord("r", (a, a, a, alpha, alpha, alpha), "hR"),
    ]
    (phase,) = find_phases(records).phases
    assert phase.bravais == "hR"
    np.testing.assert_allclose(phase.cell, hexagonal, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.linalg.det(phase.transforms)), [1, 3])


def test_a_session_that_is_mostly_junk():
    rng = np.random.default_rng(9)
    records = many("mfi", MFI, "oP", 6, rng) + many("mor", MOR, "oC", 5, rng)
    for i in range(14):
        edges, angles = rng.uniform(5, 40, 3), rng.uniform(70, 110, 3)
        records.append(CellRecord(f"wild{i}", (*edges, *angles)))
    found = find_phases(records)
    assert {p.names for p in found.phases[:2]} == {
        tuple(f"mfi{i}" for i in range(6)), tuple(f"mor{i}" for i in range(5))
    }  # fmt: skip
    assert all(name.startswith("wild") for p in found.phases[2:] for name in p.names)


def test_a_doubled_cell_is_called_that():
    rng = np.random.default_rng(5)
    records = many("mfi", MFI, "oP", 6, rng, 0.001)
    records.append(CellRecord("double", (20.09, 39.476, 13.142, 90, 90, 90), "oP"))
    records.append(CellRecord("half", (20.09, 9.869, 13.142, 90, 90, 90), "oP"))
    reasons = {o.record.name: o.reason for o in find_phases(records).outliers}
    assert "its cell is 2 times the cell of phase 1" in reasons["double"]
    assert "its cell is half of the cell of phase 1" in reasons["half"]


def test_the_cut_and_the_least_number_of_members_may_be_chosen():
    rng = np.random.default_rng(6)
    records = many("mfi", MFI, "oP", 4, rng) + many("mor", MOR, "oC", 1, rng)
    assert [o.record.name for o in find_phases(records).outliers] == ["mor0"]
    assert [len(p.members) for p in find_phases(records, min_members=1).phases] == [4, 1]
    all_in_one = find_phases(records, cut=2.0)
    assert (len(all_in_one.phases), all_in_one.cut_reason) == (1, "as asked for")


def test_the_distance_of_the_thesis():
    rng = np.random.default_rng(7)
    records = many("a", (9, 11, 14, 80, 75, 70), "aP", 5, rng, 0.001)
    records += many("b", (9, 13, 14, 80, 75, 70), "aP", 5, rng, 0.001)
    found = find_phases(records, metric="thesis")
    assert [len(p.members) for p in found.phases] == [5, 5]


def test_a_scale_of_the_camera_length_is_no_other_phase():
    rng = np.random.default_rng(8)
    records = [
        CellRecord(f"s{i}", tuple(np.array(MFI) * ([s] * 3 + [1] * 3)), "oP")
        for i, s in enumerate(rng.uniform(0.97, 1.03, 20))
    ]
    assert [len(p.members) for p in find_phases(records).phases] == [20]


def test_a_lattice_type_that_the_mean_does_not_allow_is_not_imposed():
    triclinic = (9.0, 10.0, 12.0, 80.0, 95.0, 104.0)
    phase = mean_phase("p", [CellRecord("a", triclinic, "oP"), CellRecord("b", triclinic, "aP")])
    assert phase.bravais == "aP"
    with pytest.raises(ValueError, match="oP"):
        mean_phase("p", [CellRecord("a", triclinic)], bravais="oP")


def test_bad_arguments():
    twice = [CellRecord("a", MFI), CellRecord("a", MOR)]
    with pytest.raises(UserError, match="a twice"):
        find_phases(twice)
    with pytest.raises(UserError, match="positive height"):
        find_phases(twice[:1], cut=-1.0)
    with pytest.raises(ValueError, match="at least one"):
        mean_phase("p", [])


def test_no_symmetry_is_mistaken_for_a_change_of_setting():
    record = CellRecord("a", MFI, "oP")
    transform, distance = setting_transforms(record, record)[0]
    np.testing.assert_array_equal(transform, np.eye(3))
    assert distance == pytest.approx(0, abs=1e-9)
