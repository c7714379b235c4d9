"""Disc and crystal in defocused images whose truth is known, beside the thesis's four steps."""

import math

import numpy as np
import pytest
from scipy.special import expit

from ewaldflow.lib.serialred.disc import find_disc, inner_variance
from ewaldflow.lib.serialred.shadow import sight_crystal
from ewaldflow.lib.serialred.thesis import sight_crystal_as_published

SHAPE, RADIUS = (516, 516), 70.0
VALID = np.ones(SHAPE, bool)
VALID[255:261] = VALID[:, 255:261] = False
EVERYTHING = np.ones(SHAPE, bool)


def image(seed, centre=(258.0, 258.0), radius=RADIUS, level=26.0, crystals=(), background=0.2):
    """Counts. A crystal: offset (2,) from the disc's centre, half-lengths, angle, transmission."""
    row, column = np.indices(SHAPE, dtype=float)
    dr, dc = row - centre[0], column - centre[1]
    light = level * expit((radius - np.hypot(dr, dc - 0.05 * dr)) / 0.4)
    for offset, half, other, angle, transmission in crystals:
        c, s = math.cos(angle), math.sin(angle)
        y, x = dr - offset[0], dc - offset[1]
        inside = np.maximum(np.abs(c * y + s * x) / half, np.abs(c * x - s * y) / other) < 1
        light[inside] *= transmission
    return np.random.default_rng(seed).poisson(light + background).astype(np.uint16)


# --- the disc -----------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [30.0, 70.0, 140.0])
@pytest.mark.parametrize("centre", [(258.0, 258.0), (214.3, 290.7)])
def test_the_disc_is_found_to_a_fraction_of_a_pixel(radius, centre):
    disc = find_disc(image(1, centre, radius), VALID)
    assert disc is not None
    assert disc.centre_px == pytest.approx(centre, abs=0.4)
    assert disc.radius_px == pytest.approx(radius, rel=0.03)
    assert disc.level == pytest.approx(26.2, rel=0.03)
    assert disc.background == pytest.approx(0.2, abs=0.05)
    assert disc.is_whole(SHAPE)


def test_a_crystal_at_the_rim_hides_part_of_the_edge_and_moves_nothing():
    rim = [((45.0, 20.0), 35.0, 30.0, 0.4, 0.1)]
    disc = find_disc(image(2, (250.0, 262.0), crystals=rim), VALID)
    assert disc is not None
    assert disc.centre_px == pytest.approx((250.0, 262.0), abs=1.0)


def test_the_disc_is_not_affected_by_the_type_or_scale_of_counts():
    one = image(3, (240.0, 250.0))
    first, second = find_disc(one, VALID), find_disc(3.0 * one.astype(np.float64), VALID)
    assert first is not None
    assert second is not None
    assert second.centre_px == pytest.approx(first.centre_px, abs=1e-6)
    assert second.level == pytest.approx(3 * first.level)


def test_a_disc_that_the_camera_cuts_is_said_to_be_cut():
    disc = find_disc(image(4, (40.0, 258.0)), VALID)
    assert disc is None or not disc.is_whole(SHAPE)


@pytest.mark.parametrize("counts", [0, 3])
def test_no_disc_in_a_blank_or_even_image(counts):
    rng = np.random.default_rng(5)
    assert find_disc(rng.poisson(counts, SHAPE).astype(np.uint16), VALID) is None


def test_variance_of_the_inner_square_by_hand():
    # the square within a disc of radius 2 sqrt(2) reaches 2 px from the centre: 5 x 5 pixels
    counts = np.zeros((11, 11), np.uint16)
    counts[5, 3:8] = 5  # 5 of 25 pixels: mean 1, variance 5 - 1
    counts[0, 0] = 1000  # outside
    everything = np.ones((11, 11), bool)
    assert inner_variance(counts, everything, 5.0, 5.0, 2 * math.sqrt(2) + 1e-9) == (
        pytest.approx(4.0), pytest.approx(1.0),
    )  # fmt: skip
    cross = everything.copy()
    cross[5] = False
    assert inner_variance(counts, cross, 5.0, 5.0, 2 * math.sqrt(2) + 1e-9) == (0.0, 0.0)


# --- the crystal --------------------------------------------------------------------------


@pytest.mark.parametrize("transmission", [0.2, 0.6, 0.8])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (14.0, -22.0), (-25.0, 8.0)])
def test_a_whole_shadow_is_found_to_a_pixel_or_two(transmission, offset):
    crystal = (offset, 24.0, 17.0, 0.7, transmission)
    seen = sight_crystal(image(6, (251.0, 266.0), crystals=[crystal]), VALID)
    assert seen.found
    assert seen.offset_px == pytest.approx(offset, abs=2.0)
    assert np.abs(seen.offset_px - offset).max() < 4 * seen.sigma_px
    assert seen.confidence > 0.9
    assert seen.shadow is not None
    assert seen.shadow.whole


def test_a_shadow_cut_by_the_edge_is_where_the_whole_one_fits():
    def crystal(offset):
        return [(offset, 26.0, 18.0, 0.3, 0.4)]

    before = sight_crystal(image(7, crystals=crystal((3.0, 5.0))), VALID)
    beyond = (52.0, 30.0)  # its centre is 60 px out: a third of it is still in the beam
    seen = sight_crystal(image(8, crystals=crystal(beyond)), VALID, before.shadow)
    assert seen.offset_px == pytest.approx(beyond, abs=4.0)
    assert seen.confidence < before.confidence
    # the centre of what is seen of it is much nearer
    alone = sight_crystal(image(8, crystals=crystal(beyond)), VALID)
    assert np.hypot(*alone.offset_px) < np.hypot(*beyond) - 4


def test_a_neighbour_that_enters_the_beam_is_not_the_crystal():
    mine = ((-6.0, 4.0), 20.0, 15.0, 0.3, 0.5)
    before = sight_crystal(image(9, crystals=[mine]), VALID)
    neighbour = ((48.0, -40.0), 30.0, 25.0, 1.0, 0.3)
    seen = sight_crystal(image(10, crystals=[mine, neighbour]), VALID, before.shadow)
    assert seen.offset_px == pytest.approx((-6.0, 4.0), abs=2.0)


def test_a_crystal_that_covers_nearly_all_of_the_beam():
    before = sight_crystal(image(11, crystals=[((0.0, 0.0), 62.0, 50.0, 0.5, 0.5)]), VALID)
    assert before.found
    turned = sight_crystal(
        image(12, crystals=[((4.0, -3.0), 75.0, 75.0, 0.5, 0.5)]), VALID, before.shadow
    )
    assert turned.found
    assert np.hypot(*turned.offset_px) < 35


def test_a_bare_beam_shows_nothing_and_the_shadow_is_remembered():
    before = sight_crystal(image(13, crystals=[((0.0, 0.0), 20.0, 15.0, 0.3, 0.5)]), VALID)
    seen = sight_crystal(image(14), VALID, before.shadow)
    assert seen.disc is not None
    assert not seen.found
    assert seen.confidence == 0
    assert seen.shadow is before.shadow
    assert seen.variance < 0.7 * before.variance


def test_a_blank_image_is_a_lost_beam():
    blank = np.zeros(SHAPE, np.uint16)
    for seen in (sight_crystal(blank, VALID), sight_crystal_as_published(blank, VALID)):
        assert seen.disc is None
        assert not seen.found


# --- the thesis's four steps --------------------------------------------------------------


def test_the_four_steps_on_a_clear_image():
    # many counts, a small grey crystal: what the method was made for
    crystal = ((14.0, -12.0), 12.0, 12.0, 0.0, 0.5)
    seen = sight_crystal_as_published(image(15, level=400.0, crystals=[crystal]), EVERYTHING)
    assert seen.disc is not None
    assert seen.disc.centre_px == pytest.approx((258, 258), abs=3.0)
    assert seen.offset_px == pytest.approx((14.0, -12.0), abs=6.0)
