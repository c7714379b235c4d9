"""Crossings of the Ewald sphere and the Lorentz factor, against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.simulation.rocking import (
    HALF_WIDTH,
    REACH,
    SINC2_WIDTH,
    cumulative,
    excitation_error,
    find_events,
    record,
)

# wavelength 1/40 Å, 8000 px of camera length, axis along x
GEOMETRY = Geometry(0.025, 0.055, 440.0, (100.0, 100.0), (1, 0, 0))


def test_crossing_angles_by_hand():
    # About x, (0, 0.5, 0) has q_z = 0.5 sin(phi); the sphere wants q_z = -|q|^2 lambda / 2
    # = -0.003125, so sin(phi) = -0.00625: phi = -0.358101 and 180.358101 degrees.
    # (0.3, 0.4, 0): |q| is the same, sin(phi) = -0.0078125: phi = -0.447628 degrees.
    q0 = np.array([[0, 0.5, 0], [0.3, 0.4, 0], [0.5, 0, 0]])
    events = find_events(q0, np.full(3, 0.002), GEOMETRY, -10, 10)
    np.testing.assert_array_equal(events.point, [0, 1])
    np.testing.assert_allclose(events.angle_deg, [-0.358101, -0.447628], atol=2e-6)
    assert not events.grazing.any()
    opposite = find_events(q0[:1], np.full(1, 0.002), GEOMETRY, 170, 190)
    np.testing.assert_allclose(opposite.angle_deg, [180.358101], atol=2e-6)
    # the window ends where the excitation error reaches 0.002 = 0.5 dphi
    width = np.diff(events.window_deg[0])
    np.testing.assert_allclose(np.deg2rad(width), 2 * 0.002 / 0.5, rtol=1e-3)


def test_a_point_that_only_grazes():
    # On the axis-normal through z: q = (0.5, y, 0) turns within |q_z| <= y. The sphere wants
    # q_z = -0.0125 (0.25 + y^2); y = 0.003 stops 1.25e-4 short of it.
    events = find_events(np.array([[0.5, 0.003, 0.0]]), np.array([0.001]), GEOMETRY, -180, 180)
    assert events.grazing.all()
    np.testing.assert_allclose(events.angle_deg, [-90, -90], atol=1e-6)


@given(
    st.tuples(*[st.floats(-1.2, 1.2)] * 3),
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
)
def test_crossings_lie_on_the_sphere(q, axis):
    geometry = GEOMETRY.with_(axis=axis)
    q0 = np.array([q])
    events = find_events(q0, np.array([1e-3]), geometry, -180, 180)
    for angle, grazing in zip(events.angle_deg, events.grazing, strict=True):
        on = rotation_about(geometry.axis, angle) @ q0[0] + geometry.s0
        if not grazing:
            assert np.linalg.norm(on) == pytest.approx(40.0, abs=1e-9)
        error = excitation_error(q0, np.array([angle]), geometry)
        assert error[0] == pytest.approx(40.0 - np.linalg.norm(on), abs=1e-9)


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "sinc2"])
def test_rocking_curves_have_unit_area_and_the_same_width(shape):
    def density(x):
        return (
            cumulative(shape, np.array(x + 1e-3)) - cumulative(shape, np.array(x - 1e-3))
        ) / 2e-3

    assert 2 * cumulative(shape, np.array(1e6)) == pytest.approx(1, abs=1e-5)
    assert density(HALF_WIDTH) == pytest.approx(density(0.0) / 2, rel=1e-3)
    if shape == "sinc2":
        width = SINC2_WIDTH / (2 * HALF_WIDTH)
        area = quad(lambda x: width * np.sinc(width * x) ** 2, 0, 3)[0]
        assert cumulative(shape, np.array(3.0)) == pytest.approx(area, abs=1e-8)


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "sinc2"])
def test_lorentz_factor_comes_out(shape):
    # ds/dphi = 0.5 and 0.4 1/Å per radian for these two: W = 2 and 2.5 Å rad, however fine the
    # frames are, less the tails beyond reach.
    q0 = np.array([[0, 0.5, 0], [0.3, 0.4, 0]])
    sigma = np.full(2, 5e-4)
    within = 2 * cumulative(shape, np.array(REACH[shape]))
    events = find_events(q0, REACH[shape] * sigma, GEOMETRY, -10, 10)
    for step_deg in (0.05, 0.5, 3.0):
        rows = record(events, q0, sigma, shape, GEOMETRY, -10, step_deg)
        total = np.bincount(rows.event, rows.integral)
        np.testing.assert_allclose(total, within * np.array([2.0, 2.5]), rtol=2e-3)


def test_share_of_a_frame_by_hand():
    # sigma = 0.001 1/Å = 0.002 rad for (0, 0.5, 0). A frame edge at the crossing halves the
    # curve; a frame of exactly one standard deviation from there holds 0.34134 of it.
    q0, sigma = np.array([[0, 0.5, 0]]), np.array([0.001])
    events = find_events(q0, 5 * sigma, GEOMETRY, -10, 10)
    step = float(np.rad2deg(0.002))
    rows = record(events, q0, sigma, "gaussian", GEOMETRY, events.angle_deg[0], step)
    share = dict(zip(rows.frame.tolist(), rows.integral / rows.integral.sum(), strict=True))
    assert share[0] == pytest.approx(0.34134, abs=2e-4)
    assert share[-1] == pytest.approx(0.34134, abs=2e-4)
    assert share[1] == pytest.approx(0.13591, abs=2e-4)
