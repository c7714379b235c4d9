"""Spots, background and the detector's reading."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.simulation import Background, Beam, BeamStop, Detector
from ewaldflow.lib.simulation.frames import (
    add_spots,
    paint_radial,
    radial_background,
    read_out,
)

SHAPE = (140, 150)


def spot(row: float, column: float, electrons: float, **beam: float) -> np.ndarray:
    image = np.zeros(SHAPE)
    add_spots(image, np.array([row]), np.array([column]), np.array([electrons]), Beam(**beam))
    return image


@settings(max_examples=30, deadline=None)  # the first call compiles
@given(st.floats(65, 75), st.floats(65, 75), st.floats(1, 1e7), st.floats(0, 0.5))
def test_no_electron_is_lost_and_none_moves(row, column, electrons, tail):
    image = spot(row, column, electrons, tail_fraction=tail)
    y, x = np.indices(SHAPE)
    assert image.sum() == pytest.approx(electrons, rel=1e-6)
    # the tail's stamp is centred on a pixel, which moves the centroid by a hair
    assert (image * y).sum() / image.sum() == pytest.approx(row, abs=0.02)
    assert (image * x).sum() / image.sum() == pytest.approx(column, abs=0.02)


def test_core_width():
    # variance of the core: (2.5 / 2.3548)^2, and 1/12 of the pixel it is integrated over
    image = spot(70.3, 75.0, 1e5, tail_fraction=0.0, fwhm_px=2.5)
    variance = (image.sum(axis=1) * (np.arange(SHAPE[0]) - 70.3) ** 2).sum() / 1e5
    assert variance == pytest.approx((2.5 / 2.3548) ** 2 + 1 / 12, rel=1e-3)


def test_spots_off_the_detector():
    assert spot(-100, 20, 1e5).sum() == 0
    # half of a spot on the edge between pixels -1 and 0
    assert spot(-0.5, 75, 1e5, tail_fraction=0.0).sum() == pytest.approx(5e4, rel=1e-6)


def test_background_rings_follow_the_ellipse():
    # a ring at d = 2 Å, 8000 px * 0.025 Å: radius 100 px, times sqrt(1.21) along x
    geometry = Geometry(0.025, 0.055, 440.0, (0, 0), (1, 0, 0), EllipticalDistortion(1.21, 0))
    profile = radial_background(Background(0, (), ((5.0, 2.0, 0.01),)), geometry, 500)
    image = np.empty((240, 260))
    paint_radial(
        image, profile, np.array([110.0, 120.0]), np.linalg.inv(geometry.distortion.matrix)
    )
    assert np.argmax(image[110, 120:]) == 110
    assert np.argmax(image[110:, 120]) == 91  # 100 / 1.1
    assert image.max() == pytest.approx(5.0, rel=1e-3)


def test_gain_multiplies_mean_and_squares_in_the_variance():
    detector = Detector(gain=4, wide_cross=False, pedestal=7, read_noise=3)
    counts = read_out(np.full((400, 400), 10.0), detector, np.random.default_rng(0))
    counts = counts.astype(float)
    # mean 4 * 10 + 7; variance 16 * 10 + 9 + 1/12; five standard errors of 160000 pixels
    assert counts.mean() == pytest.approx(47, abs=5 * 13 / 400)
    assert counts.var() == pytest.approx(169.08, rel=5 * np.sqrt(2) / 400)


def test_saturation():
    rng = np.random.default_rng(0)
    counts = read_out(np.full((20, 20), 1e6), Detector(wide_cross=False), rng)
    assert counts.dtype == np.uint16
    assert np.all(counts == 11810)
    with pytest.raises(ValueError, match="saturation"):
        Detector(saturation=70000)


def test_wide_cross_is_shared_and_masked():
    detector = Detector()
    counts = read_out(np.full((516, 516), 50.0), detector, np.random.default_rng(0)).astype(int)
    mask = detector.mask((516, 516))
    np.testing.assert_array_equal(np.flatnonzero(mask[0]), range(255, 261))
    np.testing.assert_array_equal(np.flatnonzero(mask[:, 0]), range(255, 261))
    for wide in (slice(255, 258), slice(258, 261)):
        assert np.all(np.ptp(counts[wide], axis=0) == 0)
        assert np.all(np.ptp(counts[:, wide], axis=1) == 0)
    assert counts[:255, 255].mean() == pytest.approx(50, rel=0.05)


def test_zingers_and_beam_stop():
    counts = read_out(
        np.zeros((100, 100)),
        Detector(wide_cross=False, zingers_per_frame=40),
        np.random.default_rng(1),
    )
    assert 10 < np.count_nonzero(counts) < 80
    assert counts[counts > 0].min() >= 20
    stop = BeamStop(50, 60, radius_px=10, arm_width_px=4).shadow((100, 100))
    assert stop[50, 60]
    assert stop[99, 60]
    assert stop[50, 70]
    assert not stop[0, 60]
    assert not stop[99, 64]
