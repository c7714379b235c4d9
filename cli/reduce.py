"""ewaldflow reduce."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .output import console, outcome_table, phase_table, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..flows.reduce import Reduced
    from ..lib.artefacts import ArtefactStore
    from ..lib.report.outcome import PhaseOutcome

_RUN = "How it is run"
_REDUCE = "How it is reduced"
_MERGE = "How it is merged"
STORE = Path("runs")
Store = Annotated[
    Path, typer.Option("--store", metavar="FOLDER", help="Where results go.", rich_help_panel=_RUN)
]


class Engine(StrEnum):
    """Programs that reduce a series."""

    AUTO = "auto"
    BUILTIN = "builtin"
    XDS = "xds"
    DIALS = "dials"


@options.states_series
def reduce(
    sources: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folders of frames, or stacks.")
    ],
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    session: Annotated[
        str, typer.Option(metavar="NAME", help="Name of this set.", rich_help_panel=_RUN)
    ] = "session",
    instrument: options.Instrument = None,
    calibration: options.Calibrations = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="Program to reduce with; auto (the default) takes XDS if it is licensed and runs.",
            rich_help_panel=_REDUCE,
        ),
    ] = None,
    cell: Annotated[
        tuple[float, float, float, float, float, float] | None,
        typer.Option(
            metavar="A B C α β γ", help="Known cell, Å and degrees.", rich_help_panel=_REDUCE
        ),
    ] = None,
    d_min: Annotated[
        float | None,
        typer.Option(metavar="Å", help="Resolution limit.", rich_help_panel=_REDUCE),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="All choices, as YAML.", rich_help_panel=_REDUCE),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Composition, as in configs/samples: structures are solved then.",
            rich_help_panel=_MERGE,
        ),
    ] = None,
    merging: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="All choices of sorting and merging, as YAML.",
            rich_help_panel=_MERGE,
        ),
    ] = None,
    *,
    overrides: options.Overrides,
) -> int:
    """Reduce rotation series: from frames to phases, merged intensities and reports.

    Series are sorted into phases by their cells and intensities, and each phase is scaled,
    merged, given a space group and, with `--sample`, solved.

    Give one folder per series, such as instamatic writes them, or a stack. What the headers,
    a `cRED_log.txt` or an `XDS.INP` beside the frames do not say must
    come from the instrument or from an option; nothing is guessed.

    A series that cannot be reduced does not stop the others: the table at the end and the
    session page say why. Exit code 1 if some failed, 2 if all did.

    **Examples**

    - `ewaldflow reduce crystal_1 crystal_2 --workers 2`
    - `ewaldflow reduce garnet/ --instrument jeol2100-timepix516 --osc 0.12`
    - `ewaldflow reduce stack.mrc --voltage 200 --scale 0.0025 --axis 1 0 0 --osc 0.5`
    """
    from ..lib.merging.config import MergingConfig
    from ..lib.reduction.config import ReductionConfig
    from ..lib.sample import load_sample

    chosen = options.chosen(
        ReductionConfig, config, cell=cell, d_min_A=d_min,
        engine=None if engine is None else engine.value,
    )  # fmt: skip
    how = options.chosen(MergingConfig, merging)
    known = load_sample(sample) if sample else None
    if instrument is not None:
        from ..lib.instrument import load_instrument

        load_instrument(instrument)  # so that a misspelt name is told once, not for each series
    calibrations = calibrations_at_once(calibration, store)
    n_workers = min(workers, len(sources))
    prepare(store)
    with progress(len(sources)):
        from ..flows.reduce import reduce as flow

        done = flow(sources, store, instrument, overrides, chosen, n_workers, session, how, known,
                    calibrations, scheduler)  # fmt: skip
    return conclude(done, store)


def calibrations_at_once(refs: Sequence[str] | None, store: Path) -> list[str]:
    """Exact references of calibrations, so that a misspelt one is told once."""
    from ..lib.artefacts import ArtefactStore

    kept = ArtefactStore(store)
    return [kept.get(ref).ref for ref in refs or ()]


def prepare(store: Path) -> None:
    """Make the store, and have Prefect keep its records there."""
    # Prefect reads its settings when it is imported, and keeps its records in the store.
    from ..flows.environment import prepare_prefect
    from ..lib.artefacts import ArtefactStore

    ArtefactStore(store).create()
    prepare_prefect(store)


def conclude(done: Reduced, store: Path) -> int:
    """Print what became of series and phases; the exit code."""
    from ..lib.artefacts import ArtefactStore
    from ..tasks.report import INDEX, PAGE

    failed = [one for one in done.outcomes if one.reason]
    if len(failed) == len(done.outcomes) == 1:
        print(f"ewaldflow: {failed[0].reason}", file=sys.stderr)
        return 2
    kept = ArtefactStore(store)
    links = [
        shown(kept.folder(one.report) / "files" / PAGE) + " (already there)" * one.reused
        if one.report
        else ""
        for one in done.outcomes
    ]
    out = console()
    out.print(outcome_table(done.outcomes, links))
    show_phases(done.phases, kept)
    index = shown(kept.folder(done.session) / "files" / INDEX)
    out.print(f"\nall reports: {index}", soft_wrap=True)
    return 0 if not failed else 2 if len(failed) == len(done.outcomes) else 1


def show_phases(phases: Sequence[PhaseOutcome], store: ArtefactStore) -> None:
    """Print the table of phases, if there are any."""
    from ..tasks.report import INDEX

    if phases:
        links = [shown(store.folder(p.page) / "files" / INDEX) if p.page else "" for p in phases]
        console().print()
        console().print(phase_table(phases, links))


def shown(path: Path) -> str:
    """A path, relative where that is shorter to read and type."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
