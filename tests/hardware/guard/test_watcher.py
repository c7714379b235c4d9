"""Layers 2 and 3, and the lock: real processes, killed.

The instrument is a file that an adapter in a module of its own reads and writes at each call, so
that it outlives whoever drives it, as a real one does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

ADAPTER = """
import json, os
from pathlib import Path
import numpy as np
from pydantic import BaseModel
from ewaldflow.hardware.errors import ConnectionLost
from ewaldflow.hardware.protocols import Capability, Exposure, StagePosition

class Options(BaseModel):
    file: Path

CameraOptions = Options

class Scope:
    capabilities = frozenset({Capability.BEAM_SHIFT, Capability.DIFFRACTION_FOCUS,
        Capability.STAGE_STOP, Capability.BEAM_BLANK, Capability.MODE_SWITCH})
    def __init__(self, name, file):
        self.name, self.file, self.stage = name, file, Stage(file)
        self.deflectors = {"beam_shift": Register(file, "beam_shift")}
        self.lenses = {"diffraction_focus": Register(file, "diffraction_focus")}
    def mode(self): return get(self.file, "mode")
    def set_mode(self, mode): put(self.file, mode=mode)
    def magnification(self): return 2500
    def set_magnification(self, m): pass
    def camera_length_mm(self): return 300.0
    def set_camera_length_mm(self, c): pass
    def is_blanked(self): return get(self.file, "blanked")
    def blank(self): put(self.file, blanked=True)
    def unblank(self): put(self.file, blanked=False)
    def screen_is_down(self): return False
    def set_screen(self, *, down): pass
    def release(self): pass

class Stage:
    def __init__(self, file): self.file = file
    def position(self): return StagePosition(0, 0, 0, 0)
    def start_move(self, **target): put(self.file, moving=True)
    def is_moving(self): return get(self.file, "moving")
    def stop(self): put(self.file, moving=False)

class Register:
    unit, limits, step = "nm", (-1000, 1000), 0.01
    def __init__(self, file, name): self.file, self.name = file, name
    def get(self):
        v = get(self.file, self.name)
        return tuple(v) if isinstance(v, list) else v
    def set(self, value): put(self.file, **{self.name: value})

class Camera:
    name, shape, pixel_size_mm, binnings = "none", (8, 8), 0.055, (1,)
    dynamic_range, dead_time_s = 1, 0.0
    def release(self): pass

def get(file, name):
    content = json.loads(Path(file).read_text())
    if content["offline"]:
        raise ConnectionLost("file", "nothing", "a line", "plug it in")
    return content[name]

def put(file, **new):  # whole or not at all, whenever we are killed
    content = json.loads(Path(file).read_text())
    if content["offline"]:
        raise ConnectionLost("file", "nothing", "a line", "plug it in")
    draft = Path(f"{file}.{os.getpid()}")
    draft.write_text(json.dumps({**content, **new}))
    draft.replace(file)

def open_microscope(name, options, clock): return Scope(name, options.file)
def open_camera(options, clock): return Camera()
"""

DRIVER = """
import sys, time
from ewaldflow.hardware.guard import guarded
from ewaldflow.hardware.lab import open_lab
with guarded(open_lab(sys.argv[1])) as lab:
    scope = lab.microscope
    scope.unblank()
    scope.set_mode("diffraction")
    print("driving", flush=True)
    k = 0
    while True:
        k += 1
        scope.stage.start_move(alpha_deg=k % 50)
        scope.deflectors["beam_shift"].set((k % 100, -k % 100))
        scope.lenses["diffraction_focus"].set(k % 7)
        if sys.argv[2] == "hang" and k > 20:
            print("hanging", flush=True)
            if len(sys.argv) > 3:
                import signal
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            time.sleep(600)
"""

FOUND = {
    "mode": "imaging",
    "blanked": False,
    "moving": False,
    "beam_shift": [3.0, 4.0],
    "diffraction_focus": 5.0,
    "offline": False,
}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The instrument's YAML and its file."""
    (tmp_path / "filescope.py").write_text(ADAPTER)
    (tmp_path / "drive.py").write_text(textwrap.dedent(DRIVER))
    file = tmp_path / "scope.json"
    file.write_text(json.dumps(FOUND))
    instrument = {
        "name": "bench",
        "voltage_kV": 200,
        "detector": {"shape": [8, 8], "pixel_size_mm": 0.055},
        "control": {
            "microscope": {"adapter": "tests_path.filescope", "file": str(file)},
            "camera": {"adapter": "tests_path.filescope", "file": str(file)},
            "limits": {
                "x_um": [-1, 1],
                "y_um": [-1, 1],
                "z_um": [-1, 1],
                "alpha_deg": [-60, 60],
            },
            "dead_man_s": 1.0,
        },
    }
    package = tmp_path / "tests_path"
    package.mkdir()
    (tmp_path / "filescope.py").rename(package / "filescope.py")
    (package / "__init__.py").write_text("")
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump(instrument))
    monkeypatch.setenv("EWALDFLOW_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return path, file


def _hear_signals():
    # a program started in the background of a shell inherits that these are ignored
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def drive(path, *how):
    process = subprocess.Popen(
        [sys.executable, str(path.parent / "drive.py"), str(path), *how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_hear_signals,
    )
    assert process.stdout.readline() == b"driving\n", process.stderr.read().decode()
    return process


def wait_until(true, what, seconds=15.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def safe_and_as_found(file):
    return json.loads(file.read_text()) == {**FOUND, "blanked": True}


def free(path):
    """Whether nobody holds the instrument, the watcher neither."""
    import fcntl

    with open(path.parent / "state" / "bench.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment(bench, seed):
    path, file = bench
    process = drive(path, "on")
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: safe_and_as_found(file) and free(path), "never made safe")
    assert not (path.parent / "state" / "bench.found.json").exists()
    assert "settings restored" in (path.parent / "state" / "bench.guard.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_by_a_signal(bench, number):
    path, file = bench
    process = drive(path, "on")
    process.send_signal(number)
    assert process.wait(timeout=20) != 0
    wait_until(lambda: safe_and_as_found(file) and free(path), "never made safe")
    assert not (path.parent / "state" / "bench.guard.log").exists()  # the watcher had no work


@pytest.mark.parametrize("deaf", [(), ("deaf",)], ids=["hears SIGTERM", "hears nothing"])
def test_a_hung_program_is_ended(bench, deaf):
    path, file = bench
    process = drive(path, "hang", *deaf)
    assert process.stdout.readline() == b"hanging\n"
    assert process.wait(timeout=20) != 0
    wait_until(lambda: safe_and_as_found(file) and free(path), "never made safe")
    assert "no sign of life" in (path.parent / "state" / "bench.guard.log").read_text()


def test_one_session_at_a_time(bench):
    path, _ = bench
    first = drive(path, "on")
    second = subprocess.run(
        [sys.executable, str(path.parent / "drive.py"), str(path), "on"],
        capture_output=True,
        text=True,
    )
    assert f"held by process {first.pid}" in second.stderr
    first.send_signal(signal.SIGTERM)
    first.wait(timeout=20)
    wait_until(lambda: free(path), "the lock was never released")


def test_the_instrument_stays_locked_until_it_is_safe(bench):
    path, file = bench
    process = drive(path, "on")
    process.send_signal(signal.SIGSTOP)
    file.write_text(json.dumps({**json.loads(file.read_text()), "offline": True}))
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)
    assert not free(path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "offline": False}))
    wait_until(lambda: safe_and_as_found(file) and free(path), "never made safe")


def test_what_two_dead_processes_left_is_restored_by_the_next(bench):
    path, file = bench
    process = drive(path, "on")
    watcher = _child(process.pid)
    os.kill(watcher, signal.SIGKILL)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: free(path), "the lock was never released")
    assert not safe_and_as_found(file)
    second = drive(path, "on")
    second.send_signal(signal.SIGTERM)
    second.wait(timeout=20)
    wait_until(lambda: safe_and_as_found(file) and free(path), "never restored")


def test_without_its_watcher_a_session_ends(bench):
    path, file = bench
    process = drive(path, "on")
    os.kill(_child(process.pid), signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert "its watcher is gone" in errors.decode()
    assert safe_and_as_found(file)


def _child(pid):
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
