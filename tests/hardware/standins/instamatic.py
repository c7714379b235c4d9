"""A TEM server that works as instamatic's does, its faults included, in front of a bare JEOL."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.instamatic import Options, open_microscope
from ewaldflow.hardware.protocols import Clock, Microscope

PAIRS = ("BeamShift", "BeamTilt", "ImageShift1", "ImageShift2", "DiffShift")
MODES = ("mag1", "mag2", "lowmag", "samag", "diff")


class TEMValueError(ValueError):
    pass


class BareJeol:
    """Registers, and a stage that is where it was sent at once. Each pair has values of its own.

    `slow` : seconds that a call takes, by its name.
    """

    def __init__(self) -> None:
        self.pairs = {name: [30000 + 100 * i, 31000 + 100 * i] for i, name in enumerate(PAIRS)}
        self.mode, self.speed, self.blanked, self.screen = "mag1", 12, False, "up"
        self.brightness, self.focus = 1000, 33000
        self.shown = {"mag1": 2500, "diff": 300}
        self.stage = [1000, 2000, 3000, 4.5, 0.0]
        self.goniotool = True
        self.slow: dict[str, float] = {}
        self.calls: list[tuple[str, Any, Any]] = []

    def call(self, name: str, args: Any, kwargs: Any) -> Any:
        self.calls.append((name, args, kwargs))
        time.sleep(self.slow.get(name, 0.0))
        if name[3:] in PAIRS:
            pair = self.pairs[name[3:]]
            if name.startswith("get"):
                return pair
            pair[:] = args
            return None
        return getattr(self, name)(*args, **kwargs)

    def getFunctionMode(self) -> str:
        return self.mode

    def setFunctionMode(self, value: str) -> None:
        if value not in MODES:
            raise TEMValueError(f"Unrecognized function mode: {value}")
        self.mode = value

    def getMagnification(self) -> int:
        return self.shown["diff" if self.mode == "diff" else "mag1"]

    def setMagnification(self, value: int) -> None:
        if value not in (300, 500, 2500, 5000):
            raise TEMValueError(f"No such camera length or magnification: {value}")
        self.shown["diff" if self.mode == "diff" else "mag1"] = value

    def getBrightness(self) -> int:
        return self.brightness

    def setBrightness(self, value: int) -> None:
        self.brightness = value

    def getDiffFocus(self) -> int:
        if self.mode != "diff":
            raise TEMValueError("Must be in 'diff' mode to get DiffFocus")
        return self.focus

    def setDiffFocus(self, value: int) -> None:
        self.focus = value

    def getHTValue(self) -> float:
        return 200_000.0

    def getStagePosition(self) -> list[float]:
        return self.stage

    def setStagePosition(self, x=None, y=None, z=None, a=None, b=None, *, wait=True) -> None:
        for i, value in enumerate((x, y, z, a, b)):
            if value is not None:
                self.stage[i] = value

    def isStageMoving(self) -> int:
        return 0

    def stopStage(self) -> None:
        pass

    def getRotationSpeed(self) -> int:
        if not self.goniotool:
            raise ConnectionError("Goniotool connection is not available.")
        return self.speed

    def setRotationSpeed(self, value: int) -> None:
        self.speed = value

    def isBeamBlanked(self) -> bool:
        return self.blanked

    def setBeamBlank(self, mode: bool) -> None:
        self.blanked = mode

    def getScreenPosition(self) -> str:
        return self.screen

    def setScreenPosition(self, value: str) -> None:
        self.screen = value


class BareCamera:
    """Gives `image`, after the exposure."""

    def __init__(self, image: Any) -> None:
        self.image, self.hurry, self.exposures = image, False, 0

    def call(self, name: str, args: Any, kwargs: Any) -> Any:
        if name == "get_name":
            return "bare"
        if name == "get_camera_dimensions":
            return (48, 32)
        if name != "get_image":
            raise AttributeError(f"'BareCamera' object has no attribute '{name}'")
        self.exposures += 1
        time.sleep(0.0 if self.hurry else kwargs["exposure"])
        return self.image


class TemServer:
    """One worker, a shared pile of answers from which whichever thread wakes takes the topmost."""

    def __init__(self, device: Any, dialect: Any = json) -> None:
        self.device, self._dialect = device, dialect
        self._condition, self._pile = threading.Condition(), []
        self._queue: queue.Queue[Any] = queue.Queue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connected = 0
        for work in (self._work, self._accept):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self.connected += 1
            threading.Thread(target=self._handle, args=(line,), daemon=True).start()

    def _handle(self, line: socket.socket) -> None:
        with line:
            while True:
                try:
                    data = line.recv(1024)
                    if not data:
                        return
                    request = self._dialect.loads(data)
                    with self._condition:
                        self._queue.put(request)
                        self._condition.wait()
                        answer = self._pile.pop()
                        sent = self._dialect.dumps(answer)
                        line.sendall(sent if isinstance(sent, bytes) else sent.encode())
                except (OSError, ValueError, IndexError):
                    return

    def _work(self) -> None:
        while True:
            request = self._queue.get()
            with self._condition:
                name = request.get("func_name") or request["attr_name"]
                try:
                    found = self.device.call(
                        name, request.get("args", ()), request.get("kwargs", {})
                    )
                    answer = (200, found)
                except Exception as error:
                    answer = (500, (type(error).__name__, error.args))
                self._pile.append(answer)
                self._condition.notify()


@contextmanager
def serving(device: Any, dialect: Any = json) -> Iterator[TemServer]:
    """`dialect` : json, or pickle for a camera server."""
    server = TemServer(device, dialect)
    yield server
    server.close()


def opened(port: int, clock: Clock | None = None, **options: object) -> Microscope:
    """The adapter, impatient."""
    quick = {"timeout_s": 0.3, "give_up_s": 3.0, "first_status_s": 0.0}
    return open_microscope(
        "jeol", Options.model_validate({"port": port, **quick, **options}), clock or WallClock()
    )


@contextmanager
def twin_server(speed: float, seed: int = 1) -> Iterator[dict[str, int]]:
    """A twin in a process of its own; gives its ports."""
    module = "ewaldflow.hardware.simulated.server"
    command = [sys.executable, "-m", module, "--seed", str(seed), "--speed", str(speed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()
