"""Which flow runs are dead, seen by their processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from ewaldflow.service.revival import processes_of_runs, works

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
    assert works(seen["one"])
    assert not works(seen["two"])  # only what it left behind
    assert not works([])
    started[0].kill()
    started[0].wait()
    assert not works(seen["one"])
