"""What a sample of the frames tells about the detector."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ewaldflow.lib.reduction.survey import frame_blocks, survey, unlit_area
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import default_geometry

SHAPE = (256, 256)
ALL = np.ones(SHAPE, bool)
RADIUS = np.hypot(*(np.indices(SHAPE) - np.array([130, 125])[:, None, None]))


def series(frames, **changes):
    n = len(frames)
    values = {
        "name": "test",
        "frames": da.from_array(frames, chunks=(5, -1, -1)),
        "frame_number": np.arange(1, n + 1),
        "angle_start_deg": 0.3 * np.arange(n),
        "angle_width_deg": np.full(n, 0.3),
        "geometry": default_geometry(),
        "mask": np.zeros(frames.shape[1:], bool),
    }
    return RotationSeries(**{**values, **changes})


@pytest.mark.parametrize(
    "inside", [20.0, 50 * np.exp(-RADIUS / 60)], ids=["flat pattern", "falling pattern"]
)
def test_the_shadow_of_an_aperture_is_found(inside):
    dark = unlit_area(np.where(RADIUS < 110, inside, 0.05), ALL)
    assert dark[RADIUS > 108].all()
    assert not dark[RADIUS < 95].any()


@pytest.mark.parametrize("length_px", [30, 60, 100])
def test_a_background_that_falls_off_smoothly_is_lit_everywhere(length_px):
    assert not unlit_area(50 * np.exp(-RADIUS / length_px) + 0.02, ALL).any()


def test_a_dark_patch_inside_is_no_aperture():
    # a beam stop that does not reach the rim
    assert not unlit_area(np.where(np.abs(RADIUS - 60) < 20, 0.0, 20.0), ALL).any()


def test_darkness_all_over_is_no_aperture():
    assert not unlit_area(np.zeros(SHAPE), ALL).any()
    assert not unlit_area(np.full(SHAPE, 10.0), ~ALL).any()


def test_blocks_are_the_chunks_in_order():
    frames = np.arange(12 * 4).reshape(12, 2, 2)
    blocks = list(frame_blocks(series(frames)))
    assert [start for start, _ in blocks] == [0, 5, 10]
    assert_array_equal(np.concatenate([block for _, block in blocks]), frames)


def noisy(n=12, gain=1.0, mean=3.0, seed=1):
    lit = np.where(RADIUS < 110, mean, 0.02 * mean)
    return (gain * np.random.default_rng(seed).poisson(lit, (n, *SHAPE))).astype(np.uint16)


def test_gain_and_aperture_of_noisy_frames():
    seen = survey(series(noisy(gain=16.0)))
    assert seen.gain == pytest.approx(16, rel=0.04)
    assert np.isinf(seen.saturation)
    assert not seen.valid[RADIUS > 108].any()
    assert seen.valid[RADIUS < 95].all()
    assert any("outside the lit aperture" in note for note in seen.notes)
    assert any("from the noise of 6 frame pairs" in note for note in seen.notes)


def test_what_the_series_knows_is_believed():
    seen = survey(series(noisy(), gain=2.5, saturation=4000.0))
    assert (seen.gain, seen.saturation) == (2.5, 4000.0)
    assert not any("gain" in note or "saturation" in note for note in seen.notes)


def test_blank_frames_do_not_dim_the_others():
    frames = noisy(n=24)
    frames[::3] = 0
    seen = survey(series(frames))
    assert seen.gain == pytest.approx(1, rel=0.04)
    assert not seen.valid[RADIUS > 108].any()
    assert seen.valid[RADIUS < 95].all()


def test_blank_frames_alone_say_nothing():
    seen = survey(series(np.zeros((8, *SHAPE), np.uint16)))
    assert seen.gain == 1.0
    assert seen.valid.all()
    assert any("1 count per electron assumed" in note for note in seen.notes)


def test_the_ceiling_of_saturated_frames():
    frames = noisy()
    frames[:, 100:103, 100:103] = 511
    seen = survey(series(frames))
    assert seen.saturation == 511
    assert any("saturation at 511 counts" in note for note in seen.notes)


def test_masked_pixels_set_no_ceiling():
    frames = noisy()
    frames[:, 100:103, 100:103] = 511
    mask = np.zeros(SHAPE, bool)
    mask[100:103, 100:103] = True
    seen = survey(series(frames, mask=mask))
    assert np.isinf(seen.saturation)
    assert not seen.valid[mask].any()
