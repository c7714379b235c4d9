"""Pages made again from the store, and two results side by side."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ewaldflow.cli import main
from ewaldflow.lib.artefacts import ArtefactStore, Recipe
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction import engine
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.report.outcome import SeriesOutcome, headline_from
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import write_series
from ewaldflow.lib.simulation.truth import Truth
from ewaldflow.tasks.comparison import comparison_artefact
from ewaldflow.tasks.pages import page_artefact
from ewaldflow.tasks.reduce import reduction_artefact
from ewaldflow.tasks.report import report_artefact, summarise_artefacts


@pytest.fixture(scope="module")
def store(
    simulated: tuple[RotationSeries, Truth],
    reduction: Reduction,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A store with a series, two reductions of it, and a session of the first."""
    root = tmp_path_factory.mktemp("store") / "runs"
    kept = ArtefactStore(root)
    with kept.draft(Recipe(kind="series", name="demo")) as draft:
        write_series(draft.arrays, simulated[0])
        draft.publish()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "reduce_series", lambda *_: reduction)
        ref = reduction_artefact("series/demo", root, None)
        reduction_artefact("series/demo", root, ReductionConfig(d_min_A=1.1))
    figures: dict[str, Any] = kept.get(ref).manifest.figures_of_merit
    good = SeriesOutcome(
        "demo", "x", headline_from(figures["headline"]), "fine", ref, report_artefact(ref, root)
    )
    failed = SeriesOutcome("bad", "y", reason="no frames <here>")
    summarise_artefacts([good, failed], root, "monday")
    with kept.draft(Recipe(kind="odd", name="thing", configuration={"of": "<b>"})) as draft:
        (draft.files / "table.csv").write_text("a,b\n")
        draft.figures_of_merit = {"score": 0.123456789}
        draft.publish()
    return root


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("series/demo", "frames, evenly over the series"),
        ("reduction/demo@v0001", "Cell and lattice"),
        ("report/demo", "Cell and lattice"),
        ("session/monday", "no frames &lt;here&gt;"),
        ("odd/thing", 'data-value="0.123456789">0.123457'),
    ],
)
def test_every_kind_has_a_page_with_its_history(ref: str, words: str, store: Path) -> None:
    page = page_artefact(ref, store)
    text = page.read_text(encoding="utf-8")
    assert words in text
    assert 'class="lineage"' in text
    assert page_artefact(ref, store) == page  # made once


def test_a_session_made_again_leads_to_the_same_reports(store: Path) -> None:
    made = store / "session/monday/v0001/files/index.html"
    again = page_artefact("session/monday", store)
    link = '../../../../report/demo/v0001/files/report.html">demo</a>'
    assert link in made.read_text(encoding="utf-8")
    assert link in again.read_text(encoding="utf-8")
    assert (again.parent / link.partition('"')[0]).is_file()


def test_the_same_ids_give_the_same_bytes_in_another_store(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "runs", ignore=shutil.ignore_patterns("page", "comparison"))
    for ref in ("session/monday", "series/demo", "odd/thing"):
        one, other = page_artefact(ref, store), page_artefact(ref, tmp_path / "runs")
        assert one != other
        assert one.read_bytes() == other.read_bytes()


def test_two_reductions_by_their_settings(store: Path) -> None:
    page = comparison_artefact("reduction/demo@v0001", "reduction/demo@v0002", store)
    text = page.read_text(encoding="utf-8")
    assert "<code>d_min_A</code></td><td></td><td>1.1</td>" in text
    assert "1 choice differs" in text
    assert comparison_artefact("reduction/demo@v0001", "reduction/demo@v0002", store) == page


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        ("reduction/demo@v0001", "reduction/demo@v0001", "the same twice"),
        ("reduction/demo@v0001", "report/demo", "the same twice"),  # a page is of its reduction
        ("reduction/demo", "series/demo", "a series, expected a reduction"),
        ("reduction/demo", "reduction/nothing", "no such artefact"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    a: str, b: str, line: str, store: Path
) -> None:
    with pytest.raises(UserError, match=line):
        comparison_artefact(a, b, store)


def test_on_the_command_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "odd/thing", "--store", str(store)]) == 0
    path = capsys.readouterr().out.strip().removeprefix("odd/thing@v0001: ")
    assert Path(path).read_text(encoding="utf-8").startswith("<!doctype html>")
    before = len(ArtefactStore(store).refs())
    assert main(["report", "series/demo", "odd/nothing", "--store", str(store)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(ArtefactStore(store).refs()) == before
