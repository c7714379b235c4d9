"""Announced series: waited for until they are whole, and what became of them found again."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.report.outcome import SeriesOutcome
from ewaldflow.lib.series.announced import AnnouncedSeries, series_below
from ewaldflow.tasks.arrivals import (
    keep_outcome,
    known_outcome,
    merge_is_due,
    outcomes_of,
    outcomes_of_project,
    wait_for,
)

CHOICES = {"instrument": None, "reduction": None}
DIGEST = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> Path:
    ArtefactStore(tmp_path / "runs").create()
    return tmp_path / "runs"


def announced(folder: Path, frames: dict[str, bytes]) -> AnnouncedSeries:
    place = folder / "crystal"
    place.mkdir(parents=True)
    for name, content in frames.items():
        (place / name).write_bytes(content)
    (one,) = series_below(folder)
    return one


def failed(name: str, reason: str = "no spots") -> SeriesOutcome:
    return SeriesOutcome(name, f"/data/{name}", reason=reason)


def test_whole_frames_are_not_waited_for(tmp_path: Path) -> None:
    one = announced(tmp_path, {"1.img": b"one", "2.img": b"two2"})
    assert (one.files, one.bytes) == (2, 7)
    began = time.monotonic()
    wait_for(tmp_path, one, 60)
    assert time.monotonic() - began < 1


def test_frames_on_their_way_are_waited_for(tmp_path: Path) -> None:
    one = announced(tmp_path, {"1.img": b"one", "2.img": b"two2"})
    late = tmp_path / "crystal" / "2.img"
    late.unlink()

    def copy() -> None:
        for part in (b"tw", b"two2"):  # first a part of it
            time.sleep(0.3)
            late.write_bytes(part)

    copying = threading.Thread(target=copy)
    copying.start()
    wait_for(tmp_path, one, 4)
    copying.join()
    assert late.read_bytes() == b"two2"


def test_frames_that_do_not_come_are_given_up(tmp_path: Path) -> None:
    one = announced(tmp_path, {"1.img": b"one", "2.img": b"two2"})
    (tmp_path / "crystal" / "2.img").unlink()
    with pytest.raises(UserError, match=r"1 files of 3 bytes.*2 files of 7 bytes"):
        wait_for(tmp_path, one, 0.3)


def test_other_frames_of_the_same_size_are_refused(tmp_path: Path) -> None:
    one = announced(tmp_path, {"1.img": b"one"})
    (tmp_path / "crystal" / "1.img").write_bytes(b"eno")
    with pytest.raises(UserError, match="other bytes"):
        wait_for(tmp_path, one, 60)


def test_what_became_of_a_series_is_known_by_frames_and_choices(store: Path) -> None:
    keep_outcome(failed("s-1"), "s", DIGEST, CHOICES, store)
    assert known_outcome("s", "s-1", DIGEST, CHOICES, store) == failed("s-1")
    for session, name, digest, choices in (
        ("other", "s-1", DIGEST, CHOICES),
        ("s", "s-2", DIGEST, CHOICES),
        ("s", "s-1", "b" * 64, CHOICES),
        ("s", "s-1", DIGEST, {**CHOICES, "instrument": "twin"}),
    ):
        assert known_outcome(session, name, digest, choices, store) is None


def test_the_latest_outcome_of_each_series_counts(store: Path) -> None:
    keep_outcome(failed("s-1"), "s", DIGEST, CHOICES, store)
    keep_outcome(failed("s-1", "better frames"), "s", "b" * 64, CHOICES, store)
    keep_outcome(failed("s-2"), "s", DIGEST, CHOICES, store)
    keep_outcome(failed("t-1"), "t", DIGEST, CHOICES, store)
    assert outcomes_of("s", store) == (failed("s-1", "better frames"), failed("s-2"))
    assert [one.name for one in outcomes_of_project("", store)] == ["s-1", "s-2", "t-1"]
    assert outcomes_of("u", store) == ()


@pytest.mark.parametrize(
    ("reduced", "lost", "merged", "due"),
    [(3, 9, 0, False), (4, 0, 0, True), (7, 0, 4, False), (8, 0, 4, True), (0, 9, 0, False)],
)
def test_a_growing_session_is_merged_every_few_series(
    reduced: int, lost: int, merged: int, due: bool
) -> None:
    good = [replace(failed(f"s-{k}", ""), reduction="reduction/x@v0001") for k in range(reduced)]
    bad = [failed(f"l-{k}") for k in range(lost)]
    assert merge_is_due([*good, *bad], merged, 4) is due
