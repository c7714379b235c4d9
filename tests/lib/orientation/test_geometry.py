"""The Ewald sphere's centre: known numbers, and derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.orientation.geometry import (
    SmoothRotation,
    along_perp,
    displaced,
    excitation,
    from_engine,
    lab_rotations,
    rotation_by,
    small_angles,
)

GEOMETRY = Geometry(0.025, 0.05, 500.0, (500.0, 500.0), (1.0, 0.0, 0.0))
DIRECTIONS = SmoothRotation(np.array([1.0, 0, 0]), np.array([0.0, 0, -1.0]), 0.0)


def test_centre_turns_against_the_crystal() -> None:
    # crystal and lab are one at zero; a crystal turned by +90 about x has y where z was, so that
    # the beam, along +z in the lab, runs along the crystal's -y ... and e = -beam along its -y too
    rotation = rotation_about([1, 0, 0], 90.0)
    e = -rotation.T @ [0, 0, 1]
    assert e == pytest.approx([0, -1, 0])
    assert DIRECTIONS.directions([90.0])[0] == pytest.approx(e)


def test_excitation_error_by_hand() -> None:
    # r = 40; P = (0, 3, 0) is sqrt(1609) from e = (0, 0, 40): s = 0.1123...
    e, t1, t2 = np.array([[0, 0, 1.0]]), np.array([[0.0, 1, 0]]), np.array([[1.0, 0, 0]])
    s, slope = excitation(np.array([[0.0, 3.0, 0.0]]), np.array([0]), e, t1, t2, 40.0)
    assert s[0] == pytest.approx(np.sqrt(1609) - 40, rel=1e-12)
    assert slope[0] == pytest.approx([-120 / np.sqrt(1609), 0.0])


@given(st.integers(0, 10_000))
@settings(deadline=None)  # compiles on its first call
def test_derivatives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis, start = rng.normal(size=(2, 3))
    axis /= np.linalg.norm(axis)
    start = np.cross(axis, start) + 0.1 * axis
    smooth = SmoothRotation(axis, start / np.linalg.norm(start), 3.0, 0.97)
    angle = np.array([-20.0, 3.0, 31.0])
    e = smooth.directions(angle)
    for k, column in enumerate(np.moveaxis(smooth.tangents(angle), 2, 0)):
        step = np.zeros(5)
        step[k] = 1e-6
        moved = small_angles(smooth.moved(step).directions(angle), e, axis) / 1e-6
        assert moved == pytest.approx(column, abs=2e-5)
    points = rng.normal(size=(3, 3))
    own = np.arange(3)
    t1, t2 = along_perp(e, axis)
    s, slope = excitation(points, own, e, t1, t2, 40.0)
    for k in range(2):
        small = np.zeros((3, 2))
        small[:, k] = 1e-6
        other, _ = excitation(points, own, displaced(e, axis, small), t1, t2, 40.0)
        assert (other - s) / 1e-6 == pytest.approx(slope[:, k], abs=1e-4)


@given(st.tuples(*[st.floats(-0.5, 0.5)] * 2), st.integers(0, 1000))
def test_small_angles_come_back(small: tuple[float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = np.array([0.0, 0, 1.0])
    e = np.r_[rng.normal(size=2), 0.2][None]
    e /= np.linalg.norm(e)
    moved = displaced(e, axis, np.array([small]))
    assert np.linalg.norm(moved) == pytest.approx(1)
    assert small_angles(moved, e, axis)[0] == pytest.approx(small, abs=1e-9)


def test_rotation_vectors_as_scipy_has_them() -> None:
    vectors = np.array([[0.3, -0.2, 0.9], [0.0, 0.0, 0.0], [1e-9, 0, 0]])
    assert rotation_by(vectors) == pytest.approx(Rotation.from_rotvec(vectors).as_matrix())


def test_engine_and_lab_agree() -> None:
    u = Rotation.random(random_state=4).as_matrix()
    basis = np.diag([0.1, 0.08, 0.05])
    angle = np.linspace(-30, 30, 7)
    smooth = from_engine("x", u @ basis, basis, GEOMETRY, angle)
    true = rotation_about(np.array(GEOMETRY.axis), angle) @ u
    assert smooth.directions(angle) == pytest.approx(-true[:, 2])
    assert lab_rotations(smooth.directions(angle), smooth.axis, GEOMETRY) == pytest.approx(true)


def test_another_cell_is_refused() -> None:
    basis = np.diag([0.1, 0.08, 0.05])
    with pytest.raises(UserError, match=r"stretching by 25\.0 %"):
        from_engine("x", basis, basis @ np.diag([1, 1 / 1.25, 1]), GEOMETRY, np.zeros(3))
    with pytest.raises(UserError, match="left-handed"):
        from_engine("x", basis @ np.diag([1, 1, -1]), basis, GEOMETRY, np.zeros(3))


def test_an_axis_along_the_beam_is_refused() -> None:
    with pytest.raises(UserError, match="along the beam"):
        lab_rotations(np.eye(3), np.ones(3), GEOMETRY.with_(axis=(0, 0, 1)))
