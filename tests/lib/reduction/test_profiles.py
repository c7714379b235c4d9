"""Spot and rocking-curve profiles: slices and curves whose intensity is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from ewaldflow.lib.reduction import profiles
from ewaldflow.lib.reduction.integration import gaussian_profile

SPOT_PX = 1.1
CORE_PX = 3.0


def boxes_of(row, column, electrons, level, seed, size=13):
    """One slice per row, with Poisson noise."""
    edge = np.arange(size + 1) - 0.5 - size // 2
    middle = [np.round(v) for v in (row, column)]
    across = [
        np.diff(norm.cdf(edge[None] - (v - m)[:, None], 0, SPOT_PX), axis=1)
        for v, m in zip((row, column), middle, strict=True)
    ]
    expected = level + electrons[:, None, None] * across[0][:, :, None] * across[1][:, None, :]
    return np.random.default_rng(seed).poisson(expected).astype(np.float32)


def measure(boxes, row, column, core_px=CORE_PX):
    out = np.full((len(boxes), 9), np.nan)
    profiles.measure_slices(boxes, np.zeros(boxes.shape, np.uint8), row, column, core_px, out)
    return out


def test_a_slice_by_hand():
    # background 2 everywhere, 10 more on the 9 pixels about the centre but 28 on one of them
    box = np.full((1, 13, 13), 2.0, np.float32)
    box[0, 5:8, 5:8] += 10
    box[0, 7, 6] += 18
    out = measure(box, np.array([50.0]), np.array([60.0]), 2.0)[0]
    n_core, n_background = 13, 169 - 21  # pixels within 2, and beyond 2.7, of the centre
    assert out[0] == pytest.approx(2)
    assert out[1] == pytest.approx(2 / n_background)
    assert out[2] == n_background
    assert out[3] == pytest.approx(108)
    assert out[4] == pytest.approx(108 + 2 * n_core + n_core**2 * 2 / n_background)
    assert out[5] == 0
    assert_allclose(out[6:8], [18 / 108, 0], atol=1e-12)


def test_lost_pixels_of_a_slice_are_counted():
    box = np.full((1, 13, 13), 2.0, np.float32)
    box[0, 6, 6:9] = np.nan
    out = measure(box, np.array([50.0]), np.array([60.0]), 2.0)[0]
    assert out[5] == 3
    box[0] = np.nan
    box[0, :2, :5] = 2.0  # 10 pixels: too few for a background
    assert np.isnan(measure(box, np.array([50.0]), np.array([60.0]), 2.0)[0, 0])


@pytest.mark.parametrize("level", [1.0, 10.0])
@pytest.mark.parametrize("electrons", [100.0, 3000.0])
def test_fitted_slices_agree_with_the_truth_within_their_errors(electrons, level):
    rng = np.random.default_rng(8)
    n = 2000
    row, column = rng.uniform(40, 60, (2, n))
    boxes = boxes_of(row, column, np.full(n, electrons), level, 9)
    measured = measure(boxes, row, column)
    table = gaussian_profile(np.hypot(SPOT_PX, 1 / np.sqrt(12)), 6, CORE_PX)
    fit = np.empty((n, 3))
    profiles.fit_slices(
        boxes, np.zeros(boxes.shape, np.uint8), row, column, measured, table.table,
        CORE_PX + 0.5, profiles.OVERSAMPLING, fit,
    )  # fmt: skip
    pull = (fit[:, 0] - electrons) / np.sqrt(fit[:, 1])
    assert fit[:, 0].mean() == pytest.approx(electrons, rel=0.03)
    assert np.var(pull) == pytest.approx(1, abs=0.25)
    assert_allclose(fit[:, 2], table.core_fraction, atol=0.03)
    # and so do sums over the core
    total = measured[:, 3] / table.core_fraction
    assert total.mean() == pytest.approx(electrons, rel=0.03)


def test_the_learned_profile_is_the_spot():
    rng = np.random.default_rng(8)
    n = 400
    row, column = rng.uniform(40, 60, (2, n))
    boxes = boxes_of(row, column, np.full(n, 5000.0), 2.0, 9)
    crowd = np.zeros(boxes.shape, np.uint8)
    measured = measure(boxes, row, column)
    all_strong = np.ones(n, bool)
    learned = profiles.learn_spot_profile(boxes, crowd, row, column, measured, all_strong, CORE_PX)
    k = learned.table.shape[0]
    r = np.hypot(*(np.indices((k, k)) - k // 2)) / profiles.OVERSAMPLING
    # a pixel's width, and the linear interpolation between the table's points, blur it
    blurred2 = SPOT_PX**2 + 1 / 12 + 1 / 6 / profiles.OVERSAMPLING**2
    expected = np.exp(-0.5 * r**2 / blurred2) / (2 * np.pi * blurred2)
    assert_allclose(learned.table, expected, atol=0.02 * expected.max())
    assert learned.table.sum() / profiles.OVERSAMPLING**2 == pytest.approx(1)
    assert learned.core_fraction == pytest.approx(
        1 - np.exp(-0.5 * CORE_PX**2 / blurred2), abs=0.02
    )
    few = np.arange(n) < 19
    assert profiles.learn_spot_profile(boxes, crowd, row, column, measured, few, CORE_PX) is None


# --- rocking curves


def fit_curve(value, variance, edges, sigma=1.0, prior_shift=0.2, prior_width=0.1, free_above=5):
    out = np.empty((1, 10))
    edges = np.asarray(edges, float)
    profiles.fit_rocking(
        np.array([0, len(value)]), edges[:-1], edges[1:], np.asarray(value, float),
        np.asarray(variance, float), np.ones(len(value)), np.array([sigma]),
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


def test_light_between_the_spots_is_no_tail():
    # a crowded pattern: the clipped background lies below the mean of what neighbours leave
    rng = np.random.default_rng(8)
    n = 400
    row, column = rng.uniform(40, 60, (2, n))
    boxes = boxes_of(row, column, np.full(n, 5000.0), 2.0, 9)
    boxes += (rng.random(boxes.shape) < 0.1) * rng.exponential(150.0, boxes.shape)
    crowd = np.zeros(boxes.shape, np.uint8)
    measured = measure(boxes, row, column)
    learned = profiles.learn_spot_profile(
        boxes.astype(np.float32), crowd, row, column, measured, np.ones(n, bool), CORE_PX
    )
    assert learned.core_fraction > 0.9
