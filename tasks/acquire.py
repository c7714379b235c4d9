"""acquire: calibrations of an instrument, and what a session did, as artefacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from prefect import task
from prefect.cache_policies import NO_CACHE

from ..hardware.calibrate_deflectors import DeflectorCalibration, calibrate_deflectors
from ..hardware.lab import Lab
from ..hardware.serialred.contrast import go_where_there_is_contrast
from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.errors import UserError
from ..lib.formats.series_record import NAME as RECORD
from ..lib.report.outcome import OUTCOMES, PhaseOutcome, SeriesOutcome, outcomes_text
from ..lib.serialred.acquisition import Acquisition, CrystalOutcome
from ..lib.serialred.calibration import CalibrationSet, calibrations_from_dict, calibrations_to_dict
from ..lib.serialred.session import SessionConfig
from .pictures import Picture, looking_on, show_pictures
from .progress import tell
from .report import INDEX, PAGE, below, cells_of, show_series
from .running import TASK_OPTIONS, flow_run_id

CALIBRATION = "deflector-calibration"
ACQUISITION = "acquisition"
DATA = "calibrations.yaml"


@task(task_run_name="calibrate deflectors", cache_policy=NO_CACHE, persist_result=False)
def calibrate(lab: Lab, session: SessionConfig, store: Path) -> str:
    """Measure how far everything moves, and keep it.

    Parameters
    ----------
    lab : behind the guard.
    session : the conditions to calibrate in.
    store : root of the artefact store.

    Returns
    -------
    Reference of the artefact; its file is calibrations.yaml.
    """
    return keep_calibrations(
        measure_calibrations(lab, session), lab.instrument.name, store, flow_run_id()
    )


def measure_calibrations(lab: Lab, session: SessionConfig) -> CalibrationSet:
    """What `calibrate` measures, without Prefect and without keeping it."""
    wanted = DeflectorCalibration(
        magnification=session.imaging.magnification,
        camera_length_mm=session.diffraction.camera_length_mm,
        brightness_small=session.diffraction.brightness,
        brightness_wide=session.imaging.brightness,
        tracking_defocus_um=session.rotation.tracking_defocus_um,
        descan_pair=session.rotation.descan_pair,
        imaging_s=session.imaging.exposure_s,
        approach_um=session.approach_um,
    )

    tell("calibrate", "look for contrast")
    go_where_there_is_contrast(lab, session)

    def progress(done: int, number: int, what: str) -> None:
        tell("calibrate", what, done / max(number, 1))

    return calibrate_deflectors(
        lab.microscope,
        lab.camera,
        lab.clock,
        wanted,
        valid=~lab.instrument.detector.mask,
        progress=progress,
    )


def keep_calibrations(
    calibrations: CalibrationSet, instrument: str, store: Path, flow_run: str | None = None
) -> str:
    """A calibration artefact. A measurement is its own input: no two are the same."""
    kept = ArtefactStore(store)
    content = calibrations_to_dict(calibrations)
    recipe = Recipe(kind=CALIBRATION, name=instrument, configuration=content)
    if found := kept.find(recipe):
        return found.ref
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        (draft.files / DATA).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        draft.figures_of_merit = {
            f"{one.actuator}, {one.condition}": {
                "relative_error": one.relative_error,
                "residual_px": one.residual_px,
                "used": one.n_used,
                "rejected": one.n_rejected,
            }
            for one in calibrations
        }
        return draft.publish().ref


def latest_calibration(instrument: str, store: Path) -> str:
    """Reference of the instrument's newest calibrations. Raises `UserError` if there are none."""
    versions = ArtefactStore(store).versions(CALIBRATION, instrument)
    if not versions:
        raise UserError(
            f"calibrations of {instrument}",
            f"none in {store}",
            "a deflector-calibration artefact",
            "run `ewaldflow calibrate-deflectors`, or give --calibrate",
        )
    return f"{CALIBRATION}/{instrument}@v{versions[-1]:04d}"


def kept_calibrations(ref: str, store: Path) -> CalibrationSet:
    """The calibrations of an artefact."""
    text = (ArtefactStore(store).get(ref).files / DATA).read_text(encoding="utf-8")
    return calibrations_from_dict(yaml.safe_load(text))


@task(task_run_name="collect", cache_policy=NO_CACHE, persist_result=False)
def next_crystal(crystals: Iterator[CrystalOutcome]) -> CrystalOutcome | None:
    """Look and approach until one series is collected; None at the end of the session."""
    return next(crystals, None)


@task(task_run_name="keep acquisition {done.session}", **TASK_OPTIONS)
def keep_acquisition(
    done: Acquisition,
    config: SessionConfig,
    outcomes: Sequence[SeriesOutcome],
    store: Path,
    calibration: str,
    phases: Sequence[PhaseOutcome] = (),
    sorted_into: str = "",
) -> str:
    """Keep what a session did, with its page.

    Parameters
    ----------
    done, config : the session, and what was asked for.
    outcomes : of the reduction of its series.
    store : root of the artefact store.
    calibration : reference of the calibrations that were used.
    phases : what was merged.
    sorted_into : reference of the `phases` artefact, "" if there is none.

    Returns
    -------
    Reference of the artefact; its files are index.html, acquisition.yaml, outcomes.json; its
    arrays how each series went.
    """
    made = acquisition_artefact(
        done, config, outcomes, store, calibration, phases, sorted_into, flow_run_id()
    )
    page = ArtefactStore(store).folder(made) / "files" / INDEX
    show_series(done.session, outcomes, page)
    show_grid(done, page)
    return made


def show_grid(done: Acquisition, page: Path | None = None) -> None:
    """Show where was looked and what was taken in Prefect's pages; nothing outside of a flow run.

    Parameters
    ----------
    done : the session so far.
    page : that shows more, once there is one.
    """
    if flow_run_id() is None:
        return
    with looking_on(f"the grid of {done.session}"):
        from ..lib.report.acquisition_page import grid_map

        told = f"{len(done.taken)} series from {len(done.crystals)} particles. {done.ended}"
        what = "Fields of view and the particles found, in stage coordinates."
        picture = Picture(grid_map(done), "map of the grid with views and particles", what)
        show_pictures(
            f"grid-{done.session}", f"Grid of {done.session}", [picture],
            {"page": page} if page else {}, told,
        )  # fmt: skip


def acquisition_artefact(
    done: Acquisition,
    config: SessionConfig,
    outcomes: Sequence[SeriesOutcome],
    store: Path,
    calibration: str,
    phases: Sequence[PhaseOutcome] = (),
    sorted_into: str = "",
    flow_run: str | None = None,
) -> str:
    """What `keep_acquisition` does, without Prefect."""
    from ..lib.artefacts.records import write_record
    from ..lib.report.acquisition_page import acquisition_page
    from ..lib.serialred.tracks import Tracks, read_track

    kept = ArtefactStore(store)
    by_crystal = {Path(one.source).name: one for one in outcomes}
    reports = [kept.get(one.report) for one in outcomes if one.report]
    pages = [kept.get(one.page) for one in phases if one.page]
    inputs = [Input.from_file("record", Path(one.folder) / RECORD) for one in done.taken]
    inputs.append(Input.from_artefact("calibration", kept.get(calibration)))
    inputs += [Input.from_artefact("report", one) for one in reports]
    inputs += [Input.from_artefact("phase-report", one) for one in pages]
    inputs += [Input.from_artefact("phases", kept.get(sorted_into))] if sorted_into else []
    recipe = Recipe(
        kind=ACQUISITION,
        name=done.session,
        inputs=tuple(inputs),
        configuration={"session": config.model_dump(mode="json"), "done": done.as_dict()},
    )
    if found := kept.find(recipe):
        return found.ref
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        # The page lies in ROOT/acquisition/NAME/VERSION/files: four steps below the root.
        up = "../../../.."
        links = {one.ref: f"{up}/{below(kept, one)}/files/{PAGE}" for one in reports}
        links |= {one.ref: f"{up}/{below(kept, one)}/files/{INDEX}" for one in pages}
        cells = cells_of(kept, sorted_into) if sorted_into else None
        tracks = tuple(read_track(Path(one.folder) / RECORD, one.name) for one in done.taken)
        write_record(draft.arrays, Tracks(tracks))
        (draft.files / OUTCOMES).write_text(outcomes_text(outcomes, phases), encoding="utf-8")
        page = acquisition_page(
            done,
            by_crystal,
            phases,
            cells,
            links,
            kept.running_code.version,
            kept.ancestors(*(one.artefact for one in inputs if one.artefact)),
            tracks,
        )
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        (draft.files / "acquisition.yaml").write_text(
            yaml.safe_dump(done.as_dict(), sort_keys=False), encoding="utf-8"
        )
        draft.figures_of_merit = {
            "views": len(done.views),
            "particles": len(done.crystals),
            "series": len(done.taken),
            "phases": {one.name: one.figures.get("series", 0) for one in phases},
            "whole_range": sum(one.status == "taken" for one in done.crystals),
            "ended": done.ended,
        }
        return draft.publish().ref
