from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.hardware.simulated.travel import Axis


def test_a_long_move_ramps_cruises_and_ramps() -> None:
    # 10 at speed 2 with acceleration 1: ramps of 2 s and 2 units each, 3 s of cruising between
    axis = Axis(0.0, 1.0, 0.0)
    axis.go(100.0, 10.0, 2.0)
    assert axis.at_rest_from() == pytest.approx(107.0)
    for t, expected in ((99, 0.0), (101, 0.5), (102, 2.0), (103.5, 5.0), (105, 8.0), (106, 9.5)):
        assert axis.motor(t) == pytest.approx(expected)
    assert axis.motor(1e6) == 10.0


def test_a_short_move_never_reaches_its_speed() -> None:
    # 1 with acceleration 1: 1 s up, 1 s down
    axis = Axis(0.0, 1.0, 0.0)
    axis.go(0.0, -1.0, 50.0)
    assert axis.at_rest_from() == pytest.approx(2.0)
    assert axis.motor(1.0) == pytest.approx(-0.5)
    assert axis.motor(2.0) == pytest.approx(-1.0)


def test_stop_brakes_within_the_ramp() -> None:
    axis = Axis(0.0, 1.0, 0.0)
    axis.go(0.0, 100.0, 2.0)
    axis.stop(10.0)  # at 18, with speed 2: two more seconds, two more units
    assert axis.at_rest_from() == pytest.approx(12.0)
    assert axis.motor(50.0) == pytest.approx(20.0)


def test_freeze_does_not_brake() -> None:
    axis = Axis(0.0, 1.0, 0.0)
    axis.go(0.0, 100.0, 2.0)
    axis.freeze(10.0)
    assert axis.at_rest_from() == 10.0
    assert axis.motor(50.0) == pytest.approx(18.0)


def test_a_new_target_replaces_the_old_one() -> None:
    axis = Axis(0.0, 1.0, 0.0)
    axis.go(0.0, 100.0, 2.0)
    axis.go(10.0, 0.0, 2.0)
    assert axis.motor(12.0) == pytest.approx(20.0)  # braked first
    assert axis.motor(1e6) == 0.0
    assert axis.motor(5.0) == pytest.approx(8.0)  # what was, was


def test_the_follower_lags_by_half_the_play() -> None:
    axis = Axis(0.0, 10.0, 0.4)
    axis.go(0.0, 5.0, 10.0)
    assert axis.follower(100.0) == pytest.approx((4.8, 4.8))
    axis.go(100.0, 4.9, 10.0)  # within the play: the follower rests
    assert axis.follower(200.0) == pytest.approx((4.8, 4.8))
    axis.go(200.0, 3.0, 10.0)
    assert axis.follower(300.0) == pytest.approx((3.2, 6.4))


moves = st.lists(
    st.tuples(st.floats(0.01, 5), st.floats(-50, 50), st.floats(0.1, 20)), min_size=1, max_size=8
)


@given(moves, st.floats(0, 2))
def test_whatever_is_asked_motion_is_continuous_and_in_reach(
    asked: list[tuple[float, float, float]], play: float
) -> None:
    axis, t, acceleration = Axis(0.0, 30.0, play), 0.0, 30.0
    for wait, target, speed in asked:
        axis.go(t, target, speed)
        t += wait
    end = max(axis.at_rest_from(), t)
    assert axis.motor(end) == pytest.approx(asked[-1][1], abs=1e-9)
    times = np.linspace(0, end, 4001)
    motor = np.array([axis.motor(u) for u in times])
    top = max(speed for _, _, speed in asked)
    step = times[1] - times[0]
    assert np.abs(np.diff(motor)).max() <= top * step * 1.001 + 1e-9
    bend = np.abs(np.diff(motor, 2)).max()
    assert bend <= acceleration * step**2 * 1.01 + 1e-9
    follower = np.array([axis.follower(u) for u in times])
    assert np.abs(follower[:, 0] - motor).max() <= play / 2 + 1e-9
    assert np.diff(follower[:, 1]).min() >= -1e-9
