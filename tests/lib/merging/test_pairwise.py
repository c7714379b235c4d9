import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.pairwise import pairwise_correlations, values_of, z_sd
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.reduction.statistics import unique_reflections
from ewaldflow.lib.simulation.data_sets import crystal, framework

CELL = (10.0, 11.0, 12.0, 90.0, 90.0, 90.0)
OPERATORS = candidate_operators("oP")


def data_set(name, hkl, intensity, sigma=1.0, flags=0):
    hkl = np.asarray(hkl, np.int32).reshape(-1, 3)
    n = len(hkl)
    return DataSet(
        name, CELL, "oP", hkl, np.asarray(intensity, float), np.full(n, float(sigma)),
        np.zeros(n), d_spacing_A(hkl, CELL), np.full(n, flags, np.uint32), 0.02, 10.0, 10,
    )  # fmt: skip


def random_sets(n, per_set, seed=0):
    rng = np.random.default_rng(seed)
    unique = unique_reflections(CELL, "oP", 0.9)
    true = rng.exponential(size=len(unique))
    chosen = [rng.choice(len(unique), per_set, replace=False) for _ in range(n)]
    return [
        data_set(f"s{i}", unique[at], true[at] + rng.normal(0, 0.3, per_set), 0.3)
        for i, at in enumerate(chosen)
    ]


def test_the_coefficients_of_five_reflections_by_hand():
    # x = 1 2 3 4 5, y = 2 1 4 3 5: deviations -2 -1 0 1 2 and -1 -2 1 0 2, CC = 8 / 10
    hkl = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]]
    sets = [data_set("x", hkl, [1, 2, 3, 4, 5]), data_set("y", hkl, [2, 1, 4, 3, 5])]
    found = pairwise_correlations(sets, OPERATORS, normalise=False, min_common=4)
    assert found.cc[0, 1] == pytest.approx(0.8, abs=1e-12)
    assert found.n_common.tolist() == [[5, 5], [5, 5]]
    # artanh 0.8 = ln(9) / 2, standard deviation 1 / sqrt(2)
    assert found.z[0, 1] == pytest.approx(np.log(3))
    assert found.z_sd[0, 1] == pytest.approx(2**-0.5)
    lower, upper = found.interval(1.0)
    assert lower[0, 1] == pytest.approx(np.tanh(np.log(3) - 2**-0.5))
    assert upper[0, 1] == pytest.approx(np.tanh(np.log(3) + 2**-0.5))


def test_equivalent_reflections_are_compared_and_friedel_mates_too():
    hkl = np.array([[1, 2, 3], [2, 1, 3], [3, 1, 1], [1, 1, 4], [2, 2, 1]])
    signs = np.array([[1, 1, 1], [-1, -1, -1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    sets = [data_set("x", hkl, [1, 2, 3, 4, 5]), data_set("y", hkl * signs, [2, 1, 4, 3, 5])]
    found = pairwise_correlations(sets, OPERATORS, normalise=False, min_common=4)
    assert found.cc[0, 1] == pytest.approx(0.8)
    alone = pairwise_correlations(sets, np.eye(3)[None], normalise=False, min_common=4)
    assert alone.n_common[0, 1] == 2
    assert np.isnan(alone.cc[0, 1])


def test_repeats_in_a_data_set_are_merged_with_their_weights():
    hkl = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
    twice = data_set("t", [*hkl, [-1, 0, 0]], [1, 2, 3, 5, 9])
    weighted = replace(twice, sigma=np.array([1.0, 1, 1, 1, 1e6]))
    plain = data_set("p", hkl, [1, 2, 3, 5])
    other = data_set("o", hkl, [1, 3, 2, 6])
    found = pairwise_correlations([weighted, plain, other], OPERATORS, normalise=False,
                                  min_common=4)  # fmt: skip
    assert found.n_common[0, 0] == 4
    assert found.cc[0, 2] == pytest.approx(found.cc[1, 2], abs=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_all_pairs_at_once_are_as_one_by_one(weighted):
    sets = random_sets(12, 150)  # some columns dense, some rare
    sets[3] = sets[3].select(np.arange(30))
    found = pairwise_correlations(sets, OPERATORS, normalise=False, weighted=weighted, min_common=4)
    keys = [{tuple(h): i for h, i in zip(s.hkl.tolist(), s.intensity, strict=True)} for s in sets]
    for i in range(12):
        for j in range(i):
            common = sorted(keys[i].keys() & keys[j].keys())
            assert found.n_common[i, j] == len(common)
            if len(common) < 4:
                assert np.isnan(found.cc[i, j])
            elif not weighted:
                x, y = ([k[h] for h in common] for k in (keys[i], keys[j]))
                assert found.cc[i, j] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    if weighted:  # equal sigmas are equal weights
        plain = pairwise_correlations(sets, OPERATORS, normalise=False, min_common=4)
        assert np.allclose(found.cc, plain.cc, equal_nan=True)
        assert np.allclose(found.n_effective, found.n_common)


def test_weights_spare_a_coefficient_its_worst_reflections():
    (one,) = random_sets(1, 300)
    rng = np.random.default_rng(5)
    sigma = np.where(rng.random(300) < 0.3, 10.0, 0.1)

    def noisy(seed):
        noise = np.random.default_rng(seed).normal(size=300) * sigma
        return replace(one, intensity=one.intensity + noise, sigma=sigma)

    pair = [noisy(1), noisy(2)]
    plain = pairwise_correlations(pair, OPERATORS, normalise=False)
    weighted = pairwise_correlations(pair, OPERATORS, normalise=False, weighted=True)
    assert plain.cc[0, 1] < 0.3
    assert weighted.cc[0, 1] > 0.5
    assert weighted.n_effective[0, 1] < 300
    assert weighted.z_sd[0, 1] > plain.z_sd[0, 1]


def test_pairs_without_common_reflections_are_absent_and_not_zero():
    a, b = random_sets(2, 300)
    first, second = a.select(a.hkl[:, 0] > 4), b.select(b.hkl[:, 0] < 3)
    found = pairwise_correlations([first, second, a], OPERATORS)
    assert found.n_common[0, 1] == 0
    assert np.isnan(found.cc[0, 1])
    assert not found.known[0, 1]
    assert np.isinf(found.z_sd[0, 1])
    assert found.cc[0, 2] == pytest.approx(1, abs=0.05)


def test_fall_off_with_resolution_alone_correlates_nothing():
    unique = unique_reflections(CELL, "oP", 0.9)
    d = d_spacing_A(unique, CELL)
    rng = np.random.default_rng(2)

    def unrelated(name):
        fall = 100 * np.exp(-10 / (4 * d**2))
        return data_set(name, unique, fall * rng.exponential(size=len(d)), 0.5)

    sets = [unrelated("a"), unrelated("b")]
    raw = pairwise_correlations(sets, OPERATORS, normalise=False)
    normalised = pairwise_correlations(sets, OPERATORS)
    assert raw.cc[0, 1] > 0.2
    assert abs(normalised.cc[0, 1]) < 3 / np.sqrt(len(d))


def test_reliability_is_what_noise_leaves():
    truth = framework("MFI")
    pair = [crystal(truth, i, range_deg=60, noise=0.3, systematic=0) for i in range(6)]
    found = pairwise_correlations(pair, OPERATORS)
    assert np.mean(found.cc[found.known]) == pytest.approx(
        np.mean(found.expected[found.known]), abs=0.08
    )


def test_intensities_that_are_all_zero_have_no_coefficient():
    a, b = random_sets(2, 300)
    zero = replace(a, intensity=np.zeros(len(a)), name="zero")
    found = pairwise_correlations([zero, b, a], OPERATORS)
    assert np.isnan(found.cc[0]).all()
    assert np.isnan(found.reliability[0])
    assert found.n_common[0, 1] > 0
    assert np.isfinite(found.cc[1, 2])


def test_identical_copies_correlate_fully_and_stay_finite():
    (one,) = random_sets(1, 200)
    found = pairwise_correlations([replace(one, name=f"c{i}") for i in range(200)], OPERATORS)
    assert np.allclose(found.cc, 1)
    assert np.isfinite(found.z).all()


def test_unusable_observations_and_outliers_are_not_compared():
    a, b = random_sets(2, 300)
    flagged = replace(a, flags=np.full(len(a), np.uint32(Flag.OUTLIER)))
    found = pairwise_correlations([flagged, b], OPERATORS)
    assert found.n_common[0].tolist() == [0, 0]
    assert np.isnan(found.cc[0, 0])


def test_selecting_and_one_data_set():
    sets = random_sets(4, 300)
    found = pairwise_correlations(sets, OPERATORS)
    part = found.select([2, 0])
    assert part.names == ("s2", "s0")
    assert part.cc[0, 1] == found.cc[2, 0]
    alone = pairwise_correlations(sets[:1], OPERATORS)
    assert alone.cc.tolist() == [[1.0]]


def test_what_is_refused():
    with pytest.raises(ValueError, match="found none"):
        pairwise_correlations([], OPERATORS)
    with pytest.raises(ValueError, match="found 3, expected 4"):
        pairwise_correlations(random_sets(2, 50), OPERATORS, min_common=3)


def test_z_sd():
    assert z_sd([3, 4, 103]).tolist() == [np.inf, 1.0, 0.1]


@given(scale=st.floats(1e-3, 1e6), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_scale_changes_no_coefficient(scale, seed):
    a, b = random_sets(2, 200, seed)
    scaled = replace(a, intensity=a.intensity * scale, sigma=a.sigma * scale)
    for normalise in (True, False):
        one = pairwise_correlations([a, b], OPERATORS, normalise=normalise)
        two = pairwise_correlations([scaled, b], OPERATORS, normalise=normalise)
        assert one.cc[0, 1] == pytest.approx(two.cc[0, 1], abs=1e-6)


def test_values_are_logarithmic_where_strong():
    x, sd = values_of(np.array([1e4, 2e4, 0.0, 1.0]), np.ones(4), np.ones(4))
    assert x[1] - x[0] == pytest.approx(np.log(2), abs=1e-6)
    assert x[3] - x[2] == pytest.approx(np.arcsinh(0.5))
    assert sd[0] == pytest.approx(1e-4, rel=1e-4)
    assert sd[2] == 0.5


def test_two_hundred_by_two_thousand_in_a_moment():
    sets = random_sets(200, 700)
    begin = time.process_time()
    pairwise_correlations(sets, OPERATORS)
    assert time.process_time() - begin < 5
