from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.ambiguity import embed, resolve_ambiguity
from ewaldflow.lib.merging.ambiguity_operators import ambiguity_operators
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.reduction.statistics import reflection_keys
from ewaldflow.lib.simulation.data_sets import crystal, filled, framework

MMM = candidate_operators("oP")
MFI_CELL = (20.090, 19.738, 13.142, 90.0, 90.0, 90.0)


# --- which settings there are ----------------------------------------------------------------


def test_a_holohedral_crystal_has_one_setting():
    for bravais, cell in (
        ("cP", (12.0, 12, 12, 90, 90, 90)),
        ("hR", (13.675, 13.675, 14.767, 90, 90, 120)),
        ("oC", (18.256, 20.534, 7.542, 90, 90, 90)),
        ("aP", (7.0, 8, 9, 80, 85, 95)),
    ):
        found = ambiguity_operators(cell, bravais, candidate_operators(bravais))
        assert found.tolist() == [np.eye(3).tolist()]


@pytest.mark.parametrize(
    ("bravais", "cell", "n_lower", "expected"),
    [
        ("tP", (10.0, 10, 15, 90, 90, 90), 4, 2),  # 4/m in 4/mmm
        ("hP", (10.0, 10, 15, 90, 90, 120), 6, 2),  # 6/m in 6/mmm
        ("cP", (12.0, 12, 12, 90, 90, 90), 12, 2),  # m-3 in m-3m
        ("cI", (12.0, 12, 12, 90, 90, 90), 12, 2),
        ("cF", (12.0, 12, 12, 90, 90, 90), 1, 24),
    ],
)
def test_merohedral_settings_are_cosets(bravais, cell, n_lower, expected):
    lattice = candidate_operators(bravais)
    principal = lattice[(lattice[:, 2, 2] == 1) & (np.abs(lattice[:, 2, :2]).sum(axis=1) == 0)]
    lower = {
        1: lattice[:1],
        4: principal,
        6: principal,
        12: lattice[np.isin(np.trace(lattice, axis1=1, axis2=2), [0, 3])],
    }[n_lower]
    if n_lower == 12:  # with the two-folds along the axes: 23
        diagonal = np.abs(lattice - lattice * np.eye(3, dtype=int)).sum(axis=(1, 2)) == 0
        lower = lattice[np.isin(np.trace(lattice, axis1=1, axis2=2), [0, 3]) | diagonal]
    assert len(lower) == n_lower
    found = ambiguity_operators(cell, bravais, lower)
    assert len(found) == expected
    assert np.allclose(found[0], np.eye(3))
    assert np.allclose(np.abs(np.linalg.det(found)), 1)


def test_a_metric_that_comes_near_a_higher_one_is_ambiguous_too():
    found = ambiguity_operators(MFI_CELL, "oP", MMM)
    # a and b change places; c stays, and the basis is right-handed
    assert np.abs(found[1]).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert np.linalg.det(found[1]) == pytest.approx(1)
    exact = ambiguity_operators(MFI_CELL, "oP", MMM, max_obliquity_deg=0.5)
    assert len(exact) == 1
    assert len(ambiguity_operators(MFI_CELL, "oP", MMM, max_strain=0.005)) == 1
    # a / b = 0.9 is no coincidence
    assert len(ambiguity_operators((20.0, 18, 13, 90, 90, 90), "oP", MMM)) == 1


def test_monoclinic_with_beta_near_90_degrees():
    two = candidate_operators("mP")
    found = ambiguity_operators((9.0, 11, 14, 90, 90.3, 90), "mP", two)
    assert len(found) == 2
    h = np.array([[1, 2, 3], [-4, 1, 2]])
    d = [d_spacing_A(h @ t, (9.0, 11, 14, 90, 90, 90)) for t in found]
    assert np.allclose(*d)


def test_indices_of_centred_lattices_stay_whole():
    # pseudo-tetragonal C-centred monoclinic
    cell, two = (10.0, 10.0, 10.05, 90, 90.3, 90), candidate_operators("mC")
    grid = np.indices((5, 5, 5)).reshape(3, -1).T - 2
    hkl = grid[(grid[:, 0] + grid[:, 1]) % 2 == 0]
    for transform in ambiguity_operators(cell, "mC", two):
        moved = hkl @ transform
        assert np.allclose(moved, np.rint(moved))
        assert np.all(np.rint(moved[:, 0] + moved[:, 1]) % 2 == 0)


def test_symmetry_that_the_lattice_lacks_is_refused():
    with pytest.raises(ValueError, match="found symmetry that the lattice oP"):
        ambiguity_operators((10.0, 15, 20, 90, 90, 90), "oP", candidate_operators("cP"))


# --- the choice ------------------------------------------------------------------------------


def turned(sets, operators, given):
    return [s.reindexed(operators[g]) if g else s for s, g in zip(sets, given, strict=True)]


@pytest.mark.parametrize(("n", "noise", "low"), [(24, 0.05, 5), (24, 0.3, 8), (12, 1.0, 15)])
def test_pseudo_merohedral_settings_are_found(n, noise, low):
    mfi = framework("MFI", d_min_A=1.3)
    rng = np.random.default_rng(n)
    sets = [crystal(mfi, i, range_deg=rng.uniform(low, 3 * low), noise=noise) for i in range(n)]
    operators = ambiguity_operators(mfi.cell, "oP", MMM)
    given = rng.integers(0, 2, n)
    found = resolve_ambiguity(turned(sets, operators, given), MMM)
    relative = (found.choice + given) % 2
    assert len(set(relative.tolist())) == 1
    assert found.unresolved == ()
    assert np.all(found.confidence > 0.95)
    assert found.symmetry.tolist() == [True, False]
    # most are left as they are
    assert np.sum(found.choice == 0) >= n / 2
    applied = found.apply(turned(sets, operators, given))
    keys = [set(reflection_keys(s.hkl, MMM).tolist()) for s in applied]
    true = [set(reflection_keys(s.hkl @ operators[relative[0]], MMM).tolist()) for s in sets]
    assert keys == true


def merohedral(seed, given, n_seen=400):
    """4/m in a tetragonal lattice: each data set a part of the reflections, in either setting."""
    lattice = candidate_operators("tP")
    lower = lattice[(lattice[:, 2, 2] == 1) & (np.abs(lattice[:, 2, :2]).sum(axis=1) == 0)]
    cell = (10.0, 10.0, 14.0, 90.0, 90.0, 90.0)
    grid = np.indices((13, 13, 17)).reshape(3, -1).T - [6, 6, 8]
    grid = grid[np.any(grid != 0, axis=1)]
    key = reflection_keys(grid, lower)
    unique, group = np.unique(key, return_inverse=True)
    true = np.random.default_rng(99).exponential(size=len(unique))[group]
    operators = ambiguity_operators(cell, "tP", lower)
    sets = []
    for i, g in enumerate(given):
        rng = np.random.default_rng([seed, i])
        at = rng.choice(len(grid), n_seen, replace=False)
        hkl = np.rint(grid[at] @ operators[g]).astype(np.int32)
        intensity = true[at] + rng.normal(0, 0.2, n_seen)
        sets.append(
            DataSet(f"s{i}", cell, "tP", hkl, intensity, np.full(n_seen, 0.2), np.zeros(n_seen),
                    d_spacing_A(hkl, cell), np.zeros(n_seen, np.uint32), 0.02, 20.0, 40)
        )  # fmt: skip
    return sets, lower


def test_merohedral_settings_are_found():
    given = [0, 1, 1, 0, 1, 0, 0, 0]
    found = resolve_ambiguity(*merohedral(1, given))
    assert found.choice.tolist() == given
    assert np.all(found.significance > 3)


def test_few_common_reflections_say_so():
    given = [0, 1, 0, 1, 0, 0]
    sets, lower = merohedral(2, given, n_seen=400)
    few = sets[1].select(np.arange(12))
    found = resolve_ambiguity([sets[0], few, *sets[2:]], lower)
    assert found.choice[[0, 2, 3, 4, 5]].tolist() == [0, 0, 1, 0, 0]
    (left,) = found.unresolved
    assert left.index == 1
    assert "20 are needed" in left.reason
    assert found.confidence[1] == 0.5


def test_two_data_sets_and_one():
    sets, lower = merohedral(3, [0, 1])
    found = resolve_ambiguity(sets, lower)
    assert found.choice.tolist() == [0, 1]  # the first stays
    alone = resolve_ambiguity(sets[1:], lower)
    assert alone.choice.tolist() == [0]
    assert "one data set" in alone.why


def test_two_that_share_nothing_are_left_as_they_are():
    sets, lower = merohedral(4, [0, 1])
    low, high = (s.select(s.hkl[:, 2] % 2 == odd) for odd, s in enumerate(sets))
    found = resolve_ambiguity([low, high], lower)
    assert found.choice.tolist() == [0, 0]
    assert [u.index for u in found.unresolved] == [0, 1]
    assert found.confidence.tolist() == [0.5, 0.5]


def test_symmetry_is_told_from_ambiguity():
    mfi = framework("MFI", d_min_A=1.3)
    sets = [crystal(mfi, i, noise=0.2) for i in range(8)]
    operators = ambiguity_operators(mfi.cell, "oP", MMM[:2], max_obliquity_deg=0.5)
    assert len(operators) == 2
    found = resolve_ambiguity(sets, MMM[:2], operators)
    assert found.symmetry.all()
    assert found.choice.tolist() == [0] * 8
    assert found.confidence.tolist() == [1.0] * 8
    assert "nothing to resolve" in found.why
    # with a and b exchanged as well, only that is an ambiguity
    four = ambiguity_operators(mfi.cell, "oP", MMM[:2])
    given = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    both = resolve_ambiguity(turned(sets, four, given), MMM[:2])
    assert both.symmetry.sum() == 2
    assert both.unresolved == ()


def test_no_ambiguity_is_no_work(monkeypatch):
    mor = framework("MOR", "oC", d_min_A=1.5)
    sets = [crystal(mor, i) for i in range(3)]
    monkeypatch.setattr("ewaldflow.lib.merging.ambiguity.tabulate", None)
    found = resolve_ambiguity(sets, candidate_operators("oC"))
    assert found.choice.tolist() == [0, 0, 0]
    assert found.apply(sets) == tuple(sets)
    assert "no rotation that the crystal lacks" in found.why


def test_two_structures_do_not_disturb_each_other():
    mfi, other = framework("MFI", d_min_A=1.3), filled("MFI", n=60)
    sets = [crystal(mfi, i, noise=0.2) for i in range(8)]
    sets += [crystal(other, 30 + i, noise=0.2) for i in range(4)]
    operators = ambiguity_operators(mfi.cell, "oP", MMM)
    given = np.random.default_rng(0).integers(0, 2, 12)
    found = resolve_ambiguity(turned(sets, operators, given), MMM)
    relative = (found.choice + given) % 2
    assert len(set(relative[:8].tolist())) == len(set(relative[8:].tolist())) == 1


def test_bad_data_do_not_stop_the_others():
    given = [0, 1, 0, 1]
    sets, lower = merohedral(5, given)
    zero = replace(sets[3], intensity=np.zeros(len(sets[3])))
    found = resolve_ambiguity([*sets[:3], zero], lower)
    assert found.choice[:3].tolist() == given[:3]
    assert [u.index for u in found.unresolved] == [3]
    copies = resolve_ambiguity([sets[0]] * 200, lower)
    assert copies.choice.tolist() == [0] * 200


def test_the_same_seed_gives_the_same_choice():
    sets, lower = merohedral(6, [0, 1, 1, 0, 1])
    first, second = (resolve_ambiguity(sets, lower, seed=7) for _ in range(2))
    assert first.choice.tolist() == second.choice.tolist()
    assert np.array_equal(first.significance, second.significance)


def test_data_sets_beyond_those_embedded_follow(monkeypatch):
    monkeypatch.setattr("ewaldflow.lib.merging.ambiguity.MAX_COPIES", 8)
    given = [0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0]
    found = resolve_ambiguity(*merohedral(8, given))
    assert found.choice.tolist() == given


def test_embedding_reproduces_the_coefficients():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 2))
    points *= 0.9 / np.linalg.norm(points, axis=1, keepdims=True)
    weight = np.where(rng.random((20, 20)) < 0.3, 0.0, 100.0)
    weight = np.triu(weight, 1) + np.triu(weight, 1).T
    found = embed(points @ points.T, weight, 2)
    assert np.allclose((found @ found.T)[weight > 0], (points @ points.T)[weight > 0], atol=0.01)


def test_no_data_sets_are_refused():
    with pytest.raises(ValueError, match="found none"):
        resolve_ambiguity([], MMM)
