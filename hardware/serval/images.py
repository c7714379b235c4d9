"""The two ways in which Serval hands over images."""

from __future__ import annotations

import io
import json
import socket
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..errors import CameraFailed, ConnectionLost
from ..frames import Wire
from .options import Options
from .server import Server, no_image

Counts = NDArray[Any]
_LARGEST_BYTES = 1 << 28


class Images(Protocol):
    """Where images come from."""

    def destination(self) -> dict[str, Any]:
        """What Serval's /server/destination must be told."""
        ...

    def begin(self, timeout_s: float) -> None:
        """A measurement has started."""
        ...

    def next(self, timeout_s: float) -> tuple[int, Counts]:
        """Number in the measurement, from 0, and counts (rows, columns)."""
        ...

    def end(self) -> None:
        """The measurement is over; what was on its way is dropped."""
        ...

    def close(self) -> None:
        """No more measurements."""
        ...


class TcpImages:
    """Serval connects to us and sends ``jsonimage``: a line of JSON, then the pixels.

    The line holds width, height, bitDepth, dataSize and frameNumber (from 0); pixels are
    big-endian, a newline follows them.
    """

    def __init__(self, options: Options, name: str) -> None:
        self._options, self._name = options, name
        try:
            self._listener = socket.create_server((options.receive_host, options.receive_port))
        except OSError as error:
            raise ConnectionLost(
                f"{name}: receive_host, receive_port",
                str(error),
                "an address of this computer, and a free port",
                "mend them in the instrument's YAML",
            ) from None
        self._wire: Wire | None = None

    def destination(self) -> dict[str, Any]:
        """One image channel, to us."""
        host, port = self._options.receive_host, self._listener.getsockname()[1]
        channel = {
            "Base": f"tcp://connect@{host}:{port}",
            "Format": "jsonimage",
            "Mode": self._options.pixel_mode,
            "IntegrationSize": 1,
        }
        return {"Image": [channel]}

    def begin(self, timeout_s: float) -> None:
        """Await Serval's connection, or count from 0."""
        self.end()
        self._listener.settimeout(timeout_s)
        try:
            self._wire = Wire(self._listener.accept()[0])
        except OSError as error:
            raise ConnectionLost(
                self._name,
                f"Serval did not connect to {self._options.receive_host} ({error})",
                "its connection for images",
                "see that Serval's computer can reach this one there; or take frames: http",
            ) from None

    def next(self, timeout_s: float) -> tuple[int, Counts]:
        """The next image. Raises `CameraFailed` if none comes, or something else does."""
        if self._wire is None:
            raise no_image(self._name, 0.0)
        header: Any = b""
        try:
            header = self._wire.line(timeout_s)
            number, shape, dtype = _layout(json.loads(header))
            pixels = self._wire.exactly(shape[0] * shape[1] * dtype.itemsize, timeout_s)
        except TimeoutError:
            self.end()
            raise no_image(self._name, timeout_s) from None
        except OSError as error:
            self.end()
            raise CameraFailed(
                self._name, f"{error} amid an image", "a whole image", "expose again"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            self.end()
            raise CameraFailed(
                self._name,
                f"{error} in the header {bytes(header[:60])!r}",
                "Serval's jsonimage",
                "expose again; see Serval's version if it stays",
            ) from None
        return number, np.frombuffer(pixels, dtype).reshape(shape)

    def end(self) -> None:
        """Drop what is on its way."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def close(self) -> None:
        """Give up the port, if one is held."""
        self.end()
        self._listener.close()


def _layout(header: dict[str, Any]) -> tuple[int, tuple[int, int], np.dtype[Any]]:
    """Number, shape and pixel type of an image. Raises ValueError, KeyError or TypeError."""
    number, rows, columns = (int(header[key]) for key in ("frameNumber", "height", "width"))
    bits = int(header["bitDepth"]) if "bitDepth" in header else int(header["pixelFormat"][4:])
    if bits not in (8, 16, 32) or min(number, rows - 1, columns - 1) < 0:
        raise ValueError(f"{bits} bits, {rows} x {columns} pixels, frame {number}")
    dtype = np.dtype(f">u{bits // 8}")
    size = rows * columns * dtype.itemsize
    if size > _LARGEST_BYTES or int(header.get("dataSize", size)) != size:
        raise ValueError(f"{header.get('dataSize')} bytes for {rows} x {columns} of {bits} bits")
    return number, (rows, columns), dtype


class HttpImages:
    """We fetch TIFFs from Serval; it counts those it dropped."""

    def __init__(self, options: Options, server: Server) -> None:
        self._options, self._server = options, server
        self._fetched = 0

    def destination(self) -> dict[str, Any]:
        """One image channel, to us."""
        channel = {"Base": "http://localhost", "Format": "tiff", "Mode": self._options.pixel_mode}
        return {"Image": [channel]}

    def begin(self, timeout_s: float) -> None:
        """Await Serval's connection, or count from 0."""
        self._fetched = 0

    def next(self, timeout_s: float) -> tuple[int, Counts]:
        """The next image. Raises `CameraFailed` if none comes, or something else does."""
        content = self._server.image(timeout_s)
        try:
            counts = tifffile.imread(io.BytesIO(content))
        except Exception as error:  # tifffile raises what its parts raise
            raise CameraFailed(
                self._server.name,
                f"{len(content)} bytes that are no TIFF ({error})",
                "an image",
                "expose again",
            ) from None
        if counts.dtype.kind == "i" and counts.min(initial=0) >= 0:
            counts = counts.astype(f"u{counts.dtype.itemsize}")
        state = self._server.json("/dashboard").get("Measurement") or {}
        index = self._fetched + int(state.get("DroppedFrames") or 0)
        self._fetched += 1
        return index, counts

    def end(self) -> None:
        """Drop what is on its way."""

    def close(self) -> None:
        """Give up the port, if one is held."""
