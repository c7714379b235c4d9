"""What the twin's camera sees, and when; what any camera promises is in ../conformance."""

from __future__ import annotations

import numpy as np
import pytest

from ewaldflow.hardware.errors import CameraFailed, ConnectionLost
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.hardware.simulated.view import View


class Watch:
    """A scene that remembers what it was shown, and is as bright as the view."""

    def __init__(self) -> None:
        self.views: list[View] = []

    def __call__(self, view: View) -> np.ndarray:
        self.views.append(view)
        return np.full(view.shape, view.electrons / view.shape[0] / view.shape[1])


@pytest.fixture
def scene() -> Watch:
    return Watch()


@pytest.fixture
def twin(scene: Watch) -> Twin:
    return open_twin(TwinOptions(goniometer="ideal"), scene=scene)


def test_a_resting_exposure_is_one_view(twin: Twin, scene: Watch) -> None:
    exposure = twin.camera.expose(0.5)
    (view,) = scene.views
    assert view.electrons == pytest.approx(0.5 * 2e7)
    assert view.start is view.end
    assert exposure.counts.sum() == pytest.approx(1e7, rel=0.01)


def test_a_moving_stage_has_two_poses(twin: Twin, scene: Watch) -> None:
    twin.microscope.stage.start_move(alpha_deg=20.0, speed_deg_per_s=1.0)
    twin.clock.sleep(2.0)
    exposure = twin.camera.expose(0.5)
    (view,) = scene.views
    start, end = (twin.truth.alpha_deg(t) for t in (exposure.started_s, exposure.ended_s))
    assert end - start == pytest.approx(0.5)
    cosine = (np.trace(view.start.rotation.T @ view.end.rotation) - 1) / 2
    assert np.degrees(np.arccos(cosine)) == pytest.approx(0.5)


@pytest.mark.parametrize("keep", ["blank", "screen"])
def test_what_keeps_the_beam_away_leaves_nothing(twin: Twin, scene: Watch, keep: str) -> None:
    if keep == "blank":
        twin.microscope.blank()
    else:
        twin.microscope.set_screen(down=True)
    twin.camera.expose(0.5)
    assert scene.views == []


def test_exposures_wait_for_the_dead_time(twin: Twin) -> None:
    first, second = twin.camera.expose(0.5), twin.camera.expose(0.5)
    assert second.started_s - first.ended_s == pytest.approx(0.010)
    twin.clock.sleep(1.0)
    third = twin.camera.expose(0.5)
    assert third.started_s - second.ended_s == pytest.approx(1.005)  # the call's 5 ms


def test_a_stream_runs_whether_somebody_looks_or_not(twin: Twin) -> None:
    stream = twin.camera.stream(0.5)
    first = next(stream)
    twin.clock.sleep(1.1)  # two more images meanwhile
    rest = [next(stream) for _ in range(3)]
    starts = np.array([first.started_s, *(one.started_s for one in rest)])
    np.testing.assert_allclose(np.diff(starts), 0.510)
    assert rest[1].ended_s < twin.clock.now() == pytest.approx(rest[2].ended_s)


def test_a_stream_forgets_the_oldest_of_too_many(twin: Twin) -> None:
    stream = twin.camera.stream(0.1)
    first = next(stream)
    twin.clock.sleep(60.0)
    late = next(stream)
    lost = late.number - first.number - 1
    assert lost == pytest.approx(60 / 0.11 - 16, abs=2)
    assert late.started_s - first.started_s == pytest.approx(0.11 * (lost + 1))
    assert next(stream).number == late.number + 1


def test_a_change_amid_a_streamed_exposure_shows_both(twin: Twin, scene: Watch) -> None:
    stream = twin.camera.stream(0.5)
    first = next(stream)
    beam = twin.microscope.deflectors["beam_shift"]
    beam.set((500.0, 0.0))
    set_at = first.ended_s + 0.025  # half way through the call's 50 ms
    scene.views.clear()
    second = next(stream)
    before, after = scene.views
    assert before.electrons == pytest.approx(2e7 * (set_at - second.started_s))
    assert before.electrons + after.electrons == pytest.approx(1e7)
    moved = after.beam_centre_um - before.beam_centre_um
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=0.4)


def test_the_past_is_not_seen_with_todays_settings(twin: Twin, scene: Watch) -> None:
    stream = twin.camera.stream(0.5)
    next(stream)
    twin.clock.sleep(1.2)
    twin.microscope.blank()
    scene.views.clear()
    next(stream)  # taken before
    assert [one.electrons for one in scene.views] == [pytest.approx(1e7)]


def test_one_stream_at_a_time(twin: Twin) -> None:
    stream = twin.camera.stream(0.1)
    next(stream)
    with pytest.raises(CameraFailed, match="a stream under way"):
        twin.camera.expose(0.1)
    with pytest.raises(CameraFailed, match="a stream under way"):
        next(twin.camera.stream(0.1))
    stream.close()
    twin.camera.expose(0.1)


def test_after_release_nothing_answers(twin: Twin) -> None:
    twin.camera.release()
    twin.microscope.release()
    with pytest.raises(ConnectionLost, match="released"):
        twin.camera.expose(0.1)
    with pytest.raises(ConnectionLost, match="released"):
        twin.microscope.mode()
    twin.reconnect()
    assert twin.camera.expose(0.1).number == 0
    assert twin.microscope.mode() == "imaging"


def test_a_camera_of_other_pixels_sees_the_same_in_mm() -> None:
    small = open_twin(TwinOptions(seed=4)).truth.view()
    sensor = {"kind": "cmos", "shape": (1024, 1024), "pixel_size_mm": 0.0275}
    large = open_twin(TwinOptions.model_validate({"seed": 4, "sensor": sensor})).truth.view()
    np.testing.assert_allclose(large.picture_px_per_um, 2 * small.picture_px_per_um)
    np.testing.assert_allclose(large.beam_centre_um, small.beam_centre_um)
    np.testing.assert_allclose(large.origin_px - 511.5, 2 * (small.origin_px - 257.5), atol=1e-9)
