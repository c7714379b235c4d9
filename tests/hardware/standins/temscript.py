"""temscript's real server around its null microscope, and around one whose stage takes its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import temscript
from temscript.server import MicroscopeHandler, MicroscopeServer


class SlowStage(temscript.NullMicroscope):
    """The null microscope with a stage that blocks until it has arrived, as a real one does."""

    def __init__(self, seconds: float = 0.2) -> None:
        super().__init__()
        self.seconds = seconds
        self.going = False
        self.commands: list[tuple[dict[str, float], float | None]] = []

    def get_stage_status(self) -> str:
        return "GOING" if self.going else "READY"

    def _set_stage_position(self, pos=None, method="GO", speed=None):
        self.commands.append((pos, speed))
        self.going = True
        time.sleep(self.seconds)
        super()._set_stage_position(pos, method, speed)
        self.going = False


@contextmanager
def serving(microscope: object, port: int = 0) -> Iterator[int]:
    """Serve a microscope with temscript's own server; gives the port."""
    handler_log = MicroscopeHandler.log_message
    MicroscopeHandler.log_message = lambda *_: None
    server = MicroscopeServer(("127.0.0.1", port), lambda: microscope)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        MicroscopeHandler.log_message = handler_log
