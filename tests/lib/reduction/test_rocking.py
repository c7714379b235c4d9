"""Rocking curves whose intensity, shift and width are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from ewaldflow.lib.reduction.rocking import RockingCurve, fit_rocking


def test_rocking_width_from_observed_widths():
    rng = np.random.default_rng(1)
    length = rng.uniform(0.1, 1.2, 300)
    observed = np.hypot(2e-3, 3e-3 * length) * rng.normal(1, 0.1, 300)
    observed[:10] *= 5
    observed[10:15] = np.nan
    fitted = RockingCurve.fit(length, observed, np.ones(300))
    assert fitted.size_per_A == pytest.approx(2e-3, rel=0.1)
    assert fitted.eta_rad == pytest.approx(3e-3, rel=0.1)
    assert RockingCurve.fit(length[:9], observed[20:29], np.ones(9)) is None


def fit_curve(value, variance, edges, sigma=1.0, prior_shift=0.2, prior_width=0.1, free_above=5):
    out = np.empty((1, 10))
    edges = np.asarray(edges, float)
    fit_rocking(
        np.array([0, len(value)]), edges[:-1], edges[1:], np.asarray(value, float),
        np.asarray(variance, float), np.array([sigma]),
        prior_shift, prior_width, float(free_above), out,
    )  # fmt: skip
    return out[0]


EDGES = np.linspace(-3.5, 3.5, 8)


def test_an_exact_curve_is_fitted_exactly():
    value = 1000 * np.diff(norm.cdf(EDGES))
    out = fit_curve(value, value + 10, EDGES)
    assert out[0] == pytest.approx(1000, rel=1e-6)
    assert_allclose(out[2:4], 0, atol=1e-6)
    assert out[4] == pytest.approx(norm.cdf(3.5) - norm.cdf(-3.5), abs=1e-9)
    assert out[5] == pytest.approx(0, abs=1e-9)
    assert out[6] == 7
    assert out[7] == pytest.approx(value.sum())


def test_shift_and_width_are_found_where_the_priors_let_them():
    value = 1e5 * np.diff(norm.cdf(EDGES, 0.3, 1.1))
    out = fit_curve(value, value + 1, EDGES, prior_shift=5.0, prior_width=5.0)
    assert out[0] == pytest.approx(1e5, rel=1e-4)
    assert out[2] == pytest.approx(0.3, abs=1e-3)
    assert out[3] == pytest.approx(np.log(1.1), abs=1e-3)


def test_half_a_curve_gives_the_whole_with_the_doubt_about_its_centre():
    value = 1000 * np.diff(norm.cdf(EDGES))
    whole = fit_curve(value, value + 1, EDGES)
    half = fit_curve(value[:3], value[:3] + 1, EDGES[:4])
    assert half[0] == pytest.approx(1000, rel=1e-6)
    assert half[4] == pytest.approx(norm.cdf(-0.5) - norm.cdf(-3.5))
    # a shift of 0.2 sigma changes what was seen, 0.31, by 0.2 * 0.352: 23 % (less what the
    # shape of the part that was seen tells of the shift)
    relative = np.sqrt(half[1]) / 1000
    assert 0.15 < relative < 0.25
    assert relative > 4 * np.sqrt(whole[1]) / 1000


def test_a_slice_that_is_missing_is_left_out():
    value = 1000 * np.diff(norm.cdf(EDGES))
    value[3] = np.nan
    out = fit_curve(value, np.full(7, 100.0), EDGES)
    assert out[0] == pytest.approx(1000, rel=1e-6)
    assert out[6] == 6
    value[:] = np.nan
    out = fit_curve(value, np.full(7, 100.0), EDGES)
    assert np.isnan(out[0])
    assert out[6] == 0


def test_the_part_swept_between_two_excitation_errors():
    curve = RockingCurve(3e-3, 4e-3)
    assert curve.sigma(np.array([1.0])) == pytest.approx(5e-3)
    swept = curve.swept(np.array([-5e-3]), np.array([5e-3]), np.array([1.0]))
    assert swept == pytest.approx(0.682689, abs=1e-6)
