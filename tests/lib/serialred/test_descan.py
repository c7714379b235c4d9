"""Descan over any two pairs: a solve by hand, the closed loop, pairs that cannot do it."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.calibration import CalibrationSet, ShiftCalibration
from ewaldflow.lib.serialred.descan import Descan, DescanSolve

ONE = np.eye(2)


def calibrations(**matrices):
    """From ``name_condition`` to a matrix."""
    made = []
    for key, matrix in matrices.items():
        name, condition = key.rsplit("_", 1)
        made.append(
            ShiftCalibration(
                name, condition, "nm", np.asarray(matrix, float), np.zeros((4, 4)), 0.1, 25, 0,
                "twin", datetime.now(UTC),
            )
        )  # fmt: skip
    return CalibrationSet(tuple(made))


BY_HAND = calibrations(
    beam_shift_focused=0.01 * ONE, beam_shift_defocused=0.1 * ONE,
    image_shift_1_focused=0.02 * ONE, image_shift_1_defocused=0.10 * ONE,
    image_shift_2_focused=0.08 * ONE, image_shift_2_defocused=0.05 * ONE,
)  # fmt: skip


def test_a_solve_by_hand():
    # 1000 nm: focused 10 px, defocused 100 px, each along rows.
    # 0.02 a + 0.08 b = -10, 0.10 a + 0.05 b = -100  ->  determinant -0.007,
    # a = (-10 * 0.05 + 100 * 0.08) / -0.007, b = (-0.02 * 100 + 0.10 * 10) / -0.007
    solve = DescanSolve.from_calibrations(BY_HAND)
    x1, x2 = solve.settings([1000.0, 0.0])
    assert x1 == pytest.approx([7.5 / -0.007, 0.0])
    assert x2 == pytest.approx([-1.0 / -0.007, 0.0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_both_patterns_stay_for_any_two_pairs(seed):
    # a Thermo Fisher instrument: image shift in nm and diffraction shift in mrad
    rng = np.random.default_rng(seed)

    def drawn(size):
        angle, k = rng.uniform(0, 6.3), rng.uniform(-0.15, 0.15)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return size * turn @ [[1, k], [0, 1]]

    matrices = {
        "beam_shift_focused": drawn(0.015), "beam_shift_defocused": drawn(0.14),
        "image_shift_1_focused": drawn(0.02), "image_shift_1_defocused": drawn(0.1),
        "diffraction_shift_focused": drawn(8.0), "diffraction_shift_defocused": drawn(5.0),
    }  # fmt: skip
    pair = ("image_shift_1", "diffraction_shift")
    solve = DescanSolve.from_calibrations(calibrations(**matrices), pair)
    beam, extra = rng.normal(scale=1000, size=2), rng.normal(size=(2, 2))
    x1, x2 = solve.settings(beam, *extra)
    for k, condition in enumerate(("focused", "defocused")):
        moved = (
            matrices[f"beam_shift_{condition}"] @ beam
            + matrices[f"image_shift_1_{condition}"] @ x1
            + matrices[f"diffraction_shift_{condition}"] @ x2
        )
        assert moved + extra[k] == pytest.approx([0, 0], abs=1e-6)


def test_feedback_takes_away_what_wrong_calibrations_leave():
    solve = DescanSolve.from_calibrations(BY_HAND)
    true = {"focused": (0.0103, 0.0198, 0.0805), "defocused": (0.098, 0.101, 0.051)}
    start = (np.array([100.0, 0.0]), np.array([0.0, -50.0]))
    descan = Descan(solve, np.zeros(2), start, gain=0.7)

    def where(beam, condition):
        b, f1, f2 = true[condition]
        x1, x2 = descan.settings(beam)
        return 250.0 + b * beam + f1 * (x1 - start[0]) + f2 * (x2 - start[1])

    beam = np.zeros(2)
    descan, off = descan.pattern_seen(where(beam, "focused"))
    descan, _ = descan.disc_seen(where(beam, "defocused"))
    assert off == pytest.approx([0, 0])
    beam = np.array([3000.0, -2000.0])
    first = np.abs(where(beam, "focused") - 250).max()
    for _ in range(12):
        descan, _ = descan.pattern_seen(where(beam, "focused"))
        descan, _ = descan.disc_seen(where(beam, "defocused"))
    assert first > 0.5
    assert where(beam, "focused") == pytest.approx([250, 250], abs=0.02)
    assert where(beam, "defocused") == pytest.approx([250, 250], abs=0.05)


def test_a_pair_that_moves_both_patterns_alike_is_refused():
    alike = calibrations(
        beam_shift_focused=0.01 * ONE, beam_shift_defocused=0.1 * ONE,
        image_shift_1_focused=0.02 * ONE, image_shift_1_defocused=0.10 * ONE,
        image_shift_2_focused=0.04 * ONE, image_shift_2_defocused=0.201 * ONE,
    )  # fmt: skip
    with pytest.raises(UserError, match="condition number"):
        DescanSolve.from_calibrations(alike)
    dead = alike.with_(calibrations(image_shift_2_focused=0 * ONE, image_shift_2_defocused=0 * ONE))
    with pytest.raises(UserError, match="condition number of inf"):
        DescanSolve.from_calibrations(dead)


def test_a_calibration_that_was_not_measured():
    with pytest.raises(UserError, match="diffraction_shift, focused: found none"):
        DescanSolve.from_calibrations(BY_HAND, ("image_shift_1", "diffraction_shift"))
