"""How the servers write and read: the TEM's JSON, the camera's pickle; neither has any framing."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LONGEST_ANSWER = 1 << 16
LONGEST_REQUEST = 1024  # the TEM server takes so much at once, and takes it for a whole request
CHUNK = 1 << 16

Receive = Callable[[int], bytes]


class Nonsense(Exception):
    """An answer that is none: the line is out of step, or something else listens there."""


class Dialect(Protocol):
    """One server's."""

    def request(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """What to send."""
        ...

    def answer(self, receive: Receive) -> tuple[int, Any]:
        """(status, data) from a function that gives 1 to n bytes. Raises `Nonsense`."""
        ...


class Json:
    """The TEM server's, with `tem_communication_protocol: json`."""

    def request(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """One JSON object."""
        text = json.dumps({"func_name": name, "args": args, "kwargs": kwargs}, allow_nan=False)
        if len(text) > LONGEST_REQUEST:
            raise ValueError(f"request {name}: found {len(text)} bytes, expected {LONGEST_REQUEST}")
        return text.encode()

    def answer(self, receive: Receive) -> tuple[int, Any]:
        """An array ends with its bracket, however many pieces it comes in."""
        text, decoder = "", json.JSONDecoder()
        while len(text) < LONGEST_ANSWER:
            text += receive(CHUNK).decode("ascii", "replace")
            if not text.startswith("["):
                raise Nonsense(f"{text[:40]!r}")
            try:
                found, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue  # the rest is still to come; garbage ends with the time limit
            if text[end:].strip():
                raise Nonsense("two answers to one request")
            return status_and_data(found)
        raise Nonsense("an answer without end")


class Pickle:
    """The camera server's, which knows no other.

    Parameters
    ----------
    longest : bytes of an answer, beyond which it is not read.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def request(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """One pickled dict."""
        return pickle.dumps({"attr_name": name, "args": args, "kwargs": kwargs}, protocol=4)

    def answer(self, receive: Receive) -> tuple[int, Any]:
        """A pickle ends with its stop opcode: the unpickler reads so far and no further."""
        try:
            found = PlainUnpickler(_Stream(receive, self._longest)).load()
        except (OSError, Nonsense):
            raise
        except Exception as error:  # a broken pickle can raise anything
            raise Nonsense(f"{type(error).__name__}: {error}") from None
        return status_and_data(found)


def status_and_data(found: Any) -> tuple[int, Any]:
    """Raise `Nonsense` if it is not a pair of 200 or 500 and data."""
    if not isinstance(found, list | tuple) or len(found) != 2 or found[0] not in (200, 500):
        raise Nonsense(f"{str(found)[:40]!r}")
    return int(found[0]), found[1]


class PlainUnpickler(pickle.Unpickler):
    """Makes plain values and `PickledArray`; whatever else a pickle names is refused.

    numpy's own reconstruction is not called either: a crafted dtype makes it read any memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Raises `Nonsense` for anything that an image does not need."""
        made = ARRAY_PARTS.get((module.replace("numpy._core", "numpy.core"), name))
        if made is None:
            raise Nonsense(f"a pickle that asks for {module}.{name}")
        return made

    def persistent_load(self, pid: Any) -> Any:
        """There are none."""
        raise Nonsense("a pickle that refers to something outside")


class PickledArray:
    """What a pickle says of an array."""

    shape: Any = ()
    dtype: Any = None
    fortran: Any = False
    raw: Any = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def array(self) -> NDArray[Any]:
        """The array, of numbers only. Raises `Nonsense`."""
        dtype = self.dtype
        if not isinstance(dtype, _Dtype) or not isinstance(self.raw, bytes | bytearray):
            raise Nonsense("an array of something else than numbers")
        try:
            values = np.frombuffer(self.raw, dtype.order + dtype.code)
            return values.reshape(self.shape, order="F" if self.fortran else "C")
        except (TypeError, ValueError) as error:
            raise Nonsense(f"an array that is none: {error}") from None


class _Dtype:
    order = "="

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch("[uif][1248]", code):
            raise Nonsense(f"an array of {str(code)[:20]!r}")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise Nonsense(f"the byte order {str(state[1])[:20]!r}")
        self.order = state[1]


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    made = PickledArray()
    made.__setstate__((1, shape, dtype, order == "F", raw))
    return made


ARRAY_PARTS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: PickledArray(),
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}


class _Stream(io.RawIOBase):
    """The bytes of a line as a file, so far as `longest`.

    It has no ``peek``: an unpickler then reads what it needs and not a byte more.
    """

    def __init__(self, receive: Receive, longest: int) -> None:
        self._receive, self._left = receive, longest

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._left:
            raise Nonsense(f"a pickle of more than {self._left} bytes")
        self._left -= size
        parts = []
        while size:
            part = self._receive(min(size, CHUNK))
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self.read(1)
        return line

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        view[:] = self.read(len(view))
        return len(view)
