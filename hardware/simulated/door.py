"""A camera adapter for the twin's server: what its camera port is to a program elsewhere."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from ..errors import CameraFailed, ConnectionLost
from ..protocols import Clock, Exposure
from .server import LENGTH, receive


class Options(BaseModel):
    """Where the server is.

    Attributes
    ----------
    host, port : of the camera port.
    speed : that the server was started with; the clock must run as fast.
    timeout_s : of the wall, beyond the exposure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = "127.0.0.1"
    port: int = Field(gt=0, lt=65536)
    speed: PositiveFloat = 1.0
    timeout_s: PositiveFloat = 10.0


class DoorCamera:
    """The camera of a twin in another process (`protocols.Camera`)."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.create_connection(
                (options.host, options.port), timeout=options.timeout_s
            )
        except OSError as error:
            raise self._lost(str(error)) from None
        self._info, _ = self._ask({"do": "info"}, 0.0)
        self._streaming = False

    @property
    def name(self) -> str:
        """The kind."""
        return str(self._info["name"])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) without binning."""
        rows, columns = self._info["shape"]
        return rows, columns

    @property
    def pixel_size_mm(self) -> float:
        """Without binning."""
        return float(self._info["pixel_size_mm"])

    @property
    def binnings(self) -> tuple[int, ...]:
        """Those it offers."""
        return tuple(self._info["binnings"])

    @property
    def dynamic_range(self) -> int:
        """Highest count."""
        return int(self._info["dynamic_range"])

    @property
    def dead_time_s(self) -> float:
        """Between two exposures."""
        return float(self._info["dead_time_s"])

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """Take one image."""
        request = {"do": "expose", "exposure_s": exposure_s, "binning": binning}
        header, raw = self._ask(request, exposure_s)
        if not header["ok"]:
            raise CameraFailed(self.name, header["error"], "an image", "look at the server")
        rows, columns = (length // binning for length in self.shape)
        if tuple(header["shape"]) != (rows, columns) or len(raw) != 2 * rows * columns:
            raise CameraFailed(
                self.name, f"an image of {header['shape']}", f"{[rows, columns]}",
                "look at the camera's settings",
            )  # fmt: skip
        ago = header["now_s"] - header["started_s"]
        return Exposure(
            np.frombuffer(raw, "<u2").reshape(rows, columns).astype(np.uint16),
            self._clock.now() - ago,
            header["exposure_s"],
            header["number"],
            binning,
        )

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure, None, None]:
        """Exposures one after the other, each when it is asked for."""
        given = 0
        while n_frames is None or given < n_frames:
            yield self.expose(exposure_s, binning)
            given += 1

    def release(self) -> None:
        """Hang up; a second time does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, request: dict[str, Any], exposure_s: float) -> tuple[dict[str, Any], bytes]:
        line, options = self._socket, self._options
        if line is None:
            raise self._lost("a released camera")
        text = json.dumps(request).encode()
        seconds = exposure_s / options.speed if np.isfinite(exposure_s) else 0.0
        try:
            line.settimeout(options.timeout_s + max(seconds, 0.0))
            line.sendall(LENGTH.pack(len(text)) + text)
            size = receive(line, LENGTH.size)
            header = size and receive(line, LENGTH.unpack(size)[0])
            answer = json.loads(header) if header else None
            raw = b"" if answer is None else receive(line, int(answer.get("bytes", 0)))
        except TimeoutError:
            self.release()
            raise CameraFailed(
                self.name, f"no image within {options.timeout_s:g} s", "one", "look at the server"
            ) from None
        except OSError as error:
            self.release()
            raise self._lost(str(error)) from None
        if answer is None or raw is None:
            self.release()
            raise self._lost("a line cut off")
        return answer, raw

    def _lost(self, found: str) -> ConnectionLost:
        where = f"twin's camera at {self._options.host}:{self._options.port}"
        return ConnectionLost(where, found, "an answer", "start the server, and connect again")


def open_camera(options: Options, clock: Clock) -> DoorCamera:
    """Connect to a server's camera port. Raises `ConnectionLost`."""
    return DoorCamera(options, clock)
