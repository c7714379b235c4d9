"""Clocks of the twin: one that jumps, for speed; one that follows the wall, for servers."""

from __future__ import annotations

import threading
import time


class SimulatedClock:
    """Time that passes only where somebody sleeps or calls a device; nobody ever waits.

    Parameters
    ----------
    start_s : what `now` says at first.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = float(start_s)
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the twin was opened."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let that much time pass, at once; nothing if it is not positive."""
        if seconds > 0:
            with self._lock:
                self._now += seconds


class ScaledClock:
    """The wall's time, `speed` times as fast."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed: found {speed}, expected more than 0")
        self._speed, self._began = speed, time.monotonic()

    def now(self) -> float:
        """Seconds of the twin since it was opened."""
        return (time.monotonic() - self._began) * self._speed

    def sleep(self, seconds: float) -> None:
        """Wait for as long as that takes at this speed."""
        if seconds > 0:
            time.sleep(seconds / self._speed)
