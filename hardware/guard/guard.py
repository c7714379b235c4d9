"""Driving an instrument inside the guard."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType

from ..lab import Lab
from .devices import GuardedCamera, GuardedMicroscope
from .found import FoundFile
from .lock import InstrumentLock
from .safe import NotMadeSafe, make_safe
from .state import OpticalState, read_state
from .watcher_client import Watcher

_log = logging.getLogger(__name__)

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# A lost connection is waited for so long before a person is called.
PATIENCE_S = 60.0


@contextmanager
def guarded(lab: Lab) -> Iterator[Lab]:
    """Drive an instrument inside the guard.

    Parameters
    ----------
    lab : as opened by `hardware.lab.open_lab`; belongs to the guard from here on.

    Yields
    ------
    The same with its microscope and camera behind the guard.

    Raises
    ------
    UserError : another session holds the instrument.
    NotMadeSafe : a step of making it safe failed; one line says which.
    """
    with ExitStack() as stack:
        stack.callback(lab.camera.release)
        keeper: FoundFile | None = None
        watcher: Watcher | None = None
        if lab.shared:
            lock = stack.enter_context(InstrumentLock(lab.instrument.name))
            keeper = FoundFile(lab.instrument.name)
            watcher = Watcher(lab, lock)
        stack.enter_context(_ending_signals_raise())
        found: list[OpticalState] = list(keeper.read()) if keeper else []
        if found:
            _log.warning("%s: restoring what an earlier session left", lab.instrument.name)
            _raise_if(make_safe(lab.microscope, lab.clock, found, PATIENCE_S))

        def enter_mode() -> None:
            state = read_state(lab.microscope)
            if all(state.mode != known.mode for known in found):
                found.append(state)
                if keeper:
                    keeper.write(found)

        def call() -> None:
            if watcher:
                watcher.beat()

        try:
            enter_mode()
            yield replace(
                lab,
                microscope=GuardedMicroscope(lab.microscope, lab.control.limits, call, enter_mode),
                camera=GuardedCamera(lab.camera, call),
            )
        finally:
            with _signals_wait():
                failures = make_safe(lab.microscope, lab.clock, found, PATIENCE_S)
                if not failures and keeper:
                    keeper.remove()
                if watcher:
                    watcher.close(safe=not failures)
            _raise_if(failures)


def _raise_if(failures: tuple[str, ...]) -> None:
    if failures:
        raise NotMadeSafe(
            "guard",
            "; ".join(failures),
            "the instrument safe and as it was found",
            "look at the microscope before you go on",
        ) from sys.exception()


@contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, instead of the process at once.

    A program that handles them itself (Prefect does, to tell cancelling from crashing) is left to
    it: its way of ending leads through the block too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change handlers; the watcher sees the process die
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    deadly = [number for number in ENDING_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    before = {number: signal.signal(number, end) for number in deadly}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """No signal but SIGKILL interrupts the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *ENDING_SIGNALS)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
