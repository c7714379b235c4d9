"""Scale, outliers and errors from what equivalents say about each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ewaldflow.lib.reduction.scaling import (
    ErrorModel,
    deviations,
    find_outliers,
    fit_error_model,
    smooth_scale,
)

N_FRAMES = 120


def equivalents(n_groups=400, size=4, seed=1, median=1000.0):
    """group, frame and true intensities of groups of so many equivalents."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), size)
    frame = rng.uniform(0, N_FRAMES - 1, len(group))
    truth = median * np.exp(rng.normal(0, 1.0, n_groups))[group]
    return group, frame, truth


def noisy(truth, seed=2, *, a=1.0, b=0.0):
    """Intensities with Poisson-like sigmas, and an error of a^2 (sigma^2 + (b I)^2)."""
    sigma = np.sqrt(truth + 20)
    error = a * np.hypot(sigma, b * truth)
    return truth + error * np.random.default_rng(seed).normal(size=len(truth)), sigma


def wave(frame):
    return 1 + 0.4 * np.cos(np.pi * frame / N_FRAMES)


def test_a_smooth_scale_is_recovered():
    group, frame, truth = equivalents()
    intensity, sigma = noisy(truth * wave(frame))
    scale = smooth_scale(group, frame, intensity, sigma, N_FRAMES, 60.0)
    expected = wave(np.arange(N_FRAMES))
    expected /= np.exp(np.log(expected).mean())
    assert_allclose(scale, expected, rtol=0.02)
    assert np.log(scale).mean() == pytest.approx(0, abs=0.01)


def test_no_change_is_no_scale():
    group, frame, truth = equivalents()
    intensity, sigma = noisy(truth)
    assert_allclose(smooth_scale(group, frame, intensity, sigma, N_FRAMES, 60.0), 1, atol=0.02)


def test_outliers_do_not_bend_the_scale():
    group, frame, truth = equivalents()
    intensity, sigma = noisy(truth * wave(frame))
    intensity[frame < 20] *= np.where(np.arange((frame < 20).sum()) % 10, 1.0, 5.0)
    scale = smooth_scale(group, frame, intensity, sigma, N_FRAMES, 60.0)
    expected = wave(np.arange(N_FRAMES))
    # their mean logarithm would be off by 17 % there
    assert_allclose(scale / scale.mean(), expected / expected.mean(), rtol=0.08)


def test_too_few_equivalents_for_a_scale():
    group, frame, truth = equivalents(n_groups=20)
    intensity, sigma = noisy(truth)
    assert smooth_scale(group, frame, intensity, sigma, N_FRAMES, 60.0) is None
    lone = np.arange(1000)
    assert smooth_scale(lone, lone / 10, lone + 1e4, np.ones(1000), N_FRAMES, 60.0) is None


def test_deviations_of_three_equivalents_by_hand():
    # weights 1, 1, 1/4; the others' means are (20 + 26/4) / 1.25 = 21.2, (10 + 26/4) / 1.25 = 13.2
    # and 15, their variances 0.8, 0.8 and 0.5
    group = np.zeros(3, int)
    intensity, sigma = np.array([10.0, 20.0, 26.0]), np.array([1.0, 1.0, 2.0])
    deviation, mean = deviations(group, intensity, sigma)
    assert_allclose(
        deviation, [-11.2 / np.sqrt(1.8), 6.8 / np.sqrt(1.8), 11 / np.sqrt(4.5)], rtol=1e-12
    )
    assert_allclose(mean, 36.5 / 2.25)


def test_a_lone_reflection_has_no_deviation():
    deviation, mean = deviations(np.array([0, 1, 1]), np.array([5.0, 1.0, 3.0]), np.ones(3))
    assert_array_equal(np.isnan(deviation), [True, False, False])
    assert_allclose(mean, [5, 2, 2])
    deviation, mean = deviations(np.zeros(0, int), np.zeros(0), np.zeros(0))
    assert len(deviation) == len(mean) == 0


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_deviations_have_unit_variance_if_the_sigmas_are_right(seed, size):
    group, _, truth = equivalents(n_groups=500, size=size, seed=seed)
    intensity, sigma = noisy(truth, seed)
    deviation, _ = deviations(group, intensity, sigma)
    assert np.mean(deviation**2) == pytest.approx(1, abs=0.25)


def test_outliers_by_hand():
    group = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    intensity = np.array([10.0, 11, 50, 10, 50, 5, 6, 7, 40])
    sigma = np.ones(9)
    # two that disagree do not say which is wrong
    assert_array_equal(np.flatnonzero(find_outliers(group, intensity, sigma)), [2, 8])
    sigma[8] = 10
    assert_array_equal(np.flatnonzero(find_outliers(group, intensity, sigma)), [2])
    shuffled = np.random.default_rng(1).permutation(9)
    again = find_outliers(group[shuffled], intensity[shuffled], sigma[shuffled])
    assert_array_equal(shuffled[again], [2])


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (1.5, 0.0), (1.0, 0.05), (1.3, 0.1)])
def test_a_known_error_model_is_recovered(a, b):
    group, _, truth = equivalents(n_groups=1500)
    intensity, sigma = noisy(truth, a=a, b=b)
    model = fit_error_model(group, intensity, sigma)
    wanted = ErrorModel(a, b)
    for level in (100.0, 1000.0, 10000.0):
        found = model.sigma(np.sqrt([level + 20]), np.array([level]))
        assert_allclose(found, wanted.sigma(np.sqrt([level + 20]), np.array([level])), rtol=0.12)
    _, mean = deviations(group, intensity, sigma)
    deviation, _ = deviations(group, intensity, model.sigma(sigma, mean))
    assert np.mean(deviation**2) == pytest.approx(1, abs=0.12)


def test_outliers_once_removed_do_not_make_the_errors():
    group, _, truth = equivalents(n_groups=1500)
    intensity, sigma = noisy(truth)
    wrong = np.arange(len(group)) % 50 == 0
    intensity[wrong] *= 4
    first = fit_error_model(group, intensity, sigma)
    _, mean = deviations(group, intensity, sigma)
    outlier = find_outliers(group, intensity, first.sigma(sigma, mean))
    assert outlier[wrong].mean() > 0.9
    assert outlier[~wrong].mean() < 0.01
    second = fit_error_model(group[~outlier], intensity[~outlier], sigma[~outlier])
    level = np.array([1000.0])
    assert second.sigma(np.sqrt(level + 20), level)[0] < 1.15 * np.sqrt(1020)


def test_too_few_equivalents_for_an_error_model():
    group, _, truth = equivalents(n_groups=24)  # 96 that have a partner
    assert fit_error_model(group, *noisy(truth)) is None


def test_an_error_model_by_hand():
    model = ErrorModel(a=2.0, b=0.1, c=0.5)
    # 2 sqrt(9 + 0.5 * 40 + 16), and nothing from a negative mean
    assert_allclose(model.sigma(np.array([3.0, 3.0]), np.array([40.0, -40.0])), [2 * 45**0.5, 6])
