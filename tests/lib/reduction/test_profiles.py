"""Backgrounds and spot profiles: slices whose intensity is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm, poisson

from ewaldflow.lib.reduction import profiles
from ewaldflow.lib.reduction.background import fit_backgrounds

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


def none_else(boxes):
    return np.zeros(boxes.shape, np.uint8)


def offsets(row, column):
    return np.round(row) - row, np.round(column) - column


def measure(boxes, row, column, core_px=CORE_PX, reflection=None):
    """Backgrounds and sums; each slice a reflection of its own unless told."""
    reflection = np.arange(len(boxes)) if reflection is None else reflection
    at = offsets(row, column)
    background = fit_backgrounds(boxes, none_else(boxes), *at, reflection, core_px)
    return background, profiles.sum_slices(boxes, none_else(boxes), *at, background, core_px)


def learn(boxes, row, column, strong=None, region=None):
    n = len(boxes)
    background, sums = measure(boxes, row, column)
    return profiles.learn_spot_profile(
        boxes, none_else(boxes), *offsets(row, column), background, sums,
        np.ones(n, bool) if strong is None else strong,
        np.zeros(n, np.int64) if region is None else region, CORE_PX,
    )  # fmt: skip


def test_a_slice_by_hand():
    # background 2 everywhere, 10 more on the 9 pixels about the centre but 28 on one of them
    box = np.full((1, 13, 13), 2.0, np.float32)
    box[0, 5:8, 5:8] += 10
    box[0, 7, 6] += 18
    background, sums = measure(box, np.array([50.0]), np.array([60.0]), 2.0)
    n_core, n_background = 13, 169 - 21  # pixels within 2, and beyond 2.7, of the centre
    # all at 2: P(X <= 6 | 2) of a Poisson mean of 2 leaves 2 (1 - p(6) / F(6))
    factor = 1 / (1 - poisson.pmf(6, 2) / poisson.cdf(6, 2))
    level = background.level[0]
    assert level == pytest.approx(2 * factor, rel=1e-3)
    assert_allclose([background.slope_row[0], background.slope_column[0]], 0, atol=1e-9)
    variance = background.own_variance + background.shared_variance
    assert variance[0] == pytest.approx(level / n_background)
    assert sums.total[0] == pytest.approx(108 + n_core * (2 - level))
    assert sums.variance[0] == pytest.approx(108 + 2 * n_core)
    assert (sums.n_core[0], sums.lost[0], sums.shared[0]) == (n_core, 0, 0)
    assert_allclose(sums.offset_row[0] * sums.total[0], 18, rtol=1e-6)
    assert sums.offset_column[0] == pytest.approx(0, abs=1e-9)


def test_lost_pixels_of_a_slice_are_counted():
    box = np.full((1, 13, 13), 2.0, np.float32)
    box[0, 6, 6:9] = np.nan
    at = np.array([50.0]), np.array([60.0])
    assert measure(box, *at, 2.0)[1].lost[0] == 3
    box[0] = np.nan
    box[0, :2, :5] = 2.0  # 10 pixels: too few for a background
    assert np.isnan(measure(box, *at, 2.0)[0].level[0])


# --- backgrounds


@pytest.mark.parametrize("level", [0.05, 0.3, 1.0, 3.0, 25.0])
def test_clipping_takes_nothing_off_a_background(level):
    n = 4000
    boxes = np.random.default_rng(4).poisson(level, (n, 13, 13)).astype(np.float32)
    background, _ = measure(boxes, np.full(n, 50.2), np.full(n, 60.4))
    # below an electron a pixel the limit hops between whole numbers: 1 or 2 %
    tolerance = (0.003 if level >= 1 else 0.02) * level
    assert background.level.mean() == pytest.approx(level, abs=tolerance)
    variance = background.own_variance + background.shared_variance
    assert np.var((background.level - level) / np.sqrt(variance)) == pytest.approx(1, abs=0.25)


def test_a_spot_beside_is_no_background():
    n = 500
    boxes = np.random.default_rng(4).poisson(2.0, (n, 13, 13)).astype(np.float32)
    boxes[:, :3, :3] += 100
    background, _ = measure(boxes, np.full(n, 50.2), np.full(n, 60.4))
    assert background.level.mean() == pytest.approx(2, rel=0.02)


def test_a_sloping_background_is_a_plane():
    n = 500
    y, x = np.indices((13, 13)) - 6.0
    expected = 40 + 2.0 * y - 1.5 * x
    boxes = np.random.default_rng(4).poisson(expected, (n, 13, 13)).astype(np.float32)
    boxes[:, 3:6, 11:] = np.nan  # so that its shape matters
    background, sums = measure(boxes, np.full(n, 50.2), np.full(n, 60.4))
    # the prediction is 0.2 and 0.4 px from the middle pixel
    assert background.level.mean() == pytest.approx(40 + 2.0 * 0.2 - 1.5 * 0.4, rel=0.003)
    assert background.slope_row.mean() == pytest.approx(2.0, rel=0.03)
    assert background.slope_column.mean() == pytest.approx(-1.5, rel=0.03)
    assert sums.total.mean() == pytest.approx(0, abs=5)
    assert np.median(background.unevenness) == pytest.approx(1, abs=0.1)
    boxes += (3.0 * (y**2 + x**2)).astype(np.float32)
    assert np.median(measure(boxes, np.full(n, 50.2), np.full(n, 60.4))[0].unevenness) > 2


def test_the_flank_of_the_direct_beam_is_no_background_but_a_spots_tails_are():
    y, x = np.indices((13, 13)) - 6.0
    at = np.full(200, 50.2), np.full(200, 60.4)
    beam = 0.5 + 3000 * np.exp(-0.5 * ((y - 12) ** 2 + x**2) / 4**2)
    spot = 0.5 + 3000 / (1 + (y**2 + x**2) / 2**2) ** 2
    beside, under = (
        np.median(
            measure(np.random.default_rng(4).poisson(e, (200, 13, 13)).astype(np.float32), *at)[
                0
            ].unevenness
        )
        for e in (beam, spot)
    )
    assert beside > 2.5
    assert under < 2.5


def test_slices_of_a_reflection_share_their_background_as_far_as_they_agree():
    n, rng = 600, np.random.default_rng(4)
    reflection = np.repeat(np.arange(n // 6), 6)
    at = np.full(n, 50.2), np.full(n, 60.4)
    boxes = rng.poisson(20.0, (n, 13, 13)).astype(np.float32)
    alone, together = (measure(boxes, *at, reflection=g)[0] for g in (None, reflection))
    assert np.std(together.level) < 0.6 * np.std(alone.level)
    # where the beam flickers by a tenth each keeps its own
    flicker = np.repeat(rng.normal(1, 0.1, n), 169).reshape(n, 13, 13)
    boxes = rng.poisson(20.0 * flicker).astype(np.float32)
    alone, together = (measure(boxes, *at, reflection=g)[0] for g in (None, reflection))
    assert np.corrcoef(alone.level, together.level)[0, 1] > 0.99
    assert np.std(together.level) > 0.9 * np.std(alone.level)


# --- profiles


@pytest.mark.parametrize("level", [1.0, 10.0])
@pytest.mark.parametrize("electrons", [100.0, 3000.0])
def test_fitted_slices_agree_with_the_truth_within_their_errors(electrons, level):
    rng = np.random.default_rng(8)
    n = 2000
    row, column = rng.uniform(40, 60, (2, n))
    boxes = boxes_of(row, column, np.full(n, electrons), level, 9)
    background, sums = measure(boxes, row, column)
    profile = profiles.gaussian_profile(np.hypot(SPOT_PX, 1 / np.sqrt(12)), 6, CORE_PX)
    fit = profiles.fit_slices(
        boxes, none_else(boxes), *offsets(row, column), background, profile, np.zeros(n, np.int64)
    )
    variance = fit.variance + fit.lever**2 * (background.own_variance + background.shared_variance)
    pull = (fit.intensity - electrons) / np.sqrt(variance)
    assert fit.intensity.mean() == pytest.approx(electrons, rel=0.03)
    assert np.var(pull) == pytest.approx(1, abs=0.25)
    assert_allclose(fit.seen, profile.core_fraction[0], atol=0.03)
    # and so do sums over the core
    total = sums.total / profile.core_fraction[0]
    assert total.mean() == pytest.approx(electrons, rel=0.03)


def test_the_learned_profile_is_the_spot():
    rng = np.random.default_rng(8)
    n = 400
    row, column = rng.uniform(40, 60, (2, n))
    boxes = boxes_of(row, column, np.full(n, 5000.0), 2.0, 9)
    learned = learn(boxes, row, column)
    k = learned.table.shape[1]
    r = np.hypot(*(np.indices((k, k)) - k // 2)) / profiles.OVERSAMPLING
    # a pixel's width, and the linear interpolation between the table's points, blur it
    blurred2 = SPOT_PX**2 + 1 / 12 + 1 / 6 / profiles.OVERSAMPLING**2
    expected = np.exp(-0.5 * r**2 / blurred2) / (2 * np.pi * blurred2)
    assert_allclose(learned.table[0], expected, atol=0.02 * expected.max())
    assert learned.table.sum() / profiles.OVERSAMPLING**2 == pytest.approx(1)
    assert learned.core_fraction[0] == pytest.approx(
        1 - np.exp(-0.5 * CORE_PX**2 / blurred2), abs=0.02
    )
    few = np.arange(n) < 19
    assert learn(boxes, row, column, strong=few) is None


def test_regions_with_spots_of_their_own_have_profiles_of_their_own():
    rng = np.random.default_rng(8)
    n = 400
    row, column = rng.uniform(40, 60, (2, n))
    region = np.arange(n) % 2
    region[:3] = 2  # too few to tell
    shifted = row + np.where(region == 1, 0.8, 0.0)
    boxes = boxes_of(shifted, column, np.full(n, 5000.0), 2.0, 9)
    moved = np.round(shifted) - np.round(row)
    boxes = np.array([np.roll(b, int(m), axis=0) for b, m in zip(boxes, moved, strict=True)])
    learned = learn(boxes, row, column, region=region)
    k = learned.table.shape[1]
    offset = (np.arange(k) - k // 2) / profiles.OVERSAMPLING
    where = learned.table.sum(axis=2) @ offset / profiles.OVERSAMPLING**2
    assert_allclose(where[:2], [0.02, 0.78], atol=0.06)  # ten slices of the mean count too
    assert where[2] == pytest.approx(0.4 * 10 / 13, abs=0.1)


def test_regions_are_ninths_of_the_area():
    row, column = np.array([0, 0, 50, 99, 100.0]), np.array([0, 100, 50, 0, 100.0])
    assert profiles.regions(row, column).tolist() == [0, 2, 4, 6, 8]


def test_light_between_the_spots_is_no_tail():
    # a crowded pattern: the clipped background lies below the mean of what neighbours leave
    rng = np.random.default_rng(8)
    n = 400
    row, column = rng.uniform(40, 60, (2, n))
    boxes = boxes_of(row, column, np.full(n, 5000.0), 2.0, 9)
    boxes += (rng.random(boxes.shape) < 0.1) * rng.exponential(150.0, boxes.shape)
    learned = learn(boxes.astype(np.float32), row, column)
    assert learned.core_fraction[0] > 0.95
