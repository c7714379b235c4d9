"""The Serval camera against a stand-in that drops, delays, corrupts and hangs up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from standins.faults import Faults
from standins.serval import ServalStandIn

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.errors import (
    CameraFailed,
    ConnectionLost,
    InstrumentError,
    LimitExceeded,
    Unsupported,
)
from ewaldflow.hardware.protocols import Camera
from ewaldflow.hardware.serval import Options, open_camera

SHAPE = (516, 514)
FLAT = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(SHAPE) % 11_800


class Counting:
    """Each image is told from the others by its first pixel."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, exposure_s: float) -> np.ndarray:
        image = FLAT.copy()
        image[0, 0] = self.n
        self.n += 1
        return image


def options(server: ServalStandIn, **changed: object) -> Options:
    return Options.model_validate(
        {
            "host": "127.0.0.1",
            "port": server.port,
            "receive_host": "127.0.0.1",
            "shape": SHAPE,
            "timeout_s": 0.3,
            "tries": 2,
            **changed,
        }
    )


@pytest.fixture
def server() -> Iterator[ServalStandIn]:
    with ServalStandIn(Counting(), Faults()) as server:
        yield server


@pytest.fixture(params=["tcp", "http"])
def camera(request: pytest.FixtureRequest, server: ServalStandIn) -> Iterator[Camera]:
    camera = open_camera(
        options(server, frames=request.param, detector={"BiasVoltage": 100}), WallClock()
    )
    yield camera
    camera.release()
    assert not server.acquiring


def test_what_it_says_of_itself(camera: Camera, server: ServalStandIn) -> None:
    assert camera.name == "Tpx3 (Serval)"
    assert (camera.shape, camera.binnings, camera.dynamic_range) == (SHAPE, (1,), 11_800)
    assert (camera.dead_time_s, camera.pixel_size_mm) == (0.002, 0.055)
    assert server.config == {"BiasVoltage": 100, "nTriggers": 1, "LogLevel": 1}


def test_single_exposures_stay_armed(camera: Camera, server: ServalStandIn) -> None:
    clock = WallClock()
    numbers = []
    for i in range(4):
        before = clock.now()
        taken = camera.expose(0.004)
        assert before <= taken.started_s
        assert taken.ended_s <= clock.now()
        np.testing.assert_array_equal(taken.counts[1:], FLAT[1:])
        assert taken.counts[0, 0] == i
        assert taken.counts.dtype == np.uint16
        numbers.append(taken.number)
    assert numbers == [0, 1, 2, 3]
    assert server.requests.count("/measurement/start") == 1
    assert camera.expose(0.002).number == 4  # of another length: armed anew
    assert server.requests.count("/measurement/start") == 2
    assert server.config["TriggerMode"] == "SOFTWARESTART_TIMERSTOP"
    assert server.config["ExposureTime"] == 0.002
    assert server.config["TriggerPeriod"] == pytest.approx(0.004)


def test_images_of_32_bits() -> None:
    image = FLAT.astype(np.uint32) * 300
    with ServalStandIn(lambda _: image) as server:
        for frames in ("tcp", "http"):
            camera = open_camera(options(server, frames=frames), WallClock())
            np.testing.assert_array_equal(camera.expose(0.002).counts, image)
            camera.release()


def test_a_stream_is_spaced_by_the_detector(camera: Camera, server: ServalStandIn) -> None:
    frames = list(camera.stream(0.01, 6))
    assert [one.counts[0, 0] for one in frames] == list(range(6))
    assert [one.number for one in frames] == list(range(6))
    starts = np.array([one.started_s for one in frames])
    assert np.all(np.diff(starts) > 0.0098)
    assert server.config["TriggerMode"] == "AUTOTRIGSTART_TIMERSTOP"
    assert not server.acquiring
    assert camera.expose(0.002).number == 6


def test_without_dead_time_the_stream_is_gapless(server: ServalStandIn) -> None:
    camera = open_camera(options(server, dead_time_s=0.0), WallClock())
    assert len(list(camera.stream(0.002, 3))) == 3
    assert server.config["TriggerMode"] == "CONTINUOUS"
    assert server.config["TriggerPeriod"] == server.config["ExposureTime"] == 0.002
    camera.release()


def test_closing_a_stream_stops_the_detector(camera: Camera, server: ServalStandIn) -> None:
    stream = camera.stream(0.002)
    for _ in range(3):
        next(stream)
    assert server.acquiring
    stream.close()
    assert not server.acquiring
    # what was still on its way is not taken for the next image
    n = server.image.n  # type: ignore[attr-defined]
    assert camera.expose(0.002).counts[0, 0] >= n


def test_a_stream_that_is_never_read_starts_nothing(camera: Camera, server: ServalStandIn) -> None:
    camera.stream(0.002, 3).close()
    assert "/measurement/start" not in server.requests


def test_a_lost_frame_is_missing_from_the_numbers(camera: Camera, server: ServalStandIn) -> None:
    server.faults.plan = {2: "drop"}
    numbers = [one.number for one in camera.stream(0.01, 5)]
    if "tcp" in server.destination["Image"][0]["Base"]:
        assert numbers == [0, 1, 3, 4]
    else:  # a counter tells of the loss, perhaps before the images ahead of it were fetched
        assert numbers[-1] == 4
        assert len(numbers) == 4


@pytest.mark.parametrize("fault", ["truncate", "close", "shape", "length", "garbage", "drop"])
def test_a_bad_image_fails_alone(camera: Camera, server: ServalStandIn, fault: str) -> None:
    server.faults.plan = {1: fault}
    assert camera.expose(0.002).counts[0, 0] == 0
    with pytest.raises((CameraFailed, ConnectionLost)) as caught:
        camera.expose(0.002)
    assert "\n" not in str(caught.value)
    after = camera.expose(0.002)
    np.testing.assert_array_equal(after.counts[1:], FLAT[1:])
    assert after.counts[0, 0] == 2
    assert server.faults.done[fault] == 1


@pytest.mark.parametrize("fault", ["truncate", "close", "shape", "length", "garbage"])
def test_a_bad_image_ends_a_stream_and_stops_the_detector(
    camera: Camera, server: ServalStandIn, fault: str
) -> None:
    server.faults.plan = {2: fault}
    with pytest.raises((CameraFailed, ConnectionLost)):
        list(camera.stream(0.002, 10))
    assert not server.acquiring
    assert camera.expose(0.002).counts.shape == SHAPE


def test_a_late_image_is_not_taken_for_the_next(camera: Camera, server: ServalStandIn) -> None:
    server.faults.plan, server.faults.delay_s = {0: "delay"}, 0.5
    with pytest.raises(CameraFailed, match="no image within"):
        camera.expose(0.002)
    assert camera.expose(0.002).counts[0, 0] == 1


def test_a_request_that_got_no_answer_is_asked_again(camera: Camera, server: ServalStandIn) -> None:
    server.hang_up = {"/detector/config"}
    assert camera.expose(0.002).counts.shape == SHAPE
    assert not server.hang_up


def test_a_trigger_that_got_no_answer_is_not_given_twice(
    camera: Camera, server: ServalStandIn
) -> None:
    camera.expose(0.002)
    server.hang_up = {"/measurement/trigger/start"}
    with pytest.raises(ConnectionLost, match="no connection"):
        camera.expose(0.002)
    assert server.requests.count("/measurement/trigger/start") == 2
    assert camera.expose(0.002).counts.shape == SHAPE


def test_a_refused_request_says_what_serval_said(camera: Camera, server: ServalStandIn) -> None:
    server.refuse = {"/measurement/start"}
    with pytest.raises(CameraFailed, match="status 409 for /measurement/start: detector busy"):
        camera.expose(0.002)
    server.refuse = set()
    assert camera.expose(0.002).counts.shape == SHAPE


def test_a_stop_that_is_refused_where_nothing_runs(camera: Camera, server: ServalStandIn) -> None:
    server.refuse = {"/measurement/stop"}
    assert camera.expose(0.002).counts.shape == SHAPE
    server.refuse = set()


def test_a_detector_that_does_not_stop(camera: Camera, server: ServalStandIn) -> None:
    camera.expose(0.002)
    server.refuse = {"/measurement/stop"}
    with pytest.raises(CameraFailed, match=r"DA_RECORDING after 0.3 s"):
        camera.expose(0.004)
    server.refuse = set()


def test_no_detector(server: ServalStandIn) -> None:
    server.detector = None
    with pytest.raises(InstrumentError, match="no detector connected"):
        open_camera(options(server), WallClock())


def test_nobody_there() -> None:
    with ServalStandIn(Counting()) as server:
        there = options(server)
    with pytest.raises(ConnectionLost, match="no connection"):
        open_camera(there, WallClock())


def test_an_address_that_is_not_ours(server: ServalStandIn) -> None:
    with pytest.raises(ConnectionLost, match="receive_host"):
        open_camera(options(server, receive_host="192.0.2.1"), WallClock())


def test_serval_that_cannot_reach_us(server: ServalStandIn) -> None:
    camera = open_camera(options(server), WallClock())
    server._measure = lambda measurement: None  # type: ignore[method-assign]
    with pytest.raises(ConnectionLost, match="did not connect"):
        camera.expose(0.002)
    camera.release()


def test_a_released_camera_says_so(server: ServalStandIn) -> None:
    camera = open_camera(options(server), WallClock())
    camera.expose(0.002)
    camera.release()
    camera.release()
    with pytest.raises(ConnectionLost, match="released"):
        camera.expose(0.002)


def test_requests_it_cannot_meet(camera: Camera) -> None:
    with pytest.raises(LimitExceeded, match="an exposure of 11 s"):
        camera.expose(11.0)
    with pytest.raises(Unsupported, match="binning 2"):
        camera.expose(0.1, binning=2)
    with pytest.raises(LimitExceeded, match="-1 frames"):
        camera.stream(0.1, -1)
