"""From reductions to phases, merged intensities and a structure, without Prefect."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import gemmi
import pytest

from ewaldflow.cli import main
from ewaldflow.lib.artefacts import ArtefactStore, Input, Recipe
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.config import MergingConfig
from ewaldflow.lib.phases.cells_file import read_cells
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.storage import write_reduction
from ewaldflow.lib.report.outcome import PhaseOutcome
from ewaldflow.lib.sample import load_sample
from ewaldflow.lib.series.storage import write_series
from ewaldflow.lib.simulation import (
    Crystal,
    default_geometry,
    random_rotation,
    simulate_series,
    zeolite,
)
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.tasks.merge import merge_artefact
from ewaldflow.tasks.part import merge_part_artefact
from ewaldflow.tasks.phases import known_cells_wanted, left_of, members_of, phases_artefact
from ewaldflow.tasks.report import phase_report_artefact
from ewaldflow.tasks.solve import solution_artefact

CONFIG = MergingConfig()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three reductions of mordenite."""
    root = tmp_path_factory.mktemp("store") / "runs"
    kept = ArtefactStore(root)
    for seed in (1, 2, 3):
        series, _ = simulate_series(
            [Crystal(zeolite("MOR"), random_rotation([seed, 0]))],
            geometry=default_geometry(),
            n_frames=100,
            angle_start_deg=-30.0,
            step_deg=0.6,
            seed=seed,
            name=f"crystal {seed}",
        )
        with kept.draft(Recipe(kind="series", name=f"crystal-{seed}")) as draft:
            write_series(draft.arrays, series)
            made = draft.publish()
        recipe = Recipe(
            kind="reduction", name=f"crystal-{seed}",
            inputs=(Input.from_artefact("series", made),),
        )  # fmt: skip
        with kept.draft(recipe) as draft:
            write_reduction(draft.arrays, reduce_series(series))
            draft.publish()
    return root


@pytest.fixture(scope="module")
def phases(store: Path) -> str:
    reductions = {f"crystal-{i}": f"reduction/crystal-{i}@v0001" for i in (1, 2, 3)}
    assert known_cells_wanted(reductions, store, CONFIG) == {}
    return phases_artefact(reductions, {}, store, "night", CONFIG)


@pytest.fixture(scope="module")
def merged(phases: str, store: Path) -> str:
    return merge_artefact(phases, "phase 1", store, CONFIG, load_sample("mordenite"))


def test_series_are_sorted_into_cells_that_can_be_read(phases: str, store: Path) -> None:
    artefact = ArtefactStore(store).get(phases)
    assert artefact.manifest.figures_of_merit["structures"] == {"phase 1": 3}
    assert left_of(phases, store) == {}
    assert members_of(phases, store)["crystal-2"] == ("phase 1", "reduction/crystal-2@v0001")
    assert [one.name for one in read_cells(artefact.files / "cells.yaml")] == [
        "crystal-1", "crystal-2", "crystal-3",
    ]  # fmt: skip
    assert (artefact.files / "cells.xlsx").stat().st_size > 0


def test_a_phase_is_merged_with_files_to_go_on_with(merged: str, store: Path) -> None:
    artefact = ArtefactStore(store).get(merged)
    figures = artefact.manifest.figures_of_merit
    assert figures["series"] == 3
    assert figures["space_group"] == "C m c m"
    assert gemmi.read_mtz_file(str(artefact.files / "merged.mtz")).spacegroup.hm == "C m c m"
    assert len(gemmi.read_mtz_file(str(artefact.files / "unmerged.mtz")).batches) == 300
    assert "SFAC" in (artefact.files / "shelx.ins").read_text()
    inputs = sorted(p.name for p in (artefact.files / "xscale").glob("*.HKL"))
    assert inputs == [f"000{i}_XDS_ASCII.HKL" for i in (1, 2, 3)]
    row = PhaseOutcome("phase 1", merged, figures=figures, verdict="solved").row()
    assert row["series"] == "3"
    assert merge_artefact("phases/night", "phase 1", store, CONFIG, load_sample("mordenite")) == (
        merged
    )


def test_an_unknown_structure_is_told_in_one_line(phases: str, store: Path) -> None:
    with pytest.raises(UserError, match="no structure 'phase 7', expected one of phase 1"):
        merge_artefact(phases, "phase 7", store, CONFIG)


def test_the_command_of_a_branch_merges_it_with_the_figures_that_the_page_shows(
    merged: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ArtefactStore(store).get(phase_report_artefact(merged, "", "not tried", {}, store))
    text = (page.files / "index.html").read_text(encoding="utf-8")
    found = re.search(r'id="branches">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    branches = json.loads(found.group(1))
    assert len(branches) == 2
    pair = min(branches, key=lambda one: len(one["members"]))["shown"]
    program, *arguments = shlex.split(pair["command"])
    assert program == "ewaldflow"
    assert arguments[:2] == ["merge", merged]
    assert len(arguments) == 4
    assert main([*arguments, "--store", str(store)]) == 0
    assert "merge/night-phase-1-part@v0001, from 2 series" in capsys.readouterr().out
    part = ArtefactStore(store).get("merge/night-phase-1-part@v0001").manifest
    figures = part.figures_of_merit
    assert figures["series"] == 2
    assert f"{figures['cc_half']:.4f}" == pair["cc_half"]
    assert f"{100 * figures['completeness']:.1f} %" == pair["completeness"]
    assert f"{figures['multiplicity']:.1f}" == pair["multiplicity"]
    assert f"{figures['r_meas']:.3f}" == pair["r_meas"]
    assert figures["space_group"] == "C m c m"
    # the same series in another order are the same part
    assert merge_part_artefact(merged, arguments[:1:-1], store) == part.ref


def test_what_cannot_be_merged_in_part_is_told(merged: str, phases: str, store: Path) -> None:
    with pytest.raises(UserError, match="'crystal-9', expected one of crystal-1, crystal-2"):
        merge_part_artefact(merged, ["crystal-9"], store)
    with pytest.raises(UserError, match="a phases, expected a merge"):
        merge_part_artefact(phases, ["crystal-1"], store)


@pytest.mark.skipif(not cctbx_installed(), reason="cctbx is not installed (the extra 'solve')")
def test_the_structure_comes_out_and_all_of_it_stands_on_a_page(merged: str, store: Path) -> None:
    solution = solution_artefact(merged, store, load_sample("mordenite"))
    artefact = ArtefactStore(store).get(solution)
    assert artefact.manifest.figures_of_merit["verdict"] == "solved"
    found = gemmi.read_small_structure(str(artefact.files / "solution.cif"))
    assert [site.element.name for site in found.sites].count("Si") == 4
    page = ArtefactStore(store).get(phase_report_artefact(merged, solution, "solved", {}, store))
    text = (page.files / "index.html").read_text(encoding="utf-8")
    for words in ("C m c m", "Charge flipping", "Coverage", "shelx.hkl", "Why C m c m"):
        assert words in text
