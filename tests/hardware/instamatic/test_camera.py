"""The camera server's pickle: what is read of it, and what is not."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standins.instamatic import BareCamera, TemServer, serving
from standins.proxy import spoiling

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.errors import CameraFailed, ConnectionLost, InstrumentError, Unsupported
from ewaldflow.hardware.instamatic import CameraOptions, open_camera
from ewaldflow.hardware.instamatic.dialects import Nonsense, Pickle
from ewaldflow.hardware.protocols import Camera

IMAGE = np.random.default_rng(1).poisson(30, (48, 32)).astype(np.uint16)
KNOWN: dict[str, Any] = {
    "shape": (48, 32),
    "pixel_size_mm": 0.055,
    "dynamic_range": 11810,
    "trust_pickle_from_camera_server": True,
    "timeout_s": 0.3,
    "give_up_s": 1.0,
}


def opened(port: int, **options: Any) -> Camera:
    return open_camera(
        CameraOptions.model_validate({"port": port, **KNOWN, **options}), WallClock()
    )


@pytest.fixture
def bare() -> BareCamera:
    return BareCamera(IMAGE)


@pytest.fixture
def server(bare: BareCamera) -> Iterator[TemServer]:
    with serving(bare, pickle) as one:
        yield one


def read(data: bytes, longest: int = 1 << 20) -> Any:
    """What the adapter makes of an answer that comes in pieces of 7 bytes."""
    rest = [data[i : i + 7] for i in range(0, len(data), 7)]

    def receive(n: int) -> bytes:
        if not rest:
            raise TimeoutError
        part, rest[0] = rest[0][:n], rest[0][n:]
        if not rest[0]:
            del rest[0]
        return part

    answer = Pickle(longest).answer(receive)
    assert not rest, "the answer was not read to its end"
    return answer


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<i4", "<i8", "<f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_they_are(protocol: int, kind: str, order: str) -> None:
    image = np.asarray(np.arange(12).reshape(3, 4), dtype=kind, order=order)  # type: ignore[call-overload]
    status, found = read(pickle.dumps((200, image), protocol))
    assert status == 200
    np.testing.assert_array_equal(found.array(), image)
    assert found.array().dtype == image.dtype


def test_plain_values_are_read() -> None:
    plain = (200, {"a": [1, 2.5, None, True], "b": ("x", b"y")})
    assert read(pickle.dumps(plain)) == plain


class Evil:
    def __init__(self, call: Any, *args: Any) -> None:
        self._made = call, args

    def __reduce__(self) -> Any:
        return self._made


@pytest.mark.parametrize(
    "call", [os.system, eval, print, np.load, np.dtype, np.frombuffer, getattr, pickle.loads]
)
def test_nothing_else_is_called(call: Any, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(Nonsense):
        found = read(pickle.dumps((200, Evil(call, f"touch {mark}"))))
        found[1].array()
    assert not mark.exists()


@pytest.mark.parametrize(
    "image",
    [
        np.array([["a", "b"]]),
        np.array([[None, 1]], dtype=object),
        np.zeros((2, 2), dtype=[("a", "u2")]),
        np.zeros((2, 2), dtype=complex),
    ],
)
def test_arrays_of_something_else_are_not(image: Any) -> None:
    with pytest.raises(Nonsense):
        read(pickle.dumps((200, image)))[1].array()


def test_a_pickle_is_not_read_beyond_the_longest_that_an_image_can_be() -> None:
    with pytest.raises(Nonsense, match="more than"):
        read(pickle.dumps((200, np.zeros(5000, np.uint8))), longest=2000)
    with pytest.raises(Nonsense, match=r"more than|Memory"):
        read(b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little"))  # says it has so many bytes


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_a_pickle_cut_short_is_waited_for(cut: int) -> None:
    with pytest.raises(TimeoutError):
        read(pickle.dumps((200, IMAGE))[:-cut])


def test_it_is_off_unless_it_is_trusted(server: TemServer) -> None:
    with pytest.raises(Unsupported, match="trust_pickle_from_camera_server") as refused:
        opened(server.port, trust_pickle_from_camera_server=False)
    assert "\n" not in str(refused.value)
    assert server.connected == 0
    assert CameraOptions(shape=(1, 1), pixel_size_mm=1, dynamic_range=1) == CameraOptions(
        shape=(1, 1), pixel_size_mm=1, dynamic_range=1, trust_pickle_from_camera_server=False
    )


def test_an_image(server: TemServer) -> None:
    camera = opened(server.port)
    exposures = [camera.expose(0.02), *camera.stream(0.02, 2), camera.expose(0.02)]
    assert [one.number for one in exposures] == [0, 1, 2, 3]
    for one in exposures:
        np.testing.assert_array_equal(one.counts, IMAGE)
        assert one.counts.dtype == np.uint16
    assert camera.name == "bare (instamatic)"


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (IMAGE.T, r"an image of \(32, 48\)"),
        (IMAGE[:40], r"an image of \(40, 32\)"),
        (IMAGE.astype(np.int16) - 100, "below zero"),
        (IMAGE + 0.5, "not whole"),
        (np.full((48, 32), np.nan), "below zero"),
        ({"shape": (48, 32), "dtype": "uint16", "name": "psm_1"}, "cam_use_shared_memory: false"),
        (None, "no image"),
    ],
)
def test_what_is_no_image(server: TemServer, bare: BareCamera, image: Any, why: str) -> None:
    camera = opened(server.port)
    bare.image = image
    with pytest.raises(CameraFailed, match=why) as failed:
        camera.expose(0.01)
    assert "\n" not in str(failed.value)
    bare.image = IMAGE
    np.testing.assert_array_equal(camera.expose(0.01).counts, IMAGE)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64, np.uint32])
def test_counts_of_any_type_become_unsigned(
    server: TemServer, bare: BareCamera, kind: type[np.generic]
) -> None:
    bare.image = IMAGE.astype(kind)
    counts = opened(server.port).expose(0.01).counts
    assert counts.dtype.kind == "u"
    np.testing.assert_array_equal(counts, IMAGE)


def test_an_image_that_comes_too_soon_is_another_one(server: TemServer, bare: BareCamera) -> None:
    camera = opened(server.port)
    bare.hurry = True
    with pytest.raises(CameraFailed, match=r"exposed for 0\.2 s"):
        camera.expose(0.2)


def test_a_camera_of_another_size(server: TemServer) -> None:
    with pytest.raises(CameraFailed, match="mend shape"):
        opened(server.port, shape=(516, 516))


@pytest.mark.parametrize("fault", ["cut", "hang_up", "hole", "corrupt", "garbage", "delay"])
def test_a_spoiled_image_is_not_asked_for_again(
    server: TemServer, bare: BareCamera, fault: str
) -> None:
    """The dose was given; the next one comes on a line that is in step."""
    with spoiling(server.port, delay_s=0.5) as proxy:
        camera = opened(proxy.port)
        proxy.plan.append(fault)
        began = time.monotonic()
        # garbage amid the pixels is an image all the same
        if fault == "corrupt":
            camera.expose(0.01)
        else:
            with pytest.raises(CameraFailed, match="no image"):
                camera.expose(0.01)
        assert time.monotonic() - began < 1.0
        assert bare.exposures == 1
        for _ in range(3):
            np.testing.assert_array_equal(camera.expose(0.01).counts, IMAGE)


def test_image_after_image_in_single_bytes(server: TemServer) -> None:
    with spoiling(server.port) as proxy:
        camera = opened(proxy.port, timeout_s=5.0)
        proxy.plan.extend(["bytes"] * 2)
        for _ in range(2):
            np.testing.assert_array_equal(camera.expose(0.01).counts, IMAGE)


def test_a_refusal_and_a_loss(server: TemServer, bare: BareCamera) -> None:
    with spoiling(server.port) as proxy:
        camera = opened(proxy.port, give_up_s=0.1)
        bare.call = lambda *_: 1 / 0  # type: ignore[method-assign]
        with pytest.raises(CameraFailed, match="ZeroDivisionError"):
            camera.expose(0.01)
        proxy.close()
        with pytest.raises((CameraFailed, ConnectionLost)):
            camera.expose(0.01)
        with pytest.raises(ConnectionLost):
            camera.expose(0.01)
        camera.release()
        with pytest.raises(InstrumentError, match="released"):
            camera.expose(0.01)
