import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import cell_from_real_basis, orthogonalisation
from ewaldflow.lib.crystal.niggli import minkowski_reduce, niggli_reduce

edges = st.floats(3.0, 40.0)
angles = st.floats(65.0, 115.0)
bases = st.tuples(edges, edges, edges, angles, angles, angles).map(orthogonalisation)
seeds = st.integers(0, 2**32 - 1)


def unimodular(seed, steps=10):
    rng = np.random.default_rng(seed)
    matrix = np.eye(3, dtype=np.int64)
    for _ in range(steps):
        i, j = rng.choice(3, 2, replace=False)
        matrix[:, i] += rng.integers(-2, 3) * matrix[:, j]
    return matrix[:, rng.permutation(3)]


def test_the_example_of_krivy_and_gruber():
    # Acta Cryst. A32 (1976) 297: (9, 27, 4, -5, -4, -22) reduces to (4, 9, 9, 9, 3, 4)
    metric = np.array([[9, -11, -2], [-11, 27, -2.5], [-2, -2.5, 4]])
    reduced, _ = niggli_reduce(np.linalg.cholesky(metric).T)
    g = reduced.T @ reduced
    assert np.allclose(np.diag(g), [4, 9, 9])
    assert np.allclose([2 * g[1, 2], 2 * g[0, 2], 2 * g[0, 1]], [9, 3, 4])


@pytest.mark.parametrize(
    ("primitive", "edge", "angle"),
    [
        # half the body diagonal of a 2 A cube; cos = -1/3
        ([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], np.sqrt(3), 109.47122),
        # half the face diagonal
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], np.sqrt(2), 60.0),
    ],
)
def test_centred_cubic_lattices(primitive, edge, angle):
    reduced, _ = niggli_reduce(np.array(primitive, float) @ unimodular(7))
    assert np.allclose(cell_from_real_basis(reduced), [edge] * 3 + [angle] * 3, atol=1e-5)


@given(bases, seeds)
def test_transform_reproduces_the_basis_and_is_right_handed(basis, seed):
    start = basis @ unimodular(seed)
    for reduce in (minkowski_reduce, niggli_reduce):
        reduced, transform = reduce(start)
        assert transform.dtype == np.int64
        assert abs(round(np.linalg.det(transform))) == 1
        assert np.linalg.det(reduced) > 0
        assert np.allclose(start @ transform, reduced, atol=1e-9)


@given(bases, seeds)
def test_niggli_cell_does_not_depend_on_the_start_and_stays(basis, seed):
    reduced, _ = niggli_reduce(basis)
    again, _ = niggli_reduce(basis @ unimodular(seed))
    assert np.allclose(
        again.T @ again, reduced.T @ reduced, atol=1e-5 * np.trace(reduced.T @ reduced)
    )
    _, transform = niggli_reduce(reduced)
    kept = reduced @ transform
    assert np.allclose(kept.T @ kept, reduced.T @ reduced, rtol=1e-7, atol=1e-7)


@given(bases, seeds)
def test_reduced_edges_are_the_shortest_lattice_vectors(basis, seed):
    reduced, _ = niggli_reduce(basis @ unimodular(seed))
    lengths = np.linalg.norm(reduced, axis=0)
    grid = np.indices((7, 7, 7)).reshape(3, -1) - 3
    every = np.linalg.norm(reduced @ grid, axis=0)
    assert lengths[0] <= np.min(every[every > 1e-9]) * (1 + 1e-7)
    assert lengths[0] <= lengths[1] * (1 + 1e-7)
    assert lengths[1] <= lengths[2] * (1 + 1e-7)
    cell = cell_from_real_basis(reduced)
    assert all(59.99 < angle < 120.01 for angle in cell[3:])
    # all acute or none
    assert len({angle < 90 for angle in cell[3:] if abs(angle - 90) > 1e-4}) <= 1


@given(bases, seeds)
def test_agrees_with_gemmi_where_the_start_is_not_too_skewed(basis, seed):
    start = basis @ unimodular(seed, steps=2)
    reduced, _ = niggli_reduce(start)
    peer = gemmi.GruberVector(gemmi.UnitCell(*cell_from_real_basis(start)), "P")
    peer.niggli_reduce(1e-7, 1000)
    g = reduced.T @ reduced
    mine = [g[0, 0], g[1, 1], g[2, 2], 2 * g[1, 2], 2 * g[0, 2], 2 * g[0, 1]]
    assert np.allclose(mine, peer.parameters, atol=1e-4 * np.trace(g))


@pytest.mark.parametrize(
    ("basis", "words"),
    [
        (np.zeros((3, 3)), "coplanar"),
        (np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0.0]]), "coplanar"),
        (np.full((3, 3), np.nan), "finite"),
        (np.eye(2), "3x3"),
    ],
)
def test_what_is_no_basis_is_refused(basis, words):
    with pytest.raises(ValueError, match=words):
        niggli_reduce(basis)
