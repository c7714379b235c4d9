"""Orientations through Prefect; one bad series stops no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ewaldflow.flows.orient import orient
from ewaldflow.lib.artefacts import ArtefactStore, Input, Recipe
from ewaldflow.lib.orientation.config import OrientationConfig
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.reduction.storage import SCHEMA_VERSION, write_reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import write_series
from ewaldflow.lib.simulation import Truth


@pytest.mark.usefixtures("prefect")
def test_good_and_bad_reductions(
    tmp_path: Path, simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    store = ArtefactStore(tmp_path / "runs")
    with store.draft(Recipe(kind="series", name="demo")) as draft:
        write_series(draft.arrays, simulated[0])
        draft.publish()
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    for name, lattices in (("demo", (lattice,)), ("nothing", ())):
        made_from = (Input.from_artefact("series", store.get("series/demo")),)
        recipe = Recipe(
            kind="reduction", name=name, schema_version=SCHEMA_VERSION, inputs=made_from
        )
        with store.draft(recipe) as draft:
            write_reduction(draft.arrays, replace(reduction, lattices=lattices))
            draft.publish()

    config = OrientationConfig(published=False, iterate=1)
    done = orient(["reduction/nothing", "reduction/demo", "reduction/lost"], store.root, config)
    bad, good, lost = done.outcomes
    assert "no lattice" in bad.reason
    assert "lost" in lost.reason
    assert good.reason == ""
    # integrated again once, and refined on that
    assert good.final == "reduction/demo@v0002"
    artefact = store.get(good.orientation)
    assert artefact.manifest.inputs[0].artefact == good.final
    assert artefact.manifest.flow_run_id
    page = (store.get(done.study).files / "index.html").read_text(encoding="utf-8")
    assert "no lattice" in page

    nothing = orient(["reduction/nothing"], store.root)
    assert nothing.study == ""
