"""Pixels with and without distortion and tilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.rings.calibration import RingCalibration
from ewaldflow.lib.rings.ideal import effective, from_ideal, to_ideal

PLAIN = RingCalibration(
    "au", (400, 500), "gold", 0.025, 0.05, 500.0, (210.0, 240.0)
)  # fmt: skip


@settings(deadline=None)  # what is compiled is compiled at first
@given(
    st.floats(1, 1.1), st.floats(0, 180), st.floats(-2e-5, 2e-5), st.floats(-2e-5, 2e-5),
    st.floats(-1e-4, 1e-4), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1),
)  # fmt: skip
def test_there_and_back(
    ratio: float, azimuth: float, c: float, s: float, radial: float, rot1: float, rot2: float
) -> None:
    bent = replace(
        PLAIN, distortion=EllipticalDistortion(ratio, azimuth), three_fold_per_px=(c, s),
        radial_per_mm2=radial, rot1_rad=rot1, rot2_rad=rot2,
    )  # fmt: skip
    row, column = np.array([0, 399, 17.5, 210]), np.array([499, 3, 77.25, 240])
    ideal = to_ideal(bent, row, column)
    back = from_ideal(bent, ideal[:, 0], ideal[:, 1])
    np.testing.assert_allclose(back, np.stack([row, column], 1), atol=1e-6)
    np.testing.assert_allclose(ideal[3], [210, 240], atol=1e-9)


def test_ellipse_and_radial_are_those_of_a_geometry() -> None:
    bent = replace(PLAIN, distortion=EllipticalDistortion(1.03, 30), radial_per_mm2=1e-4)
    geometry = Geometry(0.025, 0.05, 500.0, (210, 240), (1, 0, 0), bent.distortion, 1e-4)
    plain = Geometry(0.025, 0.05, 500.0, (210, 240), (1, 0, 0))
    row, column = np.array([3.0, 380]), np.array([490.0, 12])
    ideal = to_ideal(bent, row, column)
    expected = plain.to_pixel(geometry.to_q(row, column))
    np.testing.assert_allclose(ideal, expected, atol=1e-8)
    assert effective(bent) == (500.0, bent.distortion, 0.0)


def test_a_three_fold_lens_by_hand() -> None:
    # along x the radius 100 appears as 100 + 1e-5 * 100^2 = 100.1; half way between, as 99.9
    bent = replace(PLAIN, three_fold_per_px=(1e-5, 0.0))
    np.testing.assert_allclose(from_ideal(bent, 210, 340), [210, 340.1])
    np.testing.assert_allclose(from_ideal(bent, 210, 140), [210, 140.1])
    up = from_ideal(bent, 210 + 100 * np.sin(np.pi / 3), 240 + 100 * np.cos(np.pi / 3))
    assert np.hypot(*(up - [210, 240])) == pytest.approx(99.9)


@pytest.mark.parametrize(("rot1", "rot2"), [(0.1, 0.0), (0.0, -0.08), (0.07, 0.05)])
def test_tilt_is_that_of_pyfai(rot1: float, rot2: float) -> None:
    from pyFAI.detectors import Detector
    from pyFAI.geometry import Geometry as PyFai

    tilted = replace(PLAIN, rot1_rad=rot1, rot2_rad=rot2)
    length, p = 0.5, 5e-5
    poni1 = 210.5 * p - length * np.tan(rot2) / np.cos(rot1)
    poni2 = 240.5 * p + length * np.tan(rot1)
    theirs = PyFai(
        length, poni1, poni2, rot1, rot2, 0.0, detector=Detector(p, p, max_shape=(400, 500))
    )
    row, column = np.array([5.0, 390, 100]), np.array([20.0, 480, 400])
    two_theta = theirs.tth(row, column)
    ideal = to_ideal(tilted, row, column)
    radius = np.hypot(*(ideal - [210, 240]).T)
    ours = np.arctan(radius * 0.05 / 500)
    np.testing.assert_allclose(ours, two_theta, rtol=1e-9)


def test_a_small_tilt_is_told_as_an_ellipse() -> None:
    tilted = replace(PLAIN, rot1_rad=0.02)
    distance, ellipse, left = effective(tilted)
    # rot1 turns about the vertical axis: columns are stretched by 1 / cos
    assert ellipse.ratio == pytest.approx(1 / np.cos(0.02), rel=1e-6)
    assert min(ellipse.azimuth_deg, 180 - ellipse.azimuth_deg) < 0.1
    # the beam's own path is 500 / cos
    assert distance == pytest.approx(500 / np.cos(0.02) ** 1.5, rel=1e-6)
    # what an ellipse cannot do: x^2 tan(tilt) / L at the corner, 260 px from the beam
    assert left == pytest.approx(0.02 * np.hypot(260, 210) * 260 * 0.05 / 500, rel=0.1)
