"""The whole way, once: simulated frames on disk, through Prefect, to a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.schemas.objects import Artifact

from ewaldflow.flows.reduce import reduce
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.formats import write_series
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import Truth


@pytest.mark.usefixtures("prefect")
def test_from_frames_to_report_and_one_bad_series_harms_no_other(
    tmp_path: Path,
    simulated: tuple[RotationSeries, Truth],
    artifacts_of: Callable[[str | None], dict[str, Artifact]],
    said: Callable[[str | None], str],
) -> None:
    store, frames = tmp_path / "runs", tmp_path / "crystal"
    kept = ArtefactStore(store)
    write_series(simulated[0], frames, "SMV")
    first = reduce([frames], store, instrument="twin")
    (done,) = first.outcomes
    assert done.reason == ""
    assert done.headline is not None
    assert done.headline.n_lattices == 1
    assert done.headline.indexed_percent > 95
    assert not done.reused
    assert (kept.folder(done.report) / "files" / "report.html").stat().st_size > 100_000
    assert (kept.folder(done.reduction) / "files" / "XDS_ASCII.HKL").exists()
    run = kept.get(done.reduction).manifest.flow_run_id
    assert run
    assert kept.get(done.report).manifest.flow_run_id == run

    # One series is a phase: merged, with its page and the files to go on with.
    (phase,) = first.phases
    assert phase.reason == ""
    assert done.phase == phase.name == "phase 1"
    merged = kept.get(phase.merge)
    for name in ("merged.mtz", "merged.cif", "unmerged.mtz", "shelx.hkl", "xscale/XSCALE.INP"):
        assert (merged.files / name).stat().st_size > 0
    assert phase.figures["space_group"].startswith("P")
    assert phase.verdict.startswith("not tried")
    page = kept.folder(phase.page) / "files" / "index.html"
    assert "Merged intensities" in page.read_text(encoding="utf-8")
    refs = [item.artefact for item in kept.get(first.session).manifest.inputs]
    assert phase.page in refs

    # What somebody sees who looks on.
    pages = artifacts_of(run)
    assert pages["progress-reduce-session"].data == 100
    assert "session: done" in str(pages["progress-reduce-session"].description)
    bar = pages["completeness-session-phase-1"]
    assert bar.data == pytest.approx(100 * phase.figures["completeness"], abs=0.1)
    (row,) = json.loads(str(pages["series-session"].data))
    assert row["series"] == done.name
    assert str(kept.folder(first.session)) in str(pages["series-session"].description)
    (row,) = json.loads(str(pages["phases-session"].data))
    assert row["series"] == "1"
    text = str(pages["session-session"].data)
    assert text.count("](data:image/png;base64,iVBOR") == 2
    assert "tree of the series by their cells" in text
    assert f"`{page}`" in text

    assert f"{done.name}: {done.headline.lattice}" in said(run)
    assert "session, phase 1: " in said(run)

    # Again, with a folder of nothing, a lost one and one that lies: the first is there already.
    empty, lost, liar = tmp_path / "empty", tmp_path / "lost", tmp_path / "liar"
    empty.mkdir()
    liar.mkdir()
    (liar / "frame_0001.img").write_bytes(b"this is no SMV frame" * 100)
    again = reduce([empty, frames, lost, liar], store, instrument="twin", session="four")
    bad, good, gone, false = again.outcomes
    assert good.reused
    assert (good.report, good.reduction) == (done.report, done.reduction)
    for one, path in ((bad, empty), (gone, lost), (false, liar)):
        assert str(path) in one.reason
        assert "\n" not in one.reason
        assert one.report == ""
    page = (kept.folder(again.session) / "files" / "index.html").read_text(encoding="utf-8")
    assert "3 of 4 series could not be processed" in page
    assert not list(kept.verify())
