from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import poisson

from ewaldflow.hardware.simulated.detector import (
    OTHER,
    QUANTILES,
    SHARE,
    Cmos,
    Readout,
    Timepix,
    _poisson,
)

CLEAN = {"dead_pixels": 0, "hot_pixels": 0, "spread": 0.0}
SHAPE = (516, 516)


@pytest.mark.parametrize("mean", [0.03, 0.125, 0.9, 3.3, 12.5, 19.99, 20.0, 45.0, 800.0])
def test_counts_are_poisson(mean: float) -> None:
    drawn = _poisson(
        np.full((500, 800), mean), np.uint64(20261121), SHARE, OTHER, QUANTILES
    ).ravel()
    values = np.arange(drawn.max() + 2)
    seen = np.cumsum(np.bincount(drawn, minlength=len(values))) / drawn.size
    # the largest distance of 400 000 deviates from their distribution: 99.9 % are below 0.0031
    assert np.abs(seen - poisson.cdf(values, mean)).max() < 0.0031
    assert drawn.var() == pytest.approx(mean, rel=5 * np.sqrt((2 + 1 / mean) / drawn.size))


def test_neighbouring_pixels_and_exposures_are_independent() -> None:
    camera = Readout(Timepix(**CLEAN), 5)
    flat = np.full(SHAPE, 7.0)
    a, b = (camera.counts(flat, 0.5, number, 1)[:250, :250].astype(float) for number in (3, 4))
    for one, other in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


def test_an_image_depends_on_seed_and_number_alone() -> None:
    flat = np.full(SHAPE, 2.0)
    first = Readout(Timepix(), 5).counts(flat, 0.5, 17, 1)
    later = Readout(Timepix(), 5)
    later.counts(flat, 0.5, 1, 1)
    np.testing.assert_array_equal(later.counts(flat, 0.5, 17, 1), first)
    assert (later.counts(flat, 0.5, 18, 1) != first).any()
    assert (Readout(Timepix(), 6).counts(flat, 0.5, 17, 1) != first).any()
    assert (flat == 2.0).all()  # what was given is left alone


def test_wide_pixels_share_three_times_the_electrons_among_three() -> None:
    image = Readout(Timepix(**CLEAN), 1).counts(np.full(SHAPE, 90.0), 0.5, 1, 1).astype(float)
    for rows in (slice(255, 258), slice(258, 261)):
        block = image[rows, :255]
        assert (block == block[0]).all()  # one pixel, shown three times
        assert block[0].mean() == pytest.approx(90.0, rel=0.02)
        assert block[0].var() == pytest.approx(90.0 / 3, rel=0.3)
    corner = image[255:258, 255:258]
    assert (corner == corner[0, 0]).all()
    assert image[:255, :255].mean() == pytest.approx(90.0, rel=0.01)


def test_a_timepix_saturates_at_11810() -> None:
    image = Readout(Timepix(**CLEAN), 1).counts(np.full(SHAPE, 5e4), 0.5, 1, 1)
    assert image.dtype == np.uint16
    assert image.max() == 11810
    assert image[10, 10] == 11810
    assert image[256, 10] == round(11810 / 3)


def test_dead_and_hot_pixels_stay_what_they_are() -> None:
    camera = Readout(Timepix(dead_pixels=5, hot_pixels=4, spread=0.0), 8)
    image = camera.counts(np.full(SHAPE, 20.0), 1.0, 1, 1)
    on_chip = [i for i in camera.dead if not {*range(255, 261)} & {i // 516, i % 516}]
    assert len(on_chip) > 2
    assert all(image.flat[i] == 0 for i in on_chip)
    hot = [i for i in camera.hot if not {*range(255, 261)} & {i // 516, i % 516}]
    assert all(float(image.flat[i]) == pytest.approx(320, abs=90) for i in hot)


def test_spread_keeps_every_electron() -> None:
    spot = np.zeros(SHAPE)
    spot[100, 100] = 10000.0
    spot[0, 0] = 10000.0  # at an edge, too
    camera = Readout(Timepix(dead_pixels=0, hot_pixels=0, spread=0.05), 1)
    image = np.mean([camera.counts(spot, 0.5, n, 1) for n in range(20)], axis=0)
    assert image[100, 100] == pytest.approx(8000, rel=0.01)
    assert image[99, 100] == pytest.approx(500, rel=0.05)
    assert image.sum() == pytest.approx(20000, rel=0.01)


def test_cmos_counts_have_gain_pedestal_and_read_noise() -> None:
    options = Cmos(shape=(300, 400), gain=10.0, read_noise=4.0, pedestal=100.0, **CLEAN)
    dark = Readout(options, 1).counts(np.zeros((300, 400)), 0.5, 1, 1).astype(float)
    assert dark.mean() == pytest.approx(100.0, abs=0.1)
    assert dark.std() == pytest.approx(4.0, rel=0.02)
    light = Readout(options, 1).counts(np.full((300, 400), 6.0), 0.5, 1, 1).astype(float)
    assert light.mean() == pytest.approx(160.0, rel=0.005)
    assert light.var() == pytest.approx(100 * 6 + 16, rel=0.03)
    bright = Readout(options, 1).counts(np.full((300, 400), 1e6), 0.5, 1, 1)
    assert bright.dtype == np.uint16
    assert bright.min() == 65535


def test_bins_add_up() -> None:
    flat = np.full(SHAPE, 4.0)
    one = Readout(Timepix(), 1).counts(flat, 0.5, 1, 1)
    two = Readout(Timepix(), 1).counts(flat, 0.5, 1, 2)
    assert two.shape == (258, 258)
    np.testing.assert_array_equal(two, one.reshape(258, 2, 258, 2).sum((1, 3)))


@pytest.mark.parametrize("mean", [0.5, 4.0, 60.0])
def test_reading_out_takes_milliseconds(mean: float) -> None:
    camera, flat = Readout(Timepix(), 1), np.full(SHAPE, mean)
    camera.counts(flat, 0.5, 0, 1)
    began = time.process_time()
    for n in range(10):
        camera.counts(flat, 0.5, n, 1)
    assert (time.process_time() - began) / 10 < 0.02  # 3 to 4 ms on a machine at rest
