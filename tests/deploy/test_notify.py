"""The script beside the microscope: what is announced arrives once, whatever the server does."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "instrument" / "notify.py"


@pytest.fixture(scope="module")
def notify() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notify", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server(ThreadingHTTPServer):
    """Keeps what it was sent; answers with `codes` first, then 202."""

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.codes: list[int] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.codes.pop(0) if self.server.codes else 202
        if self.headers["Authorization"] != "Basic bGFiOndvcmQ=":
            code = 401
        if code == 202:
            self.server.taken.append(json.loads(body))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(b'{"refused": "so it is"}' if code != 202 else b'{"run": "1"}')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def session(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "day" / "run 1"
    for name in ("crystal_1", "crystal_2/SMV/data"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            (folder / name / f"{i:03d}.img").write_bytes(bytes([i]) * 10)
    (folder / "crystal_1" / "notes.txt").write_text("not a frame")
    (folder / "empty").mkdir()
    return folder


def call(notify: ModuleType, tmp_path: Path, server: Server, *more: str, password: str = "word"):
    (tmp_path / "secret").write_text(password + "\n")
    return notify.main(
        [
            "--server", f"http://127.0.0.1:{server.server_port}", "--user", "lab",
            "--password-file", str(tmp_path / "secret"), "--root", str(tmp_path / "data"),
            "--root-name", "scope", "--spool", str(tmp_path / "spool"), "--give-up", "3", *more,
        ]
    )  # fmt: skip


def test_a_session_is_told_with_its_series(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path
) -> None:
    assert call(notify, tmp_path, server, "--sample", "zsm5", str(session)) == 0
    (sent,) = server.taken
    assert sent["session"] == "day/run 1"
    assert sent["root"] == "scope"
    assert sent["closed"] is True
    assert sent["metadata"] == {"sample": "zsm5"}
    first, second = sent["series"]
    lines = "".join(
        f"{hashlib.sha256(bytes([i]) * 10).hexdigest()} 10 {i:03d}.img\n" for i in range(3)
    )
    assert first == {
        "folder": "crystal_1",
        "files": 3,
        "bytes": 30,
        "digest": hashlib.sha256(lines.encode()).hexdigest(),
    }
    assert (second["folder"], second["files"]) == ("crystal_2", 3)


def test_the_server_understands_it(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path
) -> None:
    from ewaldflow.lib.series.announced import AnnouncedSeries, series_below
    from ewaldflow.service.notification import Notification
    from ewaldflow.tasks.arrivals import wait_for

    call(notify, tmp_path, server, str(session))
    told = Notification.model_validate(server.taken[0])
    folder = told.folder({"scope": tmp_path / "data"})
    assert folder == session
    assert [one.model_dump() for one in series_below(folder)] == [
        one.model_dump() for one in told.series
    ]
    for one in told.series:  # the same digest is found on the server's side
        wait_for(folder, AnnouncedSeries(**one.model_dump()), 0.1)


def test_it_is_told_once(notify: ModuleType, tmp_path: Path, server: Server, session: Path) -> None:
    assert [call(notify, tmp_path, server, str(session)) for _ in range(3)] == [0, 0, 0]
    assert len(server.taken) == 1


def test_it_is_told_again_when_the_frames_changed(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path
) -> None:
    call(notify, tmp_path, server, str(session))
    (session / "crystal_1" / "003.img").write_bytes(b"one more")
    call(notify, tmp_path, server, str(session))
    assert len({one["id"] for one in server.taken}) == 2


def test_a_busy_server_is_tried_again(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(notify, "FIRST_WAIT_S", 0.01)
    server.codes = [503, 500, 503]
    assert call(notify, tmp_path, server, str(session)) == 0
    assert len(server.taken) == 1


def test_a_server_that_is_away_loses_nothing(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(notify, "FIRST_WAIT_S", 0.01)
    server.codes = [503] * 10_000
    assert call(notify, tmp_path, server, "--give-up", "0.1", str(session)) == 1
    assert not server.taken
    server.codes = []
    other = session.with_name("run 2")
    (other / "c").mkdir(parents=True)
    (other / "c" / "1.tif").write_bytes(b"x")
    assert call(notify, tmp_path, server, str(other)) == 0  # the next call brings the first too
    assert sorted(one["session"] for one in server.taken) == ["day/run 1", "day/run 2"]


def test_what_is_refused_is_kept_with_the_reason(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path
) -> None:
    server.codes = [422]
    assert call(notify, tmp_path, server, str(session)) == 1
    (reason,) = (tmp_path / "spool" / "refused").glob("*.reply.txt")
    assert "so it is" in reason.read_text()
    assert call(notify, tmp_path, server, str(session)) == 1
    assert not server.taken


def test_a_wrong_password_can_be_mended(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path
) -> None:
    more = ("--give-up", "0.1", str(session))
    assert call(notify, tmp_path, server, *more, password="wrong") == 1
    assert call(notify, tmp_path, server, *more) == 0
    assert len(server.taken) == 1


def test_a_session_without_frames_is_refused_here(
    notify: ModuleType, tmp_path: Path, server: Server, capsys: Any
) -> None:
    (tmp_path / "data" / "nothing").mkdir(parents=True)
    assert call(notify, tmp_path, server, str(tmp_path / "data" / "nothing")) == 2
    assert "no frames" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["data", "elsewhere"])
def test_only_folders_below_the_root(
    notify: ModuleType, tmp_path: Path, server: Server, session: Path, where: str
) -> None:
    (tmp_path / where).mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as ended:
        call(notify, tmp_path, server, str(tmp_path / where))
    assert ended.value.code == 2


def test_watching_tells_series_when_still_and_the_session_when_quiet(
    notify: ModuleType, tmp_path: Path, session: Path
) -> None:
    looking = notify.Watch(tmp_path / "data", 2, stable_s=30, quiet_s=100)

    def look(now: float) -> list[tuple[str, list[str], bool]]:
        news = looking.look(now)
        for one in news:
            looking.told(*one)
        return [(s.name, sorted(one.name for one in series), over) for s, series, over, _ in news]

    assert look(0) == []
    (session / "crystal_1" / "003.img").write_bytes(b"still writing")
    assert look(20) == []
    assert look(35) == [("run 1", ["crystal_2"], False)]
    assert look(51) == [("run 1", ["crystal_1"], False)]
    assert look(60) == []
    assert look(121) == [("run 1", ["crystal_1", "crystal_2"], True)]
    assert look(500) == []
    (session / "crystal_3").mkdir()
    (session / "crystal_3" / "0.img").write_bytes(b"later")
    assert look(510) == []
    assert look(545) == [("run 1", ["crystal_3"], False)]
    assert look(615) == [("run 1", ["crystal_1", "crystal_2", "crystal_3"], True)]


def test_through_tls_with_a_certificate_of_ones_own(
    tmp_path: Path, server: Server, session: Path
) -> None:
    pem = tmp_path / "server.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
         str(tmp_path / "key.pem"), "-out", str(pem)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl, which makes the certificate, is not here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    (tmp_path / "secret").write_text("word")
    command = [
        sys.executable, str(SCRIPT), "--server", f"https://localhost:{server.server_port}",
        "--user", "lab", "--password-file", str(tmp_path / "secret"), "--root",
        str(tmp_path / "data"), "--root-name", "scope", "--give-up", "0.2",
    ]  # fmt: skip
    stranger = [*command, "--spool", str(tmp_path / "a"), str(session)]
    assert subprocess.run(stranger, check=False, capture_output=True).returncode == 1
    assert not server.taken  # an unknown certificate gets neither message nor password
    friend = [*command, "--spool", str(tmp_path / "b"), "--ca-file", str(pem), str(session)]
    assert subprocess.run(friend, check=False, capture_output=True).returncode == 0
    assert len(server.taken) == 1


def test_two_at_once_with_one_spool(tmp_path: Path, server: Server, session: Path) -> None:
    (tmp_path / "secret").write_text("word")
    command = [
        sys.executable, str(SCRIPT), "--server", f"http://127.0.0.1:{server.server_port}",
        "--user", "lab", "--password-file", str(tmp_path / "secret"), "--root",
        str(tmp_path / "data"), "--root-name", "scope", "--spool", str(tmp_path / "spool"),
        str(session),
    ]  # fmt: skip
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait(30) for one in both] == [0, 0]
    assert {one["id"] for one in server.taken} == {server.taken[0]["id"]}


def test_it_is_python_3_8_and_its_library_alone() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= set(sys.stdlib_module_names)
    old = next(
        (p for p in os.environ.get("PATH", "").split(os.pathsep) if Path(p, "python3.8").exists()),
        None,
    )
    if old and subprocess.run([f"{old}/python3.8", "-c", ""], check=False).returncode == 0:
        run = subprocess.run([f"{old}/python3.8", str(SCRIPT), "--help"], capture_output=True)
        assert run.returncode == 0
