"""instamatic 2.2.2 itself: its servers on its simulator, and its TEM server on the twin."""

from __future__ import annotations

import itertools
import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from standins.instamatic import opened, twin_server
from standins.proxy import spoiling

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.errors import CameraFailed, ConnectionLost, LimitExceeded
from ewaldflow.hardware.instamatic import CameraOptions, open_camera
from ewaldflow.hardware.instamatic.tools.environment import camera_server, tem_server
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.protocols import Microscope

CAMERA = {
    "shape": (516, 516),
    "pixel_size_mm": 0.055,
    "dynamic_range": 255,
    "trust_pickle_from_camera_server": True,
}


def stir(microscope: Microscope, n: int) -> None:
    """Set each deflector to values of its own, and see that each gives back its own."""
    for i in range(n):
        for k, one in enumerate(microscope.deflectors.values()):
            one.set(((100 * k + i) * one.step, -(200 * k + i) * one.step))
        for k, one in enumerate(microscope.deflectors.values()):
            expected = ((100 * k + i) * one.step, -(200 * k + i) * one.step)
            assert one.get() == pytest.approx(expected)


def test_the_real_server_through_faults(python: Path, tmp_path: Path) -> None:
    with tem_server(python, tmp_path) as port, spoiling(port, delay_s=0.4) as proxy:
        microscope = opened(proxy.port)
        stir(microscope, 20)
        kinds = ["bytes", "cut", "hang_up", "hole", "delay", "corrupt", "twice", "stale", None]
        for a, b in itertools.product(kinds, [None, "hang_up"]):
            proxy.plan.extend([a, None, None, None, b])
            stir(microscope, 2)
        assert sum(proxy.done.values()) > 15
        where = move(microscope.stage, WallClock(), x_um=-5.0, y_um=7.5)
        assert (where.x_um, where.y_um) == (-5.0, 7.5)


def test_a_blocking_move_of_another_program_is_outlasted(python: Path, tmp_path: Path) -> None:
    """It freezes the server; our requests time out, are queued, and are answered late."""
    with tem_server(python, tmp_path) as port:
        microscope = opened(port, give_up_s=10.0)
        stir(microscope, 1)
        before = microscope.stage.position()
        began = time.monotonic()
        move = {"func_name": "setStagePosition", "kwargs": {"a": before.alpha_deg + 30.0}}
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(json.dumps(move).encode())
            time.sleep(0.1)
            stir(microscope, 3)
        assert time.monotonic() - began > 1.0
        assert microscope.stage.position().alpha_deg == pytest.approx(before.alpha_deg + 30.0)


def test_the_real_server_refuses_in_one_line(python: Path, tmp_path: Path) -> None:
    with tem_server(python, tmp_path) as port:
        microscope = opened(port)
        with pytest.raises(LimitExceeded, match="TEMValueError: No such") as refused:
            microscope.set_magnification(2501)
        assert "\n" not in str(refused.value)
        with pytest.raises(LimitExceeded, match="Must be in 'diff' mode"):
            microscope.lenses["diffraction_focus"].get()


def test_the_real_camera_server(python: Path, tmp_path: Path) -> None:
    with camera_server(python, tmp_path) as port:
        camera = open_camera(CameraOptions.model_validate({"port": port, **CAMERA}), WallClock())
        images = [camera.expose(0.01).counts for _ in range(20)]
        assert all(one.shape == (516, 516) for one in images)
        assert np.mean(images) == pytest.approx(127.5, abs=0.5)  # what its simulator makes up
        assert not np.array_equal(images[0], images[1])


def test_the_real_camera_server_with_shared_memory(python: Path, tmp_path: Path) -> None:
    with camera_server(python, tmp_path, shared_memory=True) as port:
        camera = open_camera(CameraOptions.model_validate({"port": port, **CAMERA}), WallClock())
        with pytest.raises(CameraFailed, match="cam_use_shared_memory: false"):
            camera.expose(0.01)


def test_the_camera_server_is_no_tem_server(python: Path, tmp_path: Path) -> None:
    with camera_server(python, tmp_path) as port, pytest.raises(ConnectionLost):
        opened(port, give_up_s=0.1)


def test_what_is_set_through_instamatic_arrives_in_the_twin(python: Path, tmp_path: Path) -> None:
    with twin_server(speed=20.0) as ports:
        twin = ("127.0.0.1", ports["tem_port"])
        with tem_server(python, tmp_path, twin) as port:
            through = opened(port, timeout_s=2.0)
            directly = opened(ports["tem_port"], timeout_s=2.0)
            through.deflectors["beam_shift"].set((321.0, -123.0))
            truth = directly._connection.call("truth", read=dict)  # type: ignore[attr-defined]
            assert truth["deflectors"]["beam_shift"] == [321.0, -123.0]
            assert directly.deflectors["beam_shift"].get() == (321.0, -123.0)
            through.set_mode("diffraction")
            assert directly.mode() == "diffraction"
            through.blank()
            assert directly.is_blanked()
            move(through.stage, WallClock(), x_um=10.0)
            assert directly.stage.position().x_um == pytest.approx(10.0, abs=0.5)
            with pytest.raises(LimitExceeded, match="TEMValueError"):
                through.set_camera_length_mm(299)
