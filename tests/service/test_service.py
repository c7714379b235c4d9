"""The whole service once: served, announced, reported, announced again, asked for, ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory import Laboratory, running, small_series


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    yield from running(tmp_path_factory.mktemp("laboratory"), compute_slots=1)


def test_an_announced_session_is_reported_once(laboratory: Laboratory) -> None:
    status = laboratory.ewaldflow("status")
    assert status.returncode == 0, status.stdout
    assert "does not run" not in status.stdout

    session = laboratory.session("day/grid_1", {"crystal_1": small_series(1)})
    sent = laboratory.notify(session)
    assert sent.returncode == 0
    (reply,) = (laboratory.folder / "spool" / "sent").glob("*.reply.txt")
    run = laboratory.ended(json.loads(reply.read_text())["run"])
    assert (run["state_type"], run["name"]) == ("COMPLETED", "day-grid_1")
    (report,) = laboratory.store.list("report")
    assert (report.files / "report.html").stat().st_size > 100_000
    assert laboratory.store.versions("session", "day-grid_1") == [1]

    # the same message once more, from a computer that forgot that it was sent
    again = laboratory.notify(session, spool="another spool")
    assert again.returncode == 0
    (reply,) = (laboratory.folder / "another spool" / "sent").glob("*.reply.txt")
    assert json.loads(reply.read_text())["run"] == run["id"]
    assert len(laboratory.runs()) == 1
    assert set(laboratory.versions().values()) == {1}

    # serving what is served changes nothing
    before = {name: one.process() for name, one in laboratory.programs().items()}
    assert laboratory.ewaldflow("serve").returncode == 0
    assert {name: one.process() for name, one in laboratory.programs().items()} == before

    ended = laboratory.ewaldflow("stop")
    assert ended.returncode == 0
    for name in before:
        assert name in ended.stdout
    assert laboratory.everything() == []
    assert laboratory.ewaldflow("status").returncode == 1


def test_settings_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    nowhere = Laboratory(tmp_path)
    refused = nowhere.ewaldflow("serve")
    assert refused.returncode == 2
    assert len((refused.stdout + refused.stderr).split("\n")) <= 3
    assert not (tmp_path / "serve.yaml").exists()
