"""Centres of patterns, and the tilt between slow read-outs."""

import numpy as np
import pytest

from ewaldflow.lib.serialred.alignment import bridged, pattern_centre, pattern_centres
from ewaldflow.lib.serialred.alpha_line import AlphaLine

SHAPE = (128, 128)


def frame(centre, seed=0, spots=(), peak=4000.0):
    row, column = np.indices(SHAPE, dtype=float)
    light = 2.0 + 30 * np.exp(-np.hypot(row - centre[0], column - centre[1]) / 12)
    for (r, c), height in ((centre, peak), *spots):
        light += height * np.exp(-((row - r) ** 2 + (column - c) ** 2) / (2 * 2.0**2))
    return np.random.default_rng(seed).poisson(light).astype(np.uint16)


def test_the_direct_beam_to_a_tenth_of_a_pixel():
    for centre in ((63.3, 64.8), (50.0, 71.5)):
        assert pattern_centre(frame(centre)) == pytest.approx(centre, abs=0.1)
        near = (centre[0] + 4, centre[1] - 3)
        assert pattern_centre(frame(centre), near) == pytest.approx(centre, abs=0.1)


def test_a_higher_reflection_is_not_the_beam():
    sharp = frame((64.0, 64.0), peak=3000.0)
    sharp[100, 30] = 9000
    assert pattern_centre(sharp) == pytest.approx((64, 64), abs=0.2)


def test_a_reflection_beside_a_beam_on_the_cross_does_not_draw_the_centre():
    # wide pixels share their counts among three: the beam on them looks lower than it is
    beside = [((64.0, 74.0), 6000.0)]
    counts = frame((64.0, 64.0), peak=9000.0, spots=beside)
    counts[60:69, 60:69] //= 3
    assert pattern_centre(counts, (64.5, 63.0)) == pytest.approx((64, 64), abs=1.5)  # not 10


@pytest.mark.parametrize("turn_deg", range(0, 360, 45))
def test_a_stronger_reflection_14_pixels_from_a_saturated_beam_is_not_the_beam(turn_deg):
    # the beam on the cross: wide pixels share a saturated count among three, and look lower
    turn = np.deg2rad(turn_deg)
    beside = (64.0 + 14 * np.sin(turn), 64.0 + 14 * np.cos(turn))
    counts = np.minimum(frame((64.0, 64.0), peak=40000.0, spots=[(beside, 30000.0)]), 11810)
    counts[60:69, 60:69] = np.minimum(counts[60:69, 60:69], 11810 // 3)
    assert pattern_centre(counts) == pytest.approx((64, 64), abs=1.5)


def test_a_beam_without_a_halo_is_found_by_its_counts():
    row, column = np.indices(SHAPE)
    light = 0.05 + 500 * np.exp(-((row - 70) ** 2 + (column - 41) ** 2) / 8)
    counts = np.random.default_rng(1).poisson(light)
    assert pattern_centre(counts) == pytest.approx((70, 41), abs=0.1)


def test_a_beam_at_the_edge_of_the_camera_has_no_centre():
    assert pattern_centre(frame((3.0, 64.0))) is None


def test_an_empty_frame_has_no_centre():
    assert pattern_centre(np.zeros(SHAPE, np.uint16)) is None


def test_steps_of_descan_are_kept_and_blunders_bridged():
    truth = np.array([[64.0, 64.0]] * 8 + [[65.2, 63.1]] * 8)
    frames = [frame(at, seed) for seed, at in enumerate(truth)]
    frames[3] = frame((64.0, 64.0), 3, spots=[((20.0, 90.0), 60000.0)])  # an overwhelming spot
    frames[12] = np.zeros(SHAPE, np.uint16)
    found = pattern_centres(frames)
    assert found.centres_px == pytest.approx(truth, abs=0.15)
    assert not found.seen[12]
    assert found.offsets_px().shape == (16, 2)


def test_bridging_by_hand():
    measured = [[1.0, 5], [1, 5], [np.nan, np.nan], [2, 5], [40, 5], [3, 5], [3, 5], [3, 5]]
    found = bridged(measured, tolerance_px=6.0)
    assert found.seen.tolist() == [True, True, False, True, False, True, True, True]
    assert found.centres_px[[2, 4], 0] == pytest.approx([1.5, 2.5])


def test_a_line_by_hand():
    line = AlphaLine().read(10.0, -50.0).read(20.0, -45.0)
    assert line.speed_deg_per_s == pytest.approx(0.5)
    assert line.at(12.0) == pytest.approx(-49.0)
    assert line.rms_deg == pytest.approx(0.0)


def test_one_read_out_and_the_speed_asked_for_make_a_line():
    line = AlphaLine(asked_deg_per_s=-0.5).read(10.0, 20.0)
    assert line.at(14.0) == pytest.approx(18.0)


def test_read_outs_outweigh_the_speed_asked_for():
    line = AlphaLine(asked_deg_per_s=0.5)
    for t in np.arange(0.0, 200.0, 8.0):
        line = line.read(t, 0.503 * t + 0.05 * np.sin(t / 3))
    assert line.speed_deg_per_s == pytest.approx(0.503, abs=0.0003)
    assert line.rms_deg == pytest.approx(0.05 / np.sqrt(2), rel=0.3)


@pytest.mark.parametrize("speed", [0.4, 0.6, -0.4])
def test_a_table_20_percent_off_the_speed_asked_for_is_known_after_a_few_read_outs(speed):
    line = AlphaLine(asked_deg_per_s=np.copysign(0.5, speed)).read(0.0, 0.0)
    for t in (1.0, 2.0, 4.0, 8.0, 16.0):
        assert abs(line.at(t) - speed * t) < 3 * line.sigma_deg(t)
        line = line.read(t, speed * t)
    assert line.speed_deg_per_s == pytest.approx(speed, rel=0.02)
    assert line.sigma_deg(24.0) < 0.15


def test_a_stage_that_does_not_turn_is_off_its_line():
    line = AlphaLine(asked_deg_per_s=0.5).read(0.0, 0.0).read(1.0, 0.0).read(2.0, 0.0)
    assert line.speed_deg_per_s == pytest.approx(0.3)  # 40 % below, no less
    assert line.at(8.0) == pytest.approx(0.3 * 7)


def test_sigma_by_hand():
    # two read-outs 10 s apart: the line's middle is known to 0.06 / sqrt(2), its slope to
    # 0.06 / sqrt(50) per s; a read-out adds 0.06
    line = AlphaLine().read(0.0, 1.0)
    assert line.sigma_deg(5.0) == np.inf
    line = line.read(10.0, 6.0)
    assert line.sigma_deg(5.0) == pytest.approx(0.06 * np.sqrt(1.5))
    assert line.sigma_deg(15.0) == pytest.approx(0.06 * np.sqrt(1.5 + 100 / 50))


def test_a_stage_never_read():
    with pytest.raises(ValueError, match="never read"):
        AlphaLine().at(0.0)
