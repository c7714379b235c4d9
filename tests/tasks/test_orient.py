"""Orientations as artefacts: kept, found again, handed over, and compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.artefacts import ArtefactStore, Input, Recipe
from ewaldflow.lib.artefacts.records import read_record
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.config import OrientationConfig
from ewaldflow.lib.orientation.series import OrientedSeries
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.reduction.storage import SCHEMA_VERSION, read_reduction, write_reduction
from ewaldflow.lib.report.outcome import headline_from
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import write_series
from ewaldflow.lib.simulation.truth import Truth
from ewaldflow.tasks.orient import goniometer_artefact, integrated_again, orientation_artefact


def keep(store: ArtefactStore, name: str, reduction: Reduction) -> str:
    """Write a reduction of series/demo."""
    source = store.get("series/demo")
    recipe = Recipe(kind="reduction", name=name, schema_version=SCHEMA_VERSION,
                    inputs=(Input.from_artefact("series", source),),
                    configuration={"of": name})  # fmt: skip
    with store.draft(recipe) as draft:
        write_reduction(draft.arrays, reduction)
        return draft.publish().ref


@pytest.fixture(scope="module")
def stored(
    simulated: tuple[RotationSeries, Truth],
    reduction: Reduction,
    tmp_path_factory: pytest.TempPathFactory,
) -> ArtefactStore:
    """A store with the simulated series, its reduction, and one that found nothing."""
    store = ArtefactStore(tmp_path_factory.mktemp("store") / "runs")
    with store.draft(Recipe(kind="series", name="demo")) as draft:
        write_series(draft.arrays, simulated[0])
        draft.publish()
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    keep(store, "demo", replace(reduction, lattices=(lattice,)))
    keep(store, "nothing", replace(reduction, lattices=()))
    return store


@pytest.fixture(scope="module")
def oriented(stored: ArtefactStore) -> str:
    return orientation_artefact("reduction/demo@v0001", stored.root)


def test_orientations_are_kept_and_read_back(stored: ArtefactStore, oriented: str) -> None:
    artefact = stored.get(oriented)
    done = read_record(artefact.arrays, OrientedSeries)
    (lattice,) = done.lattices
    assert done.instrument == "simulated"
    assert lattice.found.method == "stage B"
    assert lattice.found.rotation.shape == (60, 3, 3)
    np.testing.assert_allclose(np.linalg.det(lattice.found.rotation), 1)
    assert lattice.study is not None
    # the simulated goniometer is perfect
    assert lattice.study.jitter_along_deg < 0.005
    figures = artefact.manifest.figures_of_merit
    assert figures["frames"] == 60
    assert figures["rotation_scale"] == pytest.approx(1, abs=1e-3)
    assert figures["half_along_default_deg"] < figures["half_along_published_deg"]
    assert [item.role for item in artefact.manifest.inputs] == ["reduction", "series"]


def test_files_are_handed_over(stored: ArtefactStore, oriented: str) -> None:
    files = stored.get(oriented).files
    names = {path.name for path in files.iterdir()}
    assert names == {"report.html", "frames.csv", "orientations.cif_pets", "orientations.xds",
                     "scan_varying.expt"}  # fmt: skip
    with (files / "frames.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 60
    page = (files / "report.html").read_text(encoding="utf-8")
    for heading in ("Orientations", "How sure they are", "The goniometer", "Provenance"):
        assert f"<h2>{heading}</h2>" in page
    assert 'href="frames.csv"' in page


def test_a_finished_one_is_not_made_again(stored: ArtefactStore, oriented: str) -> None:
    assert orientation_artefact("reduction/demo@v0001", stored.root) == oriented
    # how often to integrate again is no matter of the orientations of one reduction
    config = OrientationConfig(iterate=2)
    assert orientation_artefact("reduction/demo@v0001", stored.root, config) == oriented


def test_integrated_again_is_another_reduction(stored: ArtefactStore) -> None:
    ref = integrated_again("reduction/demo@v0001", stored.root)
    assert integrated_again("reduction/demo@v0001", stored.root) == ref
    artefact = stored.get(ref)
    done = read_reduction(artefact.arrays)
    assert "integrated again" in done.notes[-1]
    assert len(done.lattices[0].reflections) > 1000
    assert (artefact.files / "XDS_ASCII.HKL").exists()
    assert headline_from(artefact.manifest.figures_of_merit["headline"]).n_lattices == 1
    assert [item.role for item in artefact.manifest.inputs] == ["series", "reduction"]


def test_a_reduction_of_nothing_is_refused(stored: ArtefactStore) -> None:
    with pytest.raises(UserError, match="no lattice"):
        orientation_artefact("reduction/nothing", stored.root)
    assert not stored.refs("orientation") or "nothing" not in str(stored.refs("orientation"))


def test_sessions_are_compared_with_what_was_kept(
    stored: ArtefactStore, oriented: str, reduction: Reduction
) -> None:
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    keep(stored, "later", replace(reduction, lattices=(lattice,)))
    later = orientation_artefact("reduction/later", stored.root, OrientationConfig(published=False))
    study = stored.get(goniometer_artefact([later], stored.root, "twin", {"bad": "why <it> is"}))
    assert {item.artefact for item in study.manifest.inputs} == {later, oriented}
    page = (study.files / "index.html").read_text(encoding="utf-8")
    assert "why &lt;it&gt; is" in page
    assert "Drift of simulated" in page
    link = page.split('href="../../../../')[1].split('"')[0]
    assert (Path(stored.root) / link).exists()
