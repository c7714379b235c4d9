import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.merging.outliers import find_outliers


def outliers(*values, sigma=1.0):
    return np.flatnonzero(
        find_outliers(
            np.zeros(len(values), int), np.array(values, float), np.full(len(values), sigma)
        )
    ).tolist()


def test_one_of_three_is_told_when_the_other_two_agree():
    assert outliers(1, 1.5, 50) == [2]
    assert outliers(-40, 1, 1.5) == [0]


def test_nobody_is_singled_out_where_nobody_agrees():
    assert outliers(1, 50, 100) == []
    assert outliers(1, 100) == []
    assert outliers(5) == []
    assert outliers(0, 0, 20, 20) == []


def test_two_wild_ones_do_not_hide_each_other_or_take_others_along():
    assert outliers(0, 0.5, -0.5, 0.2, 1, -1, 0, 0.3, 30, 60) == [8, 9]


def test_a_precise_value_is_not_outvoted_by_poor_ones():
    group, i = np.zeros(4, int), np.array([100.0, 140.0, 130.0, 150.0])
    assert not find_outliers(group, i, np.array([1.0, 30.0, 30.0, 30.0])).any()


def test_the_distance_that_counts_has_the_error_of_the_others_in_it():
    # from two others: sqrt(1 + 1/2) sigma is one standard deviation
    assert outliers(0, 0, 4.85) == []
    assert outliers(0, 0, 4.95) == [2]


def test_groups_do_not_mix():
    group = np.array([7, 7, 7, 3, 3, 3])
    i = np.array([1.0, 1.1, 30.0, 30.0, 30.5, 29.0])
    assert find_outliers(group, i, np.ones(6)).tolist() == [False, False, True] + [False] * 3


def test_normal_errors_are_left_alone():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4000, 40000)
    sigma = rng.uniform(0.5, 2, 40000)
    i = group * 10 + sigma * rng.normal(size=40000)
    # 4 sigma: 6e-5 of a normal distribution
    assert find_outliers(group, i, sigma).mean() < 3e-4


def test_planted_ones_are_found_at_any_multiplicity():
    rng = np.random.default_rng(1)
    for multiplicity in (4, 30, 500):
        group = np.repeat(np.arange(4000 // multiplicity), multiplicity)
        i = rng.normal(size=len(group))
        wrong = rng.random(len(group)) < 0.02
        found = find_outliers(group, i + 20 * wrong, np.ones(len(group)))
        assert found[wrong].mean() > 0.9
        assert found[~wrong].mean() < 1e-3


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=12),
    st.floats(0.01, 100),
    st.floats(-1e3, 1e3),
)
def test_scale_and_origin_do_not_matter(values, scale, shift):
    i, group = np.round(np.array(values), 2), np.zeros(len(values), int)
    first = find_outliers(group, i, np.full(len(i), 1.003))
    second = find_outliers(group, i * scale + shift, np.full(len(i), 1.003 * scale))
    assert np.array_equal(first, second)


def test_nothing_is_no_error():
    none = np.zeros(0)
    assert find_outliers(np.zeros(0, int), none, none).shape == (0,)
