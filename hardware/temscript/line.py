"""One line to temscript: a thread of its own, in which its calls follow each other."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPException
from queue import SimpleQueue
from typing import Any

from ..errors import ConnectionLost, InstrumentError, Unsupported
from ..protocols import Clock
from .options import Options

BACK_OFF_S = 0.2
_SLACK_S = 1.0  # the thread notices a time-out itself; this is for when even that hangs


class Line:
    """Calls temscript in one thread, because its COM objects belong to the thread they came from.

    A second line is how a stage move, which temscript ends only on arrival, leaves the others
    free. What went wrong reaches the caller as one line.

    Parameters
    ----------
    connect : makes temscript's microscope; called in the line's thread, again after a loss.
    what : name of the line in messages.
    remote : whether a network lies between, so that an error can mean a lost connection.
    timeout_s : for the answer to one call.
    """

    def __init__(
        self, connect: Callable[[], Any], what: str, clock: Clock, *, remote: bool, timeout_s: float
    ) -> None:
        self._connect, self.what, self._clock = connect, what, clock
        self._remote, self._timeout_s = remote, timeout_s
        self._microscope: Any = None
        self._closed = False
        self._jobs: SimpleQueue[tuple[Callable[[Any], Any], Future[Any]] | None] = SimpleQueue()
        # A daemon: a stage move that hangs must not keep the program from ending.
        threading.Thread(target=self._work, name=what, daemon=True).start()

    def call(self, name: str, *args: Any, tries: int = 1) -> Any:
        """Call a method of temscript's microscope and wait for its answer.

        Raises
        ------
        ConnectionLost : no connection, or no answer in time, `tries` times.
        InstrumentError : the microscope refused.
        """
        for left in range(tries - 1, -1, -1):
            try:
                return self.start(lambda one: getattr(one, name)(*args)).result(
                    self._timeout_s + _SLACK_S
                )
            except (ConnectionLost, TimeoutError) as error:
                if not left or self._closed:
                    raise self._lost(error) from None
                self._clock.sleep(BACK_OFF_S * 2 ** (tries - 1 - left))
        raise AssertionError("tries is at least 1")

    def start(self, job: Callable[[Any], Any]) -> Future[Any]:
        """Do `job` with temscript's microscope in the line's thread; return at once."""
        future: Future[Any] = Future()
        if self._closed:
            future.set_exception(self._lost("it was released"))
        else:
            self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """End the thread once its present call has ended."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                if self._microscope is None:
                    self._microscope = self._connect()
                future.set_result(job(self._microscope))
            except InstrumentError as error:
                future.set_exception(error)
            except Exception as error:
                future.set_exception(self._translated(error))
        self._microscope = None

    def _translated(self, error: Exception) -> InstrumentError:
        # A ValueError comes of an answer that is no JSON, or of a type that was not asked for.
        if self._remote and isinstance(error, OSError | HTTPException | ValueError):
            # temscript's client keeps a half-used connection after a time-out: make a new one.
            self._microscope = None
            return self._lost(error)
        return InstrumentError(
            self.what,
            f"refused: {_text(error)}",
            "that the microscope does as asked",
            "look at its own panel and messages",
        )

    def _lost(self, error: object) -> ConnectionLost:
        if isinstance(error, ConnectionLost):
            return error
        return ConnectionLost(
            self.what,
            f"no connection: {_text(error)}",
            "an answer of temscript",
            "see that temscript-server runs there and can be reached",
        )


def _text(error: object) -> str:
    return str(error) or type(error).__name__


def connector(options: Options, port: int, timeout_s: float) -> Callable[[], Any]:
    """What makes temscript's microscope for `options`. Raises `Unsupported` without temscript."""
    try:
        temscript = importlib.import_module("temscript")
    except ImportError as error:
        raise Unsupported(
            "temscript",
            f"not installed ({error})",
            "the package temscript",
            "pip install 'ewaldflow[temscript]'",
        ) from None
    if options.connection == "null":
        shared = temscript.NullMicroscope()
        return lambda: shared
    if options.connection == "remote":
        # JSON always: its other transport unpickles what the network sends.
        return lambda: temscript.RemoteMicroscope(
            (options.host, port), transport="JSON", timeout=timeout_s
        )
    if sys.platform != "win32":
        raise Unsupported(
            "temscript",
            "connection local on a computer that is not the microscope's",
            "Windows with the scripting interface",
            "use connection remote",
        )
    return lambda: _local(temscript)


def _local(temscript: Any) -> Any:
    """Only importing initialises COM, and only for the thread that imports."""
    importlib.import_module("temscript._com").initialize_com()
    return temscript.Microscope()
