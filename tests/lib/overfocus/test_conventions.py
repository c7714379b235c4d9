"""Each program's angle, put into that program's own formula, must give the same direction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.overfocus.conventions import affine_of, named_angles
from ewaldflow.lib.overfocus.model import flip, rotation


def turned(angle_deg: float) -> np.ndarray:
    """((cos, -sin), (sin, cos)), however it is called in each program."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[c, -s], [s, c]])


def composed(scale: float, asymmetry: float, turn_deg: float, shear_deg: float) -> np.ndarray:
    """The affine matrix of PtychoShelves, which acts on row vectors from the right."""
    stretch = scale * np.diag([1 + asymmetry / 2, 1 - asymmetry / 2])
    shear = np.array([[1, 0], [np.tan(np.deg2rad(shear_deg)), 1]])
    return stretch @ turned(-turn_deg) @ shear


def test_by_hand_the_example_of_libertem_1775() -> None:
    """A scan turned 90 degrees clockwise: a step to the right goes down on the detector."""
    down_for_right = np.array([[0.0, 3.0], [-3.0, 0.0]])
    found = named_angles(down_for_right)
    assert found.scan_clockwise_deg == pytest.approx(90)
    assert found.libertem_deg == pytest.approx(-90)
    assert found.thermo_fisher_deg == pytest.approx(-90)
    assert not found.flip_y


@given(st.floats(-180, 180), st.booleans(), st.floats(0.5, 50), st.booleans())
def test_every_program_turns_the_same_way(
    angle: float, flip_y: bool, scale: float, overfocused: bool
) -> None:
    to_scan = rotation(angle) @ flip(flip_y)  # detector to scan, (y, x)
    sign = 1 if overfocused else -1
    found = named_angles(sign * scale * np.linalg.inv(to_scan), overfocused)
    seen = np.array([0.3, -0.8])  # a movement on the detector, (y, x)
    wanted = to_scan @ seen

    # LiberTEM's code: rotate_deg(t) after flip_y, in (y, x)
    straight = flip(found.flip_y) @ seen
    np.testing.assert_allclose(turned(-found.libertem_deg) @ straight, wanted, atol=1e-9)
    # its documentation: the scan's axes turned clockwise, rows down
    t = np.deg2rad(found.scan_clockwise_deg)
    right, down = np.array([np.sin(t), np.cos(t)]), np.array([np.cos(t), -np.sin(t)])
    np.testing.assert_allclose([down @ straight, right @ straight], wanted, atol=1e-9)
    np.testing.assert_allclose(
        turned(found.thermo_fisher_deg + found.scan_clockwise_deg), np.eye(2), atol=1e-9
    )
    # py4DSTEM's x is the row
    pair = seen[::-1] if found.py4dstem_transpose else seen
    np.testing.assert_allclose(turned(found.py4dstem_deg) @ pair, wanted, atol=1e-9)
    # pyxem: (x, y) turned clockwise as rows go down
    x, y = turned(found.pyxem_deg) @ straight[::-1]
    np.testing.assert_allclose([y, x], wanted, atol=1e-9)
    # ptyRAD: scan positions as rows, times the affine, lie as on the flipped detector
    np.testing.assert_allclose(wanted @ composed(*found.ptyrad_affine), straight, atol=1e-7)


def test_shear_goes_to_ptyrad() -> None:
    sheared = 4.0 * np.array([[1.02, 0.0], [0.03, 1.0]])
    found = named_angles(sheared)
    scale = 0.5 * np.hypot(4.0 * 2.02, 4.0 * 0.03)
    np.testing.assert_allclose(composed(*found.ptyrad_affine), sheared.T / scale, atol=1e-9)


@given(st.floats(0.8, 1.2), st.floats(-0.1, 0.1), st.floats(-30, 30), st.floats(-5, 5))
def test_affine_terms_come_back(scale: float, asymmetry: float, turn: float, shear: float) -> None:
    terms = (scale, asymmetry, turn, shear)
    np.testing.assert_allclose(affine_of(composed(*terms)), terms, atol=1e-6)


def test_the_dictionary_names_every_program() -> None:
    found = named_angles(2.0 * np.eye(2)).as_dict()
    assert set(found) == {
        "libertem", "scan_clockwise", "thermo_fisher", "py4dstem", "pyxem", "ptyrad"
    }  # fmt: skip
    assert found["libertem"] == {"scan_rotation_deg": 0.0, "flip_y": False}
