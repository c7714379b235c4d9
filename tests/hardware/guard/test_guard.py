"""Layer 1: every way out of the block leaves the instrument safe and as it was found."""

import contextlib
import os
import signal

import pytest

from ewaldflow.hardware.errors import LimitExceeded
from ewaldflow.hardware.guard import NotMadeSafe, guarded


def disturb(safe):
    """Change everything a session changes, in both modes, and leave the stage turning."""
    scope = safe.microscope
    scope.unblank()
    scope.set_magnification(5000)
    scope.deflectors["beam_shift"].set((7.0, 8.0))
    scope.set_mode("diffraction")
    scope.set_camera_length_mm(800.0)
    scope.lenses["brightness"].set(0.9)
    scope.lenses["diffraction_focus"].set(33.0)
    scope.deflectors["image_shift_1"].set((9.0, -9.0))
    scope.stage.start_move(alpha_deg=50.0)


def assert_as_found(scope, before):
    assert not scope.stage.moving
    assert scope.stage.stops >= 1
    assert scope.blanked
    assert scope.now_mode == "imaging"
    assert (scope.mag, scope.cl) == (2500, 300.0)
    assert scope.registers() == before
    assert scope.released == 1


@pytest.mark.parametrize(
    "ending", [None, ValueError("x"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()]
)
def test_every_way_out(lab, ending):
    scope, before = lab.microscope, lab.microscope.registers()
    with contextlib.suppress(BaseException), guarded(lab) as safe:
        disturb(safe)
        if ending is not None:
            raise ending
    assert_as_found(scope, before)
    assert lab.camera.released == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ending_signals(lab, number):
    scope, before = lab.microscope, lab.microscope.registers()
    usual = signal.signal(number, signal.SIG_DFL)  # nohup, or a shell's background, ignore some
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit), guarded(lab) as safe:
        disturb(safe)
        os.kill(os.getpid(), number)
        for _ in range(10**6):
            pass
    assert_as_found(scope, before)
    assert signal.getsignal(number) == handler
    signal.signal(number, usual)


def test_a_program_that_ends_in_its_own_way_is_left_to_it(lab):
    class EndedError(BaseException):
        pass

    def end(*_):
        raise EndedError

    scope, before = lab.microscope, lab.microscope.registers()
    usual = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(EndedError), guarded(lab) as safe:
            disturb(safe)
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(10**6):
                pass
        assert signal.getsignal(signal.SIGTERM) == end
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert_as_found(scope, before)


def test_signals_while_making_safe_do_not_interrupt_it(lab):
    scope, before = lab.microscope, lab.microscope.registers()
    blank = scope.blank

    def blank_under_fire():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        blank()

    scope.blank = blank_under_fire
    with guarded(lab) as safe:
        disturb(safe)
    assert_as_found(scope, before)


def test_a_connection_that_comes_back_is_waited_for(lab):
    scope, before = lab.microscope, lab.microscope.registers()

    def back():
        scope.offline = lab.clock.t < 20.0

    lab.clock.on_sleep = back
    with pytest.raises(ZeroDivisionError), guarded(lab) as safe:
        disturb(safe)
        scope.offline = True
        raise ZeroDivisionError
    assert_as_found(scope, before)


def test_a_connection_that_stays_lost_is_told_in_one_line(lab):
    with pytest.raises(NotMadeSafe) as caught, guarded(lab) as safe:
        disturb(safe)
        lab.microscope.offline = True
        raise ZeroDivisionError
    text = str(caught.value)
    assert "stop the stage" in text
    assert "blank the beam" in text
    assert "\n" not in text
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert lab.clock.t < 120  # all steps together wait once, not each


def test_one_step_that_fails_does_not_stop_the_others(lab):
    scope, before = lab.microscope, lab.microscope.registers()
    scope.stage.deaf = True
    with pytest.raises(NotMadeSafe, match="stop the stage"), guarded(lab) as safe:
        disturb(safe)
    assert scope.blanked
    assert scope.registers() == before
    assert scope.released == 1


@pytest.mark.parametrize(
    "target",
    [
        {"alpha_deg": 60.1},
        {"alpha_deg": float("nan")},
        {"x_um": -901.0, "alpha_deg": 0.0},
        {"z_um": 1e9},
        {"beta_deg": 2.0},
    ],
)
def test_limits_are_checked_before_the_move(lab, target):
    with guarded(lab) as safe, pytest.raises(LimitExceeded) as caught:
        safe.microscope.stage.start_move(**target)
    assert "nothing was moved" in str(caught.value)
    with guarded(lab) as safe:
        safe.microscope.stage.start_move(alpha_deg=60.0)


@pytest.mark.parametrize("xy", [(1001.0, 0.0), (0.0, float("nan"))])
def test_deflectors_refuse_values_outside(lab, xy):
    with guarded(lab) as safe, pytest.raises(LimitExceeded, match="nothing was set"):
        safe.microscope.deflectors["beam_shift"].set(xy)
    with guarded(lab) as safe, pytest.raises(LimitExceeded):
        safe.microscope.lenses["brightness"].set(1.01)


def test_leaving_a_stream_stops_the_camera(lab):
    with guarded(lab) as safe:
        stream = safe.camera.stream(0.1)
        next(stream)
        assert lab.camera.open_streams == 1
        stream.close()
        assert lab.camera.open_streams == 0
