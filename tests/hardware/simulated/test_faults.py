from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from ewaldflow.hardware.errors import CameraFailed, ConnectionLost, StageHung
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.simulated.faults import Fault, FaultKind
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin


@pytest.fixture
def twin() -> Twin:
    return open_twin(TwinOptions(seed=1, goniometer="ideal", specimen=None))


def test_a_lost_connection_fails_every_call_until_restored(twin: Twin) -> None:
    twin.inject("connection_lost")
    microscope, camera = twin.microscope, twin.camera
    for call in (
        microscope.stage.position,
        microscope.stage.stop,
        microscope.is_blanked,
        microscope.blank,
        microscope.mode,
        microscope.deflectors["beam_shift"].get,
        microscope.lenses["brightness"].get,
        lambda: camera.expose(0.1),
        lambda: next(camera.stream(0.1)),
    ):
        with pytest.raises(ConnectionLost) as failed:
            call()
        assert "\n" not in str(failed.value)
    twin.restore()
    assert microscope.is_blanked() is False  # what failed was not done
    assert camera.expose(0.1).number == 0


@pytest.mark.parametrize(("kind", "alive"), [("microscope_lost", "camera"), ("camera_lost", "tem")])
def test_one_server_may_be_lost_alone(twin: Twin, kind: FaultKind, alive: str) -> None:
    twin.inject(kind)
    calls = {"camera": lambda: twin.camera.expose(0.1), "tem": twin.microscope.mode}
    for name, call in calls.items():
        if name == alive:
            call()
        else:
            with pytest.raises(ConnectionLost):
                call()


def test_a_stall_is_a_short_hang(twin: Twin) -> None:
    stage, clock = twin.microscope.stage, twin.clock
    stage.start_move(alpha_deg=30.0, speed_deg_per_s=1.0)
    twin.inject("stage_hung", at_s=clock.now() + 5.0, duration_s=7.0)
    clock.sleep(6.0)
    first = twin.truth.alpha_deg()
    assert stage.is_moving()
    assert not twin.truth.is_moving()
    clock.sleep(5.0)
    assert twin.truth.alpha_deg() == first == pytest.approx(5.0, abs=0.3)
    clock.sleep(30.0)
    assert twin.truth.alpha_deg() == pytest.approx(30.0)
    assert not stage.is_moving()


def test_a_hung_stage_says_that_it_moves_until_it_is_stopped(twin: Twin) -> None:
    stage = twin.microscope.stage
    twin.inject("stage_hung")
    with pytest.raises(StageHung):
        move(stage, twin.clock, alpha_deg=10.0)
    assert not stage.is_moving()  # `move` told it to stop
    assert twin.truth.alpha_deg() == 0.0
    twin.restore()
    twin.clock.sleep(100.0)
    assert twin.truth.alpha_deg() == 0.0
    assert move(stage, twin.clock, alpha_deg=10.0).alpha_deg == pytest.approx(10.0)


def test_one_hung_for_good_does_not_even_stop(twin: Twin) -> None:
    stage = twin.microscope.stage
    stage.start_move(x_um=50.0)
    twin.clock.sleep(0.5)
    twin.inject("stage_hung_for_good")
    stage.stop()
    assert stage.is_moving()
    before = twin.truth.pose().translation_um
    twin.clock.sleep(100.0)
    assert stage.is_moving()
    np.testing.assert_allclose(twin.truth.pose().translation_um, before, rtol=1e-9)
    twin.restore("stage_hung_for_good")
    twin.clock.sleep(10.0)
    assert not stage.is_moving()


def test_overlapping_hangs_count_once(twin: Twin) -> None:
    faults = twin.faults
    for begin, length in ((10.0, 10.0), (15.0, 10.0), (12.0, 2.0), (40.0, 5.0)):
        faults.add(Fault(kind="stage_hung", at_s=begin, duration_s=length), 0.0)
    assert [faults.hung_s(t) for t in (5.0, 12.0, 22.0, 30.0, 42.0, 100.0)] == [
        0.0, 2.0, 12.0, 15.0, 17.0, 20.0,
    ]  # fmt: skip


def test_a_camera_time_out(twin: Twin) -> None:
    twin.inject("camera_timeout", at_exposure=1)
    assert twin.camera.expose(0.1).number == 0
    before = twin.clock.now()
    with pytest.raises(CameraFailed, match="no image within 5 s"):
        twin.camera.expose(0.1)
    assert twin.clock.now() - before > 5.0
    twin.restore()
    assert twin.camera.expose(0.1).number == 2


def test_beam_loss_leaves_the_dark(twin: Twin) -> None:
    assert twin.camera.expose(0.1).counts.sum() > 1e5
    twin.inject("beam_lost", duration_s=10.0)
    dark = twin.camera.expose(0.1).counts
    assert dark.sum() < 1000  # hot pixels
    assert not twin.microscope.is_blanked()
    twin.clock.sleep(10.0)
    assert twin.camera.expose(0.1).counts.sum() > 1e5


def test_beam_loss_amid_an_exposure_leaves_its_share(twin: Twin) -> None:
    whole = twin.camera.expose(1.0).counts.sum()
    twin.inject("beam_lost", at_s=twin.clock.now() + twin.camera.dead_time_s + 0.25)
    share = twin.camera.expose(1.0).counts.sum() / whole
    assert share == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("kind", ["stage_drift", "beam_drift"])
def test_drifts_go_on_while_they_last(twin: Twin, kind: FaultKind) -> None:
    def at() -> np.ndarray:
        view = twin.truth.view()
        return view.start.translation_um[:2] if kind == "stage_drift" else view.beam_centre_um

    start = at()
    twin.inject(kind, duration_s=20.0, x_um=0.05, y_um=-0.02)
    twin.clock.sleep(10.0)
    np.testing.assert_allclose(at() - start, [0.5, -0.2], atol=0.01)
    twin.clock.sleep(50.0)
    np.testing.assert_allclose(at() - start, [1.0, -0.4], atol=0.02)
    twin.restore()
    np.testing.assert_allclose(at() - start, [1.0, -0.4], atol=0.02)


def test_the_specimen_jumps(twin: Twin) -> None:
    start = twin.truth.pose().translation_um
    twin.inject("specimen_jump", at_s=twin.clock.now() + 3.0, x_um=0.4, y_um=0.3)
    np.testing.assert_array_equal(twin.truth.pose().translation_um, start)
    twin.clock.sleep(3.1)
    np.testing.assert_allclose(twin.truth.pose().translation_um - start, [0.4, 0.3, 0.0])


def test_corrupt_images(twin: Twin) -> None:
    good = twin.camera.expose(0.1).counts
    twin.inject("corrupt_zeros", duration_s=1.0)
    assert not twin.camera.expose(0.1).counts.any()
    twin.clock.sleep(2.0)
    twin.inject("corrupt_noise", duration_s=1.0)
    noise = twin.camera.expose(0.1).counts.astype(float)
    assert noise.std() == pytest.approx(73.9, rel=0.05)
    assert abs(np.corrcoef(noise.ravel(), good.ravel())[0, 1]) < 0.02
    twin.clock.sleep(2.0)
    twin.inject("corrupt_shape", duration_s=1.0)
    with pytest.raises(CameraFailed, match="515 x 516"):
        twin.camera.expose(0.1)


def test_faults_wait_for_a_call(twin: Twin) -> None:
    twin.inject("microscope_lost", at_call=2)
    for _ in range(2):
        twin.microscope.mode()
    with pytest.raises(ConnectionLost):
        twin.microscope.mode()


def test_clearing_forgets_what_was_planned(twin: Twin) -> None:
    twin.inject("connection_lost", at_s=5.0)
    twin.inject("connection_lost", at_call=0)
    twin.restore("connection_lost")
    twin.clock.sleep(10.0)
    assert twin.microscope.mode() == "imaging"


def test_planned_faults_come_with_the_options() -> None:
    twin = open_twin(TwinOptions(faults=(Fault(kind="microscope_lost", at_s=1.0),)))
    twin.microscope.mode()
    twin.clock.sleep(1.0)
    with pytest.raises(ConnectionLost):
        twin.microscope.mode()


def test_a_fault_has_one_moment() -> None:
    with pytest.raises(ValidationError, match="one of at_s"):
        Fault(kind="beam_lost", at_s=1.0, at_call=3)
    with pytest.raises(ValidationError):
        Fault(kind="earthquake")  # type: ignore[arg-type]
