"""A TCP proxy that spoils what it is told to: for any server that answers one request at a time."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# an answer with more than this in its first piece has further ones
LONG = 4096


class FaultProxy:
    """Passes requests on, and answers back, of which the next ones in `plan` are spoiled.

    ``bytes`` sends it a byte at a time; ``delay`` holds it back for `delay_s`; ``cut`` sends half
    and hangs up, ``hang_up`` sends nothing and hangs up; ``hole`` sends nothing at all;
    ``corrupt`` turns its middle to garbage, ``garbage`` is nothing but; ``twice`` sends it twice;
    ``stale`` sends the answer before it first; ``late`` sends it in place of the next one, on
    whatever line that is asked for; None leaves it alone.
    """

    def __init__(self, port: int, delay_s: float = 0.5) -> None:
        self._target, self.delay_s = ("127.0.0.1", port), delay_s
        self.plan: deque[str | None] = deque()
        self.always: str | None = None
        self.done: Counter[str] = Counter()
        self._before = self._owed = b""
        self._lines: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connected = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more, and hang up."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connected += 1
            self._lines.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._target) as server:
            self._lines.append(server)
            for line in (client, server):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while request := client.recv(1 << 16):
                server.sendall(request)
                answer = self._answer(server)
                if not answer:
                    return
                if self._owed:
                    answer, self._owed = self._owed, b""
                fault = self.plan.popleft() if self.plan else self.always
                if fault:
                    self.done[fault] += 1
                if not self._spoiled(client, answer, fault):
                    return
                self._before = answer

    def _answer(self, server: socket.socket) -> bytes:
        """All of it: one piece, or pieces until a pause where the first one is long."""
        server.settimeout(None)
        parts = [server.recv(1 << 16)]
        server.settimeout(0.05)
        with suppress(TimeoutError):
            while len(parts[0]) > LONG and parts[-1]:
                parts.append(server.recv(1 << 16))
        return b"".join(parts)

    def _spoiled(self, client: socket.socket, answer: bytes, fault: str | None) -> bool:
        """Send it, or what becomes of it; whether the line goes on."""
        half = len(answer) // 2
        if fault == "bytes":
            for i in range(len(answer)):
                client.sendall(answer[i : i + 1])
                time.sleep(0.0002)
            return True
        if fault in ("cut", "hang_up"):
            client.sendall(answer[:half] if fault == "cut" else b"")
            return False
        if fault == "late":
            self._owed = answer
        if fault in ("hole", "late"):
            return True
        if fault == "delay":
            time.sleep(self.delay_s)
        if fault == "corrupt":
            answer = answer[: half - 2] + b"\x00\xff}]" + answer[half + 2 :]
        if fault == "garbage":
            answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        if fault == "stale":
            answer = self._before + answer
        client.sendall(answer * 2 if fault == "twice" else answer)
        return True


@contextmanager
def spoiling(port: int, delay_s: float = 0.5) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port, delay_s)
    yield proxy
    proxy.close()
