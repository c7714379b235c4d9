"""The records of Prefect in PostgreSQL, by one setting."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from laboratory import Laboratory, running, small_series, until

from ewaldflow.service.keeper import answers

DATABASE = os.environ.get("EWALDFLOW_POSTGRESQL", "")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not DATABASE,
        reason="EWALDFLOW_POSTGRESQL does not name an empty database, postgresql+asyncpg://...",
    ),
]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("postgresql")
    yield from running(folder, compute_slots=1, database=DATABASE)


def test_a_session_is_reported_also_if_the_server_is_killed(laboratory: Laboratory) -> None:
    frames = {f"crystal_{number}": small_series(number, frames=12) for number in (1, 2)}
    assert laboratory.notify(laboratory.session("day/grid", frames)).returncode == 0
    (run,) = laboratory.runs()
    until(lambda: laboratory.run(run["id"])["state_type"] == "RUNNING", 600, "start")
    server = laboratory.programs()["server"].process()
    assert server is not None
    for one in (*server.children(recursive=True), server):
        one.kill()
    until(lambda: not answers(laboratory.settings), 60, "end of the server")
    until(lambda: answers(laboratory.settings), 600, "new server")
    assert laboratory.ended(run["id"], 1800)["state_type"] == "COMPLETED"
    assert laboratory.store.versions("session", "day-grid") == [1]
    assert not list(laboratory.settings.home.rglob("*.db"))
