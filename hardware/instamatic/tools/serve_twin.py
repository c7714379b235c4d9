"""Starts instamatic's own TEM server on the microscope twin: a script for instamatic's environment.

``PYTHON serve_twin.py HOST PORT``, where PYTHON is that of an environment with instamatic 2.2.2,
and HOST and PORT are the TEM port of `ewaldflow.hardware.simulated.server`. Everything that
instamatic's server is asked for is asked of the twin. It needs nothing of Ewaldflow.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


class TwinMicroscope:
    """An interface as instamatic has them for JEOL and FEI; every call goes to the twin."""

    def __init__(self, host: str, port: int) -> None:
        self.name = "ewaldflow-twin"
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._errors: dict[str, type[Exception]] = dict(
            import_module("instamatic.exceptions").exception_list
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """What instamatic calls `name`; the twin knows whether there is such a thing."""

        def call(*args: Any, **kwargs: Any) -> Any:
            request = {"func_name": name, "args": args, "kwargs": kwargs}
            self._socket.sendall(json.dumps(request).encode())
            text = ""
            while True:
                part = self._socket.recv(65536)
                if not part:
                    raise self._errors["TEMCommunicationError"]("the twin hung up")
                text += part.decode()
                try:
                    status, data = json.loads(text)
                except json.JSONDecodeError:
                    continue
                if status == 200:
                    return data
                kind, arguments = data
                raise self._errors.get(kind, RuntimeError)(*arguments)

        return call


def main() -> None:
    """Serve as ``instamatic.temserver`` does."""
    host, port = sys.argv[1], int(sys.argv[2])
    sys.argv[1:] = []
    server: Any = import_module("instamatic.server.tem_server")
    server.get_microscope = lambda name=None, use_server=False: TwinMicroscope(host, port)
    server.main()


if __name__ == "__main__":
    main()
