from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ewaldflow.hardware.errors import CameraFailed, ConnectionLost
from ewaldflow.hardware.simulated.clock import ScaledClock
from ewaldflow.hardware.simulated.door import Options, open_camera

SPEED = 50.0
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """A server in a process of its own."""
    command = [sys.executable, "-m", "ewaldflow.hardware.simulated.server", "--no-specimen"]
    server = subprocess.Popen([*command, "--speed", str(SPEED)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield json.loads(server.stdout.readline())
    server.terminate()
    assert server.wait(timeout=10) == -signal.SIGTERM
    server.stdout.close()


class Client:
    """As instamatic's own: a dictionary out, a pair in, no framing."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __call__(self, func_name: str, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        request = {"func_name": func_name, "args": args, "kwargs": kwargs}
        self.socket.sendall(json.dumps(request).encode())
        answer = self.socket.recv(65536)
        if not answer:
            raise EOFError
        status, data = json.loads(answer)
        return status, data


@pytest.fixture
def tem(ports: dict[str, int]) -> Iterator[Client]:
    """A client, on a server without faults."""
    client = Client(ports["tem_port"])
    client("restore")
    client("setStagePosition", a=0.0, wait=True)
    client("setFunctionMode", "mag1")
    yield client
    client.socket.close()


def truth(client: Client) -> dict[str, Any]:
    status, data = client("truth")
    assert status == 200
    assert isinstance(data, dict)
    return data


def test_raw_counts_are_those_of_the_converters(tem: Client) -> None:
    assert tem("setBeamShift", 33768, 30768) == (200, None)
    assert tem("getBeamShift") == (200, [33768, 30768])
    assert truth(tem)["deflectors"]["beam_shift"] == [1000.0, -2000.0]  # 1 nm a count
    assert tem("setDiffShift", x=32768, y=33268) == (200, None)
    assert truth(tem)["deflectors"]["diffraction_shift"] == [0.0, pytest.approx(1.0)]  # 2 urad
    assert tem("setBrightness", 65535) == (200, None)
    assert truth(tem)["brightness"] == pytest.approx(1.0)
    assert tem("setGunShift", 1, 2) == (200, None)
    assert tem("getGunShift") == (200, [1, 2])


def test_modes_are_instamatics(tem: Client) -> None:
    assert tem("getFunctionMode") == (200, "mag1")
    assert tem("getDiffFocus")[1][0] == "TEMValueError"
    assert tem("setFunctionMode", "samag") == (200, None)
    assert tem("getFunctionMode") == (200, "samag")
    assert tem("getMagnification") == (200, 2500)
    assert tem("setFunctionMode", 4) == (200, None)
    assert tem("getFunctionMode") == (200, "diff")
    assert tem("getMagnification") == (200, 300)
    assert tem("setDiffFocus", 34268) == (200, None)
    assert tem("getDiffFocus") == (200, 34268)
    assert truth(tem)["diffraction_focus"] == pytest.approx(150.0)  # 1500 counts
    assert tem("setMagnification", 301)[0] == 500


def test_the_stage_is_in_nm_and_degrees(tem: Client) -> None:
    assert tem("setStagePosition", x=2000, y=-1000, wait=True) == (200, None)
    status, (x, y, _, _, _) = tem("getStagePosition")
    assert status == 200
    assert (x, y) == (pytest.approx(2000, abs=20), pytest.approx(-1000, abs=20))
    assert tem("isStageMoving") == (200, False)


def test_a_slow_rotation_is_stopped(tem: Client) -> None:
    # 0.1 deg/s of the twin, so that 20 degrees take four seconds of the wall
    assert tem("setRotationSpeed", 0.12) == (200, None)
    tem("setStagePosition", a=20.0, wait=False)
    assert tem("isStageMoving") == (200, True)
    assert truth(tem)["moving"] is True
    tem("stopStage")
    time.sleep(1.0 / SPEED)
    assert truth(tem)["moving"] is False
    assert 0 < truth(tem)["stage"]["alpha_deg"] < 20
    tem("setRotationSpeed", 12)


@pytest.mark.parametrize(
    ("call", "args", "kind"),
    [
        ("setBeamShift", (-1, 5), "TEMValueError"),
        ("setBeamShift", (65536, 5), "TEMValueError"),
        ("setBeamShift", (1.5, 5), "TEMValueError"),
        ("setBeamShift", (5,), "TypeError"),
        ("setStagePosition", (1e9,), "TEMValueError"),
        ("setScreenPosition", ("sideways",), "TEMValueError"),
        ("openValve", (), "AttributeError"),
        ("_twin", (), "AttributeError"),
        ("__class__", (), "AttributeError"),
        ("call", ("truth",), "AttributeError"),
    ],
)
def test_wrong_calls_are_refused(tem: Client, call: str, args: tuple[Any, ...], kind: str) -> None:
    status, data = tem(call, *args)
    assert (status, data[0]) == (500, kind)
    assert tem("getHTValue") == (200, 200000.0)


@pytest.mark.parametrize(
    "sent",
    [b"nonsense", b"{}", b"[1, 2]", b'{"func_name"', b'{"func_name": 5}', b"\xff\xfe", b'"exit"'],
)
def test_nonsense_and_killed_clients_leave_the_server_standing(
    ports: dict[str, int], tem: Client, sent: bytes
) -> None:
    for port in (ports["tem_port"], ports["camera_port"]):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as rude:
            rude.sendall(sent)
    assert tem("getSpotSize") == (200, 1)
    with socket.create_connection(("127.0.0.1", ports["tem_port"])) as rude:
        rude.sendall(b'{"func_name": "getStagePosition"}')  # and does not wait for the answer
    assert tem("getSpotSize") == (200, 1)


def test_a_client_killed_amid_a_move_is_seen_from_outside(
    ports: dict[str, int], tem: Client
) -> None:
    program = (
        "import json, socket, time; "
        f"s = socket.create_connection(('127.0.0.1', {ports['tem_port']})); "
        "ask = lambda n, **k: (s.sendall(json.dumps({'func_name': n, 'kwargs': k}).encode()), "
        "s.recv(9999)); "
        "ask('setBeamBlank', mode=False); ask('setStagePosition', a=60.0, speed=0.12, wait=False); "
        "print('moving', flush=True); time.sleep(60)"
    )
    victim = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "moving\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    state = truth(tem)
    assert state["moving"] is True
    assert state["blanked"] is False
    tem("stopStage")
    tem("setBeamBlank", True)
    time.sleep(1.0 / SPEED)
    state = truth(tem)
    assert state["moving"] is False
    assert state["blanked"] is True
    tem("setBeamBlank", False)


def test_a_request_in_pieces_and_two_at_once(tem: Client) -> None:
    tem.socket.sendall(b'{"func_name": "getSp')
    time.sleep(0.05)
    tem.socket.sendall(b'otSize"}')
    assert json.loads(tem.socket.recv(999)) == [200, 1]
    tem.socket.sendall(b'{"func_name": "getSpotSize"}{"attr_name": "name"}')
    got = b""
    while got.count(b"]") < 2:
        got += tem.socket.recv(999)
    assert got == b'[200, 1][200, "simulate"]'


def test_two_clients_get_their_own_answers(ports: dict[str, int], tem: Client) -> None:
    other = Client(ports["tem_port"])
    for n in range(20):
        assert tem("setGunShift", n, n) == (200, None)
        assert other("setGunTilt", 100 + n, n) == (200, None)
        assert tem("getGunTilt") == (200, [100 + n, n])
        assert other("getGunShift") == (200, [n, n])
    other.socket.close()


def test_a_lost_connection_is_cut_and_truth_still_answers(
    ports: dict[str, int], tem: Client
) -> None:
    outside = Client(ports["tem_port"])
    outside("inject", kind="microscope_lost")
    with pytest.raises(EOFError):
        tem("getBeamShift")
    assert truth(outside)["blanked"] is False
    assert outside("restore")[0] == 200
    assert Client(ports["tem_port"])("getBeamShift")[0] == 200


def test_the_camera_port_gives_exposures(ports: dict[str, int], tem: Client) -> None:
    clock = ScaledClock(SPEED)
    camera = open_camera(Options(port=ports["camera_port"], speed=SPEED), clock)
    assert camera.shape == (516, 516)
    before = clock.now()
    first = camera.expose(0.5)
    assert first.counts.dtype == np.uint16
    assert first.counts.sum() > 1e5
    assert before - 0.2 * SPEED < first.started_s < clock.now()
    assert camera.expose(0.5, 2).counts.shape == (258, 258)
    numbers = [one.number for one in camera.stream(0.1, 3)]
    assert numbers == [first.number + 2, first.number + 3, first.number + 4]
    tem("setBeamBlank", True)
    assert camera.expose(0.5).counts.sum() < first.counts.sum() / 100
    tem("setBeamBlank", False)
    with pytest.raises(CameraFailed, match="binning 3"):
        camera.expose(0.5, 3)
    camera.release()
    with pytest.raises(ConnectionLost):
        camera.expose(0.5)


def test_faults_of_the_camera_reach_its_client(ports: dict[str, int], tem: Client) -> None:
    options = Options(port=ports["camera_port"], speed=SPEED)
    camera = open_camera(options, ScaledClock(SPEED))
    tem("inject", kind="corrupt_shape")
    with pytest.raises(CameraFailed, match=r"\[515, 516\]"):
        camera.expose(0.1)
    tem("restore")
    tem("inject", kind="camera_timeout")
    with pytest.raises(CameraFailed, match="no image within"):
        camera.expose(0.1)
    tem("restore")
    tem("inject", kind="camera_lost")
    with pytest.raises(ConnectionLost):
        camera.expose(0.1)
    tem("restore")
    again = open_camera(options, ScaledClock(SPEED))
    assert again.expose(0.1).counts.any()
    again.release()


def test_an_absent_server_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionLost) as failed:
        open_camera(Options(port=port), ScaledClock(1.0))
    assert "\n" not in str(failed.value)
