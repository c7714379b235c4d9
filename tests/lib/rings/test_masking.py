"""The mask that is found: stop, sick pixels, saturation, missing values."""

import numpy as np
import pytest

from ewaldflow.lib.rings.background import block_mean, without_background
from ewaldflow.lib.rings.calibrants import gold
from ewaldflow.lib.rings.masking import find_mask
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

SMALL = RingConditions(
    shape=(512, 512), distance_mm=175.0, width_px=2.0, stop_px=20, shaft_px=14,
    stop_offset_px=(0.0, 0.0), centre_px=(255.0, 260.0), shaft_deg=180.0, hot=0, dead=0, beam=1.0,
)  # fmt: skip


def test_the_stop_is_found_and_little_else():
    image, _ = simulate_rings(gold(), SMALL, 1)
    mask = find_mask(image.pixels)
    assert not mask.good[255, 260]
    assert not mask.good[255, 20:250].any()  # the holder, along -x
    assert 300 < mask.n_shadow < 0.08 * mask.good.size
    assert mask.good[:, 300:].mean() > 0.999


@pytest.mark.parametrize("grains", [0, 60])
def test_rings_and_spots_are_no_shadow_and_no_sick_pixels(grains):
    bare = SMALL.__class__(**{**SMALL.__dict__, "stop_px": 0, "shaft_px": 0, "grains": grains})
    image, _ = simulate_rings(gold(), bare, 1)
    mask = find_mask(image.pixels)
    assert mask.n_shadow == 0
    assert mask.n_sick < 30


def test_hot_and_dead_pixels_are_found():
    rng = np.random.default_rng(0)
    image = rng.poisson(200, (100, 100)).astype(float)
    image[10, 20], image[30, 40], image[50] = 5000, 0, 0
    mask = find_mask(image)
    assert not mask.good[10, 20]
    assert not mask.good[30, 40]
    assert not mask.good[50].any()
    assert mask.n_sick <= 105


def test_pairs_of_hot_pixels_are_found():
    image = np.random.default_rng(0).poisson(50, (60, 60)).astype(float)
    image[10, 10] = image[10, 11] = 3000
    mask = find_mask(image)
    assert not mask.good[10, 10:12].any()


def test_saturation_by_its_limit_and_by_its_plateau():
    image = np.random.default_rng(0).poisson(50, (100, 100)).astype(float)
    image[40:46, 40:46] = 1000
    stated, found = find_mask(image, 900.0), find_mask(image)
    assert stated.saturation == 900
    assert found.saturation == 1000
    assert not found.good[38:48, 38:48].any()  # with what leaks over


def test_missing_pixels_are_left_out():
    image = np.random.default_rng(0).poisson(50, (100, 100)).astype(float)
    image[5, 6], image[7, 8] = np.nan, np.inf
    mask = find_mask(image)
    assert mask.n_missing == 2
    assert not mask.good[5, 6]
    assert not mask.good[7, 8]
    assert mask.good.sum() > 9900


def test_block_means_ignore_what_is_bad():
    image = np.array([[1, 2, 9], [3, 100, 9]], np.float32)
    good = np.array([[True, True, True], [True, False, True]])
    mean, part = block_mean(image, good, 2)
    assert mean.tolist() == [[2.0]]
    assert part.tolist() == [[0.75]]


def test_flat_images_have_no_rings():
    flat = np.full((64, 64), 7, np.float32)
    assert np.abs(without_background(flat, np.ones((64, 64), np.float32), 1, 6)).max() < 1e-3
