"""Laue groups from correlations: the null, the gate, the setting."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ewaldflow
from ewaldflow.lib.crystal.cell import cell_from_real_basis, cell_volume, orthogonalisation
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.space_group.laue import (
    centring_translations,
    laue_evidence,
    primitive_basis,
    rotation_name,
    subgroups,
)

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
random_crystals = importlib.import_module("_random_crystals")


def observed(symbol, seed=1, **choices):
    """Conventional hkl, intensity, sigma, cell and lattice of five wedges."""
    crystal = random_crystals.random_crystal(symbol, seed, d_min_A=1.2)
    data = random_crystals.wedges(crystal, seed, **choices)
    return (
        np.concatenate([d.hkl for d in data]),
        np.concatenate([d.intensity for d in data]),
        np.concatenate([d.sigma for d in data]),
        crystal.cell,
        crystal.bravais,
    )


@pytest.mark.parametrize(
    ("bravais", "volume"), [("aP", 1), ("mC", 1 / 2), ("oI", 1 / 2), ("cF", 1 / 4), ("hR", 1 / 3)]
)
def test_a_primitive_basis_has_the_volume_of_one_lattice_point(bravais, volume):
    translations = centring_translations(bravais)
    basis = primitive_basis(translations)
    assert np.linalg.det(basis) == pytest.approx(volume)
    # it generates the cell's axes and the translations
    for vector in (*np.eye(3), *translations):
        steps = np.linalg.solve(basis, vector)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)


# numbers of subgroups of 222, 422, 622, 32, 23 and 432
@pytest.mark.parametrize(
    ("bravais", "count"), [("oP", 5), ("tP", 10), ("hP", 16), ("hR", 6), ("cP", 30), ("aP", 1)]
)
def test_every_subgroup_is_found(bravais, count):
    assert len(subgroups(candidate_operators(bravais))) == count


def test_rotations_are_named_by_their_axes_in_real_space():
    names = [rotation_name(op) for op in candidate_operators("hP")]
    assert names[0] == "1"
    assert sorted(set(names)) == sorted(
        {"1", "2 along [0 0 1]", "3 along [0 0 1]", "6 along [0 0 1]", "2 along [1 0 0]",
         "2 along [0 1 0]", "2 along [1 1 0]", "2 along [1 -1 0]", "2 along [2 1 0]",
         "2 along [1 2 0]"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "laue_class", "order"),
    [("P -1", "-1", 1), ("P 4/n:2", "4/m", 4), ("R -3:H", "-3", 3), ("P a -3", "m-3", 12)],
)
def test_a_lattice_higher_than_its_crystal(symbol, laue_class, order):
    found = laue_evidence(*observed(symbol))
    assert found.laue_class == laue_class
    assert len(found.operators) == order
    assert found.decided
    assert sum(group.probability for group in found.groups) == pytest.approx(1)
    assert found.groups[0].laue_class == laue_class
    for rotation in found.rotations:
        assert rotation.seen == (rotation.cc > 0.5)


def test_a_monoclinic_crystal_whose_cell_looks_orthorhombic():
    hkl, intensity, sigma, _, _ = observed("P 1 21/c 1")
    # beta of 90: its unique axis is told by the intensities alone
    found = laue_evidence(hkl, intensity, sigma, (9.3, 12.1, 10.7, 90.0, 90.0, 90.0), "oP")
    assert (found.lattice, found.laue_class, found.bravais) == ("oP", "2/m", "mP")
    assert found.decided
    np.testing.assert_allclose(found.cell[1], 12.1)
    seen = {rotation.name: rotation.seen for rotation in found.rotations}
    assert seen == {
        "2 along [1 0 0]": False, "2 along [0 1 0]": True, "2 along [0 0 1]": False
    }  # fmt: skip


def test_the_setting_of_the_data_is_kept():
    hkl, intensity, sigma, cell, _ = observed("P n m a")
    turned = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # c, a, b: not by length
    other = tuple(np.array(cell)[[1, 2, 0, 3, 4, 5]])
    found = laue_evidence(hkl @ turned, intensity, sigma, other, "oP")
    assert (found.laue_class, found.cell) == ("mmm", other)
    np.testing.assert_array_equal(found.transform, np.eye(3))


def test_few_pairs_are_told_and_lower_symmetry_is_kept():
    hkl, intensity, sigma, cell, bravais = observed("P n m a")
    some = np.random.default_rng(0).choice(len(hkl), 60, replace=False)
    found = laue_evidence(hkl[some], intensity[some], sigma[some], cell, bravais)
    assert not found.decided
    assert found.laue_class == "-1"
    assert f"undecided: -1 kept with p {found.probability:.2f}" in found.reason
    assert f"{found.n_pairs} pairs" in found.reason
    assert found.n_pairs < 30


@pytest.mark.parametrize("kind", ["zero", "noise", "constant"])
def test_intensities_without_signal_have_no_symmetry(kind):
    hkl, intensity, sigma, cell, bravais = observed("P n m a")
    rng = np.random.default_rng(0)
    intensity = {"zero": 0 * intensity, "constant": 0 * intensity + 1,
                 "noise": sigma * rng.normal(size=len(sigma))}[kind]  # fmt: skip
    found = laue_evidence(hkl, intensity, 0 * sigma + 1, cell, bravais)
    assert (found.laue_class, found.decided) == ("-1", False)


def test_unrelated_pairs_scatter_as_chance_has_it():
    hkl, intensity, sigma, *_ = observed("P -1")
    # the metric of P-1, made orthogonal: no rotation is a symmetry
    found = laue_evidence(hkl, intensity, sigma, (9.1, 10.3, 11.7, 90.0, 90.0, 90.0), "oP")
    for rotation in found.rotations:
        assert abs(rotation.significance) < 4
        assert rotation.cc_sd == pytest.approx(1 / np.sqrt(rotation.n_pairs), rel=0.4)
        assert rotation.probability < 0.1


ELEMENTARY = [
    np.eye(3) + np.outer(np.eye(3)[i], np.eye(3)[j]) for i in range(3) for j in range(3) if i != j
]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(range(6)), max_size=4))
def test_the_basis_that_data_come_in_does_not_matter(steps):
    hkl, intensity, sigma, cell, bravais = observed("C 1 2/c 1")
    basis = primitive_basis(centring_translations(bravais))
    for step in steps:
        basis = basis @ ELEMENTARY[step]
    own = cell_from_real_basis(orthogonalisation(cell) @ basis)
    found = laue_evidence(np.rint(hkl @ basis), intensity, sigma, own, "aP")
    assert (found.laue_class, found.bravais, found.decided) == ("2/m", "mC", True)
    assert cell_volume(found.cell) == pytest.approx(cell_volume(cell))
    indices = np.rint(hkl @ basis) @ found.transform
    np.testing.assert_allclose(indices, np.rint(indices), atol=1e-9)
    assert np.all((np.rint(indices)[:, 0] + np.rint(indices)[:, 1]) % 2 == 0)


def test_absent_reflections_are_refused():
    hkl, intensity, sigma, cell, _ = observed("P n m a")
    with pytest.raises(ValueError, match="absent by the lattice"):
        laue_evidence(hkl, intensity, sigma, cell, "oI")
