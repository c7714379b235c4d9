"""The map from pixels to angles: round trips, numbers by hand, pyFAI."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.rings.calibration import RingCalibration
from ewaldflow.lib.rings.pixel_map import PixelMap, ideal_profiles, map_of, ring_curve

FULL = PixelMap(
    (500.0, 520.0), 20000.0, (-0.01, 0.004), math.radians(4), math.radians(-3), (2e-6, -1e-6), 1e-9
)


@settings(deadline=None)  # the first call compiles
@given(
    st.floats(1, 900),
    st.floats(-math.pi, math.pi),
    st.floats(-0.03, 0.03),
    st.floats(-0.03, 0.03),
    st.floats(-0.15, 0.15),
    st.floats(-0.15, 0.15),
    st.floats(-3e-6, 3e-6),
    st.floats(-3e-6, 3e-6),
    st.floats(-2e-9, 2e-9),
)
def test_there_and_back(rho, azimuth, a, b, rot1, rot2, c, s, k):
    one = PixelMap((500.0, 520.0), 20000.0, (a, b), rot1, rot2, (c, s), k)
    back, turn = one.to_ideal(*one.to_pixel(rho, azimuth))
    assert back == pytest.approx(rho, abs=1e-7)
    assert math.remainder(float(turn) - azimuth, 2 * math.pi) == pytest.approx(0, abs=1e-7)


def test_the_beam_stays_at_the_centre():
    assert FULL.to_pixel(0.0, 0.3) == pytest.approx((500.0, 520.0))


def test_without_terms_it_is_a_circle():
    row, column = PixelMap((10.0, 20.0), 1000.0).to_pixel(5.0, math.pi / 2)
    assert (row, column) == pytest.approx((15.0, 20.0))  # azimuth from columns towards rows


def test_the_ellipse_by_hand():
    size, turn = math.log(1.21) / 2, 2 * math.radians(90)
    one = PixelMap((0.0, 0.0), 1000.0, (size * math.cos(turn), size * math.sin(turn)))
    assert one.distortion.ratio == pytest.approx(1.21)
    assert one.distortion.azimuth_deg == pytest.approx(90)
    # the major axis is along rows: 1.1 there, 1/1.1 along columns
    assert one.to_pixel(100.0, math.pi / 2)[0] == pytest.approx(110.0)
    assert one.to_pixel(100.0, 0.0)[1] == pytest.approx(100 / 1.1)


def test_three_fold_and_radial_by_hand():
    three = PixelMap((0.0, 0.0), 1000.0, three_fold_per_px=(1e-3, 0.0))
    assert three.to_pixel(100.0, 0.0)[1] == pytest.approx(110.0)  # r + r^2 c
    assert three.to_pixel(100.0, math.pi / 3)[1] == pytest.approx(90 * 0.5)
    radial = PixelMap((0.0, 0.0), 1000.0, radial_per_px2=1e-5)
    assert radial.to_pixel(100.0, 0.0)[1] == pytest.approx(110.0)  # r (1 + k r^2)


def test_angles_of_a_tilted_detector_are_pyfais():
    detectors = pytest.importorskip("pyFAI.detectors")
    from pyFAI.geometry import Geometry

    tilted = PixelMap((40.0, 60.0), 3000.0, rot1_rad=math.radians(5), rot2_rad=math.radians(-8))
    pixel = 5e-5
    # where the beam lands, less the foot of the normal, is L (tan rot2 / cos rot1, -tan rot1)
    poni = (np.array([40.5, 60.5]) - tilted.foot_px) * pixel
    detector = detectors.Detector(pixel, pixel, max_shape=(100, 120), orientation=3)
    peer = Geometry(
        dist=3000 * pixel, poni1=poni[0], poni2=poni[1], rot1=tilted.rot1_rad,
        rot2=tilted.rot2_rad, detector=detector, wavelength=2.5e-12,
    )  # fmt: skip
    row, column = np.mgrid[0:100, 0:120]
    rho, _ = tilted.to_ideal(row, column)
    two_theta = np.arctan(rho / 3000)
    assert two_theta == pytest.approx(peer.twoThetaArray((100, 120)), abs=1e-6)


def test_the_map_of_a_calibration():
    calibration = RingCalibration(
        "x", (1000, 1000), "gold", 0.025, 0.05, 500.0, (500.0, 520.0),
        EllipticalDistortion(1.03, 70.0), radial_per_mm2=4e-4,
    )  # fmt: skip
    one = map_of(calibration)
    assert one.distance_px == 10000
    assert one.distortion.ratio == pytest.approx(1.03)
    assert one.distortion.azimuth_deg == pytest.approx(70)
    assert one.radial_per_px2 == pytest.approx(4e-4 * 0.05**2)
    row, column = ring_curve(calibration, 2.0, 90)
    rho, _ = one.to_ideal(row, column)
    assert rho == pytest.approx(10000 * math.tan(2 * math.asin(0.025 / 4)))


def test_profiles_hold_every_good_pixel():
    image = np.arange(400, dtype=np.float32).reshape(20, 20)
    good = np.ones((20, 20), bool)
    good[3, 4] = False
    plain = PixelMap((9.5, 9.5), 1000.0)
    total, number, radii = ideal_profiles(
        image, good, plain.packed(), 8, 40, 0.5, np.ones(40, bool)
    )
    assert number.sum() == 399
    assert total.sum() == pytest.approx(image[good].sum())
    assert np.all(
        np.abs(radii / np.maximum(number, 1) - (np.arange(40) + 0.5) / 2)[number > 0] < 0.25
    )
