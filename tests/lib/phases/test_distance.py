import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, example, given, settings

from ewaldflow.lib.crystal.cell import orthogonalisation
from ewaldflow.lib.crystal.niggli import niggli_reduce
from ewaldflow.lib.phases.distance import (
    best_transforms,
    lattice_distance,
    lattice_distances,
    thesis_distances,
    unimodular_matrices,
)

edges = st.floats(4.0, 30.0)
angles = st.floats(65.0, 115.0)
cells = st.tuples(edges, edges, edges, angles, angles, angles)


@st.composite
def bases(draw):
    cell = np.array(draw(cells))
    cosines = np.cos(np.deg2rad(cell[3:]))
    assume(1 + 2 * np.prod(cosines) - np.sum(cosines**2) > 0.05)
    return orthogonalisation(cell)


@st.composite
def unimodular(draw):
    """Products of shears and permutations: as wild a change of basis as wanted."""
    m = np.eye(3, dtype=np.int64)
    for _ in range(draw(st.integers(0, 5))):
        i, j = draw(st.sampled_from([(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]))
        m[:, i] += draw(st.integers(-2, 2)) * m[:, j]
    return m * draw(st.sampled_from([1, -1]))


strains = st.lists(st.floats(-0.02, 0.02), min_size=9, max_size=9).map(
    lambda x: np.eye(3) + np.array(x).reshape(3, 3)
)


def test_the_matrices_are_unimodular_and_closed_under_inversion():
    matrices = unimodular_matrices()
    assert np.allclose(np.linalg.det(matrices), 1)
    rows = {m.tobytes() for m in matrices}
    assert all(np.rint(np.linalg.inv(m)).astype(np.int64).tobytes() in rows for m in matrices)


@settings(deadline=None, max_examples=60)
@given(bases(), unimodular(), unimodular(), strains)
def test_no_change_of_basis_changes_the_distance(basis, m, n, strain):
    other = strain @ basis
    expected = lattice_distance(basis, other)
    assert lattice_distance(basis @ m, other @ n) == pytest.approx(expected, abs=1e-7)
    assert lattice_distance(basis, basis @ m) == pytest.approx(0, abs=1e-6)
    assert lattice_distance(other, basis) == pytest.approx(expected, abs=1e-7)


@settings(deadline=None, max_examples=60)
@given(bases(), strains)
def test_it_is_no_larger_than_the_strain_between_the_bases(basis, strain):
    # The least over all bases is at most that of these, so it is continuous everywhere, at the
    # boundaries of the reduced region too.
    e = np.log(np.linalg.svd(strain, compute_uv=False))
    assert lattice_distance(basis, strain @ basis, 1.0) <= np.sqrt(np.mean(e**2)) + 1e-9


@settings(deadline=None, max_examples=60)
@given(bases(), bases(), bases())
def test_triangle_inequality(a, b, c):
    reduced = [niggli_reduce(x)[0] for x in (a, b, c)]
    d = lattice_distances(reduced)
    assert d[0, 2] <= d[0, 1] + d[1, 2] + 1e-6


@settings(deadline=None, max_examples=30)
@given(bases(), strains, st.floats(0.9, 1.1))
def test_a_scale_that_all_share_changes_nothing(basis, strain, scale):
    other = strain @ basis
    assert lattice_distance(scale * basis, scale * other) == pytest.approx(
        lattice_distance(basis, other), abs=1e-7
    )


def test_a_scale_of_one_has_its_own_weight():
    basis = orthogonalisation((10, 12, 15, 80, 95, 100))
    for weight in (0.0, 0.5, 1.0):
        found = lattice_distance(basis, 1.02 * basis, weight)
        assert found == pytest.approx(weight * np.log(1.02), abs=1e-9)


def test_one_edge_changed_by_hand():
    # strains (x, 0, 0): mean x/3, shape sqrt((4 + 1 + 1)/9/3) x = sqrt(2)/3 x; all of it x/sqrt(3)
    x = np.log(1.03)
    one, other = (orthogonalisation((a, 12, 15, 90, 90, 90)) for a in (10, 10.3))
    assert lattice_distance(one, other, 0.0) == pytest.approx(np.sqrt(2) / 3 * x)
    assert lattice_distance(one, other, 1.0) == pytest.approx(x / np.sqrt(3))


@pytest.mark.parametrize(
    ("cell", "other"),
    [
        ((10, 12, 15, 90, 90, 89.9), (10, 12, 15, 90, 90, 90.1)),
        ((10, 12, 15, 75, 80, 89.8), (10, 12, 15, 75, 80, 90.2)),
        ((12.01, 12, 15, 80, 85, 70), (12, 12.01, 15, 80, 85, 70)),
        ((10, 12, 15, 90, 90, 120.2), (10, 12, 15, 90, 90, 119.8)),
    ],
)
def test_cells_on_both_sides_of_a_boundary_are_near(cell, other):
    assert lattice_distance(orthogonalisation(cell), orthogonalisation(other)) < 0.005


def test_the_supplement_of_gamma_is_the_same_lattice_only_where_it_is():
    # gamma against 180 - gamma with right angles is a turn of the axes; of a general cell it is not
    right = [orthogonalisation((10, 12, 15, 90, 90, g)) for g in (75, 105)]
    assert lattice_distance(*right) == pytest.approx(0, abs=1e-9)
    general = [orthogonalisation((10, 12, 15, 80, 70, g)) for g in (75, 105)]
    assert lattice_distance(*general) > 0.02


def test_the_best_transform_undoes_a_change_of_basis():
    basis = niggli_reduce(orthogonalisation((9, 11, 13, 95, 100, 105)))[0]
    m = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]])
    matrices, distance = best_transforms(basis, basis @ m)
    assert distance[0] == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(m @ matrices[0], np.eye(3))


def test_the_thesis_distance_by_hand():
    reduced = [
        niggli_reduce(orthogonalisation(cell))[0]
        for cell in ((10, 12, 15, 90, 90, 90), (10.3, 12.4, 15, 90, 90, 90))
    ]
    assert thesis_distances(reduced)[0, 1] == pytest.approx(0.5)


@example(5)
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31))
def test_all_pairs_are_as_each_pair(seed):
    rng = np.random.default_rng(seed)
    found = [niggli_reduce(9 * np.eye(3) + 3 * rng.normal(size=(3, 3)))[0] for _ in range(4)]
    d = lattice_distances(found)
    np.testing.assert_allclose(d, d.T)
    np.testing.assert_allclose(np.diag(d), 0)
    for i in range(4):
        for j in range(i):
            assert d[i, j] == pytest.approx(best_transforms(found[i], found[j])[1][0], abs=1e-6)
