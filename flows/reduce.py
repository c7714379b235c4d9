"""reduce: folders of frames become phases, merged intensities and reports."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.instrument import SeriesOverrides
from ..lib.merging.config import MergingConfig
from ..lib.reduction.config import ReductionConfig
from ..lib.report.outcome import PhaseOutcome, SeriesOutcome, headline_from
from ..lib.sample import Sample
from ..tasks.convert import convert, series_names
from ..tasks.growth import complete_in_words, show_phases
from ..tasks.journal import say
from ..tasks.live import series_progress
from ..tasks.merge import merge
from ..tasks.phases import (
    KnownCell,
    compare_cells,
    left_of,
    members_of,
    sort,
    structures_of,
)
from ..tasks.progress import tell
from ..tasks.reduce import reduce_series
from ..tasks.report import made_from, report, report_phase, summarise
from ..tasks.solve import solve
from ..tasks.workers import workers
from .forms import described

# They only wait for the workers, whose number is what counts.
_THREADS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=64))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reduced:
    """What `reduce` did.

    Attributes
    ----------
    outcomes : of each source, in order.
    phases : of each phase, largest first.
    session : reference of the artefact that lists them.
    """

    outcomes: tuple[SeriesOutcome, ...]
    phases: tuple[PhaseOutcome, ...]
    session: str


@flow(
    name="reduce",
    flow_run_name="reduce {session}",
    persist_result=False,
    task_runner=_THREADS,
)
@described
def reduce(
    sources: Sequence[Path],
    store: Path,
    instrument: str | None = None,
    overrides: SeriesOverrides | None = None,
    config: ReductionConfig | None = None,
    n_workers: int = 1,
    session: str = "session",
    merging: MergingConfig | None = None,
    sample: Sample | None = None,
    calibrations: Sequence[str] = (),
    scheduler: str | None = None,
) -> Reduced:
    """Reduce rotation series, from files to merged phases and reports.

    Parameters
    ----------
    sources : folders of frames, or stacks.
    store : root of the artefact store.
    instrument : name as in configs/instruments, or path of a YAML file.
    overrides : what the user states about the series; wins over what files say.
    config : choices of the reduction engine.
    n_workers : series to reduce at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    session : name for this set of series.
    merging : choices of sorting and merging.
    sample : composition, where known: phases are then solved as well.
    calibrations : references of `rings` artefacts: scale and distortion of the camera.
    """
    ArtefactStore(store).create()
    names = series_names(sources)
    with series_progress(f"reduce {session}", names), workers(n_workers, scheduler) as address:
        outcomes = _each(
            one_series,
            [
                (name, source, store, instrument, overrides, config, address, calibrations)
                for name, source in zip(names, sources, strict=True)
            ],
            address,
        )
        outcomes, phases, found = finish_session(
            outcomes, store, session, config, merging, sample, address
        )
    return Reduced(outcomes, phases, summarise(outcomes, store, session, phases, found))


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def one_series(
    name: str,
    source: Path,
    store: Path,
    instrument: str | None,
    overrides: SeriesOverrides | None,
    config: ReductionConfig | None,
    workers: str | None,
    calibrations: Sequence[str] = (),
) -> SeriesOutcome:
    """One series, all the way; whatever goes wrong with it stays with it."""
    began = datetime.now(UTC)
    try:
        series = convert(name, source, store, instrument, overrides, workers, calibrations)
        reduction = reduce_series(series, store, config, workers)
        outcome = _reported(str(source), reduction, store, workers, began)
    except UserError as error:
        outcome = SeriesOutcome(name, str(source), reason=str(error))
    except Exception as error:
        outcome = SeriesOutcome(name, str(source), reason=_fault(str(source), error))
    finally:
        tell(name, "done", 1.0)
    say(outcome.line(), logging.WARNING if outcome.reason else logging.INFO)
    return outcome


def finish_session(
    outcomes: Sequence[SeriesOutcome],
    store: Path,
    session: str,
    config: ReductionConfig | None = None,
    merging: MergingConfig | None = None,
    sample: Sample | None = None,
    workers: str | None = None,
) -> tuple[tuple[SeriesOutcome, ...], tuple[PhaseOutcome, ...], str]:
    """Sort reduced series into phases and merge each; for a flow to call.

    Series that need it are reduced again with the cell of a phase.

    Returns
    -------
    The outcomes with the phase of each series, or why it has none; the phases; and the reference
    of the `phases` artefact, "" if no series was reduced.
    """
    merging = merging or MergingConfig()
    reductions = {one.name: one.reduction for one in outcomes if one.reduction}
    if not reductions:
        return tuple(outcomes), (), ""
    again: dict[str, dict[str, str]] = {}
    if merging.rereduce:
        wanted = compare_cells(reductions, store, merging, workers)
        tries = [
            (name, cell, reductions[name], store, config, workers)
            for name, cells in wanted.items()
            for cell in cells
        ]
        for (name, cell, *_), ref in zip(
            tries, _each(with_known_cell, tries, workers), strict=True
        ):
            if ref:
                again.setdefault(name, {})[cell.phase] = ref
    found = sort(reductions, again, store, session, merging, workers)
    used, left = members_of(found, store), left_of(found, store)
    outcomes = [
        _final(one, used.get(one.name), left.get(one.name, ""), store, workers) for one in outcomes
    ]
    for one in outcomes:
        if one.left:
            say(f"{one.name} is in no phase: {one.left}")
    reports = {one.name: one.report for one in outcomes if one.report}
    phases = _each(
        one_phase,
        [
            (name, session, found, store, merging, sample, reports, workers)
            for name in structures_of(found, store)
        ],
        workers,
    )
    for one in phases:
        say(f"{session}, {one.name}: {complete_in_words(one)}")
    show_phases(session, phases, found, store)
    return tuple(outcomes), phases, found


@task(task_run_name="{name} as {cell.phase}", cache_policy=NO_CACHE, persist_result=False)
def with_known_cell(
    name: str,
    cell: KnownCell,
    reduction: str,
    store: Path,
    config: ReductionConfig | None,
    workers: str | None,
) -> str:
    """Reduce a series again with the cell of a phase; "" if that fails."""
    kept = ArtefactStore(store)
    chosen = (config or ReductionConfig()).model_copy(
        update={"cell": cell.cell, "bravais": cell.bravais}
    )
    try:
        series = made_from(kept, kept.get(reduction), "series").ref
        return reduce_series(series, store, chosen, workers)
    except Exception as error:  # the first reduction stands
        _log.warning("%s, with the cell of %s: %s", name, cell.phase, error)
        return ""
    finally:
        tell(name, "done", 1.0)


@task(task_run_name="{session} {name}", cache_policy=NO_CACHE, persist_result=False)
def one_phase(
    name: str,
    session: str,
    phases: str,
    store: Path,
    merging: MergingConfig,
    sample: Sample | None,
    reports: dict[str, str],
    workers: str | None,
) -> PhaseOutcome:
    """Merge one phase, try to solve it, make its page; whatever goes wrong stays with it."""
    try:
        merged = merge(phases, name, store, merging, sample, workers)
        solution, verdict = "", "not tried: no composition is known, name a sample"
        if sample is not None:
            try:
                solution = solve(merged, store, sample, workers)
                figures: dict[str, Any] = (
                    ArtefactStore(store).get(solution).manifest.figures_of_merit
                )
                verdict = figures["verdict"]
            except UserError as error:
                verdict = f"not tried: {error}"
        page = report_phase(merged, solution, verdict, reports, store, workers)
    except UserError as error:
        return PhaseOutcome(name, reason=str(error))
    except Exception as error:
        return PhaseOutcome(name, reason=_fault(name, error))
    numbers: dict[str, Any] = ArtefactStore(store).get(merged).manifest.figures_of_merit
    return PhaseOutcome(name, merged, solution, page, numbers, verdict)


def _final(
    one: SeriesOutcome, member: tuple[str, str] | None, left: str, store: Path, workers: str | None
) -> SeriesOutcome:
    """The outcome with its phase, and with the reduction that was used for it."""
    if member is None:
        return replace(one, left=left)
    phase, reduction = member
    if reduction != one.reduction:
        one = _reported(one.source, reduction, store, workers, datetime.now(UTC))
    return replace(one, phase=phase)


def _reported(
    source: str, reduction: str, store: Path, workers: str | None, began: datetime
) -> SeriesOutcome:
    """Report a reduction; its outcome."""
    page = report(reduction, store, workers)
    kept = ArtefactStore(store)
    figures: dict[str, Any] = kept.get(reduction).manifest.figures_of_merit
    return SeriesOutcome(
        name=reduction.partition("/")[2].partition("@")[0],
        source=source,
        headline=headline_from(figures["headline"]),
        verdict=figures["verdict"],
        reduction=reduction,
        report=page,
        reused=kept.get(page).manifest.finished < began,
    )


def _each(work: Any, arguments: Iterable[tuple[Any, ...]], workers: str | None) -> tuple[Any, ...]:
    """A task for each tuple of arguments: one after the other here, or together on workers."""
    if workers is None:
        return tuple(work(*some) for some in arguments)
    running = [work.submit(*some) for some in arguments]
    return tuple(one.result() for one in running)


def _fault(where: str, error: Exception) -> str:
    _log.exception("%s: this is a fault of Ewaldflow, please report it", where)
    return f"unexpected {type(error).__name__}: {error}".splitlines()[0]
