"""Spots by hand, spots in noise, and noise without spots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import uniform_filter

from ewaldflow.lib.reduction.spot_finding import SpotFinder
from ewaldflow.lib.reduction.strong_pixels import local_background, strong_pixels

SHAPE = (96, 80)
ALL = np.ones(SHAPE, bool)
NONE = np.zeros(SHAPE, bool)

# signal 180 in all; centroid 200 / 180 from its first row and from its first column
PATCH = np.array([[10, 20, 10], [20, 40, 20], [10, 20, 30]], np.float32)


def frame(*patches, background=1.0, shape=SHAPE):
    """A flat field with a copy of `PATCH`, times `factor`, at each (row, column, factor)."""
    electrons = np.full(shape, background, np.float32)
    for row, column, factor in patches:
        electrons[row : row + 3, column : column + 3] += factor * PATCH
    return electrons


def find(frames, valid=ALL, ceiling=np.inf, **choices):
    """Spots of {frame position: electrons}."""
    finder = SpotFinder(valid.shape)
    for position, electrons in frames.items():
        finder.add(electrons, valid, ceiling, position)
    return finder.spots(**choices)


def test_one_spot_by_hand():
    spots = find({4: frame(), 5: frame((40, 30, 1)), 6: frame((40, 30, 0.5)), 7: frame()})
    assert len(spots) == 1
    assert spots.row[0] == pytest.approx(40 + 200 / 180)
    assert spots.column[0] == pytest.approx(30 + 200 / 180)
    assert spots.frame[0] == pytest.approx(5 + 1 / 3)
    assert spots.frame_spread[0] == pytest.approx(np.sqrt(2) / 3)  # sqrt(p (1 - p)), p = 1/3
    assert (spots.first[0], spots.last[0], spots.n_pixels[0]) == (5, 6, 18)
    assert spots.intensity[0] == pytest.approx(270)
    assert spots.sigma[0] == pytest.approx(np.sqrt(270 + 18))  # electrons under it, all told
    assert spots.peak[0] == pytest.approx(40)
    assert not spots.saturated[0]
    assert not spots.edge[0]


def test_touching_spots_of_consecutive_frames_are_one_and_others_are_not():
    joined = find({0: frame((40, 30, 1)), 1: frame((42, 32, 1))})
    assert len(joined) == 1
    assert joined.n_pixels[0] == 18
    apart = find({0: frame((40, 30, 1)), 1: frame((43, 30, 1))})
    assert len(apart) == 2
    assert_array_equal(apart.first, [0, 1])
    assert len(find({0: frame((40, 30, 1)), 1: frame(), 2: frame((40, 30, 1))})) == 2


def test_a_blank_frame_that_was_never_handed_over_parts_no_spot():
    spots = find({3: frame((40, 30, 1)), 5: frame((40, 30, 1))})
    assert len(spots) == 1
    assert (spots.first[0], spots.last[0], spots.frame[0]) == (3, 5, 4)


def test_branches_that_meet_later_are_one_spot():
    # a U: its arms get different labels until the last row joins them
    electrons = frame()
    electrons[30:41, 20:23] += 50
    electrons[30:41, 26:29] += 50
    electrons[38:41, 20:29] += 50
    # and two spots of one frame that a spot of the next one joins
    spots = find({0: electrons})
    assert len(spots) == 1
    assert spots.n_pixels[0] == 2 * 33 + 9
    bridge = frame((50, 30, 1), (50, 33, 1), (50, 36, 1))
    assert len(find({0: frame((50, 30, 1), (50, 36, 1)), 1: bridge})) == 1


def test_what_is_no_spot():
    hot = frame()
    hot[50, 50] += 1000
    assert len(find({0: hot}, min_pixels=1)) == 0  # all in one pixel
    assert len(find({0: frame((40, 30, 1))}, min_pixels=10)) == 0
    assert len(find({0: frame((40, 30, 1))}, min_pixels=9)) == 1
    assert len(find({})) == 0


def test_saturated_pixels_and_pixels_beside_a_mask_are_told():
    valid = ALL.copy()
    valid[:, 63] = False
    electrons = frame((40, 30, 2), (40, 60, 1), (60, 20, 1))
    electrons[:, 63] = 5000
    spots = find({0: electrons}, valid, 81)
    assert len(spots) == 3
    assert_array_equal(spots.column.round(), [31, 61, 21])
    assert_array_equal(spots.saturated, [True, False, False])
    assert_array_equal(spots.edge, [False, True, False])


@pytest.mark.parametrize("corner", [(0, 0), (0, 77), (93, 0), (93, 77)])
def test_spots_in_the_corner_stay_within_the_frame(corner):
    spots = find({0: frame((*corner, 10))})
    assert len(spots) == 1
    assert abs(spots.row[0] - corner[0] - 1) < 1
    assert abs(spots.column[0] - corner[1] - 1) < 1


def test_as_many_spots_as_there_are():
    # more than the tables were made for
    rows, columns = np.mgrid[4:250:6, 4:250:6].reshape(2, -1)
    shape = (256, 256)
    even = frame(*((r, c, 2) for r, c in zip(rows, columns, strict=True)), shape=shape)
    odd = np.roll(even, 3, axis=0)
    valid = np.ones(shape, bool)
    spots = find({i: odd if i % 2 else even for i in range(42)}, valid)
    assert len(spots) == 42 * len(rows)
    assert len(spots) > 1 << 16
    assert_allclose(spots.intensity, 360, rtol=1e-5)
    assert_array_equal(np.bincount(spots.first), len(rows))


def test_the_background_is_the_mean_of_the_box():
    electrons = np.random.default_rng(1).poisson(50, SHAPE).astype(np.float32)
    valid = ALL.copy()
    valid[20:25] = False
    valid[:, 60:64] = False
    electrons[~valid] = 1e4
    found = local_background(electrons, valid, 1e3)
    total = uniform_filter(np.where(valid, electrons, 0).astype(float), 15, mode="constant")
    count = uniform_filter(valid.astype(float), 15, mode="constant")
    assert_allclose(found, total / count, rtol=1e-5)


def test_spots_are_clipped_from_the_background():
    assert_allclose(local_background(frame((40, 30, 5)), ALL, 3), 1.0)


@pytest.mark.parametrize(("mean", "most"), [(0.1, 0.1), (1.0, 0.06), (10.0, 0.02)])
def test_clipping_hardly_biases_the_background(mean, most):
    electrons = np.random.default_rng(1).poisson(mean, SHAPE).astype(np.float32)
    found = local_background(electrons, ALL, 3)
    assert found.mean() == pytest.approx(electrons.mean(), rel=most)


def test_no_background_where_hardly_a_pixel_is_left():
    valid = NONE.copy()
    valid[40:46, 30:36] = True  # 36 pixels; 45 are a fifth of the box
    found = local_background(frame(), valid, 3)
    assert np.isnan(found).all()
    assert len(find({0: frame((41, 31, 100))}, valid)) == 0


@pytest.mark.parametrize("mean", [0.1, 1.0, 10.0])
def test_noise_alone_makes_hardly_a_spot(mean):
    rng = np.random.default_rng(5)
    shape = (256, 256)
    valid = np.ones(shape, bool)
    frames = {i: rng.poisson(mean, shape).astype(np.float32) for i in range(30)}
    assert len(find(frames, valid, min_pixels=1, max_peak_fraction=1.0)) <= 3
    assert len(find(frames, valid)) == 0


@pytest.mark.parametrize("mean", [1.0, 10.0])
def test_the_threshold_counts_standard_deviations(mean):
    # 2 sqrt(N + 3/8) of the nine pixels has unit variance (Anscombe): two sigma are two
    shape = (512, 512)
    electrons = np.random.default_rng(6).poisson(mean, shape).astype(np.float32)
    strong = np.zeros(shape, bool)
    background = np.full(shape, mean, np.float32)
    strong_pixels(electrons, np.ones(shape, bool), background, np.float32(2), strong)
    nine = (uniform_filter(electrons.astype(float), 3) * 9).round()
    above = 2 * (np.sqrt(nine + 0.375) - np.sqrt(9 * mean + 0.375)) > 2
    inside = np.s_[1:-1, 1:-1]
    assert_array_equal(strong[inside], (above & (electrons > mean))[inside])
    assert 0.01 < above.mean() < 0.028  # 2.3 % of a normal distribution, but counts come in steps
    strong[inside] = False
    assert not strong.any()


@pytest.mark.parametrize("electrons", [60, 200, 1000])
def test_spots_in_noise_are_where_they_are(electrons):
    rng = np.random.default_rng(7)
    shape = (256, 256)
    at = np.mgrid[20:240:20, 20:240:20].reshape(2, -1).T + rng.uniform(-0.5, 0.5, (121, 2))
    r, c = np.indices(shape)
    expected = np.full(shape, 1.0)
    for row, column in at:
        expected += electrons / (2 * np.pi) * np.exp(-0.5 * ((r - row) ** 2 + (c - column) ** 2))
    valid = np.ones(shape, bool)
    spots = find({0: rng.poisson(expected).astype(np.float32)}, valid)
    assert len(spots) >= 0.95 * len(at)
    distance = np.hypot(*(np.stack([spots.row, spots.column], 1)[:, None] - at).transpose(2, 0, 1))
    nearest = distance.min(axis=1)
    assert (nearest < 1).all()
    assert np.sqrt(np.mean(nearest**2)) < 2.0 / np.sqrt(electrons) + 0.05
    # the faint skirt below the threshold is lost, more of it in weak spots
    assert 0.6 < np.median(spots.intensity) / electrons < 1.02


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_turning_the_frames_turns_the_spots(seed, quarter_turns):
    rng = np.random.default_rng(seed)
    shape = (64, 64)
    expected = np.full(shape, 2.0)
    for r, c in rng.integers(4, 58, (8, 2)):
        expected[r : r + 3, c : c + 3] += 40
    frames = rng.poisson(expected, (2, *shape)).astype(np.float32)
    valid = rng.random(shape) > 0.01
    plain = find(dict(enumerate(frames)), valid)
    turned = find(
        dict(enumerate(np.rot90(frames, quarter_turns, (1, 2)).copy())),
        np.rot90(valid, quarter_turns).copy(),
    )
    place = (plain.row - 31.5) + 1j * (plain.column - 31.5)
    place = place * 1j**quarter_turns  # rot90: (r, c) -> (-c, r)
    after = (turned.row - 31.5) + 1j * (turned.column - 31.5)
    assert len(after) == len(place)
    assert_allclose(np.sort(turned.intensity), np.sort(plain.intensity), rtol=1e-4)
    assert all(np.abs(after - p).min() < 1e-3 for p in place)
