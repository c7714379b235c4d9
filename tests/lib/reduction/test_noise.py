"""Gain by photon transfer (variance = gain * mean), and the ceiling that frames share."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ewaldflow.lib.reduction.noise import estimate_gain, estimate_saturation

SHAPE = (256, 256)
ALL = np.ones(SHAPE, bool)


def pair(mean, gain, seed=1, pedestal=0.0):
    electrons = np.random.default_rng(seed).poisson(mean, (2, *SHAPE))
    return electrons * gain + pedestal


@pytest.mark.parametrize("gain", [1 / 16, 1.0, 16.0])
@pytest.mark.parametrize("mean", [0.3, 1.0, 10.0, 2000.0])
def test_counts_per_electron_of_poisson_frames(gain, mean):
    assert estimate_gain(*pair(mean, gain), ALL) == pytest.approx(gain, rel=0.04)


@pytest.mark.parametrize("gain", [1 / 16, 1.0, 16.0])
def test_rounding_to_counts_hardly_matters_where_an_electron_is_a_count_or_the_frame_is_bright(
    gain,
):
    first, second = np.rint(pair(2000.0, gain))
    assert estimate_gain(first, second, ALL) == pytest.approx(gain, rel=0.04)


@pytest.mark.parametrize("gain", [1.0, 16.0])
def test_spots_that_come_and_go_add_no_gain(gain):
    rng = np.random.default_rng(4)
    first, second = pair(2.0, gain)
    for r, c in rng.integers(5, 250, (150, 2)):
        first[r - 2 : r + 3, c - 2 : c + 3] += gain * rng.poisson(100, (5, 5))
    assert estimate_gain(first, second, ALL) == pytest.approx(gain, rel=0.05)


def test_a_steep_background_is_no_noise():
    r = np.hypot(*(np.indices(SHAPE) - 128))
    electrons = np.random.default_rng(2).poisson(200 * np.exp(-r / 60), (2, *SHAPE))
    assert estimate_gain(*(electrons * 7.0), ALL) == pytest.approx(7, rel=0.04)


def test_the_pedestal_holds_no_electrons():
    first, second = pair(10.0, 4.0, pedestal=100.0)
    assert estimate_gain(first, second, ALL, pedestal=100.0) == pytest.approx(4, rel=0.04)
    assert estimate_gain(first, second, ALL) < 2


def test_masked_pixels_do_not_count():
    first, second = pair(10.0, 4.0)
    valid = ALL.copy()
    valid[:, :100] = False
    second[:, :100] = 60000
    assert estimate_gain(first, second, valid) == pytest.approx(4, rel=0.04)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, *SHAPE)),
        pair(0.005, 1.0),
        pair(5.0, 1.0)[:, :40, :40],  # 25 blocks
    ],
    ids=["no counts", "hardly any counts", "too small"],
)
def test_too_little_to_tell(frames):
    assert np.isnan(estimate_gain(*frames, np.ones(frames.shape[1:], bool)))


def test_the_frames_are_left_as_they_were():
    first, second = pair(10.0, 1.0).astype(np.uint16)
    before = first.copy()
    estimate_gain(first, second, np.zeros(SHAPE, bool))
    assert_array_equal(first, before)


@pytest.mark.parametrize(
    ("maxima", "counts", "ceiling"),
    [
        ([100, 250, 250, 250], [1, 2, 3, 1], 250.0),
        ([100, 250, 250, 250], [1, 2, 1, 1], None),  # four pixels in three frames: bright ones
        ([100, 240, 250, 250], [9, 9, 9, 9], None),  # two frames only
        ([101, 202, 303, 404], [5, 5, 5, 5], None),
        ([0, 0, 0], [9, 9, 9], None),
        ([], [], None),
    ],
)
def test_a_ceiling_is_shared_by_frames_and_reached_by_several_pixels(maxima, counts, ceiling):
    assert estimate_saturation(np.array(maxima), np.array(counts)) == ceiling
