"""The driving program's end of the pipe to the guard's watcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

from ..errors import InstrumentError
from ..lab import Lab
from .lock import InstrumentLock


class Watcher:
    """Starts the watcher process; it acts when this process dies or falls silent.

    Raises
    ------
    InstrumentError : the watcher did not start, or (from `beat`) is gone.
    """

    def __init__(self, lab: Lab, lock: InstrumentLock) -> None:
        self._every_s = lab.control.dead_man_s / 10
        self._last_s = time.monotonic()
        told = {
            "instrument": lab.source,
            "dead_man_s": lab.control.dead_man_s,
            "driver": os.getpid(),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.watcher", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(lock.fileno,),
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != b"watching":
            self._process.kill()
            raise _gone("did not start")

    def beat(self) -> None:
        """Give a sign of life; cheap, most calls do nothing."""
        now = time.monotonic()
        if now - self._last_s > self._every_s:
            self._last_s = now
            self._tell(b"alive\n")

    def close(self, *, safe: bool) -> None:
        """Let it go: with `safe`, it ends; without, it makes the instrument safe itself."""
        if safe:
            with suppress(InstrumentError):  # gone already: nothing is left for it to do
                self._tell(b"safe\n")
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        if safe:
            self._process.wait(timeout=10)

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), line)
        except OSError:
            raise _gone("is gone") from None


def _gone(what: str) -> InstrumentError:
    return InstrumentError(
        "guard",
        f"its watcher {what}",
        "a watcher beside every session",
        "start the session again; without it nobody would stop the stage after a crash",
    )
