"""What `protocols.Stage` promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ewaldflow.hardware.errors import LimitExceeded, Unsupported
from ewaldflow.hardware.moves import move, wait_until_still
from ewaldflow.hardware.protocols import Capability, Clock, Microscope, Stage, StagePosition

# one exchange with an instrument: nothing that takes longer returned "at once"
AT_ONCE_S = 2.0
AXES = ("x_um", "y_um", "z_um", "alpha_deg")
WAY = {"x_um": 5.0, "y_um": 5.0, "z_um": 1.0, "alpha_deg": 2.0, "beta_deg": 1.0}
# read-outs have errors: of a screw, of backlash, of the last digit
CLOSE = {"x_um": 0.5, "y_um": 0.5, "z_um": 0.5, "alpha_deg": 0.3, "beta_deg": 0.3}


@pytest.fixture
def stage(microscope: Microscope, clock: Clock) -> Iterator[Stage]:
    """The stage, back where it was afterwards."""
    before = microscope.stage.position()
    yield microscope.stage
    wait_until_still(microscope.stage, clock, 600)
    move(
        microscope.stage,
        clock,
        x_um=before.x_um,
        y_um=before.y_um,
        z_um=before.z_um,
        alpha_deg=before.alpha_deg,
    )


def test_it_is_a_stage(stage: Stage) -> None:
    assert isinstance(stage, Stage)
    position = stage.position()
    assert isinstance(position, StagePosition)
    for axis in (*AXES, "beta_deg"):
        assert isinstance(getattr(position, axis), float)


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_arrives_and_the_others_stay(stage: Stage, clock: Clock, axis: str) -> None:
    before = stage.position()
    after = move(stage, clock, **{axis: getattr(before, axis) + WAY[axis]})
    for name in (*AXES, "beta_deg"):
        went = getattr(after, name) - getattr(before, name)
        assert went == pytest.approx(WAY[axis] if name == axis else 0.0, abs=CLOSE[name])


def test_axes_move_together(stage: Stage, clock: Clock) -> None:
    before = stage.position()
    after = move(stage, clock, x_um=before.x_um - 3, y_um=before.y_um + 2, z_um=before.z_um - 1)
    assert after.x_um - before.x_um == pytest.approx(-3, abs=CLOSE["x_um"])
    assert after.y_um - before.y_um == pytest.approx(2, abs=CLOSE["y_um"])
    assert after.z_um - before.z_um == pytest.approx(-1, abs=CLOSE["z_um"])


def test_beta_moves_where_there_is_one(stage: Stage, clock: Clock, microscope: Microscope) -> None:
    before = stage.position().beta_deg
    if Capability.BETA in microscope.capabilities:
        assert move(stage, clock, beta_deg=before + 1).beta_deg == pytest.approx(
            before + 1, abs=0.3
        )
        move(stage, clock, beta_deg=before)
    else:
        with pytest.raises((Unsupported, LimitExceeded)):
            stage.start_move(beta_deg=before + 1)


def test_a_move_is_started_and_not_waited_for(stage: Stage, clock: Clock) -> None:
    before, began = stage.position(), clock.now()
    stage.start_move(alpha_deg=before.alpha_deg + 10)
    assert clock.now() - began < AT_ONCE_S
    after = wait_until_still(stage, clock, 120)
    assert after.alpha_deg == pytest.approx(before.alpha_deg + 10, abs=CLOSE["alpha_deg"])
    assert not stage.is_moving()


def test_a_move_without_axes_moves_nothing(stage: Stage, clock: Clock) -> None:
    before = stage.position()
    stage.start_move()
    after = wait_until_still(stage, clock, 10)
    for axis in (*AXES, "beta_deg"):
        assert getattr(after, axis) == pytest.approx(getattr(before, axis), abs=CLOSE[axis] / 10)


def test_a_rotation_is_seen_under_way_and_stops(
    stage: Stage, clock: Clock, microscope: Microscope
) -> None:
    has_speed = Capability.ROTATION_SPEED in microscope.capabilities
    start = stage.position().alpha_deg
    stage.start_move(alpha_deg=start + 30, speed_deg_per_s=1.0 if has_speed else None)
    if has_speed:  # otherwise it may be too fast to be seen
        clock.sleep(1.0)
        assert stage.is_moving()
        first, at = stage.position().alpha_deg, clock.now()
        clock.sleep(2.0)
        second, then = stage.position().alpha_deg, clock.now()
        assert start < first < second < start + 20
        assert (second - first) / (then - at) == pytest.approx(1.0, rel=0.35)
    if Capability.STAGE_STOP in microscope.capabilities:
        stage.stop()
    stopped = wait_until_still(stage, clock, 120).alpha_deg
    assert start - CLOSE["alpha_deg"] <= stopped <= start + 30 + CLOSE["alpha_deg"]
    if has_speed and Capability.STAGE_STOP in microscope.capabilities:
        assert stopped < start + 20
    clock.sleep(1.0)
    assert stage.position().alpha_deg == pytest.approx(stopped, abs=0.1)


def test_the_speed_of_one_move_is_not_that_of_the_next(
    stage: Stage, clock: Clock, microscope: Microscope
) -> None:
    if Capability.ROTATION_SPEED not in microscope.capabilities:
        with pytest.raises(Unsupported):
            stage.start_move(alpha_deg=stage.position().alpha_deg + 1, speed_deg_per_s=1.0)
        return
    start = stage.position().alpha_deg

    def seconds(target: float, speed: float | None) -> float:
        stage.start_move(alpha_deg=target, speed_deg_per_s=speed)
        began = clock.now()
        wait_until_still(stage, clock, 120)
        return clock.now() - began

    default = seconds(start + 4, None)
    slow = seconds(start, 0.5)
    assert slow == pytest.approx(8.0, rel=0.4)
    assert seconds(start + 4, None) == pytest.approx(default, rel=0.3, abs=0.5)


def test_stop_is_harmless_at_rest(stage: Stage, clock: Clock, microscope: Microscope) -> None:
    if Capability.STAGE_STOP not in microscope.capabilities:
        with pytest.raises(Unsupported):
            stage.stop()
        return
    before = stage.position()
    stage.stop()
    stage.stop()
    assert not stage.is_moving()
    assert stage.position().x_um == pytest.approx(before.x_um, abs=CLOSE["x_um"])
    after = move(stage, clock, x_um=before.x_um + 2)  # and can move again
    assert after.x_um == pytest.approx(before.x_um + 2, abs=CLOSE["x_um"])


def test_a_new_move_replaces_the_one_under_way(
    stage: Stage, clock: Clock, microscope: Microscope
) -> None:
    start = stage.position().alpha_deg
    speed = 1.0 if Capability.ROTATION_SPEED in microscope.capabilities else None
    stage.start_move(alpha_deg=start + 20, speed_deg_per_s=speed)
    clock.sleep(1.0)
    stage.start_move(alpha_deg=start)
    assert wait_until_still(stage, clock, 120).alpha_deg == pytest.approx(start, abs=0.3)


@pytest.mark.usefixtures("harmless")
@pytest.mark.parametrize("axis", ["x_um", "alpha_deg"])
def test_what_the_instrument_refuses_moves_nothing(stage: Stage, clock: Clock, axis: str) -> None:
    before = stage.position()
    target = {"x_um": before.x_um + 3, axis: 1e6}
    refused = ""
    try:
        stage.start_move(**target)
    except LimitExceeded as error:
        refused = str(error)
    if not refused:  # the limits are the guard's alone
        stage.stop()
        wait_until_still(stage, clock, 10)
        pytest.skip("this instrument refuses nothing by itself")
    assert "\n" not in refused
    assert not stage.is_moving()
    assert stage.position().x_um == pytest.approx(before.x_um, abs=CLOSE["x_um"])


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_no_speed_that_is_none(stage: Stage, speed: float) -> None:
    with pytest.raises((LimitExceeded, Unsupported)):
        stage.start_move(alpha_deg=stage.position().alpha_deg + 1, speed_deg_per_s=speed)
    assert not stage.is_moving()
