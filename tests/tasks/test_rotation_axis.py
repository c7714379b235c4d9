"""The rotation axis as an artefact, from a reduction and from files of other programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ewaldflow.lib.artefacts import ArtefactStore, Input, Recipe
from ewaldflow.lib.artefacts.records import read_record
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.rotation_axis import AxisCalibration, azimuth_deg
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.reduction.storage import SCHEMA_VERSION, write_reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import write_series
from ewaldflow.lib.simulation.truth import Truth
from ewaldflow.tasks.rotation_axis import axis_artefact


@pytest.fixture(scope="module")
def store(
    simulated: tuple[RotationSeries, Truth],
    reduction: Reduction,
    tmp_path_factory: pytest.TempPathFactory,
) -> ArtefactStore:
    store = ArtefactStore(tmp_path_factory.mktemp("store") / "runs")
    with store.draft(Recipe(kind="series", name="demo")) as draft:
        write_series(draft.arrays, simulated[0])
        draft.publish()
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    for name, lattices in (("demo", (lattice,)), ("nothing", ())):
        recipe = Recipe(
            kind="reduction", name=name, schema_version=SCHEMA_VERSION,
            inputs=(Input.from_artefact("series", store.get("series/demo")),),
        )  # fmt: skip
        with store.draft(recipe) as draft:
            write_reduction(draft.arrays, replace(reduction, lattices=lattices))
            draft.publish()
    return store


def test_an_axis_is_kept_and_told(
    store: ArtefactStore, simulated: tuple[RotationSeries, Truth], tmp_path: Path
) -> None:
    lost = tmp_path / "INTEGRATE.HKL"
    lost.write_text("!nothing\n")
    ref = axis_artefact(["reduction/demo", "reduction/nothing", str(lost)], store.root, "axis")
    artefact = store.get(ref)
    done = read_record(artefact.arrays, AxisCalibration)
    assert done.azimuth_deg == pytest.approx(azimuth_deg(simulated[1].geometry), abs=0.02)
    assert artefact.manifest.figures_of_merit["failed"] == 2
    assert any("reduction/nothing" in note and "no lattice" in note
               for note in artefact.manifest.notes)  # fmt: skip
    said = yaml.safe_load((artefact.files / "axis.yaml").read_text())
    assert said["rotation_axis"] == pytest.approx(done.axis, abs=1e-6)
    page = (artefact.files / "report.html").read_text()
    assert "ROTATION_AXIS=" in page
    assert "no lattice" in page
    same = axis_artefact(["reduction/demo", "reduction/nothing", str(lost)], store.root, "axis")
    assert same == ref


def test_what_is_no_series(store: ArtefactStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no series that tells an axis"):
        axis_artefact(["reduction/nothing"], store.root, "axis")
    with pytest.raises(UserError, match="an artefact of kind 'series'"):
        axis_artefact(["series/demo"], store.root, "axis")
    with pytest.raises(UserError, match="no such file"):
        axis_artefact([str(tmp_path / "none.pts")], store.root, "axis")
