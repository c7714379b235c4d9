"""Stands in for ASI's Serval: the requests that drive a measurement, and faults on demand."""

from __future__ import annotations

import contextlib
import io
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import tifffile

from .faults import Faults

START_S = 0.01  # from measurement/start to recording


class ServalStandIn:
    """Serves HTTP on a port of this computer; a context manager.

    Parameters
    ----------
    image : makes the counts (rows, columns) of an exposure, given its seconds.
    paced : whether frames take as long as they are exposed.
    """

    def __init__(
        self, image: Callable[[float], Any], faults: Faults | None = None, paced: bool = True
    ) -> None:
        self.image, self.faults, self.paced = image, faults or Faults(), paced
        self.config: dict[str, Any] = {"BiasVoltage": 0, "nTriggers": 1, "LogLevel": 1}
        self.destination: dict[str, Any] = {}
        self.detector: dict[str, Any] | None = {"DetectorType": "Tpx3"}
        self.requests: list[str] = []
        self.refuse: set[str] = set()
        self.hang_up: set[str] = set()
        self.status = "DA_IDLE"
        self.dropped = 0
        self._lock = threading.Lock()
        self._measurement = 0
        self._number = 0
        self._images: queue.Queue[bytes] = queue.Queue()
        self._socket: socket.socket | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                outer._answer(self, None)

            def do_PUT(self) -> None:
                outer._answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a client that hung up

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    @property
    def acquiring(self) -> bool:
        return self.status == "DA_RECORDING"

    def __enter__(self) -> ServalStandIn:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
        path = handler.path
        self.requests.append(path)
        if path in self.hang_up:
            self.hang_up.discard(path)
            handler.close_connection = True
            handler.connection.close()
            return
        status, content = 200, b"ok"
        if path in self.refuse:
            status, content = 409, b"detector busy"
        elif path == "/dashboard":
            content = json.dumps(self._dashboard()).encode()
        elif path == "/detector/config" and body is None:
            content = json.dumps(self.config).encode()
        elif path == "/detector/config":
            self.config = json.loads(body or b"")
        elif path == "/server/destination":
            self.destination = json.loads(body or b"")
        elif path == "/measurement/start":
            self._start()
        elif path == "/measurement/stop":
            self._stop()
        elif path == "/measurement/trigger/start" and self.status == "DA_RECORDING":
            threading.Thread(target=self._frame, args=(self._measurement,), daemon=True).start()
        elif path == "/measurement/image":
            try:
                content = self._images.get(timeout=0.2)
            except queue.Empty:
                status, content = 204, b""
            if content == b"close":
                handler.connection.close()
                return
        else:
            status, content = 404, b"no such thing"
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _dashboard(self) -> dict[str, Any]:
        running = {
            "Status": self.status,
            "FrameCount": self._number,
            "DroppedFrames": self.dropped,
        }
        measurement = None if self.status == "DA_IDLE" else running
        return {"Server": {}, "Measurement": measurement, "Detector": self.detector}

    def _start(self) -> None:
        with self._lock:
            self._measurement += 1
            measurement = self._measurement
            self._number = self.dropped = 0
        self._images = queue.Queue()
        self.status = "DA_STARTING"
        threading.Thread(target=self._measure, args=(measurement,), daemon=True).start()

    def _stop(self) -> None:
        with self._lock:
            self._measurement += 1
        self.status = "DA_IDLE"
        if self._socket is not None:
            _close(self._socket)
            self._socket = None

    def _measure(self, measurement: int) -> None:
        base = self.destination["Image"][0]["Base"]
        if base.startswith("tcp://connect@"):
            host, port = base.removeprefix("tcp://connect@").split(":")
            self._socket = socket.create_connection((host, int(port)))
        time.sleep(START_S)
        if measurement != self._measurement:
            return
        self.status = "DA_RECORDING"
        if not self.config["TriggerMode"].startswith("SOFTWARESTART"):
            for _ in range(self.config["nTriggers"]):
                if not self._frame(measurement):
                    return

    def _frame(self, measurement: int) -> bool:
        """Expose and hand over one image; False if the measurement is over."""
        exposure_s = self.config["ExposureTime"]
        connection, images = self._socket, self._images  # each measurement has its own
        if self.paced:
            time.sleep(self.config["TriggerPeriod"] if self._number else exposure_s)
        counts = self.image(exposure_s)
        with self._lock:
            if measurement != self._measurement:
                return False
            number, self._number = self._number, self._number + 1
        fault = self.faults.of_image()
        if fault == "drop":
            self.dropped += 1
            return True
        if fault == "delay":
            time.sleep(self.faults.delay_s)
        if fault == "shape":
            counts = np.zeros((256, 256), np.uint16)
        if self.destination["Image"][0]["Format"] == "tiff":
            images.put(self._tiff(counts, fault))
        else:
            self._send(connection, self._jsonimage(number, counts, fault), fault)
        return True

    def _tiff(self, counts: Any, fault: str | None) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, counts)
        content = file.getvalue()
        if fault == "close":
            return b"close"
        if fault in ("truncate", "length"):
            return content[: len(content) // 2]
        return b"?" * 100 + content if fault == "garbage" else content

    def _jsonimage(self, number: int, counts: Any, fault: str | None) -> bytes:
        counts = counts.astype(counts.dtype.newbyteorder(">"))
        size = counts.nbytes - (100 if fault == "length" else 0)
        header = {
            "timeAtFrame": number * self.config["TriggerPeriod"],
            "frameNumber": number,
            "measurementID": "none",
            "dataSize": size,
            "bitDepth": 8 * counts.dtype.itemsize,
            "width": counts.shape[1],
            "height": counts.shape[0],
        }
        content = json.dumps(header).encode() + b"\n" + counts.tobytes() + b"\n"
        if fault == "garbage":
            return b"{?" + content[2:]
        return content[: len(content) // 2] if fault in ("truncate", "close") else content

    def _send(self, connection: socket.socket | None, content: bytes, fault: str | None) -> None:
        try:
            if connection is not None:
                connection.sendall(content)
                if fault == "close":
                    _close(connection)
        except OSError:
            pass


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
