"""The adapters that the conformance suite knows: a name, and how to open it.

To add one, write a context manager that opens it and gives it back, and put `@known("name")`
above it. It yields (microscope or None, camera or None, clock); say `has="camera"` or
`has="microscope"` where it has not both. If a program it needs is absent, call
`pytest.skip("which, and why")` in it. Where it breaks a promise for a reason that is not its own,
declare it in `excused`, test by test with the reason; it is shown as skipped. It is opened once
per test module, and once more for the tests of `release`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.protocols import Camera, Clock, Microscope
from ewaldflow.hardware.simulated.clock import ScaledClock
from ewaldflow.hardware.simulated.door import Options, open_camera
from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin

Opened = tuple[Microscope | None, Camera | None, Clock]
Factory = Callable[[], AbstractContextManager[Opened]]

ADAPTERS: dict[str, Factory] = {}
HAS: dict[str, str] = {}
EXCUSED: dict[str, dict[str, str]] = {}


def known(
    name: str, has: str = "both", excused: dict[str, str] | None = None
) -> Callable[[Factory], Factory]:
    """Register an adapter under a name; a run without `--adapter` covers all of them."""

    def register(factory: Factory) -> Factory:
        ADAPTERS[name], HAS[name], EXCUSED[name] = factory, has, excused or {}
        return factory

    return register


def find(entry: str) -> Factory:
    """The adapter of a name above, of ``package.module:function``, or of an instrument's YAML."""
    if entry in ADAPTERS:
        return ADAPTERS[entry]
    if ":" in entry:
        module, _, function = entry.partition(":")
        factory: Factory = getattr(import_module(module), function)
        return factory
    return lambda: _instrument(entry)


@contextmanager
def _instrument(name: str) -> Iterator[Opened]:
    from ewaldflow.hardware.lab import open_lab

    lab = open_lab(name)
    try:
        yield lab.microscope, lab.camera, lab.clock
    finally:
        lab.camera.release()
        lab.microscope.release()


@contextmanager
def _twin(**options: Any) -> Iterator[Opened]:
    twin = open_twin(TwinOptions.model_validate({"specimen": None, **options}))
    yield twin.microscope, twin.camera, twin.clock


@known("twin")
def _timepix() -> AbstractContextManager[Opened]:
    return _twin(seed=1)


@known("twin-cmos")
def _cmos() -> AbstractContextManager[Opened]:
    sensor = {"kind": "cmos", "shape": (256, 320), "pixel_size_mm": 0.1}
    return _twin(seed=2, sensor=sensor, goniometer="badly_set")


@known("twin-without")
def _without() -> AbstractContextManager[Opened]:
    """A twin like a Thermo Fisher: no second image shift; nor what else may be absent."""
    lacking = {"image_shift_2", "rotation_speed", "beta", "screen", "diffraction_focus"}
    return _twin(seed=3, lacking=lacking)


@known("twin-camera-port", has="camera")
@contextmanager
def _camera_port() -> Iterator[Opened]:
    """The camera of a twin in a process of its own, through its server."""
    command = [sys.executable, "-m", "ewaldflow.hardware.simulated.server", "--no-specimen"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = json.loads(server.stdout.readline())["camera_port"]
            clock = WallClock()
            yield None, open_camera(Options(port=port), clock), clock
        finally:
            server.terminate()


def _temscript(**options: Any) -> Microscope:
    pytest.importorskip("temscript", reason="temscript is not installed")
    from ewaldflow.hardware.temscript import Options, open_microscope

    tables = {"magnifications": {100_000: 10}, "camera_lengths_mm": {1000: 10}}
    return open_microscope("themis", Options.model_validate({**tables, **options}), WallClock())


@known("temscript-null", has="microscope")
@contextmanager
def _temscript_null() -> Iterator[Opened]:
    microscope = _temscript(connection="null")
    yield microscope, None, WallClock()
    microscope.release()


@known("temscript-server", has="microscope")
@contextmanager
def _temscript_server() -> Iterator[Opened]:
    """Two servers, of which one does the stage moves; the stage takes a while."""
    pytest.importorskip("temscript", reason="temscript is not installed")
    from standins.temscript import SlowStage, serving

    stand_in = SlowStage()
    with serving(stand_in) as port, serving(stand_in) as stage_port:
        microscope = _temscript(
            connection="remote", host="127.0.0.1", port=port, stage_port=stage_port
        )
        yield microscope, None, WallClock()
        microscope.release()


@known("temscript-steps", has="microscope")
@contextmanager
def _temscript_steps() -> Iterator[Opened]:
    """One server for all; moves are cut into steps, so that the stage can be stopped."""
    pytest.importorskip("temscript", reason="temscript is not installed")
    from standins.temscript import SlowStage, serving

    with serving(SlowStage(0.02)) as port:
        microscope = _temscript(connection="remote", host="127.0.0.1", port=port, stage_steps={})
        yield microscope, None, WallClock()
        microscope.release()


def _noise(exposure_s: float) -> NDArray[np.uint16]:
    return np.random.default_rng(1).poisson(20, (512, 512)).astype(np.uint16)


def _serval(frames: str) -> AbstractContextManager[Opened]:
    @contextmanager
    def opened() -> Iterator[Opened]:
        from standins.serval import ServalStandIn

        from ewaldflow.hardware.serval import Options, open_camera

        with ServalStandIn(_noise) as server:
            options = {"host": "127.0.0.1", "port": server.port, "frames": frames}
            camera = open_camera(Options.model_validate(options), WallClock())
            yield None, camera, WallClock()
            camera.release()

    return opened()


@known("serval-tcp", has="camera")
def _serval_tcp() -> AbstractContextManager[Opened]:
    return _serval("tcp")


@known("serval-http", has="camera")
def _serval_http() -> AbstractContextManager[Opened]:
    return _serval("http")


@known("merlin", has="camera")
@contextmanager
def _merlin() -> Iterator[Opened]:
    from standins.merlin import MerlinStandIn

    from ewaldflow.hardware.merlin import Options, open_camera

    with MerlinStandIn(_noise) as server:
        ports = {"command_port": server.command_port, "data_port": server.data_port}
        camera = open_camera(Options.model_validate({"host": "127.0.0.1", **ports}), WallClock())
        yield None, camera, WallClock()
        camera.release()


@known("replay", has="camera")
@contextmanager
def _replay() -> Iterator[Opened]:
    """The camera alone: a recorded stage goes where it went, not where it is told to go."""
    from ewaldflow.hardware.replay import ReplayOptions, open_replay

    with TemporaryDirectory() as folder:
        lines = []
        for i in range(60):
            tifffile.imwrite(Path(folder, f"{i}.tif"), _noise(0.05))
            line = {"event": "exposure", "t_s": 0.06 * i, "exposure_s": 0.05, "file": f"{i}.tif"}
            lines.append(json.dumps(line | {"mode": "imaging", "stage": {"alpha_deg": 0.1 * i}}))
        Path(folder, "tracking.jsonl").write_text("\n".join(lines))
        _, camera, clock = open_replay(ReplayOptions(folder=Path(folder)))
        yield None, camera, clock
        camera.release()


@known("instamatic-twin", has="microscope")
@contextmanager
def _instamatic_twin() -> Iterator[Opened]:
    """The adapter on the twin's server, which speaks as instamatic's with a JEOL."""
    from standins.instamatic import opened, twin_server

    speed = 20.0
    speeds = {0.12: 0.1, 12: 10.0}
    with twin_server(speed, seed=5) as ports:
        clock = ScaledClock(speed)
        microscope = opened(
            ports["tem_port"], clock, timeout_s=5.0, rotation_speeds=speeds, any_speed=True
        )
        yield microscope, None, clock
        microscope.release()


@known(
    "instamatic-simulation",
    excused={
        "test_what_the_instrument_refuses_moves_nothing": "instamatic's simulated stage has no "
        "limits and ignores a stop: it would be on its way for hours",
    },
)
@contextmanager
def _instamatic_simulation() -> Iterator[Opened]:
    """Both servers of instamatic 2.2.2 itself, on its simulator."""
    from standins.instamatic import opened

    from ewaldflow.hardware.instamatic import CameraOptions, open_camera
    from ewaldflow.hardware.instamatic.tools import environment

    python = environment.find()
    if python is None:
        pytest.skip(environment.ABSENT)
    with (
        TemporaryDirectory() as tem,
        TemporaryDirectory() as cam,
        environment.tem_server(python, Path(tem)) as port,
        environment.camera_server(python, Path(cam)) as camera_port,
    ):
        clock = WallClock()
        microscope = opened(
            port,
            lacking=["stage_stop"],  # which it answers, and does not do
            rotation_speeds={0.06: 0.1, 12: 20.0},
            any_speed=True,
        )
        camera = open_camera(
            CameraOptions(
                port=camera_port,
                trust_pickle_from_camera_server=True,
                shape=(516, 516),
                pixel_size_mm=0.055,
                binnings=(1, 2),
                dynamic_range=255,
            ),
            clock,
        )
        yield microscope, camera, clock
        camera.release()
        microscope.release()
