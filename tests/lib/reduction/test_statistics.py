from itertools import pairwise

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import (
    BRAVAIS,
    candidate_operators,
    holohedral_group,
    reindex_absences,
)
from ewaldflow.lib.reduction.result import Reflections
from ewaldflow.lib.reduction.statistics import (
    asymmetric_unit,
    cc_half,
    cc_half_sigma_tau,
    chi_square_of_equivalents,
    equivalents,
    merge,
    r_meas,
    r_merge,
    shells,
    unique_reflections,
)

GROUP = np.array([0, 1, 0, 1, 2, 1])
INTENSITY = np.array([10.0, 20.0, 12.0, 22.0, 5.0, 24.0])
seeds = st.integers(0, 2**32 - 1)


def reflections(hkl, intensity, sigma, cell):
    n = len(hkl)
    zeros = np.zeros(n)
    return Reflections(
        hkl=np.asarray(hkl, np.int32),
        intensity_sum=zeros,
        sigma_sum=zeros + 1,
        intensity=np.asarray(intensity, float),
        sigma=np.asarray(sigma, float),
        background=zeros,
        frame=zeros,
        angle_deg=zeros,
        row=zeros,
        column=zeros,
        observed_row=zeros,
        observed_column=zeros,
        partiality=zeros + 1,
        lorentz=zeros + 1,
        d_A=d_spacing_A(hkl, cell),
        flags=np.zeros(n, np.uint32),
    )


def test_r_factors_by_hand():
    # |I - mean|: 1 1 | 2 0 2; the single observation does not count
    assert r_merge(GROUP, INTENSITY) == pytest.approx(6 / 88)
    expected = (2 * np.sqrt(2) + 4 * np.sqrt(3 / 2)) / 88
    assert r_meas(GROUP, INTENSITY) == pytest.approx(expected)


def test_chi_square_by_hand():
    # squares 1 1 4 0 4 over (2 - 1) + (3 - 1) degrees of freedom
    assert chi_square_of_equivalents(GROUP, INTENSITY, np.ones(6)) == pytest.approx(10 / 3)
    assert chi_square_of_equivalents(GROUP, INTENSITY, np.full(6, 2.0)) == pytest.approx(10 / 12)


def test_weighted_mean_by_hand():
    # weights 1 and 1/4: (10 + 5) / 1.25 = 12, sigma = 1 / sqrt(1.25)
    merged = merge([0, 0, 1], [10.0, 20.0, 3.0], [1.0, 2.0, 5.0])
    assert np.allclose(merged.intensity, [12, 3])
    assert np.allclose(merged.sigma, [1.25**-0.5, 5])
    assert merged.multiplicity.tolist() == [2, 1]


def test_sigma_tau_by_hand():
    # means 1 and 11: V = 50; s^2 / n = 2 / 2
    assert cc_half_sigma_tau([0, 0, 1, 1], [0.0, 2.0, 10.0, 12.0]) == pytest.approx(49 / 51)


@pytest.mark.parametrize("multiplicity", [2, 3, 8])
def test_figures_of_merit_of_simulated_data(multiplicity):
    rng = np.random.default_rng(multiplicity)
    m = 4000
    group = np.repeat(np.arange(m), multiplicity)
    truth = 100 + 30 * rng.normal(size=m)
    sigma = rng.uniform(10, 20, len(group))
    shuffled = rng.permutation(len(group))
    group, sigma = group[shuffled], sigma[shuffled]
    intensity = truth[group] + sigma * rng.normal(size=len(group))
    freedom = m * (multiplicity - 1)
    chi_square = chi_square_of_equivalents(group, intensity, sigma)
    assert abs(chi_square - 1) < 4 * np.sqrt(2 / freedom)
    assert chi_square_of_equivalents(group, intensity, sigma / 2) == pytest.approx(4 * chi_square)
    # the tau^2 / (tau^2 + e^2) of half sets, here with e^2 averaged over odd splits
    halves = (multiplicity // 2, multiplicity - multiplicity // 2)
    error = [np.mean(sigma**2) / h for h in halves]
    expected = 900 / np.sqrt((900 + error[0]) * (900 + error[1]))
    tolerance = 4 * (1 - expected**2) / np.sqrt(m)
    assert cc_half(group, intensity, seed=1) == pytest.approx(expected, abs=tolerance)
    smooth = 900 / (900 + 2 * np.mean(sigma**2) / multiplicity)
    assert cc_half_sigma_tau(group, intensity) == pytest.approx(smooth, abs=tolerance + 0.005)


def test_cc_half_depends_on_the_seed_only():
    rng = np.random.default_rng(5)
    group, intensity = np.repeat(np.arange(50), 4), rng.normal(size=200)
    assert cc_half(group, intensity, seed=3) == cc_half(group, intensity, seed=3)
    assert cc_half(group, intensity, seed=3) != cc_half(group, intensity, seed=4)


def test_nothing_measured_twice_says_nothing():
    for value in (
        r_merge([0, 1], [1.0, 2.0]),
        r_meas([0, 1], [1.0, 2.0]),
        cc_half([0, 1], [1.0, 2.0]),
        cc_half_sigma_tau([0, 1], [1.0, 2.0]),
        chi_square_of_equivalents([0, 1], [1.0, 2.0], [1.0, 1.0]),
    ):
        assert np.isnan(value)


@given(st.sampled_from(BRAVAIS), seeds, st.booleans())
def test_equivalents_are_those_the_operators_make(bravais, seed, friedel):
    rng = np.random.default_rng(seed)
    operators = candidate_operators(bravais)
    hkl = rng.integers(-200, 201, (20, 3))
    turned = np.concatenate([hkl @ op.T for op in operators])
    unit = asymmetric_unit(turned, operators, friedel).reshape(len(operators), 20, 3)
    assert np.array_equal(unit, np.broadcast_to(unit[0], unit.shape))
    assert np.array_equal(asymmetric_unit(unit[0], operators, friedel), unit[0])
    mates = asymmetric_unit(-hkl, operators, friedel)
    assert not friedel or np.array_equal(mates, unit[0])
    # the representative is an equivalent: in the orbit of its reflection
    orbit = {tuple(h) for h in (operators @ hkl[0]).tolist()}
    orbit |= {tuple(-h for h in v) for v in orbit} if friedel else set()
    assert tuple(unit[0][0].tolist()) == max(orbit)


@pytest.mark.parametrize("bravais", BRAVAIS)
def test_equivalents_agree_with_gemmi(bravais):
    hkl = np.random.default_rng(2).integers(-4, 5, (400, 3))
    space_group = holohedral_group(bravais)
    asu, operations = gemmi.ReciprocalAsu(space_group), space_group.operations()
    peer = [tuple(asu.to_asu(h, operations)[0]) for h in hkl.tolist()]
    group = equivalents(hkl, candidate_operators(bravais))
    assert len(set(peer)) == group.max() + 1
    assert len(set(zip(peer, group.tolist(), strict=True))) == len(set(peer))


def test_an_index_too_large_is_refused():
    with pytest.raises(ValueError, match="expected below 32768"):
        equivalents([[40000, 0, 0]], candidate_operators("aP"))


@pytest.mark.parametrize(
    ("intensity", "sigma"), [([1.0, np.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, 0.0])]
)
def test_unusable_observations_are_refused(intensity, sigma):
    with pytest.raises(ValueError, match="found 1 without finite intensity"):
        merge([0, 0], intensity, sigma)


@pytest.mark.parametrize(
    ("bravais", "expected"),
    [
        # N = h^2 + k^2 + l^2 <= 4
        ("cP", {(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 0, 0)}),
        ("cI", {(1, 1, 0), (2, 0, 0)}),
        ("cF", {(1, 1, 1), (2, 0, 0)}),
    ],
)
def test_unique_reflections_by_hand(bravais, expected):
    cell = (10.0, 10.0, 10.0, 90.0, 90.0, 90.0)
    assert {tuple(h) for h in unique_reflections(cell, bravais, 5.0).tolist()} == expected


@given(st.sampled_from(["aP", "mC", "oF", "tI", "hR"]), seeds)
def test_unique_reflections_cover_the_sphere_once(bravais, seed):
    rng = np.random.default_rng(seed)
    a, c = rng.uniform(5, 9, 2)
    cell = {"a": (a, 7, c, 80, 99, 105), "m": (a, 7, c, 90, 108, 90), "o": (a, 7, c, 90, 90, 90)}
    box = cell.get(bravais[0], (a, a, c, 90, 90, 120 if bravais[0] == "h" else 90))
    unique = unique_reflections(box, bravais, 1.3)
    grid = np.indices((17, 17, 17)).reshape(3, -1).T - 8
    grid = grid[np.any(grid != 0, axis=1)]
    grid = grid[(d_spacing_A(grid, box) >= 1.3) & ~reindex_absences(bravais, grid)]
    operators = candidate_operators(bravais)
    covered = {tuple(h) for h in asymmetric_unit(grid, operators).tolist()}
    assert covered == {tuple(h) for h in unique.tolist()}
    assert len(covered) == len(unique)


def test_shells_of_a_complete_set():
    cell = (9.0, 9.0, 14.0, 90.0, 90.0, 90.0)
    unique = unique_reflections(cell, "tI", 1.0)
    hkl = np.concatenate([unique, -unique])
    rng = np.random.default_rng(0)
    truth = np.tile(rng.exponential(100, len(unique)), 2)
    data = reflections(hkl, truth + rng.normal(size=len(hkl)), np.ones(len(hkl)), cell)
    rows = shells(data, cell, "tI", n=8)
    assert len(rows) == 8
    assert sum(r.n_observed for r in rows) == len(hkl)
    assert sum(r.n_unique for r in rows) == sum(r.n_possible for r in rows) == len(unique)
    assert all(r.completeness == 1 and r.multiplicity == 2 for r in rows)
    assert all(r.cc_half > 0.99 and 0 < r.r_meas < 0.1 for r in rows)
    assert all(a.d_min_A == pytest.approx(b.d_max_A) for a, b in pairwise(rows))
    volumes = [r.d_min_A**-3 for r in rows]
    assert np.allclose(np.diff(volumes), volumes[0])
    half = shells(data[: len(unique) : 2], cell, "tI", n=1)[0]
    assert half.completeness == pytest.approx(0.5, abs=0.01)
    assert half.multiplicity == 1
    # I/sigma of unit sigmas is the mean intensity
    assert half.i_over_sigma == pytest.approx(data.intensity[: len(unique) : 2].mean())


def test_shells_under_lower_symmetry_expect_more():
    cell = (9.0, 9.0, 9.0, 90.0, 90.0, 90.0)
    unique = unique_reflections(cell, "cP", 1.5)
    data = reflections(unique, np.ones(len(unique)), np.ones(len(unique)), cell)
    row = shells(data, cell, "cP", operators=candidate_operators("aP"), n=1)[0]
    assert row.n_possible == len(unique_reflections(cell, "aP", 1.5))
    assert row.completeness < 0.1


def test_shells_of_nothing_are_refused():
    cell = (9.0, 9.0, 9.0, 90.0, 90.0, 90.0)
    data = reflections(np.array([[1, 0, 0]]), [1.0], [1.0], cell)
    with pytest.raises(ValueError, match="found none"):
        shells(data[:0], cell, "cP")
