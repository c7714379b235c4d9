"""Real-space search for lattices: exact ones are found among aliens, none is found in chaos."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ewaldflow.lib.crystal.cell import cell_from_real_basis, orthogonalisation
from ewaldflow.lib.crystal.niggli import niggli_reduce
from ewaldflow.lib.reduction.indexing import (
    BasisSearch,
    anneal,
    best_triples,
    hemisphere,
    lattice_vectors,
)
from ewaldflow.lib.simulation import random_rotation

WAVELENGTH_A = 0.025079
SEARCH = BasisSearch(max_axis_A=40.0, n_directions=3000)


def slab(real_basis, range_deg=10.0, d_min_A=0.9, n=400, seed=0):
    """Lattice points, some of those that cross the Ewald sphere in a rotation about x."""
    limit = np.ceil(np.linalg.norm(real_basis, axis=0) / d_min_A).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in limit)), -1).reshape(-1, 3)
    points = grid @ np.linalg.inv(real_basis)
    length = np.linalg.norm(points, axis=1)
    points = points[(length < 1 / d_min_A) & (length > 1 / 20)]

    def above(angle_deg):
        phi = np.deg2rad(angle_deg)
        height = points[:, 2] * np.cos(phi) + points[:, 1] * np.sin(phi)
        return height + 0.5 * WAVELENGTH_A * np.sum(points**2, axis=1) > 0

    points = points[above(-range_deg / 2) != above(range_deg / 2)]
    rng = np.random.default_rng(seed)
    return points[rng.permutation(len(points))[:n]]


def with_aliens(points, fraction, seed=0):
    """Points of the same lengths in random directions mixed in: `fraction` of all."""
    rng = np.random.default_rng([seed, 1])
    n = round(len(points) * fraction / (1 - fraction))
    alien = rng.normal(size=(n, 3)) * [1, 1, 0.05]
    alien *= (
        np.linalg.norm(points, axis=1)[rng.integers(0, len(points), n)]
        / np.linalg.norm(alien, axis=1)
    )[:, None]
    return np.concatenate([points, alien])


def best_basis(points, search=SEARCH):
    """As the engine does it: vectors, triples, least squares."""
    length = np.linalg.norm(points, axis=1)
    weights = np.exp(-((length / np.quantile(length, 0.6)) ** 2))
    vectors, _ = lattice_vectors(points, weights, search)
    found = best_triples(points, weights, vectors, search)
    bases = [niggli_reduce(anneal(points, np.ones(len(points)), basis)[0])[0] for basis, _ in found]
    return bases, [fraction for _, fraction in found]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "cell",
    [
        (10.0, 10.0, 10.0, 90, 90, 90),
        (7.2, 7.2, 17.0, 90, 90, 120),
        (6.0, 11.0, 24.0, 90, 101, 90),
    ],
    ids=["cubic", "hexagonal", "monoclinic"],
)
def test_the_first_basis_is_the_reduced_cell(cell, seed):
    real = random_rotation([9, seed]) @ orthogonalisation(cell)
    points = with_aliens(slab(real, range_deg=30, seed=seed), 0.3, seed)
    bases, fractions = best_basis(points)
    found = np.array(cell_from_real_basis(bases[0]))
    wanted = np.array(cell_from_real_basis(niggli_reduce(real)[0]))
    # the aliens that fit by chance pull a little
    assert_allclose(found[:3], wanted[:3], rtol=5e-3)
    # which of two nearly equal angles is obtuse is a matter of the last digits
    cosines = np.abs(np.cos(np.deg2rad([found[3:], wanted[3:]])))
    assert_allclose(cosines[0], cosines[1], atol=0.01)
    assert max(fractions) > 0.65


@pytest.mark.parametrize("seed", range(6))
def test_without_aliens_a_slab_of_ten_degrees_gives_the_exact_basis(seed):
    rng = np.random.default_rng([8, seed])
    cell = (*rng.uniform(8, 25, 3), *rng.uniform(75, 105, 3))
    real = random_rotation([7, seed]) @ orthogonalisation(cell)
    bases, fractions = best_basis(slab(real, seed=seed))
    change = np.linalg.solve(real, bases[0])
    assert_allclose(change, np.round(change), atol=1e-6)
    assert abs(np.linalg.det(change)) == pytest.approx(1)
    assert fractions[0] == pytest.approx(1)


@pytest.mark.parametrize("seed", [8, 12, 14, 21])
def test_a_thin_slab_with_aliens_is_not_explained_by_a_tiny_cell(seed):
    # side maxima of S beside true vectors once made cells of 2.5 Å along the beam
    rng = np.random.default_rng([8, seed])
    cell = (*rng.uniform(8, 25, 3), *rng.uniform(75, 105, 3))
    real = random_rotation([7, seed]) @ orthogonalisation(cell)
    points = with_aliens(slab(real, seed=seed), 0.3, seed)
    found, _ = lattice_vectors(points, np.ones(len(points)), SEARCH)
    for v, w in combinations(found, 2):
        assert (np.abs(points @ (v - w)) > 0.5).mean() > 0.01
    coordinates = np.linalg.solve(real, found[:6].T).T
    assert np.abs(coordinates - np.round(coordinates)).max() < 0.1


def test_random_points_are_on_no_lattice():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(400, 3))
    points *= (rng.uniform(0.1, 1.1, 400) / np.linalg.norm(points, axis=1))[:, None]
    bases, _ = best_basis(points)
    for basis in bases:
        h = points @ basis
        near = np.abs(h - np.round(h)).max(axis=1) < 0.15
        assert near.mean() < 0.3  # 0.027 by chance, more as the best of many bases


def test_annealing_starts_from_low_resolution():
    # a basis wrong by 2 % indexes the inner points only; at 1/Å the error is a whole index
    real = random_rotation(3) @ orthogonalisation((15.0, 18.0, 22.0, 90, 95, 90))
    points = slab(real, range_deg=60, n=1000)
    basis, indexed = anneal(points, np.ones(len(points)), real * [[1.02], [0.985], [1.01]])
    assert_allclose(basis, real, atol=1e-6)
    assert indexed.all()


def test_annealing_lets_too_few_points_be():
    real = np.diag([10.0, 11.0, 12.0])
    points = np.array([[0.1, 0, 0], [0.2, 0, 0], [0.0, 1 / 11, 0]])
    basis, indexed = anneal(points, np.ones(3), real)
    assert_allclose(basis, real)
    assert indexed.all()


def test_a_vector_along_which_all_points_lie_on_one_plane_is_no_evidence():
    # a single zone: nothing is known along z, whatever vector there explains all points
    grid = np.stack(np.meshgrid(np.arange(-8, 9), np.arange(-8, 9)), -1).reshape(-1, 2)
    points = np.column_stack([grid / [10.0, 12.0], np.zeros(len(grid))])
    points = points[np.linalg.norm(points, axis=1) > 0.05]
    weights = np.ones(len(points))
    vectors, scores = lattice_vectors(points, weights, SEARCH)
    spread = (np.abs(np.round(vectors @ points.T)) > 0).mean(axis=1)
    assert (spread > SEARCH.min_off_zero_layer).all()
    coordinates = vectors[:, :2] / [10.0, 12.0]
    assert_allclose(coordinates[:2], np.round(coordinates[:2]), atol=1e-3)
    assert (scores[:2] > 0.999).all()


@given(st.integers(10, 3000))
@settings(deadline=None, max_examples=20)
def test_directions_cover_the_hemisphere_evenly(n):
    directions = hemisphere(n)
    assert directions.shape == (n, 3)
    assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (directions[:, 2] > 0).all()
    # no direction is far from one of them: n caps of area 2 pi / n, with room
    probe = random_rotation(n)[2]
    nearest = np.arccos(min(np.abs(directions @ probe).max(), 1.0))
    assert nearest < 3 * np.sqrt(2 / n)
