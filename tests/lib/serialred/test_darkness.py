"""A pale crystal in a beam that is uneven by more than the crystal is dark."""

import numpy as np
import pytest
from scipy.special import expit

from ewaldflow.lib.serialred.darkness import BLOCKS_PER_RADIUS, darkness_of, flat_of
from ewaldflow.lib.serialred.disc import find_disc
from ewaldflow.lib.serialred.shadow import sight_crystal

SHAPE, RADIUS, LEVEL = (516, 516), 70.0, 25.0
VALID = np.ones(SHAPE, bool)
VALID[255:261] = VALID[:, 255:261] = False


def image(seed, centre=(258.0, 258.0), crystal=None, transmission=0.9, half=25.0, times=1.0):
    """Counts: a beam brighter at one side and in the middle, by 0.36 in all; a square crystal."""
    row, column = np.indices(SHAPE, dtype=float)
    y, x = (row - centre[0]) / RADIUS, (column - centre[1]) / RADIUS
    light = LEVEL * (1 + 0.12 * x + 0.05 * y - 0.2 * (x**2 + y**2))
    light *= expit((RADIUS - RADIUS * np.hypot(x, y)) / 0.6)
    if crystal is not None:
        away = np.maximum(np.abs(RADIUS * y - crystal[0]), np.abs(RADIUS * x - crystal[1]))
        light[away < half] *= transmission
    return np.random.default_rng(seed).poisson(times * (light + 0.2)).astype(np.uint16)


def bare(n=6, **options):
    """Images of the beam, its disc where descan happens to leave it."""
    places = np.random.default_rng(1).uniform(-8, 8, (n, 2)) + 258
    return [image(k, tuple(at), times=5.0, **options) for k, at in enumerate(places)]


@pytest.fixture(scope="module")
def flat():
    return flat_of(bare(), VALID)


def test_the_flat_is_the_beams_own_light(flat):
    n = len(flat.light)
    at = (np.arange(n) - (n - 1) / 2) / BLOCKS_PER_RADIUS
    y, x = at[:, None], at[None, :]
    truth = 1 + 0.12 * x + 0.05 * y - 0.2 * (x**2 + y**2)
    used = np.hypot(y, x) < 0.85
    ratio = flat.light[used] / truth[used]
    assert flat.n_images == 6
    assert np.std(ratio) / np.mean(ratio) < 0.015
    assert flat.uneven_by == pytest.approx(0.38, abs=0.08)


def test_what_lies_in_a_few_of_the_images_does_not_count(flat):
    images = [
        *bare(4),
        image(7, crystal=(20.0, 30.0), transmission=0.3, times=5.0),
        image(8, crystal=(-40.0, 0.0), transmission=0.3, times=5.0),
    ]
    with_neighbours = flat_of(images, VALID)
    size = len(flat.light)
    used = np.hypot(*(np.indices((size, size)) - (size - 1) / 2)) < 0.85 * BLOCKS_PER_RADIUS
    assert np.abs(with_neighbours.light / flat.light - 1)[used].max() < 0.06


def test_too_few_images_of_a_whole_disc_make_no_flat():
    blank, cut = np.zeros(SHAPE, np.uint16), image(9, (30.0, 258.0), times=5.0)
    assert flat_of([*bare(2), blank, cut], VALID) is None
    assert flat_of([], VALID) is None


@pytest.mark.parametrize("offset", [(0.0, 0.0), (18.0, -15.0), (-25.0, 10.0)])
def test_a_pale_crystal_is_seen_where_it_is(flat, offset):
    for seed in range(20, 26):
        seen = sight_crystal(image(seed, (255.0, 262.0), offset), VALID, flat=flat)
        assert seen.offset_px == pytest.approx(offset, abs=4.5)
        assert seen.confidence > 0.8
        assert seen.shadow.whole
        assert seen.shadow.area == pytest.approx(50**2, rel=0.2)
        assert seen.shadow.mean_darkness == pytest.approx(0.1, abs=0.025)


def test_without_the_flat_the_uneven_light_passes_for_it(flat):
    offset = (18.0, -15.0)
    misled = [sight_crystal(image(seed, crystal=offset), VALID) for seed in range(20, 26)]
    errors = [np.hypot(*(one.offset_px - offset)) for one in misled if one.found]
    assert np.median(errors) > 10


def test_a_pale_crystal_that_leaves_the_beam_is_gone(flat):
    before = sight_crystal(image(30, crystal=(5.0, 5.0)), VALID, flat=flat)
    for seed in range(31, 37):
        assert not sight_crystal(image(seed), VALID, before.shadow, flat).found


def test_a_pale_crystal_over_all_of_the_beam_is_still_there(flat):
    before = sight_crystal(image(40, crystal=(0.0, 0.0), half=44.0), VALID, flat=flat)
    over = sight_crystal(image(41, crystal=(0.0, 0.0), half=90.0), VALID, before.shadow, flat)
    assert over.found
    assert np.hypot(*over.offset_px) < 25
    assert over.confidence > 0.5


def test_darkness_by_hand(flat):
    """Half of the light of an even beam is a darkness of one half, with and without a flat."""
    row, column = np.indices(SHAPE, dtype=float)
    counts = np.where(np.hypot(row - 200, column - 200) < RADIUS, 1000.0, 0.0)
    counts[190:210, 190:210] /= 2
    disc = find_disc(counts, VALID)
    size = 2
    dark = darkness_of(counts, VALID, disc, size)
    i, j = np.rint(dark.centre).astype(int)
    assert dark.map[i, j] == pytest.approx(0.5, abs=0.01)
    assert dark.map[i + 15, j] == pytest.approx(0.0, abs=0.01)
    divided = darkness_of(counts, VALID, disc, size, flat)
    expected = flat.over_blocks(len(dark.map), dark.centre, disc.radius_px / size)
    inside = dark.inside & (dark.map < 0.4)
    light = (1 - divided.map[inside]) * expected[inside] / (1 - dark.map[inside])
    assert np.ptp(light) < 0.1 * np.mean(light)
