"""Many messages at once, and a session that is cancelled while it computes."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType

import httpx
import psutil
import pytest
from laboratory import NOTIFY, PASSWORD, Laboratory, running, small_series, until

from ewaldflow.lib.series.announced import series_below

pytestmark = pytest.mark.long
MESSAGES = 200
SESSIONS = int(os.environ.get("EWALDFLOW_CROWD", "50"))  # different ones among the messages
LARGEST_BYTES = 4 * 2**30


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    yield from running(tmp_path_factory.mktemp("crowds"), compute_slots=2)


@pytest.fixture(scope="module")
def notify() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notify", NOTIFY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notify"] = module
    spec.loader.exec_module(module)
    return module


class Watcher(threading.Thread):
    """The memory of all programs, and how long the pages make one wait."""

    def __init__(self, laboratory: Laboratory) -> None:
        super().__init__(daemon=True)
        self.laboratory, self.over = laboratory, threading.Event()
        self.bytes: list[int] = []
        self.server_bytes: list[int] = []
        self.waits_s: list[float] = []

    def run(self) -> None:
        server = self.laboratory.programs()["server"].process()
        assert server is not None
        while not self.over.wait(2):
            with suppress(psutil.Error):
                everything = self.laboratory.everything()
                self.bytes.append(sum(_bytes(one) for one in everything))
                self.server_bytes.append(_bytes(server))
            began = time.monotonic()
            for path in ("", "api/ui/flow_runs/history", "api/flow_runs/filter"):
                with suppress(httpx.HTTPError):
                    httpx.request(
                        "POST" if path.startswith("api") else "GET",
                        f"{self.laboratory.settings.ui_url}/{path}",
                        json={"limit": 50} if path.startswith("api") else None,
                        auth=("lab", PASSWORD),
                        timeout=60,
                    )
            self.waits_s.append(time.monotonic() - began)


def _bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def test_messages_at_once_are_taken_once(laboratory: Laboratory, notify: ModuleType) -> None:
    root = laboratory.folder / "data"
    bodies = []
    for k in range(SESSIONS):
        session = root / "crowd" / f"{k:03d}"
        (session / "crystal").mkdir(parents=True)
        # no series at all: what is tried is the queue, not the reduction
        (session / "crystal" / "1.img").write_bytes(b"no frame %d" % k)
        series = notify.series_of(session)
        bodies.append(notify.message(root, "data", session, series, True, {}))
    server = notify.Server(
        f"http://127.0.0.1:{laboratory.settings.gateway_port}", "lab", PASSWORD, timeout_s=120
    )
    before = len(laboratory.runs())
    watcher = Watcher(laboratory)
    watcher.start()
    together = threading.Barrier(MESSAGES)

    def send(k: int) -> float:
        body = notify.json.dumps(bodies[k % SESSIONS]).encode()
        together.wait()
        began = time.monotonic()
        while True:
            try:
                server.send(body)
            except OSError:  # busy: the script beside a microscope tries again as well
                assert time.monotonic() - began < 1800
                time.sleep(2)
            else:
                return time.monotonic() - began

    with ThreadPoolExecutor(MESSAGES) as pool:
        taken_s = list(pool.map(send, range(MESSAGES)))
    runs = laboratory.runs()[before:]
    assert sorted(run["name"] for run in runs) == sorted(f"crowd-{k:03d}" for k in range(SESSIONS))
    began = time.monotonic()
    for run in runs:
        assert laboratory.ended(run["id"], 3600)["state_type"] == "COMPLETED"
    worked_s = time.monotonic() - began
    watcher.over.set()
    watcher.join()
    print(
        f"{MESSAGES} messages of {SESSIONS} sessions: taken after {max(taken_s):.1f} s at most "
        f"(median {statistics.median(taken_s):.1f}), all processed {worked_s:.0f} s later; "
        f"memory of all programs {max(watcher.bytes) / 2**20:.0f} MiB at most, of the server "
        f"{watcher.server_bytes[0] / 2**20:.0f} to {max(watcher.server_bytes) / 2**20:.0f} MiB; "
        f"three pages after {statistics.median(watcher.waits_s):.1f} s, "
        f"{max(watcher.waits_s):.1f} s at most"
    )
    assert max(watcher.bytes) < LARGEST_BYTES
    assert statistics.median(watcher.waits_s) < 10
    assert len(laboratory.runs()) == before + SESSIONS
    for k in range(SESSIONS):
        assert laboratory.store.versions("session", f"crowd-{k:03d}") == [1]


def _gone(laboratory: Laboratory, run: str) -> float:
    """Seconds until nothing works for a run any more."""
    began = time.monotonic()
    until(lambda: not laboratory.processes_of(run), 60, f"end of the processes of {run}")
    return time.monotonic() - began


def test_a_cancelled_session_ends_with_its_children(laboratory: Laboratory) -> None:
    session = laboratory.session("day/cancelled", {f"c{k}": small_series(k) for k in (1, 2)})
    run = laboratory.start(
        "session/session",
        {
            "folder": str(session),
            "series": [one.model_dump() for one in series_below(session)],
            "name": "day-cancelled",
            "n_workers": 2,
        },
        "day-cancelled",
    )
    until(lambda: len(laboratory.processes_of(run)) >= 3, 900, "Dask workers")
    laboratory.cancel(run)
    taken_s = _gone(laboratory, run)
    print(f"a cancelled session ended after {taken_s:.1f} s")
    assert taken_s < 10
    assert laboratory.ended(run)["state_type"] == "CANCELLED"
    # it can be taken up again
    again = laboratory.start("session/session", laboratory.run(run)["parameters"], "again")
    assert laboratory.ended(again)["state_type"] == "COMPLETED"
