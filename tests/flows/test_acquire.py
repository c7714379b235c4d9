"""A small session on the twin, through Prefect: collected, reduced, kept, shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from prefect.client.schemas.objects import Artifact
from prefect.futures import PrefectFuture, wait

from ewaldflow.flows.acquire import Merges, acquire
from ewaldflow.hardware.lab import open_lab
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.report.outcome import SeriesOutcome
from ewaldflow.lib.serialred.acquisition import Acquisition
from ewaldflow.lib.serialred.calibration import CalibrationSet, ShiftCalibration
from ewaldflow.lib.serialred.session import SessionConfig, load_session
from ewaldflow.tasks.acquire import keep_calibrations

SEED = 1
Shown = Callable[[str | None], dict[str, Artifact]]


def session(**changes: object) -> SessionConfig:
    """One crystal over a small range."""
    content = load_session("twin-demo").model_dump()
    content["sample"] = None  # structures are solved in the tests of tasks
    content["rotation"] |= {"range_deg": (-12.0, 12.0)}
    content["stop"] |= {"crystals": 1}
    return SessionConfig.model_validate({**content, "name": "small", **changes})


def calibrations() -> CalibrationSet:
    """The true ones of the twin."""
    lab = open_lab("twin", seed=SEED)
    assert lab.twin is not None
    scope, truth, known = lab.microscope, lab.twin.truth, []

    def add(actuator: str, condition: str) -> None:
        imaging = condition == "imaging"
        known.append(
            ShiftCalibration(
                actuator,
                condition,  # type: ignore[arg-type]
                "um" if actuator == "stage" else "nm",
                truth.px_per_unit(actuator, condition),  # type: ignore[arg-type]
                1e-12 * np.eye(4),
                0.1,
                25,
                0,
                "twin",
                datetime.now(UTC),
                2500 if imaging else None,
                None if imaging else 300.0,
                150.0 if condition == "defocused" else None,
            )
        )

    scope.set_magnification(2500)
    add("stage", "imaging")
    add("beam_shift", "imaging")
    scope.set_mode("diffraction")
    for condition, focus_um in (("focused", 0.0), ("defocused", 150.0)):
        scope.lenses["diffraction_focus"].set(focus_um)
        for name in ("beam_shift", "image_shift_1", "image_shift_2"):
            add(name, condition)
    return CalibrationSet(tuple(known))


@pytest.mark.usefixtures("prefect")
def test_a_session_from_the_grid_to_a_cell(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    reference = keep_calibrations(calibrations(), "twin", store)
    done = acquire(session(), store)
    assert done.failure == ""
    assert done.done.ended == "The 1 crystals wanted were taken."
    (one,) = done.done.taken
    assert one.status == "taken"
    assert one.range_deg > 20
    (outcome,) = done.outcomes
    assert outcome.reason == ""
    assert outcome.headline is not None
    assert outcome.headline.n_lattices >= 1

    kept = ArtefactStore(store).get(done.acquisition)
    assert reference in [item.artefact for item in kept.manifest.inputs]
    content = yaml.safe_load((kept.files / "acquisition.yaml").read_text())
    assert Acquisition.from_dict(content) == done.done
    page = (kept.files / "index.html").read_text(encoding="utf-8")
    assert one.name in page
    link = f"../../../../report/{outcome.name}/"
    assert link in page
    assert not list(ArtefactStore(store).verify())
    for crystal in done.done.crystals:
        assert crystal.reason  # nobody is left without a word


@pytest.mark.long
def test_a_session_ends_when_its_phases_are_complete(
    tmp_path: Path, artifacts_of: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = Merges.after

    def patient(merges: Merges, series: Sequence[PrefectFuture[SeriesOutcome]]) -> str:
        # the twin collects faster than a computer reduces; an instrument does not
        wait(list(series))
        why = at_once(merges, series)
        merges.wait()
        return why

    monkeypatch.setattr(Merges, "after", patient)
    store = tmp_path / "runs"
    keep_calibrations(calibrations(), "twin", store)
    stop = {"crystals": 9, "completeness": 0.01, "completeness_series": 1}
    done = acquire(session(stop=stop), store, merge_every=1)
    # what was merged of the first counts once there is a second
    assert done.done.ended.startswith("Every phase is complete to 1 %: phase 1 to ")
    assert len(done.done.taken) == 2
    assert done.phases
    pages = artifacts_of(ArtefactStore(store).get(done.acquisition).manifest.flow_run_id)
    assert pages["progress-acquire-small"].data == 100
    assert pages["completeness-small-phase-1"].data > 1
    text = str(pages["grid-small"].data)
    assert "map of the grid" in text
    assert "](data:image/png;base64," in text
    assert str(ArtefactStore(store).folder(done.acquisition)) in text


@pytest.mark.usefixtures("prefect")
def test_without_calibrations_nothing_moves(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="calibrate-deflectors"):
        acquire(session(), tmp_path / "runs")
