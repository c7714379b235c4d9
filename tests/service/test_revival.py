"""Which flow runs are dead, seen by their processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.client.schemas.objects import State, StateType

from ewaldflow.service import revival
from ewaldflow.service.revival import Revival, flow_among, processes_of_runs
from ewaldflow.service.settings import ServiceSettings

API = "http://127.0.0.1:1/api"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A flow of run `one`, what is left of run `two`, one of another server, and nobody's."""
    sleep = "import time; time.sleep(60)"
    made = [
        subprocess.Popen([sys.executable, "-c", sleep, *words], env={**os.environ, **variables})
        for words, variables in (
            (["prefect.engine"], {"PREFECT__FLOW_RUN_ID": "one", "PREFECT_API_URL": API}),
            ([], {"PREFECT__FLOW_RUN_ID": "one", "PREFECT_API_URL": API}),
            ([], {"PREFECT__FLOW_RUN_ID": "two", "PREFECT_API_URL": API}),
            (["prefect.engine"], {"PREFECT__FLOW_RUN_ID": "three", "PREFECT_API_URL": API + "2"}),
            (["prefect.engine"], {"PREFECT_API_URL": API}),
        )
    ]
    end = time.monotonic() + 10  # until each has become another program than this
    while any("time.sleep" not in " ".join(psutil.Process(one.pid).cmdline()) for one in made):
        assert time.monotonic() < end
        time.sleep(0.01)
    yield made
    for one in made:
        one.kill()
        one.wait()


def test_processes_are_found_by_run_and_server(started: list[subprocess.Popen[bytes]]) -> None:
    seen = processes_of_runs(API)
    assert {run: {one.pid for one in some} for run, some in seen.items()} == {
        "one": {started[0].pid, started[1].pid},
        "two": {started[2].pid},
    }


def test_a_run_works_as_long_as_its_flow_lives(started: list[subprocess.Popen[bytes]]) -> None:
    seen = processes_of_runs(API)
    assert [one.pid for one in flow_among(seen["one"])] == [started[0].pid]
    assert flow_among(seen["two"]) == []  # only what it left behind
    started[0].kill()
    started[0].wait()
    assert flow_among(seen["one"]) == []


class Server:
    """Prefect's place: runs, and what is made of them."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.made: list[tuple[str, StateType]] = []

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read_flow_runs(self, **_: object) -> list[Any]:
        return self.runs

    async def set_flow_run_state(self, run: str, state: State[Any], force: bool) -> None:
        assert force
        self.made.append((run, state.type))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda: made)
    return made


@pytest.fixture
def looking(tmp_path: Path) -> Revival:
    content = {
        "home": tmp_path,
        "store": tmp_path,
        "roots": {"data": tmp_path},
        "password": "twelve-letters",
        "attempts": 3,
    }
    return Revival(ServiceSettings.model_validate(content))


def run_in(state: StateType, pool: str = "compute", count: int = 1, age_s: float = 1.0) -> Any:
    when = datetime.now(UTC) - timedelta(seconds=age_s)
    return SimpleNamespace(
        id="one",
        name="a session",
        state=State(type=state, id=uuid4(), timestamp=when),
        deployment_id=uuid4(),
        run_count=count,
        work_pool_name=pool,
    )


@pytest.mark.parametrize(
    ("run", "made"),
    [
        (run_in(StateType.CRASHED), [StateType.SCHEDULED]),
        (run_in(StateType.RUNNING), [StateType.SCHEDULED]),
        (run_in(StateType.RUNNING, count=3), []),  # it has used its attempts up
        (run_in(StateType.PENDING), [StateType.SCHEDULED]),
        (run_in(StateType.CANCELLING), [StateType.CANCELLED]),
        (run_in(StateType.CRASHED, "instrument"), []),  # for a person to say
        (run_in(StateType.RUNNING, "instrument"), [StateType.CRASHED]),
        (run_in(StateType.PENDING, "instrument"), []),  # its worker begins it some time
        (run_in(StateType.CANCELLING, "instrument"), [StateType.CANCELLED]),
    ],
)
def test_runs_without_a_process_are_taken_up_at_the_second_look(
    run: Any, made: list[StateType], server: Server, looking: Revival,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(revival, "processes_of_runs", lambda _: {})
    # a worker that was started after the run was taken
    worker = SimpleNamespace(create_time=lambda: time.time())
    monkeypatch.setattr(
        revival.programs, "compute_worker", lambda _: SimpleNamespace(process=lambda: worker)
    )
    server.runs = [run]
    asyncio.run(looking.look())
    assert server.made == []  # it might end this moment
    asyncio.run(looking.look())
    assert [state for _, state in server.made] == made


def test_a_run_that_changes_between_looks_is_left_alone(
    server: Server, looking: Revival, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revival, "processes_of_runs", lambda _: {})
    for _ in range(3):
        server.runs = [run_in(StateType.RUNNING)]
        asyncio.run(looking.look())
    assert server.made == []


@pytest.mark.parametrize(("age_s", "made"), [(1, []), (100, [StateType.SCHEDULED])])
def test_the_worker_that_took_a_run_has_time_to_begin_it(
    age_s: float,
    made: list[StateType],
    server: Server,
    looking: Revival,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revival, "processes_of_runs", lambda _: {})
    worker = SimpleNamespace(create_time=lambda: time.time() - 1000)
    monkeypatch.setattr(
        revival.programs, "compute_worker", lambda _: SimpleNamespace(process=lambda: worker)
    )
    server.runs = [run_in(StateType.PENDING, age_s=age_s)]
    for _ in range(2):
        asyncio.run(looking.look())
    assert [state for _, state in server.made] == made


@pytest.mark.parametrize("worker", ["lives", "died"])
def test_a_live_flow_is_left_alone_unless_it_was_cancelled_and_its_worker_died(
    worker: str,
    server: Server,
    looking: Revival,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = psutil.Process() if worker == "lives" else None
    monkeypatch.setattr(
        revival.programs, "workers", lambda _: [SimpleNamespace(process=lambda: parent)]
    )
    family = [psutil.Process(one.pid) for one in started[:2]]
    monkeypatch.setattr(revival, "processes_of_runs", lambda _: {"one": family})
    for state in (StateType.RUNNING, StateType.CRASHED):
        server.runs = [run_in(state)]
        for _ in range(2):
            asyncio.run(looking.look())
        assert started[0].poll() is None
    server.runs = [run_in(StateType.CANCELLING)]
    for _ in range(2):
        asyncio.run(looking.look())
    if worker == "lives":
        with pytest.raises(subprocess.TimeoutExpired):
            started[0].wait(0.5)
    else:
        assert started[0].wait(10) == -15
        assert len(looking.told) == 1
    assert started[1].poll() is None  # its own children are its own to end first
    assert server.made == []
