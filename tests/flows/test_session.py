"""A session that an instrument announced: only what is missing is done, by one run at a time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ewaldflow.flows import session as module
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.report.outcome import SeriesOutcome
from ewaldflow.lib.series.announced import AnnouncedSeries, series_below

CHOICES = {"instrument": None, "reduction": None}


class Reducing:
    """Takes the place of the reduction of a series; every one ends with `reason`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.reason = "no spots"
        self.takes_s = 0.0

    def __call__(self, name: str, source: Path, *_: Any) -> SeriesOutcome:
        time.sleep(self.takes_s)
        self.done.append(name)
        return SeriesOutcome(name, str(source), reason=self.reason)


@pytest.fixture
def reducing(monkeypatch: pytest.MonkeyPatch) -> Reducing:
    made = Reducing()
    monkeypatch.setattr(module, "one_series", made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    ArtefactStore(tmp_path / "runs").create()
    return tmp_path / "runs"


def frames(folder: Path, *crystals: str) -> tuple[AnnouncedSeries, ...]:
    for one in crystals:
        (folder / one).mkdir(parents=True)
        (folder / one / "1.img").write_bytes(one.encode())
    return series_below(folder)


def arrived(folder: Path, one: AnnouncedSeries, store: Path) -> SeriesOutcome:
    return module.arrived_series.fn("s", folder, one, store, CHOICES, None, 0.2, None)


@pytest.mark.usefixtures("prefect")
def test_a_session_announced_again_does_what_is_missing(
    tmp_path: Path, store: Path, reducing: Reducing
) -> None:
    folder = tmp_path / "s"
    series = frames(folder, "a", "b", "c")
    (folder / "b" / "1.img").rename(tmp_path / "away")
    first = module.session(folder, series, store, "s", arrival_limit_s=0.2)
    assert reducing.done == ["s-a", "s-c"]
    assert [one.name for one in first.outcomes] == ["s-a", "s-b", "s-c"]
    assert "as announced" in first.outcomes[1].reason
    assert first.session == "session/s@v0001"

    (tmp_path / "away").rename(folder / "b" / "1.img")
    again = module.session(folder, series, store, "s", arrival_limit_s=0.2)
    assert reducing.done == ["s-a", "s-c", "s-b"]
    assert [one.reason for one in again.outcomes] == ["no spots"] * 3
    assert again.session == "session/s@v0002"

    # other choices are another matter, but only while they are asked for
    module.session(folder, series[:1], store, "s", closed=False, instrument="twin")
    assert reducing.done[3:] == ["s-a"]


@pytest.mark.usefixtures("prefect")
def test_an_unfinished_session_has_no_page_before_it_is_due(
    tmp_path: Path, store: Path, reducing: Reducing
) -> None:
    series = frames(tmp_path / "s", "a")
    done = module.session(tmp_path / "s", series, store, "s", closed=False)
    assert (done.session, done.phases) == ("", ())
    assert reducing.done == ["s-a"]
    assert ArtefactStore(store).refs("session") == []


def test_a_fault_of_ours_is_tried_again(tmp_path: Path, store: Path, reducing: Reducing) -> None:
    (one,) = frames(tmp_path / "s", "a")
    reducing.reason = "unexpected KeyError: 'x'"
    assert arrived(tmp_path / "s", one, store).reason.startswith("unexpected")
    reducing.reason = "no spots"
    assert arrived(tmp_path / "s", one, store).reason == "no spots"
    assert arrived(tmp_path / "s", one, store).reason == "no spots"
    assert reducing.done == ["s-a", "s-a"]


def test_two_runs_at_once_reduce_a_series_once(
    tmp_path: Path, store: Path, reducing: Reducing
) -> None:
    (one,) = frames(tmp_path / "s", "a")
    reducing.takes_s = 0.5
    found: list[SeriesOutcome] = []
    runs = [
        threading.Thread(target=lambda: found.append(arrived(tmp_path / "s", one, store)))
        for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [outcome.reason for outcome in found] == ["no spots"] * 3
    assert reducing.done == ["s-a"]


def test_a_session_of_one_series_bears_its_own_name(
    tmp_path: Path, store: Path, reducing: Reducing
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.img").write_bytes(b"x")
    (one,) = series_below(tmp_path / "s")
    assert arrived(tmp_path / "s", one, store).name == "s"
