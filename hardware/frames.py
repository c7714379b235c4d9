"""What cameras on a network share: when a frame began, whether it is one, and reading sockets."""

from __future__ import annotations

import socket
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CameraFailed, LimitExceeded, Unsupported
from .protocols import Exposure

LONGEST_LINE = 1 << 16


class FrameTimes:
    """When the frames of one continuous acquisition began, in the clock of the instrument.

    Detectors number their frames and space them exactly, but a frame is only seen when it
    arrives, late by a read-out and a network that vary. A frame cannot arrive early, so the
    earliest arrival seen so far, counted back to frame 0, is the best estimate of the start:
    ``start = min_i(arrived_i - exposure - i period)``, never before the start was commanded.
    A better estimate is caught up with by `CATCH_UP` of a period per frame, so that a first
    frame that was late does not make the next ones overlap.

    Parameters
    ----------
    exposure_s, period_s : of a frame, and from the start of one to the start of the next.
    commanded_s : when the acquisition was asked for.
    """

    CATCH_UP = 0.01

    def __init__(self, exposure_s: float, period_s: float, commanded_s: float) -> None:
        self._exposure_s, self._period_s = exposure_s, period_s
        self._commanded_s = commanded_s
        self._start_s = np.inf
        self._last: tuple[int, float] | None = None

    def began(self, index: int, arrived_s: float) -> float:
        """When frame `index` (from 0, ever higher) began."""
        start = arrived_s - self._exposure_s - index * self._period_s
        self._start_s = max(min(self._start_s, start), self._commanded_s)
        began = float(self._start_s + index * self._period_s)
        if self._last is not None:
            since = (index - self._last[0]) * self._period_s
            began = max(began, self._last[1] + (1 - self.CATCH_UP) * since)
        self._last = (index, began)
        return began


def triggered(before_s: float, after_s: float, arrived_s: float, exposure_s: float) -> float:
    """When a triggered exposure began: midway through the trigger's exchange with the server.

    It cannot have begun later than its length before its image arrived, nor before the trigger.
    """
    return max(before_s, min((before_s + after_s) / 2, arrived_s - exposure_s))


class Numbers:
    """Numbers frames over the life of a camera, whose acquisitions each count from 0."""

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._base = self._next = 0

    def new_acquisition(self) -> None:
        """The detector counts from 0 again."""
        self._base = self._next

    def of(self, index: int) -> int:
        """The number of frame `index` of this acquisition; lost ones leave a gap.

        Raises `CameraFailed` for a frame that came before.
        """
        number = self._base + index
        if number < self._next:
            raise CameraFailed(
                self._camera,
                f"frame {index} once more, or late",
                f"frame {self._next - self._base} or a later one",
                "expose again",
            )
        self._next = number + 1
        return number


def exposure(
    name: str,
    counts: NDArray[Any],
    shape: tuple[int, int],
    *,
    started_s: float,
    exposure_s: float,
    number: int,
) -> Exposure:
    """An `Exposure` of an image as it came. Raises `CameraFailed` if it is none of that camera."""
    if counts.shape != shape:
        raise CameraFailed(
            name,
            f"an image of {counts.shape}",
            f"{shape[0]} x {shape[1]} pixels",
            "mend shape in the instrument's YAML, or the layout of the detector",
        )
    if counts.dtype.kind != "u":
        raise CameraFailed(
            name,
            f"an image of {counts.dtype}",
            "unsigned integers",
            "set the detector to counting",
        )
    native = counts.astype(counts.dtype.newbyteorder("="), copy=False)
    return Exposure(native, started_s, exposure_s, number)


def check_request(
    name: str, exposure_s: float, binning: int, limits_s: tuple[float, float], n: int | None = 1
) -> None:
    """Raise `LimitExceeded` or `Unsupported` for an exposure that a camera cannot make."""
    if not limits_s[0] <= exposure_s <= limits_s[1]:
        raise LimitExceeded(
            name,
            f"an exposure of {exposure_s:g} s",
            f"{limits_s[0]:g} to {limits_s[1]:g} s",
            "choose one within",
        )
    if binning != 1:
        raise Unsupported(name, f"binning {binning}", "1", "bin the images afterwards")
    if n is not None and n < 0:
        raise LimitExceeded(name, f"{n} frames", "0 or more, or None", "ask for as many")


class Wire:
    """A TCP connection read by length or by line, each with a time limit of its own.

    Limits are in the wall's time: a socket knows no other. Every method raises `TimeoutError`
    or another `OSError`; after one the connection cannot be trusted to be in step: close it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = bytearray()

    @classmethod
    def to(cls, host: str, port: int, timeout_s: float) -> Wire:
        """Connect."""
        return cls(socket.create_connection((host, port), timeout_s))

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send all of it."""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(data)

    def exactly(self, n: int, timeout_s: float) -> bytearray:
        """The next `n` bytes."""
        end = time.monotonic() + timeout_s
        data = bytearray(n)
        have = min(n, len(self._rest))
        data[:have] = self._rest[:have]
        del self._rest[:have]
        view = memoryview(data)
        while have < n:
            have += self._receive_into(view[have:], end)
        return data

    def line(self, timeout_s: float) -> bytes:
        """Up to the next newline, which is left out; empty lines are passed over."""
        end = time.monotonic() + timeout_s
        while True:
            at = self._rest.find(b"\n")
            if at >= 0:
                line = bytes(self._rest[:at])
                del self._rest[: at + 1]
                if line.strip():
                    return line
                continue
            if len(self._rest) > LONGEST_LINE:
                raise ConnectionError("no end of line where a header should be")
            chunk = bytearray(4096)
            self._rest += chunk[: self._receive_into(memoryview(chunk), end)]

    def close(self) -> None:
        """Close; a second time does nothing."""
        self._socket.close()

    def _receive_into(self, view: memoryview, end: float) -> int:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        n = self._socket.recv_into(view)
        if n == 0:
            raise ConnectionError("closed by the other side")
        return n
