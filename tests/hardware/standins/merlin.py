"""Stands in for the Merlin software: both its ports, its MIB frames, and faults on demand."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .faults import Faults

TYPES = {1: ("U08", ">u1"), 6: ("U08", ">u1"), 12: ("U16", ">u2"), 24: ("U32", ">u4")}
SOFT = "5"


def mib(number: int, counts: Any, depth: int, exposure_s: float) -> bytes:
    """One frame as a quad (or, below 512 pixels, a single chip) writes it."""
    name, dtype = TYPES[depth]
    rows, columns = counts.shape
    chips, n_bytes, layout = (4, 768, "   2x2") if columns >= 512 else (1, 384, "   1x1")
    text = (
        f"MQ1,{number:06d},{n_bytes:05d},{chips:02d},{columns:04d},{rows:04d},{name},{layout},"
        f"{(1 << chips) - 1:02X},2026-01-01 12:00:00.000000,{exposure_s:.6f},0,0,0,"
        + ",".join(["5.110000E+2"] * 8)
        + ","
    )
    return text.encode().ljust(n_bytes, b"\0") + counts.astype(dtype).tobytes()


class MerlinStandIn:
    """Serves on two ports of this computer; a context manager.

    Parameters
    ----------
    image : makes the counts (rows, columns) of an exposure, given its seconds.
    paced : whether frames take as long as they are exposed.
    """

    def __init__(
        self, image: Callable[[float], Any], faults: Faults | None = None, paced: bool = True
    ) -> None:
        self.image, self.faults, self.paced = image, faults or Faults(), paced
        self.variables = {"SOFTWAREVERSION": "0.77.0.16", "DETECTORSTATUS": "0"}
        self.commands: list[str] = []
        self.refuse: set[str] = set()
        self.hang_up: set[str] = set()
        self._servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.command_port, self.data_port = (one.getsockname()[1] for one in self._servers)
        self._data: socket.socket | None = None
        self._taking = threading.Lock()
        self._commands: socket.socket | None = None
        self._lock = threading.Lock()
        self._in_turn = threading.Lock()  # one data stream: what comes late comes first
        self._acquisition = 0  # each start is another; a running one ends when this changes
        self._running = False
        self._number = 0

    @property
    def acquiring(self) -> bool:
        return self._running

    def __enter__(self) -> MerlinStandIn:
        for server, serve in zip(
            self._servers, (self._serve_commands, self._serve_data), strict=True
        ):
            threading.Thread(target=serve, args=(server,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            _close(server)  # a thread waits in accept: closing alone would leave it there
        self.hang_up_all()

    def hang_up_all(self) -> None:
        """Lose both connections."""
        self._running = False
        for connection in (self._data, self._commands):
            if connection is not None:
                _close(connection)

    def _serve_data(self, server: socket.socket) -> None:
        while True:
            try:
                select.select([server], [], [], 0.05)
                self._take_who_waits()
            except (OSError, ValueError):
                return

    def _take_who_waits(self) -> None:
        """The last client that connected for data, who waits in the kernel until then."""
        with self._taking:
            while select.select([self._servers[1]], [], [], 0)[0]:
                self._data = self._servers[1].accept()[0]

    def _serve_commands(self, server: socket.socket) -> None:
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            self._commands = connection
            threading.Thread(target=self._obey, args=(connection,), daemon=True).start()

    def _obey(self, connection: socket.socket) -> None:
        file = connection.makefile("rwb")
        try:
            while prefix := file.read(14):
                assert prefix[:4] == b"MPX,", prefix
                body = file.read(int(prefix[4:])).decode()
                assert body[0] == ",", body
                kind, name, *value = body[1:].split(",")
                self.commands.append(body[1:])
                if name in self.hang_up:
                    self.hang_up.discard(name)
                    _close(connection)
                    return
                status, answer = "0", ""
                if name in self.refuse:
                    status = "2"
                elif kind == "SET":
                    self.variables[name] = value[0]
                elif kind == "GET":
                    answer = self.variables.get(name, "") + ","
                else:
                    self._command(name)
                text = f"{kind},{name},{answer}{status}"
                file.write(f"MPX,{len(text) + 1:010d},{text}".encode())
                file.flush()
        except OSError:
            pass

    def _command(self, name: str) -> None:
        if name == "STARTACQUISITION":
            self._take_who_waits()
            with self._lock:
                self._acquisition += 1
                self._number, self._running = 0, True
                acquisition = self._acquisition
            self._send(f"HDR,\t\r\nCounter Depth (number):\t{self._depth}\r\nEnd\t".encode())
            if self.variables["TRIGGERSTART"] != SOFT:
                threading.Thread(target=self._acquire, args=(acquisition,), daemon=True).start()
        elif name == "STOPACQUISITION":
            self._running = False
            with self._lock:
                self._acquisition += 1
        elif name == "SOFTTRIGGER" and self._running:
            threading.Thread(target=self._frame, args=(self._acquisition,), daemon=True).start()

    @property
    def _depth(self) -> int:
        return int(self.variables.get("COUNTERDEPTH", "12"))

    def _acquire(self, acquisition: int) -> None:
        for _ in range(int(self.variables["NUMFRAMESTOACQUIRE"])):
            if not self._frame(acquisition):
                return
        with self._lock:
            if acquisition == self._acquisition:  # else another one runs by now
                self._running = False

    def _frame(self, acquisition: int) -> bool:
        """Expose and send one frame; False if the acquisition is over."""
        exposure_s = float(self.variables["ACQUISITIONTIME"]) / 1e3
        period_s = float(self.variables["ACQUISITIONPERIOD"]) / 1e3
        if self.paced:
            time.sleep(max(exposure_s, period_s if self._number else 0.0))
        counts = self.image(exposure_s)
        with self._lock:
            if acquisition != self._acquisition:
                return False
            self._number += 1
            number = self._number
        self._send_frame(number, counts, exposure_s)
        return True

    def _send_frame(self, number: int, counts: Any, exposure_s: float) -> None:
        with self._in_turn:
            self._send_with_fault(number, counts, exposure_s)

    def _send_with_fault(self, number: int, counts: Any, exposure_s: float) -> None:
        fault = self.faults.of_image()
        if fault == "drop":
            return
        if fault == "delay":
            time.sleep(self.faults.delay_s)
        if fault == "shape":
            counts = np.zeros((256, 256), np.uint16)
        body = mib(number, counts, self._depth, exposure_s)
        if fault == "length":
            body = body[:-100]
        if fault == "header":
            body = b"XYZ" + body[3:]
        message = f"MPX,{len(body) + 1:010d},".encode() + body
        if fault == "garbage":
            message = b"?" * 20 + message
        if fault in ("truncate", "close"):
            message = message[: len(message) // 2]
        self._send_raw(message)
        if fault == "close" and self._data is not None:
            _close(self._data)

    def _send(self, body: bytes) -> None:
        with self._in_turn:
            self._send_raw(f"MPX,{len(body) + 1:010d},".encode() + body)

    def _send_raw(self, data: bytes) -> None:
        end = time.monotonic() + 1.0
        while self._data is None and time.monotonic() < end:
            time.sleep(0.001)
        try:
            if self._data is not None:
                self._data.sendall(data)
        except OSError:
            pass


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
