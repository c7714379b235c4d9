"""The Merlin camera against a stand-in that drops, delays, corrupts and hangs up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from standins.faults import Faults
from standins.merlin import MerlinStandIn

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.errors import CameraFailed, ConnectionLost, LimitExceeded, Unsupported
from ewaldflow.hardware.merlin import Options, open_camera
from ewaldflow.hardware.protocols import Camera

SHAPE = (512, 512)
FLAT = np.arange(512 * 512, dtype=np.uint16).reshape(SHAPE) % 4000


class Counting:
    """Each image is told from the others by its first pixel."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, exposure_s: float) -> np.ndarray:
        image = FLAT.copy()
        image[0, 0] = self.n
        self.n += 1
        return image


def options(server: MerlinStandIn, **changed: object) -> Options:
    return Options.model_validate(
        {
            "host": "127.0.0.1",
            "command_port": server.command_port,
            "data_port": server.data_port,
            "timeout_s": 0.3,
            "tries": 2,
            **changed,
        }
    )


@pytest.fixture
def server() -> Iterator[MerlinStandIn]:
    with MerlinStandIn(Counting(), Faults()) as server:
        yield server


@pytest.fixture
def camera(server: MerlinStandIn) -> Iterator[Camera]:
    camera = open_camera(options(server), WallClock())
    yield camera
    camera.release()
    assert not server.acquiring


def test_what_it_says_of_itself(camera: Camera) -> None:
    assert camera.name == "Merlin 0.77.0.16"
    assert (camera.shape, camera.binnings, camera.dynamic_range) == (SHAPE, (1,), 4095)
    assert (camera.dead_time_s, camera.pixel_size_mm) == (0.0, 0.055)


@pytest.mark.parametrize(("depth", "highest"), [(1, 1), (6, 63), (12, 4095), (24, 16777215)])
def test_every_counter_depth(depth: int, highest: int) -> None:
    image = np.minimum(FLAT.astype(np.uint32) * 5000, highest)
    with MerlinStandIn(lambda _: image) as server:
        gap = {"continuous": False, "dead_time_s": 0.002} if depth == 24 else {}
        camera = open_camera(options(server, counter_depth=depth, **gap), WallClock())
        assert camera.dynamic_range == highest
        np.testing.assert_array_equal(camera.expose(0.002).counts, image)
        camera.release()
        assert server.variables["CONTINUOUSRW"] == str(int(depth != 24))


def test_single_exposures_stay_armed(camera: Camera, server: MerlinStandIn) -> None:
    clock = WallClock()
    numbers = []
    for i in range(4):
        before = clock.now()
        taken = camera.expose(0.004)
        assert before <= taken.started_s
        assert taken.ended_s <= clock.now()
        assert taken.counts[0, 0] == i
        assert taken.counts.dtype == np.uint16
        numbers.append(taken.number)
    assert numbers == [0, 1, 2, 3]
    assert server.commands.count("CMD,STARTACQUISITION") == 1
    assert camera.expose(0.002).number == 4  # of another length: armed anew
    assert server.commands.count("CMD,STARTACQUISITION") == 2
    assert server.variables["ACQUISITIONTIME"] == "2.000000"


def test_a_stream_is_spaced_by_the_detector(camera: Camera, server: MerlinStandIn) -> None:
    frames = list(camera.stream(0.01, 6))
    assert [one.counts[0, 0] for one in frames] == list(range(6))
    assert [one.number for one in frames] == list(range(6))
    starts = np.array([one.started_s for one in frames])
    assert np.all(np.diff(starts) > 0.0098)
    assert not server.acquiring
    assert camera.expose(0.002).number == 6


def test_closing_a_stream_stops_the_detector(camera: Camera, server: MerlinStandIn) -> None:
    stream = camera.stream(0.002)
    for _ in range(3):
        next(stream)
    assert server.acquiring
    stream.close()
    assert not server.acquiring
    # what was still on its way is not taken for the next image
    n = server.image.n  # type: ignore[attr-defined]
    assert camera.expose(0.002).counts[0, 0] >= n


def test_a_stream_that_is_never_read_starts_nothing(camera: Camera, server: MerlinStandIn) -> None:
    camera.stream(0.002, 3).close()
    assert "CMD,STARTACQUISITION" not in server.commands


def test_a_lost_frame_is_missing_from_the_numbers(camera: Camera, server: MerlinStandIn) -> None:
    server.faults.plan = {2: "drop"}
    frames = list(camera.stream(0.002, 5))
    assert [one.number for one in frames] == [0, 1, 3, 4]
    np.testing.assert_allclose(frames[2].started_s - frames[1].started_s, 0.004, atol=0.003)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("truncate", "no image within"),
        ("close", "closed by the other side"),
        ("shape", "an image of .256, 256."),
        ("length", "promises"),
        ("header", "no MIB header"),
        ("garbage", "where a message should begin"),
        ("drop", "no image within"),
    ],
)
def test_a_bad_image_fails_alone(
    camera: Camera, server: MerlinStandIn, fault: str, says: str
) -> None:
    server.faults.plan = {1: fault}
    assert camera.expose(0.002).counts[0, 0] == 0
    with pytest.raises(CameraFailed, match=says) as caught:
        camera.expose(0.002)
    assert "\n" not in str(caught.value)
    after = camera.expose(0.002)
    np.testing.assert_array_equal(after.counts[1:], FLAT[1:])
    assert after.counts[0, 0] == 2
    assert server.faults.done[fault] == 1


@pytest.mark.parametrize("fault", ["truncate", "close", "shape", "length", "garbage"])
def test_a_bad_image_ends_a_stream_and_stops_the_detector(
    camera: Camera, server: MerlinStandIn, fault: str
) -> None:
    server.faults.plan = {2: fault}
    taken = []
    with pytest.raises(CameraFailed):
        taken.extend(camera.stream(0.002, 10))
    assert not server.acquiring
    assert camera.expose(0.002).counts.shape == SHAPE


def test_a_late_image_is_not_taken_for_the_next(camera: Camera, server: MerlinStandIn) -> None:
    server.faults.plan, server.faults.delay_s = {0: "delay"}, 0.45
    with pytest.raises(CameraFailed, match="no image within"):
        camera.expose(0.002)
    assert camera.expose(0.002).counts[0, 0] == 1


def test_lost_connections_are_made_anew(camera: Camera, server: MerlinStandIn) -> None:
    camera.expose(0.002)
    server.hang_up_all()
    server.variables.pop("COUNTERDEPTH")  # as after a restart
    with pytest.raises(ConnectionLost, match="no connection"):
        camera.expose(0.002)
    assert camera.expose(0.002).counts.shape == SHAPE
    assert server.variables["COUNTERDEPTH"] == "12"


def test_a_refused_command_says_which(camera: Camera, server: MerlinStandIn) -> None:
    server.refuse = {"ACQUISITIONTIME"}
    with pytest.raises(CameraFailed, match=r"SET,ACQUISITIONTIME.*unknown command"):
        camera.expose(0.002)
    server.refuse = set()
    assert camera.expose(0.002).counts.shape == SHAPE


def test_nobody_there() -> None:
    with MerlinStandIn(Counting()) as server:
        there = options(server)
    with pytest.raises(ConnectionLost, match="no connection"):
        open_camera(there, WallClock())


def test_a_released_camera_says_so(server: MerlinStandIn) -> None:
    camera = open_camera(options(server), WallClock())
    camera.expose(0.002)
    camera.release()
    camera.release()
    with pytest.raises(ConnectionLost, match="released"):
        camera.expose(0.002)


def test_requests_it_cannot_meet(camera: Camera) -> None:
    with pytest.raises(LimitExceeded, match="an exposure of 0 s"):
        camera.expose(0.0)
    with pytest.raises(Unsupported, match="binning 2"):
        camera.expose(0.1, binning=2)
    with pytest.raises(LimitExceeded, match="-1 frames"):
        camera.stream(0.1, -1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"counter_depth": 24},
        {"counter_depth": 8},
        {"dead_time_s": 0.1},
        {"continuous": False},
        {"hots": "x"},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Options.model_validate(wrong)
