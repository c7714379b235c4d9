"""The two connections of the Merlin software: commands, and the data that they make it send.

Every message is ``MPX,`` and ten digits: how many bytes follow, the comma after them included.
An answer repeats the command and ends with a status.
"""

from __future__ import annotations

from typing import Any

from ...lib.formats.mib import MibHeader, read_mib
from ..errors import CameraFailed, ConnectionLost
from ..frames import Wire
from ..protocols import Clock
from .options import Options

BACK_OFF_S = 0.2
STATUS = {"1": "busy", "2": "an unknown command", "3": "a value out of range"}
_PREFIX = 14
_LARGEST_BYTES = 1 << 28


def message(body: str) -> bytes:
    """A message as it is sent."""
    return f"MPX,{len(body) + 1:010d},{body}".encode("ascii")


def read_message(wire: Wire, timeout_s: float) -> bytearray:
    """The body of the next one. Raises OSError, or ValueError for what is none."""
    prefix = bytes(wire.exactly(_PREFIX, timeout_s))
    if not prefix.startswith(b"MPX,") or not prefix[4:].isdigit():
        raise ValueError(f"{prefix!r} where a message should begin")
    n = int(prefix[4:])
    if not 1 < n <= _LARGEST_BYTES:
        raise ValueError(f"a message of {n} bytes")
    body = wire.exactly(n, timeout_s)
    if body[:1] != b",":
        raise ValueError(f"{bytes(body[:10])!r} where a comma should be")
    del body[:1]
    return body


class Link:
    """Both connections, made when needed and again after a loss."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self.name = f"merlin {options.host}:{options.command_port}"
        self._options, self._clock = options, clock
        self._commands: Wire | None = None
        self._data: Wire | None = None

    @property
    def whole(self) -> bool:
        """Whether both connections stand, as far as is known."""
        return self._commands is not None and self._data is not None

    def connect(self) -> None:
        """Make what is missing. Raises `ConnectionLost` after `tries` attempts."""
        o = self._options
        for left in range(o.tries - 1, -1, -1):
            try:
                if self._commands is None:
                    self._commands = Wire.to(o.host, o.command_port, o.timeout_s)
                if self._data is None:
                    self._data = Wire.to(o.host, o.data_port, o.timeout_s)
                return
            except OSError as error:
                self.close()
                if not left:
                    raise self._lost(error) from None
                self._clock.sleep(BACK_OFF_S * 2 ** (o.tries - 1 - left))

    def get(self, name: str) -> str:
        """The value of a variable."""
        return self._ask(f"GET,{name}")

    def set(self, name: str, value: Any) -> None:
        """Set a variable."""
        self._ask(f"SET,{name},{value}")

    def command(self, name: str) -> None:
        """Give a command."""
        self._ask(f"CMD,{name}")

    def acquisition_header(self) -> None:
        """Pass over data until the header of a new acquisition: leftovers of the last one."""
        while not self._message(self._options.timeout_s).startswith(b"HDR"):
            pass

    def frame(self, timeout_s: float) -> tuple[MibHeader, Any]:
        """The next frame. Raises `CameraFailed`; the data connection is then made anew."""
        body = self._message(timeout_s)
        try:
            return read_mib(body)
        except ValueError as error:
            self.drop_data()
            raise self._no_frame(error) from None

    def drop_data(self) -> None:
        """Close the data connection, which may be out of step."""
        if self._data is not None:
            self._data.close()
            self._data = None

    def close(self) -> None:
        """Close both."""
        self.drop_data()
        if self._commands is not None:
            self._commands.close()
            self._commands = None

    def _message(self, timeout_s: float) -> bytearray:
        if self._data is None:
            raise self._lost("no data connection")
        try:
            return read_message(self._data, timeout_s)
        except TimeoutError:
            self.drop_data()
            raise CameraFailed(
                self.name,
                f"no image within {timeout_s:.3g} s",
                "one",
                "see that the detector is running and not waiting for a trigger",
            ) from None
        except (OSError, ValueError) as error:
            self.drop_data()
            raise self._no_frame(error) from None

    def _ask(self, body: str) -> str:
        """Send a command; the value that the answer holds, empty if none."""
        self.connect()
        assert self._commands is not None
        try:
            self._commands.send(message(body), self._options.timeout_s)
            answer = read_message(self._commands, self._options.timeout_s).decode("ascii")
        except (OSError, ValueError) as error:
            self.close()
            raise self._lost(error) from None
        kind, name = body.split(",")[:2]
        found = answer.split(",")
        if found[:2] != [kind, name] or len(found) < 3:
            self.close()
            raise self._lost(f"'{answer[:60]}' in answer to '{body}'")
        status = found[-1].strip()
        if status != "0":
            raise CameraFailed(
                f"{self.name}: {body}",
                STATUS.get(status, f"status {status}"),
                "that the Merlin software does it",
                "look at its window, and at the camera's options",
            )
        return ",".join(found[2:-1])

    def _no_frame(self, error: object) -> CameraFailed:
        return CameraFailed(self.name, f"{error}", "a whole frame", "expose again")

    def _lost(self, error: object) -> ConnectionLost:
        return ConnectionLost(
            self.name,
            f"no connection: {str(error) or type(error).__name__}",
            "an answer of the Merlin software",
            "see that it runs, that its TCP interface is on and has no other client",
        )
