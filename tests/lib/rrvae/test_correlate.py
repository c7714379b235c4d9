import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.rrvae.correlate import circular_correlation, pearson, spearman


def test_pearson_by_hand():
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    # x - mean: -1.5 -.5 .5 1.5; y - mean: -.5 -1.5 1.5 .5: 3 / 5
    assert pearson([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)


def test_spearman_sees_order_only_and_shares_ties():
    assert spearman([1, 2, 3, 4], np.exp([1, 2, 3, 4])) == pytest.approx(1)
    # ranks 1 2.5 2.5 4 against 1 2 3 4: 4.5 / sqrt(4.5 * 5)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(22.5))


def test_pairs_with_nan_are_left_out():
    assert pearson([1, 2, np.nan, 3], [2, 4, 0, 6]) == pytest.approx(1)


@pytest.mark.parametrize("b", [[1, 1, 1], [np.nan, 1, 2]])
def test_nothing_to_correlate(b):
    with pytest.raises(ValueError, match="expected"):
        pearson([1, 2, 3], b)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="equal ones"):
        pearson([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="equal ones"):
        circular_correlation([1, 2, 3], [1, 2])


@given(st.floats(-9, 9), st.sampled_from([1, -1]), st.integers(0, 99))
def test_angles_agree_up_to_offset_and_sense(offset, sense, seed):
    a = np.random.default_rng(seed).uniform(-np.pi, np.pi, 50)
    found = circular_correlation(sense * a + offset + 2 * np.pi * np.arange(50), a)
    assert pytest.approx(1) == found.R
    assert found.sense == sense
    assert np.exp(1j * found.offset_rad) == pytest.approx(np.exp(1j * offset))


def test_random_angles_do_not_agree_and_quarter_turns_cancel():
    draw = np.random.default_rng(0)
    assert circular_correlation(*draw.uniform(0, 7, (2, 10000))).R < 0.05
    a = np.array([0, 1, 2, 3]) * np.pi / 2
    # differences 0, pi/2, pi, 3 pi/2 cancel in one sense; twice that in the other
    assert pytest.approx(0, abs=1e-12) == circular_correlation(2 * a, a).R


def test_weights_leave_out_what_means_nothing():
    a = np.array([0.0, 1.0, 2.0, 3.0])
    b = np.array([0.0, 1.0, 2.0, 5.0])
    assert pytest.approx(1) == circular_correlation(a, b, [1, 1, 1, 0]).R
    assert circular_correlation(a, b).R < 0.9
