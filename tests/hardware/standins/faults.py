"""What a stand-in does wrong, and when."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Faults:
    """Faults by the count of images sent since the start, from 0; each happens once.

    ``drop`` leaves an image out but counts it; ``delay`` holds it back for `delay_s`;
    ``truncate`` sends half of its bytes and goes silent, ``close`` hangs up amid it; ``shape``
    sends another shape, ``length`` states a length that is wrong, ``garbage`` sends bytes that
    are no header; ``refuse`` answers one command with an error, ``hang_up`` answers it not at
    all and closes.
    """

    plan: dict[int, str] = field(default_factory=dict)
    delay_s: float = 0.5
    done: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of_image(self) -> str | None:
        """The fault of the image now due."""
        with self.lock:
            fault = self.plan.pop(self.sent, None)
            self.sent += 1
            if fault:
                self.done[fault] += 1
            return fault
