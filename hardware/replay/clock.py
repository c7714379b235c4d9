"""The time of the recorded session."""

from __future__ import annotations


class ReplayClock:
    """Stands at a moment of the record; sleeping and exposing move it on, nothing else does."""

    def __init__(self, start_s: float) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Seconds of the clock that was recorded."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let that much of the session pass, at once."""
        self._now_s += max(seconds, 0.0)

    def until(self, time_s: float) -> None:
        """Move on to a moment, if it is not past."""
        self._now_s = max(self._now_s, time_s)
