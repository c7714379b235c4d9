"""Serval's HTTP interface: JSON requests, and the few that drive a measurement."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

from ..errors import CameraFailed, ConnectionLost
from ..protocols import Clock
from .options import Options

BACK_OFF_S = 0.2
_POLL_S = 0.005


class Server:
    """One kept connection to Serval; reconnects where asking twice does no harm."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self.name = f"serval {options.host}:{options.port}"
        self._options, self._clock = options, clock
        self._connection: HTTPConnection | None = None

    def json(self, path: str) -> Any:
        """GET an object. Raises `ConnectionLost`, also for an answer that is no JSON."""
        content = self.get(path)
        try:
            return json.loads(content)
        except ValueError:
            raise self._lost(f"'{content[:40]!r}' for {path}, which is no JSON") from None

    def get(self, path: str) -> bytes:
        """GET what may be asked for twice."""
        status, content = self._asked("GET", path, None, self._options.tries)
        return self._accepted(path, status, content)

    def stop(self) -> None:
        """Stop measuring. Serval may refuse where nothing is measured: see its state for that."""
        self._asked("GET", "/measurement/stop", None, self._options.tries)

    def put(self, path: str, content: Any) -> None:
        """PUT an object; settings are absolute, so one that was lost is sent again."""
        body = json.dumps(content).encode()
        status, answer = self._asked("PUT", path, body, self._options.tries)
        self._accepted(path, status, answer)

    def once(self, path: str) -> None:
        """GET what must not happen twice."""
        status, content = self._asked("GET", path, None, 1)
        self._accepted(path, status, content)

    def image(self, timeout_s: float) -> bytes:
        """The next image of ``/measurement/image``. Raises `CameraFailed` if none comes."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            try:
                status, content = self._exchange("GET", "/measurement/image", None, left)
            except TimeoutError:
                self.close()
                break
            except (OSError, HTTPException) as error:
                self.close()
                raise self._lost(error) from None
            if status == 200 and content:
                return content
            if status not in (200, 204, 404):
                raise CameraFailed(
                    self.name, f"status {status} for an image", "200", "look at Serval's log"
                )
            time.sleep(_POLL_S)  # nothing yet
        raise no_image(self.name, timeout_s)

    def close(self) -> None:
        """Drop the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _asked(self, method: str, path: str, body: bytes | None, tries: int) -> tuple[int, bytes]:
        for left in range(tries - 1, -1, -1):
            try:
                return self._exchange(method, path, body, self._options.timeout_s)
            except (OSError, HTTPException) as error:
                self.close()
                if not left:
                    raise self._lost(error) from None
                self._clock.sleep(BACK_OFF_S * 2 ** (tries - 1 - left))
        raise AssertionError("tries is at least 1")

    def _exchange(
        self, method: str, path: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = HTTPConnection(
                self._options.host, self._options.port, timeout=timeout_s
            )
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        headers = {"Content-Type": "application/json"} if body else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _accepted(self, path: str, status: int, content: bytes) -> bytes:
        if not 200 <= status < 300:
            said = content[:200].decode("utf-8", "replace").strip()
            raise CameraFailed(
                self.name,
                f"status {status} for {path}: {said}",
                "that Serval does as asked",
                "look at its log, and at detector in the instrument's YAML",
            )
        return content

    def _lost(self, error: object) -> ConnectionLost:
        return ConnectionLost(
            self.name,
            f"no connection: {str(error) or type(error).__name__}",
            "an answer",
            "see that Serval runs there and can be reached",
        )


def no_image(name: str, timeout_s: float) -> CameraFailed:
    """What to raise when the time for an image is over."""
    return CameraFailed(
        name, f"no image within {timeout_s:.3g} s", "one", "see that the detector is recording"
    )
