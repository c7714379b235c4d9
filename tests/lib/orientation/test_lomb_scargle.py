"""Waves of known period and amplitude."""

import numpy as np
import pytest

from ewaldflow.lib.orientation.lomb_scargle import excess_variance, lomb_scargle


def test_a_wave_is_found_with_its_error():
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(-20, 20, 300))  # uneven
    sd = rng.uniform(0.005, 0.03, 300)
    amplitudes, errors = [], []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, sd)
        y = 0.1 + 0.05 * np.cos(2 * np.pi * x / 3.0 - np.deg2rad(40)) + noise
        best = lomb_scargle(x, y, sd, permutations=20).best
        assert best.period == pytest.approx(3.0, rel=0.003)
        amplitudes.append(best.amplitude)
        errors.append(best.amplitude_sd)
    assert np.mean(amplitudes) == pytest.approx(0.05, rel=0.03)
    assert np.std(amplitudes) == pytest.approx(np.mean(errors), rel=0.5)


def test_phase_is_that_of_the_cosine():
    x = np.arange(0, 30, 0.1)
    y = 2 * np.cos(2 * np.pi * (x - 14.95) / 5.0 - np.deg2rad(70))
    best = lomb_scargle(x, y, np.full(len(x), 0.1), permutations=10).best
    assert best.phase_deg == pytest.approx(70, abs=3)
    assert best.power > 0.98


def test_noise_has_no_significant_wave():
    p = []
    for seed in range(12):
        y = np.random.default_rng(seed).normal(0, 1, 120)
        p.append(lomb_scargle(np.arange(120.0), y, np.ones(120), permutations=60).best.p_value)
    assert np.median(p) > 0.15
    assert min(p) >= 1 / 61


def test_a_wave_is_significant_and_weights_count():
    x = np.arange(100.0)
    sd = np.where(np.arange(100) % 4 == 0, 3.0, 0.1)
    y = 0.3 * np.sin(2 * np.pi * x / 7) + np.random.default_rng(0).normal(0, sd)
    weighted = lomb_scargle(x, y, sd, permutations=100).best
    assert weighted.period == pytest.approx(7, rel=0.02)
    assert weighted.amplitude == pytest.approx(0.3, abs=4 * weighted.amplitude_sd + 0.02)
    assert weighted.p_value < 0.02


def test_the_same_seed_gives_the_same_p():
    y = np.random.default_rng(3).normal(0, 1, 60)
    one, two = (lomb_scargle(np.arange(60.0), y, np.ones(60), seed=4) for _ in range(2))
    assert one.best == two.best


@pytest.mark.parametrize("n", [0, 3, 7])
def test_too_few_points_have_none(n):
    found = lomb_scargle(np.arange(float(n)), np.ones(n), np.ones(n))
    assert np.isnan(found.best.amplitude)
    assert len(found.period) == 0


def test_points_that_are_no_numbers_are_left_out():
    x = np.arange(100.0)
    y = np.sin(2 * np.pi * x / 9)
    y[[3, 50]] = np.nan
    assert lomb_scargle(x, y, np.full(100, 0.01), permutations=5).best.period == pytest.approx(
        9, rel=0.02
    )


def test_excess_variance_is_what_errors_leave():
    y = np.random.default_rng(0).normal(0, 0.05, 4000)
    # 0.05^2 - 0.03^2 = 0.04^2
    assert np.sqrt(excess_variance(y, np.full(4000, 0.03))) == pytest.approx(0.04, rel=0.05)
    assert excess_variance(y, np.full(4000, 0.1)) == 0
