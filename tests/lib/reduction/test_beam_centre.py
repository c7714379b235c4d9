"""The direct beam: centroid of a disc, and a track without outliers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ewaldflow.lib.reduction.beam_centre import (
    brightest_block,
    centroid_above,
    find_beam,
    track_beam,
)

SHAPE = (128, 140)
ALL = np.ones(SHAPE, bool)
NOMINAL = (60.0, 70.0)
places = st.floats(30, 90)


def disc(row, column, sigma=3.0, height=1e4, background=2.0):
    r, c = np.indices(SHAPE)
    r2 = (r - row) ** 2 + (c - column) ** 2
    return (background + height * np.exp(-0.5 * r2 / sigma**2)).astype(np.float32)


@given(places, places)
@settings(deadline=None)  # the first call compiles
def test_the_centroid_of_a_gaussian_disc(row, column):
    found = find_beam(disc(row, column), ALL)
    assert_allclose(found, (row, column), atol=0.05)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.45)])
def test_a_saturated_beam_whose_counter_folded_back_to_zero(offset):
    row, column = 60 + offset[0], 70 + offset[1]
    frame = np.minimum(disc(row, column, sigma=4.0, height=1e5), 1.1e4)  # 10 px in radius
    frame[disc(row, column, sigma=4.0, height=1e5) > 9e4] = 0
    assert_allclose(find_beam(frame, ALL), (row, column), atol=0.05)


def test_the_noise_of_a_weak_beam():
    rng = np.random.default_rng(3)
    found = [
        find_beam(rng.poisson(disc(60.2, 70.6, height=300)).astype(np.float32), ALL)
        for _ in range(20)
    ]
    assert_allclose(np.mean(found, axis=0), (60.2, 70.6), atol=0.03)
    assert np.std(found, axis=0).max() < 0.1


def test_a_hot_pixel_elsewhere_does_not_take_the_beams_place():
    frame = disc(60.3, 70.4)
    frame[20, 20] = 6e4
    assert_allclose(find_beam(frame, ALL), (60.3, 70.4), atol=0.05)


def test_masked_pixels_say_nothing():
    frame = disc(60.3, 70.4, height=1000)
    frame[20:30, 20:30] = 6e4
    valid = ALL.copy()
    valid[20:30, 20:30] = False
    assert_allclose(find_beam(frame, valid), (60.3, 70.4), atol=0.05)


def test_by_hand_one_block_and_one_pixel():
    frame = np.zeros(SHAPE, np.float32)
    frame[9, 14] = 5  # in the block of rows 8 to 11 and columns 12 to 15
    assert brightest_block(frame, ALL, 4) == (9.5, 13.5)
    row, column, top = centroid_above(frame, ALL, 9.5, 13.5, 10, 0.35)
    assert (row, column) == (pytest.approx(9), pytest.approx(14))
    assert top == pytest.approx(5 / 9)


def test_nothing_there():
    assert np.isnan(find_beam(np.zeros(SHAPE, np.float32), ALL)).all()


@pytest.mark.parametrize("corner", [(0, 0), (127, 139), (0, 139)])
def test_a_beam_at_the_corner_reads_within_the_frame(corner):
    row, column = find_beam(disc(*corner), ALL)
    assert abs(row - corner[0]) < 3
    assert abs(column - corner[1]) < 3


def drifting(n=100):
    """Half a sine of 5 px along the rows, a line of 3 px along the columns."""
    t = np.linspace(0, 1, n)
    return np.stack([60 + 5 * np.sin(np.pi * t), 70 + 3 * t], axis=1)


def test_a_drifting_beam_is_followed():
    true = drifting()
    measured = true + np.random.default_rng(1).normal(0, 0.05, true.shape)
    track = track_beam(measured, NOMINAL)
    assert track.seen.all()
    assert np.abs(track.centres_px - true).max() < 0.2
    assert "found on 100 of 100 frames" in track.note
    assert "it drifts by 5.0 (row) and 2.9 (column) px" in track.note  # the ends are smoothed


def test_outliers_and_blank_frames_are_bridged():
    true = drifting()
    measured = true.copy()
    measured[[10, 40, 41, 77]] = (20.0, 110.0)  # a strong spot was brighter than the beam
    measured[[5, 60, 61, 62]] = np.nan
    track = track_beam(measured, NOMINAL)
    assert np.flatnonzero(~track.seen).tolist() == [5, 10, 40, 41, 60, 61, 62, 77]
    assert np.abs(track.centres_px - true).max() < 0.3


def test_a_hidden_beam_leaves_the_nominal_centre():
    measured = np.random.default_rng(2).uniform(0, 128, (100, 2))
    track = track_beam(measured, NOMINAL)
    assert not track.seen.any()
    assert_allclose(track.centres_px, np.tile(NOMINAL, (100, 1)))
    assert "hidden" in track.note
    assert "nominal centre kept" in track.note


def test_a_beam_never_seen_leaves_the_nominal_centre():
    track = track_beam(np.full((5, 2), np.nan), NOMINAL)
    assert not track.seen.any()
    assert_allclose(track.centres_px, np.tile(NOMINAL, (5, 1)))
    assert "nominal centre kept" in track.note


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_short_series(n):
    track = track_beam(np.tile((61.0, 72.0), (n, 1)), NOMINAL)
    assert_allclose(track.centres_px, np.tile((61.0, 72.0), (n, 1)))
    assert track.seen.all()


def test_a_spot_that_stands_in_for_a_hidden_beam_is_no_beam():
    """For thirty frames the beam is behind the cross and a strong spot 40 px away is found."""
    true = np.stack([np.linspace(250, 253, 100), np.linspace(260, 258, 100)], axis=1)
    measured = true.copy()
    measured[35:65] += (30, -25)
    track = track_beam(measured, (258.0, 258.0))
    np.testing.assert_allclose(track.centres_px, true, atol=0.1)
    assert not track.seen[35:65].any()
    assert track.seen[:35].all()
    # at an end there is nothing to interpolate to: the last place stays
    measured = true.copy()
    measured[80:] += (0, 45)
    track = track_beam(measured, (258.0, 258.0))
    np.testing.assert_allclose(track.centres_px, true, atol=1.0)
    # a beam that steps by less than the tolerance is followed
    measured = true + np.where(np.arange(100) > 50, 5.0, 0.0)[:, None] * (0.6, 0.8)
    track = track_beam(measured, (258.0, 258.0))
    assert track.seen.all()
