"""The Thermo Fisher adapter on temscript's null microscope, directly and through its server."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.errors import (
    ConnectionLost,
    InstrumentError,
    LimitExceeded,
    Unsupported,
)
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.protocols import Capability, Microscope
from ewaldflow.hardware.temscript import Options, open_microscope

TABLES = {
    "magnifications": {2500 * 4: 1, 100_000: 10},
    "camera_lengths_mm": {300: 3, 1000: 10},
}


def opened(**options: object) -> Microscope:
    return open_microscope("themis", Options.model_validate(options), WallClock())


@pytest.fixture(params=["null", "remote"])
def microscope(request: pytest.FixtureRequest, slow, serve) -> Iterator[Microscope]:
    if request.param == "null":
        one = opened(connection="null", **TABLES)
        yield one
        one.release()
    else:
        slow.seconds = 0.0
        with serve(slow) as port, serve(slow) as stage_port:
            one = opened(
                connection="remote", host="127.0.0.1", port=port, stage_port=stage_port, **TABLES
            )
            yield one
            one.release()


def test_capabilities_are_those_of_the_scripting_interface(microscope: Microscope) -> None:
    assert microscope.capabilities == {
        Capability.BEAM_SHIFT,
        Capability.BEAM_TILT,
        Capability.IMAGE_SHIFT_1,
        Capability.DIFFRACTION_SHIFT,
        Capability.BRIGHTNESS,
        Capability.DIFFRACTION_FOCUS,
        Capability.BEAM_BLANK,
        Capability.SCREEN,
        Capability.MODE_SWITCH,
    }
    assert set(microscope.deflectors) | set(microscope.lenses) <= microscope.capabilities
    assert microscope.voltage_kV() == 200.0  # type: ignore[attr-defined]


def test_stage_units(microscope: Microscope, slow) -> None:
    where = move(microscope.stage, WallClock(), x_um=-12.5, y_um=3.0, z_um=40.0, alpha_deg=25.0)
    assert (where.x_um, where.y_um, where.z_um) == pytest.approx((-12.5, 3.0, 40.0))
    assert (where.alpha_deg, where.beta_deg) == pytest.approx((25.0, 0.0))
    if slow.commands:  # metres and radians on the wire
        (sent, speed), *rest = slow.commands
        assert sent == pytest.approx(
            {"x": -12.5e-6, "y": 3e-6, "z": 40e-6, "a": math.radians(25.0)}
        )
        assert speed is None
        assert not rest


def test_a_target_beyond_the_microscopes_limits_moves_nothing(microscope: Microscope) -> None:
    # temscript's null microscope would go to the limit and say nothing
    with pytest.raises(LimitExceeded, match=r"stage alpha_deg: found 31, expected -30 to 30"):
        microscope.stage.start_move(alpha_deg=31.0)
    with pytest.raises(LimitExceeded, match="stage x_um"):
        microscope.stage.start_move(x_um=1001.0)
    with pytest.raises(Unsupported, match="single-tilt"):
        microscope.stage.start_move(beta_deg=1.0)
    assert microscope.stage.position().alpha_deg == 0.0


def test_without_a_measured_speed_there_is_none(microscope: Microscope) -> None:
    with pytest.raises(Unsupported, match="full_speed_deg_per_s"):
        microscope.stage.start_move(alpha_deg=1.0, speed_deg_per_s=1.0)


@pytest.mark.parametrize(
    ("name", "value", "wire"),
    [
        ("beam_shift", (1500.0, -20.0), (1.5e-6, -2e-8)),
        ("beam_tilt", (3.0, 4.0), (3e-3, 4e-3)),
        ("image_shift_1", (-1.0, 800.0), (-1e-9, 8e-7)),
        ("diffraction_shift", (5.0, -5.0), (5e-3, -5e-3)),
    ],
)
def test_deflectors(
    microscope: Microscope, slow, request: pytest.FixtureRequest, name, value, wire
) -> None:
    deflector = microscope.deflectors[name]
    deflector.set(value)
    assert deflector.get() == pytest.approx(value)
    assert deflector.unit == ("mrad" if "tilt" in name or "diffraction" in name else "nm")
    if "remote" in request.node.name:
        sent = getattr(slow, f"get_{name.removesuffix('_1')}")()
        assert tuple(sent) == pytest.approx(wire)
    with pytest.raises(LimitExceeded, match=name):
        deflector.set((0.0, 1e6))
    assert deflector.get() == pytest.approx(value)


def test_lenses(microscope: Microscope, slow) -> None:
    microscope.lenses["brightness"].set(0.4)
    assert microscope.lenses["brightness"].get() == pytest.approx(0.4)
    with pytest.raises(LimitExceeded, match="brightness"):
        microscope.lenses["brightness"].set(1.5)
    focus = microscope.lenses["diffraction_focus"]
    with pytest.raises(InstrumentError, match="imaging mode"):
        focus.set(50.0)
    microscope.set_mode("diffraction")
    focus.set(50.0)
    assert focus.get() == pytest.approx(50.0)


def test_modes_magnification_and_camera_length(microscope: Microscope) -> None:
    assert microscope.mode() == "imaging"
    assert microscope.magnification() == 100_000
    microscope.set_magnification(10_000)
    assert microscope.magnification() == 10_000
    with pytest.raises(LimitExceeded, match=r"2500.*10000, 100000"):
        microscope.set_magnification(2500)
    with pytest.raises(InstrumentError, match="in diffraction mode"):
        microscope.camera_length_mm()
    microscope.set_mode("diffraction")
    microscope.set_camera_length_mm(300.0)
    assert microscope.camera_length_mm() == pytest.approx(300.0)
    with pytest.raises(InstrumentError, match="in imaging mode"):
        microscope.magnification()
    with pytest.raises(InstrumentError, match="in imaging mode"):
        microscope.set_magnification(10_000)  # the index would change the camera length
    assert microscope.camera_length_mm() == pytest.approx(300.0)


def test_blank_and_screen(microscope: Microscope) -> None:
    assert not microscope.is_blanked()
    microscope.blank()
    assert microscope.is_blanked()
    microscope.unblank()
    assert not microscope.is_blanked()
    assert microscope.screen_is_down()
    microscope.set_screen(down=False)
    assert not microscope.screen_is_down()


def test_a_table_that_is_wrong_is_told() -> None:
    one = opened(connection="null", magnifications={50_000: 4})
    with pytest.raises(InstrumentError, match=r"found 40000 at index 4, expected 50000"):
        one.set_magnification(50_000)
    one.release()


def test_another_high_tension_is_refused() -> None:
    with pytest.raises(InstrumentError, match=r"200 kV.*expected 300 kV"):
        opened(connection="null", voltage_kV=300)
    opened(connection="null", voltage_kV=200).release()


def test_illuminated_area_as_brightness(slow, serve) -> None:
    with serve(slow) as port:
        one = opened(
            connection="remote",
            host="127.0.0.1",
            port=port,
            brightness="illuminated_area",
            illuminated_area_um=50.0,
        )
        one.lenses["brightness"].set(0.1)
        assert slow.get_illuminated_area() == pytest.approx(5e-6)
        one.release()


def test_a_moving_stage_leaves_the_other_calls_free(slow, serve) -> None:
    with serve(slow) as port, serve(slow) as stage_port:
        one = opened(
            connection="remote",
            host="127.0.0.1",
            port=port,
            stage_port=stage_port,
            full_speed_deg_per_s=20.0,
        )
        assert Capability.ROTATION_SPEED in one.capabilities
        began = time.monotonic()
        one.stage.start_move(x_um=5.0, alpha_deg=10.0, speed_deg_per_s=1.0)
        calls = 0
        while one.stage.is_moving():
            one.deflectors["beam_shift"].set((calls, 0.0))
            one.stage.position()
            calls += 1
        assert time.monotonic() - began >= 2 * slow.seconds
        assert calls > 10
        # alpha alone has the speed, in temscript's fraction, and comes last
        assert [(sorted(sent), speed) for sent, speed in slow.commands] == [
            (["x"], None),
            (["a"], 0.05),
        ]
        with pytest.raises(LimitExceeded, match="at most 20 deg/s"):
            one.stage.start_move(alpha_deg=0.0, speed_deg_per_s=21.0)
        with pytest.raises(Unsupported, match="no stop in the scripting interface"):
            one.stage.stop()
        one.release()


def test_with_one_server_calls_wait_for_the_move(slow, serve) -> None:
    with serve(slow) as port:
        one = opened(connection="remote", host="127.0.0.1", port=port, timeout_s=0.1)
        slow.seconds = 0.4  # longer than the time limit of an exchange
        began = time.monotonic()
        one.stage.start_move(x_um=5.0)
        assert time.monotonic() - began < 0.1
        assert one.stage.is_moving()
        assert one.stage.position().x_um == pytest.approx(5.0)
        assert time.monotonic() - began >= 0.4
        one.release()


def test_moves_cut_into_steps_can_be_stopped(slow, serve) -> None:
    slow.seconds = 0.03
    with serve(slow) as port:
        one = opened(
            connection="remote",
            host="127.0.0.1",
            port=port,
            stage_steps={"xyz_um": 10.0, "tilt_deg": 2.0},
        )
        assert Capability.STAGE_STOP in one.capabilities
        where = move(one.stage, WallClock(), x_um=25.0, alpha_deg=3.0)
        assert (where.x_um, where.alpha_deg) == pytest.approx((25.0, 3.0))
        assert [round(sent["x"] * 1e6, 3) for sent, _ in slow.commands] == [8.333, 16.667, 25.0]
        assert [math.degrees(sent["a"]) for sent, _ in slow.commands] == pytest.approx([1, 2, 3])

        one.stage.start_move(alpha_deg=-20.0)
        while one.stage.position().alpha_deg > 0.0:
            pass
        one.stage.stop()
        began = time.monotonic()
        while one.stage.is_moving():
            assert time.monotonic() - began < 2.0
        rests = one.stage.position().alpha_deg
        assert -8.0 < rests <= 0.0
        time.sleep(0.1)
        assert one.stage.position().alpha_deg == rests

        one.stage.start_move(alpha_deg=-20.0)  # a new move replaces the one under way
        time.sleep(0.05)
        one.stage.start_move(x_um=0.0)
        while one.stage.is_moving():
            pass
        where = one.stage.position()
        assert where.x_um == pytest.approx(0.0)
        assert where.alpha_deg > -20.0
        one.stage.stop()  # harmless when still
        one.release()


def test_what_the_microscope_refuses_is_told_by_the_next_poll(slow, serve) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Stage is not ready")

    slow._set_stage_position = refuse
    with serve(slow) as port, serve(slow) as stage_port:
        one = opened(connection="remote", host="127.0.0.1", port=port, stage_port=stage_port)
        one.stage.start_move(x_um=1.0)
        with pytest.raises(InstrumentError, match="Stage is not ready") as caught:
            while one.stage.is_moving():
                pass
        assert not isinstance(caught.value, ConnectionLost)
        assert not one.stage.is_moving()
        one.release()


def test_a_server_that_went_away_and_came_back(slow, serve) -> None:
    with serve(slow) as port:
        one = opened(connection="remote", host="127.0.0.1", port=port, timeout_s=0.5, tries=2)
    with pytest.raises(ConnectionLost, match="no connection"):
        one.is_blanked()
    with serve(slow, port):
        assert not one.is_blanked()
    one.release()


def test_a_server_that_hangs(slow, serve) -> None:
    with serve(slow) as port:
        one = opened(connection="remote", host="127.0.0.1", port=port, timeout_s=0.2, tries=1)
        slow.get_beam_blanked = lambda: time.sleep(0.6)
        with pytest.raises(ConnectionLost, match="timed out"):
            one.is_blanked()
        del slow.get_beam_blanked
        time.sleep(0.6)
        assert not one.is_blanked()  # temscript's own client would be unusable now
        one.release()


def test_nothing_is_unpickled_from_the_network() -> None:
    """A server that answers with a pickle, whatever was asked for, gets no further."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                asked.append(connection.recv(4096).decode())
                body = b"cos\nsystem\n(S'exit 1'\ntR."  # no pickle may reach a loader
                connection.sendall(
                    b"HTTP/1.0 200 OK\r\nContent-Type: application/python-pickle\r\n"
                    + f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(ConnectionLost, match="Unexpected response type"):
        opened(
            connection="remote",
            host="127.0.0.1",
            port=listener.getsockname()[1],
            timeout_s=1,
            tries=1,
        )
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    assert asked
    assert all("pickle" not in one for one in asked)


def test_the_real_server_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    program = [sys.executable, "-c", "from temscript.server import run_server; run_server()"]
    server = subprocess.Popen(
        [*program, "--null", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        one = opened(connection="remote", host="127.0.0.1", port=port, tries=7)
        where = move(one.stage, WallClock(), x_um=7.0, alpha_deg=-12.0)
        assert (where.x_um, where.alpha_deg) == pytest.approx((7.0, -12.0))
        one.deflectors["image_shift_1"].set((10.0, -20.0))
        assert one.deflectors["image_shift_1"].get() == pytest.approx((10.0, -20.0))
        one.release()
    finally:
        server.terminate()
        server.wait(5)


def test_nobody_there_and_released() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    with pytest.raises(ConnectionLost, match="no connection") as caught:
        opened(connection="remote", host="127.0.0.1", port=port, tries=2)
    assert "\n" not in str(caught.value)
    gone = opened(connection="null")
    gone.release()
    gone.release()
    with pytest.raises(ConnectionLost, match="released"):
        gone.mode()


def test_local_needs_the_microscopes_own_computer() -> None:
    if sys.platform == "win32":
        pytest.skip("this may be the microscope's own computer")
    with pytest.raises(Unsupported, match="use connection remote"):
        opened(connection="local")


def test_without_temscript_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['temscript'] = None\n"
        "from ewaldflow.hardware.clock import WallClock\n"
        "from ewaldflow.hardware.temscript import Options, open_microscope\n"
        "try: open_microscope('x', Options(connection='null'), WallClock())\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"temscript: found not installed.*pip install .*\n", done.stdout)


@pytest.mark.parametrize(
    "wrong",
    [
        {"connection": "pickle"},
        {"connection": "null", "stage_port": 8081},
        {"connection": "remote", "port": 8080, "stage_port": 8080},
        {"connection": "null", "beam_shift_nm": [5, -5]},
        {"connection": "null", "speed": 1},
        {"connection": "remote", "port": 70000},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Options.model_validate(wrong)


def test_options_from_json_have_whole_keys() -> None:
    told = json.loads('{"connection": "null", "camera_lengths_mm": {"300": 3}}')
    assert Options.model_validate(told).camera_lengths_mm == {300.0: 3}
