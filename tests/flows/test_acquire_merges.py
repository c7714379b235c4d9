"""The session merged beside its collecting, and ended by completeness; reduction is a stand-in."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.futures import PrefectFuture, wait

from ewaldflow.flows import acquire as module
from ewaldflow.flows.acquire import Merges
from ewaldflow.flows.reduce import _THREADS
from ewaldflow.lib.report.outcome import PhaseOutcome, SeriesOutcome
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import SessionConfig, Stop

SESSION = SessionConfig(
    name="night",
    instrument="twin",
    area=Box(x_um=(-3, 3), y_um=(-3, 3)),
    stop=Stop(completeness=0.9, completeness_series=3),
)


@task
def series(number: int, fails: bool = False) -> SeriesOutcome:
    name = f"crystal-{number}"
    return SeriesOutcome(name, "", reduction="" if fails else f"reduction/{name}@v0001")


def phase(name: str, n: int, completeness: float) -> PhaseOutcome:
    return PhaseOutcome(name, figures={"series": n, "completeness": completeness, "d_min_A": 1.0})


@pytest.mark.usefixtures("prefect")
def test_merged_every_few_series_until_every_phase_is_complete(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    merged: list[int] = []

    def finish(outcomes: Sequence[SeriesOutcome], *_: object) -> object:
        n = len([one for one in outcomes if one.reduction])
        merged.append(n)
        if n == 2:
            raise RuntimeError("a merge that fails ends no session")
        # complete are phase 1 at 6 series, phase 2 at 8; of the third are never enough
        phases = (
            phase("phase 1", n - 3, min(1.0, 0.15 * n)),
            phase("phase 2", 3, 0.9 if n >= 8 else 0.2),
            phase("phase 3", 2, 0.1),
        )
        return (), phases, ""

    monkeypatch.setattr(module, "finish_session", finish)

    @flow(task_runner=_THREADS)
    def collect() -> list[str]:
        merges = Merges(SESSION, tmp_path, 2, None, None, None)
        said, running = [], list[PrefectFuture[SeriesOutcome]]()
        for number in range(12):
            running.append(series.submit(number, number == 3))  # type: ignore[arg-type]
            wait(running)
            said.append(merges.after(running))
            merges.wait()
            if said[-1]:
                break
        return said

    said = collect()
    # series 3 was not reduced; nobody merges until two more are there
    assert merged == [2, 4, 6, 8]
    assert [bool(one) for one in said] == [False] * 9 + [True]
    assert said[-1] == "Every phase is complete to 90 %: phase 1 to 100 %, phase 2 to 90 %."


@pytest.mark.usefixtures("prefect")
def test_the_collecting_never_waits_for_a_merge(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go, calls = threading.Event(), []

    def finish(outcomes: Sequence[SeriesOutcome], *_: object) -> object:
        calls.append(len(outcomes))
        assert go.wait(60)
        return (), (phase("phase 1", 5, 0.95),), ""

    monkeypatch.setattr(module, "finish_session", finish)

    @flow(task_runner=_THREADS)
    def collect() -> tuple[list[str], str]:
        merges = Merges(SESSION, tmp_path, 1, None, None, None)
        running, said = list[PrefectFuture[SeriesOutcome]](), []
        for number in range(5):
            running.append(series.submit(number))  # type: ignore[arg-type]
            wait(running)
            said.append(merges.after(running))  # the first merge hangs meanwhile
        go.set()
        merges.wait()
        return said, merges.after(running)

    said, last = collect()
    assert said == [""] * 5
    assert calls == [1]
    assert last.startswith("Every phase is complete to 90 %")
