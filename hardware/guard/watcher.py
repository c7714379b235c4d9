"""The guard's watcher: makes the instrument safe when the program that drives it cannot.

Run by the guard as a process of its own, with the instrument's lock. Its standard input is a pipe
from the driving program: ``alive`` now and then, ``safe`` at the end. When the pipe closes without
``safe``, or nothing came for `dead_man_s` (the driver is then ended: it holds the connection),
the watcher connects to the instrument, makes it safe, restores the settings in the found file, and
writes a line for each step that failed to ``NAME.guard.log`` beside it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from datetime import UTC, datetime

LOOK_S = 0.2
# How long a driver that fell silent has to end by itself, then how long to go on connecting.
GRACE_S, CONNECT_S = 3.0, 3600.0


def main() -> None:
    """Watch, and act if needed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = json.loads(sys.argv[1])
    driver = int(told["driver"])
    print("watching", flush=True)
    # Loaded now: at the time of need memory or disk may be short.
    from .. import lab  # noqa: F401
    from . import safe  # noqa: F401

    why = _watch(driver, float(told["dead_man_s"]))
    if why is not None:
        _end(driver)
        _act(str(told["instrument"]), why)


def _watch(driver: int, dead_man_s: float) -> str | None:
    """Why to act; None when the driver said that all is safe."""
    heard_s = time.monotonic()
    rest = b""
    while True:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], LOOK_S)
        if ready:
            got = os.read(sys.stdin.fileno(), 4096)
            if not got:
                return "the driving program ended without making the instrument safe"
            heard_s = time.monotonic()
            *lines, rest = (rest + got).split(b"\n")
            if b"safe" in lines:
                return None
        elif os.getppid() != driver:  # its children may keep the pipe open
            return "the driving program died"
        elif time.monotonic() - heard_s > dead_man_s:
            return f"no sign of life from the driving program for {dead_man_s:g} s"


def _end(driver: int) -> None:
    """End a silent driver; the process is still our parent, so the number is still its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + GRACE_S
        if os.getppid() == driver:
            os.kill(driver, number)
        while os.getppid() == driver and time.monotonic() < until:
            time.sleep(0.05)


def _act(instrument_name: str, why: str) -> None:
    from ..clock import WallClock
    from ..config import load_control
    from ..errors import InstrumentError
    from ..lab import open_microscope
    from .found import FoundFile
    from .lock import state_folder
    from .safe import make_safe

    instrument, control = load_control(instrument_name)
    log = state_folder() / f"{instrument.name}.guard.log"

    def note(text: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")

    note(f"{why}: making the instrument safe")
    clock, wait_s, until = WallClock(), 0.5, time.monotonic() + CONNECT_S
    while True:
        try:
            microscope = open_microscope(instrument, control, clock)
            found = FoundFile(instrument.name)
            failures = make_safe(microscope, clock, found.read())
            break
        except InstrumentError as error:
            note(str(error))
            if time.monotonic() > until:
                note("gave up: a person must look at the instrument")
                return
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 30.0)
    if failures:
        note(f"not safe, a person must look: {'; '.join(failures)}")
    else:
        found.remove()
        note("safe, settings restored")


if __name__ == "__main__":
    main()
