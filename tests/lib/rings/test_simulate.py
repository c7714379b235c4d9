"""Simulated rings: where they lie, by pyFAI, by hand and by counting."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.rings.calibrants import gold
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

BARE = RingConditions(
    shape=(300, 320), distance_mm=100.0, centre_px=(150.0, 160.0), ratio=1.0, width_px=1.0,
    spread_px=0.0, stop_px=0, shaft_px=0, hot=0, dead=0, background=0.0, beam=0.0, peak=1e6,
    saturation=1e9,
)  # fmt: skip


def test_rings_lie_where_braggs_law_has_them():
    image, centre = simulate_rings(gold(), BARE, 1)
    assert centre == (150.0, 160.0)
    row = image.pixels[150].astype(float)
    # 111: L tan(2 asin(lambda / 2 d)) = 3333.3 x 0.0106526 = 35.51 px
    right = row[160 + 28 : 160 + 39]
    assert np.sum(right * np.arange(28, 39)) / right.sum() == pytest.approx(35.51, abs=0.06)


def test_a_tilted_detector_is_pyfais():
    detectors = pytest.importorskip("pyFAI.detectors")
    from pyFAI.geometry import Geometry

    # long waves and a short distance: at 35 px the tilt moves the ring by half a pixel
    rot1, rot2 = math.radians(8), math.radians(-6)
    tilted = replace(BARE, rot1_rad=rot1, rot2_rad=rot2, wavelength_A=0.25, distance_mm=10.0)
    image, _ = simulate_rings(gold(), tilted, 1)
    pixel, length = 3e-5, 0.01
    peer = Geometry(
        dist=length, poni1=150.5 * pixel - length * math.tan(rot2) / math.cos(rot1),
        poni2=160.5 * pixel + length * math.tan(rot1), rot1=rot1, rot2=rot2,
        detector=detectors.Detector(pixel, pixel, max_shape=(300, 320), orientation=3),
        wavelength=tilted.wavelength_A * 1e-10,
    )  # fmt: skip
    radius = np.tan(peer.twoThetaArray((300, 320))) * length / pixel
    expected = 1000 / 3 * math.tan(2 * math.asin(0.25 / (2 * gold().d_A[0])))
    y, x = np.mgrid[0:300, 0:320] - np.array([150, 160])[:, None, None]
    for quadrant in range(4):
        here = (np.floor(np.arctan2(y, x) / (math.pi / 2)) == quadrant - 2) & (
            np.abs(radius - expected) < 2.5
        )
        mean = np.sum(radius[here] * image.pixels[here]) / image.pixels[here].sum()
        assert mean == pytest.approx(expected, abs=0.1)


def test_counts_are_poissons():
    flat = replace(BARE, peak=1e-9, background=0.0, offset=0.0)
    assert simulate_rings(gold(), flat, 1)[0].pixels.max() == 0
    image, _ = simulate_rings(gold(), BARE, 1)
    again, _ = simulate_rings(gold(), BARE, 1)
    other, _ = simulate_rings(gold(), BARE, 2)
    assert np.array_equal(image.pixels, again.pixels)
    difference = image.pixels.astype(float) - other.pixels
    bright = image.pixels > 1e4
    assert np.mean(difference[bright] ** 2 / (2 * image.pixels[bright])) == pytest.approx(
        1, abs=0.1
    )


def test_what_spoils_images_is_there():
    spoilt = replace(
        BARE, background=0.5, stop_px=20, shaft_px=10, shaft_deg=0.0, stop_offset_px=(0.0, 0.0),
        gap_deg=(80.0, 100.0), hot=7, peak=100.0, saturation=4000.0, beam=1.0, margin_px=5,
        stated_error=0.1,
    )  # fmt: skip
    image, _ = simulate_rings(gold(), spoilt, 3)
    assert image.pixels[150, 162:175].max() < 5
    assert image.pixels[150, 200:300].max() < 5
    assert image.pixels[200:290, 160].max() == 0 or image.pixels[200:290, 158:163].mean() < 10
    assert image.pixels[:5].max() == 0
    assert image.pixels.max() <= 4000
    assert image.camera_length_mm == pytest.approx(110)


def test_grains_make_rings_spotty():
    smooth = simulate_rings(gold(), BARE, 1)[0].pixels
    spotty = simulate_rings(gold(), replace(BARE, grains=30), 1)[0].pixels
    y, x = np.mgrid[0:300, 0:320]
    ring = np.abs(np.hypot(y - 150, x - 160) - 35.5) < 0.6
    assert (
        np.std(spotty[ring]) / spotty[ring].mean() > 3 * np.std(smooth[ring]) / smooth[ring].mean()
    )
