"""ewaldflow acquire, ewaldflow demo and ewaldflow calibrate-deflectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import acquisition_progress, console, outcome_table, table
from .reduce import STORE, Store, prepare, show_phases, shown

Session = Annotated[
    str, typer.Argument(metavar="SESSION", help="Name in configs/sessions, or a YAML file.")
]


def acquire(
    session: Session,
    store: Store = STORE,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Deflector calibrations; otherwise the latest."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the calibrations first.")
    ] = False,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    crystals: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many whole series.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of the simulated instrument.")
    ] = None,
) -> int:
    """Collect crystals all night, alone: find, judge, centre, rotate, track, reduce.

    The session's YAML says where to look, what a suitable crystal is, how to rotate and when to
    stop. The guard keeps the stage within its limits and leaves the instrument as it found it,
    the beam blank, whatever happens. Each series is reduced while the next is collected.

    Exit code 1 if something on the instrument ended the session early, 2 if it could not begin.

    **Examples**

    - `ewaldflow acquire twin-night --calibrate` on the simulated microscope
    - `ewaldflow acquire my-session.yaml --workers 4`
    """
    from ..lib.serialred.session import load_session

    config = load_session(session)
    if crystals is not None:
        config = config.model_copy(
            update={"stop": config.stop.model_copy(update={"crystals": crystals})}
        )
    if seed is not None:
        config = config.model_copy(update={"options": {**config.options, "seed": seed}})
    prepare(store)
    with acquisition_progress(config.stop.crystals):
        from ..flows.acquire import acquire as flow

        done = flow(config, store, calibration, calibrate, None, workers, scheduler=scheduler)
    return conclude(done, store)


def demo(
    store: Store = STORE,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the simulated instrument.")] = 1,
) -> int:
    """Run a whole session on the simulated microscope: two zeolite phases, twelve crystals.

    Calibration, survey of the grid, acquisition, conversion, reduction, merging, structures,
    report; a few minutes.
    The same as `ewaldflow acquire twin-demo --calibrate`.
    """
    return acquire("twin-demo", store, calibrate=True, seed=seed)


def conclude(done: object, store: Path) -> int:
    """Print what was done and where the page is; the exit code."""
    from ..flows.acquire import Acquired
    from ..lib.artefacts import ArtefactStore
    from ..tasks.report import INDEX, PAGE

    assert isinstance(done, Acquired)
    kept = ArtefactStore(store)
    out = console()
    if done.outcomes:
        links = [
            shown(kept.folder(one.report) / "files" / PAGE) if one.report else ""
            for one in done.outcomes
        ]
        out.print(outcome_table(done.outcomes, links))
        show_phases(done.phases, kept)
    taken = done.done.taken
    whole = sum(one.status == "taken" for one in taken)
    out.print(
        f"\n{len(taken)} series ({whole} of the whole range) from {len(done.done.crystals)} "
        f"particles in {len(done.done.views)} views. {done.done.ended}",
        soft_wrap=True,
    )
    out.print(f"report: {shown(kept.folder(done.acquisition) / 'files' / INDEX)}", soft_wrap=True)
    if done.failure:
        print(f"ewaldflow: {done.failure}", file=sys.stderr)
        return 1
    return 0


def calibrate_deflectors(
    session: Session,
    store: Store = STORE,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of the simulated instrument.")
    ] = None,
) -> int:
    """Measure how beam shift, image shifts and stage move the picture, for a session.

    Full 2 x 2 matrices in imaging and in focused and defocused diffraction, each with its error,
    kept as an artefact. `ewaldflow acquire` refuses one that is old, poor, or of other settings.
    """
    from ..lib.serialred.session import load_session

    config = load_session(session)
    if seed is not None:
        config = config.model_copy(update={"options": {**config.options, "seed": seed}})
    prepare(store)
    with acquisition_progress(None):
        from ..flows.acquire import calibrate_only

        ref, measured = calibrate_only(config, store)
    rows = [
        [
            one.actuator,
            one.condition,
            f"{one.px_per_unit[0, 0]:.4g} {one.px_per_unit[0, 1]:.4g}",
            f"{one.px_per_unit[1, 0]:.4g} {one.px_per_unit[1, 1]:.4g}",
            f"px/{one.unit}",
            f"{100 * one.relative_error:.2f}",
            f"{one.residual_px:.2f}",
            f"{one.n_used}+{one.n_rejected}",
        ]
        for one in measured
    ]
    columns = ["of", "in", "row", "column", "unit", "error / %", "residual / px", "used+rejected"]
    console().print(table(columns, rows, right=(5, 6)))
    console().print(f"\nkept as {ref}")
    return 0
