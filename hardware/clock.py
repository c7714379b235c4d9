"""The wall's clock; simulated ones come with the twin."""

from __future__ import annotations

import time


class WallClock:
    """Real time."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, as everybody has to."""
        if seconds > 0:
            time.sleep(seconds)
