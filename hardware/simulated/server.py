"""The twin in a process of its own, behind two TCP ports (docs/twin.md).

``python -m ewaldflow.hardware.simulated.server --seed 1 --speed 20`` prints one line of JSON with
the ports, and serves until it is terminated:

- the *TEM port* speaks JSON as instamatic's TEM server does;
- the *camera port* a small protocol of its own: messages are JSON, preceded by their length in
  four bytes (big-endian); an image follows its message as raw little-endian counts.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import ConnectionLost, InstrumentError
from .clock import ScaledClock
from .dialect import OUTSIDE, JeolDialect, as_answer
from .twin import Twin, TwinOptions, open_twin

LONGEST_MESSAGE = 1 << 16
LENGTH = struct.Struct(">I")


class Server:
    """Both ports of one twin; one thread per client, one call at a time on each port."""

    def __init__(self, twin: Twin, host: str, tem_port: int, camera_port: int) -> None:
        self.twin = twin
        self._dialect = JeolDialect(twin)
        self._tem, self._camera = threading.Lock(), threading.Lock()
        self._ports = [
            (_listen(host, tem_port), self._serve_tem),
            (_listen(host, camera_port), self._serve_camera),
        ]
        self.tem_port, self.camera_port = (one.getsockname()[1] for one, _ in self._ports)

    def start(self) -> None:
        """Accept clients, in threads of their own."""
        for listener, serve in self._ports:
            threading.Thread(target=_accept, args=(listener, serve), daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        for listener, _ in self._ports:
            listener.close()

    def _serve_tem(self, client: socket.socket) -> None:
        """Requests one after the other, without any framing: a JSON value ends a request."""
        waiting, decoder = "", json.JSONDecoder()
        while data := client.recv(LONGEST_MESSAGE):
            waiting += data.decode()
            while waiting := waiting.lstrip():
                try:
                    request, end = decoder.raw_decode(waiting)
                except json.JSONDecodeError:
                    if len(waiting) > LONGEST_MESSAGE or waiting[0] not in '{"':
                        return
                    break  # the rest of it is still to come
                waiting = waiting[end:]
                if request in ("exit", "kill"):
                    return
                client.sendall(json.dumps(self._answer(request)).encode())

    def _answer(self, request: Any) -> tuple[int, Any]:
        try:
            name = request.get("func_name") or request["attr_name"]
            args, kwargs = list(request.get("args", ())), dict(request.get("kwargs", {}))
            if name in OUTSIDE:
                return 200, self._dialect.call(name, args, kwargs)
            with self._tem:
                return 200, self._dialect.call(name, args, kwargs)
        except ConnectionLost:
            raise
        except Exception as error:  # whatever a client sends, the server lives on
            return 500, as_answer(error)

    def _serve_camera(self, client: socket.socket) -> None:
        """``{"do": "info" | "expose", ...}``; see docs/twin.md."""
        while (length := receive(client, LENGTH.size)) is not None:
            (size,) = LENGTH.unpack(length)
            message = receive(client, size) if size <= LONGEST_MESSAGE else None
            if message is None:
                return
            header, image = self._look(json.loads(message))
            text = json.dumps(header).encode()
            client.sendall(LENGTH.pack(len(text)) + text + image)

    def _look(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        camera, clock = self.twin.camera, self.twin.clock
        if request.get("do") == "info":
            return {
                "ok": True,
                "name": camera.name,
                "shape": camera.shape,
                "pixel_size_mm": camera.pixel_size_mm,
                "binnings": camera.binnings,
                "dynamic_range": camera.dynamic_range,
                "dead_time_s": camera.dead_time_s,
                "now_s": clock.now(),
            }, b""
        try:
            if request.get("do") != "expose":
                raise ValueError(f"found {request.get('do')!r}, expected info or expose")
            with self._camera:
                exposure = camera.expose(
                    float(request["exposure_s"]), int(request.get("binning", 1))
                )
        except ConnectionLost:
            raise
        except (InstrumentError, KeyError, TypeError, ValueError) as error:
            return {"ok": False, "error": str(error), "now_s": clock.now()}, b""
        counts = np.ascontiguousarray(exposure.counts.astype("<u2", copy=False))
        return {
            "ok": True,
            "shape": counts.shape,
            "dtype": "<u2",
            "bytes": counts.nbytes,
            "started_s": exposure.started_s,
            "exposure_s": exposure.exposure_s,
            "number": exposure.number,
            "binning": exposure.binning,
            "now_s": clock.now(),
        }, counts.tobytes()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def _accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed
            return
        threading.Thread(target=_until_gone, args=(client, serve), daemon=True).start()


def _until_gone(client: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve until the client is gone, or a fault cuts the line."""
    with client:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serve(client)
        except (OSError, ValueError, ConnectionLost):
            return


def receive(client: socket.socket, size: int) -> bytes | None:
    """So many bytes, or None if the client is gone."""
    parts, missing = [], size
    while missing:
        part = client.recv(min(missing, 1 << 20))
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Serve a twin until terminated."""
    parser = argparse.ArgumentParser(description="A microscope twin behind two TCP ports.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="of the TEM; 0: any free one")
    parser.add_argument("--camera-port", type=int, default=0, help="0: any free one")
    parser.add_argument("--seed", type=int, help="of the twin")
    parser.add_argument("--speed", type=float, default=1.0, help="twin's seconds per second")
    parser.add_argument("--no-specimen", action="store_true", help="the beam alone; starts faster")
    parser.add_argument("--options", type=Path, help="YAML of TwinOptions")
    given = parser.parse_args(arguments)
    options = yaml.safe_load(given.options.read_text(encoding="utf-8")) if given.options else {}
    if given.seed is not None:
        options["seed"] = given.seed
    if given.no_specimen:
        options["specimen"] = None
    twin = open_twin(TwinOptions.model_validate(options), clock=ScaledClock(given.speed))
    twin.camera.checks_shape = False  # that is for the client to notice
    server = Server(twin, given.host, given.port, given.camera_port)
    server.start()
    ports = {"tem_port": server.tem_port, "camera_port": server.camera_port, "pid": os.getpid()}
    print(json.dumps(ports), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
