from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ewaldflow.lib.artefacts import ArtefactStore, Recipe
from ewaldflow.lib.reduction import engine
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.report.outcome import SeriesOutcome, headline_from
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import write_series
from ewaldflow.lib.simulation.truth import Truth
from ewaldflow.tasks.progress import listening, tell
from ewaldflow.tasks.reduce import reduction_artefact
from ewaldflow.tasks.report import report_artefact, summarise_artefacts
from ewaldflow.tasks.workers import carry_out, workers


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, reduction: Reduction) -> list[Any]:
    """Puts the known reduction in place of the engine's; the configurations it was asked for."""
    asked: list[Any] = []

    def known(series: RotationSeries, config: Any, progress: Any) -> Reduction:
        asked.append(config)
        progress("index", 0.5)
        return reduction

    monkeypatch.setattr(engine, "reduce_series", known)
    return asked


@pytest.fixture(scope="module")
def stored(
    simulated: tuple[RotationSeries, Truth], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with the simulated series as series/demo@v0001."""
    root = tmp_path_factory.mktemp("store") / "runs"
    with ArtefactStore(root).draft(Recipe(kind="series", name="demo")) as draft:
        write_series(draft.arrays, simulated[0])
        draft.publish()
    return root


def test_reduction_is_kept_with_files_and_figures(stored: Path, calls: list[Any]) -> None:
    ref = reduction_artefact("series/demo", stored, None)
    artefact = ArtefactStore(stored).get(ref)
    assert (artefact.files / "XDS_ASCII.HKL").read_text().startswith("!FORMAT=XDS_ASCII")
    manifest = artefact.manifest
    assert manifest.configuration["engine"] == "builtin"
    assert manifest.inputs[0].artefact == "series/demo@v0001"
    assert headline_from(manifest.figures_of_merit["headline"]).lattice == "orthorhombic P"
    assert manifest.figures_of_merit["statistics"]["r_merge"] == 0.071


def test_a_finished_stage_is_not_run_again(stored: Path, calls: list[Any]) -> None:
    config = ReductionConfig(d_min_A=0.9)
    first = reduction_artefact("series/demo", stored, config)
    assert reduction_artefact("series/demo", stored, config) == first
    assert len(calls) == 1
    page = report_artefact(first, stored)
    assert report_artefact(first, stored) == page
    other = reduction_artefact("series/demo", stored, ReductionConfig(d_min_A=1.1))
    assert other != first
    assert [one.d_min_A for one in calls] == [0.9, 1.1]


def test_report_can_be_followed_to_its_inputs(stored: Path, calls: list[Any]) -> None:
    reduction = reduction_artefact("series/demo", stored, None)
    artefact = ArtefactStore(stored).get(report_artefact(reduction, stored))
    page = (artefact.files / "report.html").read_text(encoding="utf-8")
    series = ArtefactStore(stored).get("series/demo")
    assert series.digest[:16] in page
    assert "series/demo@v0001" in page
    assert [item.artefact for item in artefact.manifest.inputs] == [
        reduction, "series/demo@v0001",
    ]  # fmt: skip


def test_session_links_lead_to_the_reports(stored: Path, calls: list[Any]) -> None:
    page = report_artefact(reduction_artefact("series/demo", stored, None), stored)
    outcomes = [
        SeriesOutcome("demo", "x/demo", report=page, reason=""),
        SeriesOutcome("lost", "x/lost", reason="x/lost: found no frames, expected some; look"),
    ]
    ref = summarise_artefacts(outcomes, stored, "monday")
    assert summarise_artefacts(outcomes, stored, "monday") == ref
    files = ArtefactStore(stored).get(ref).files
    text = (files / "index.html").read_text(encoding="utf-8")
    links = [part.split('"')[0] for part in text.split('<a href="')[1:]]
    (link,) = (one for one in links if not one.startswith("#"))
    assert (files / link).resolve().is_file()
    assert "x/lost: found no frames" in text


def test_progress_reaches_listeners_and_only_while_they_listen(
    stored: Path, calls: list[Any]
) -> None:
    heard: list[tuple[str, str, float]] = []
    with listening(lambda *told: heard.append(told)):
        reduction_artefact("series/demo", stored, ReductionConfig(d_min_A=1.2))
    tell("demo", "too late")
    assert heard == [("demo", "index", 0.5)]


def _halved(n: int) -> float:
    return n / 2


def test_work_is_done_here_or_by_workers() -> None:
    with workers(1) as address:
        assert address is None
        assert carry_out(address, _halved, 3) == 1.5
    with workers(2) as address:
        assert address is not None
        assert carry_out(address, divmod, 7, 2) == (3, 1)
