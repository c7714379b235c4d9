"""One line to one of instamatic's servers, made for what those servers do (docs/instamatic.md)."""

from __future__ import annotations

import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ConnectionLost, InstrumentError, LimitExceeded, Unsupported
from .dialects import Dialect, Nonsense
from .options import Server

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 2.0
# Of the handshake: two, since a late answer waits in the server until its thread gets its turn.
ROUNDS = 2
WORD = "is_ewaldflow_"


class NoAnswer(Exception):
    """A request that was sent once, and was not answered well."""


class Connection:
    """A locked line with one request under way at a time.

    The servers frame nothing, number nothing, and give an answer to whichever connection asks
    next. So after a time-out, an interruption or an answer that makes no sense the line is cut,
    and a new one is used only once it gives back a word made up for the purpose: a late answer is
    never taken for that of the next call. All requests name absolute values and can be repeated.

    Parameters
    ----------
    what : name of the line in messages.
    hint : what a person is to look at when the server hangs up.
    """

    def __init__(self, server: Server, dialect: Dialect, what: str, hint: str) -> None:
        self._server, self._dialect, self._hint = server, dialect, hint
        self.what = f"{what} at {server.host}:{server.port}"
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = self._lost = False

    def call(
        self,
        name: str,
        *args: Any,
        read: Callable[[Any], T],
        timeout_s: float | None = None,
        once: bool = False,
        **kwargs: Any,
    ) -> T:
        """Call a method of the server's device, or get an attribute.

        Parameters
        ----------
        read : makes the value of what came; raises `Nonsense` if it cannot be the answer.
        timeout_s : None: that of the options.
        once : send the request a single time; raises `NoAnswer` if no answer comes to it.

        Raises
        ------
        ConnectionLost : no good answer within `give_up_s`. After that, further calls try once
            each, until one succeeds: nobody making an instrument safe waits for each step.
        LimitExceeded, Unsupported, InstrumentError : the server refused.
        """
        request = self._dialect.request(name, args, kwargs)
        seconds = self._server.timeout_s if timeout_s is None else timeout_s
        with self._lock:
            pause = FIRST_PAUSE_S
            until = time.monotonic() + (0.0 if self._lost else self._server.give_up_s)
            while True:
                sent = False
                try:
                    self._be_connected()
                    sent = True
                    status, data = self._exchange(request, seconds)
                    value = read(data) if status == 200 else _refusal(self.what, name, data)
                    self._lost = False
                    break
                except (OSError, Nonsense) as error:
                    self._cut()
                    if once and sent:
                        raise NoAnswer(_text(error)) from None
                    if self._closed or time.monotonic() + pause > until:
                        self._lost = True
                        raise self._loss(error) from None
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                except BaseException:  # Ctrl-C: the answer is still to come
                    self._cut()
                    raise
        if isinstance(value, InstrumentError):
            raise value
        return value

    def close(self) -> None:
        """Hang up for good; a second time does nothing."""
        self._closed = True
        self._cut()

    def _be_connected(self) -> None:
        """A line in step, made anew where needed."""
        if self._closed:
            raise ConnectionError("it was released")
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self._cut()  # closed by the other side, or an answer that nobody asked for
        if self._socket is not None:
            return
        address = (self._server.host, self._server.port)
        self._socket = socket.create_connection(address, self._server.timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(ROUNDS):
            self._shake_hands()

    def _shake_hands(self) -> None:
        """Ask for what no microscope has: the refusal names it."""
        word = WORD + secrets.token_hex(4)
        request = self._dialect.request(word, (), {})
        status, data = self._exchange(request, self._server.timeout_s)
        if status != 500 or word not in str(data):
            raise Nonsense(f"an answer to another request: {str(data)[:40]!r}")

    def _exchange(self, request: bytes, timeout_s: float) -> tuple[int, Any]:
        line = self._socket
        assert line is not None
        end = time.monotonic() + timeout_s

        def receive(n: int) -> bytes:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            line.settimeout(left)
            data = line.recv(n)
            if not data:
                raise ConnectionError(f"hung up without an answer; {self._hint}")
            return data

        line.settimeout(timeout_s)
        line.sendall(request)
        return self._dialect.answer(receive)

    def _cut(self) -> None:
        line, self._socket = self._socket, None
        if line is not None:
            line.close()

    def _loss(self, error: Exception) -> ConnectionLost:
        return ConnectionLost(
            self.what,
            f"no connection: {_text(error)}",
            "an answer",
            "see that the server runs and that nothing else is connected to it",
        )


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"nonsense: {text}" if isinstance(error, Nonsense) else text


def _refusal(what: str, name: str, data: Any) -> InstrumentError:
    """The server's ``[class name, arguments]`` as one of our errors."""
    if not isinstance(data, list | tuple) or len(data) != 2 or not isinstance(data[0], str):
        raise Nonsense(f"{str(data)[:40]!r}")
    kind, args = data
    if WORD in str(args):
        raise Nonsense("the answer to a handshake of another program")
    text = "; ".join(" ".join(str(one).split()) for one in args) if args else "no reason"
    found = f"{name} refused: {kind.strip()}: {text}"
    if kind in ("AttributeError", "NotImplementedError"):
        return Unsupported(what, found, "a microscope that has it", "do without")
    if kind.endswith("ValueError"):
        return LimitExceeded(what, found, "a value that it takes", "choose another")
    return InstrumentError(what, found, "that it does as asked", "look at the server's messages")


def number(data: Any) -> float:
    """A number, for `Connection.call`."""
    if isinstance(data, bool) or not isinstance(data, int | float) or data != data:
        raise Nonsense(f"{str(data)[:40]!r} for a number")
    return data


def numbers(n: int) -> Callable[[Any], tuple[float, ...]]:
    """So many of them."""

    def read(data: Any) -> tuple[float, ...]:
        if not isinstance(data, list | tuple) or len(data) != n:
            raise Nonsense(f"{str(data)[:40]!r} for {n} numbers")
        return tuple(number(one) for one in data)

    return read


def text(data: Any) -> str:
    """A word."""
    if not isinstance(data, str):
        raise Nonsense(f"{str(data)[:40]!r} for a word")
    return data


def flag(data: Any) -> bool:
    """Yes or no; COM has numbers for it, and its yes may be -1."""
    if not isinstance(data, int):
        raise Nonsense(f"{str(data)[:40]!r} for yes or no")
    return bool(data)


def nothing(data: Any) -> None:
    """What setting something gives back."""
    if data is not None:
        raise Nonsense(f"{str(data)[:40]!r} for nothing")


def anything(data: Any) -> Any:
    """Where the server may answer what it likes."""
    return data
