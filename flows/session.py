"""session: series that an instrument announced are reduced as they come, and merged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.merging.config import MergingConfig
from ..lib.reduction.config import ReductionConfig
from ..lib.report.outcome import SeriesOutcome
from ..lib.sample import load_sample
from ..lib.series.announced import AnnouncedSeries, series_below
from ..tasks.arrivals import (
    keep_outcome,
    known_outcome,
    merge_is_due,
    outcomes_of,
    wait_for,
)
from ..tasks.journal import say
from ..tasks.live import series_progress
from ..tasks.progress import tell
from ..tasks.report import summarise
from ..tasks.sessions import holding, merged_series
from ..tasks.workers import workers
from .forms import described
from .reduce import _THREADS, Reduced, _each, finish_session, one_series


def _name_of_run() -> str:
    given: dict[str, Any] = flow_run.parameters
    sample = given.get("sample")
    return f"{given['name']} of {sample}" if sample else str(given["name"])


@flow(name="session", flow_run_name=_name_of_run, persist_result=False, task_runner=_THREADS)
@described
def session(
    folder: Path,
    series: Sequence[AnnouncedSeries] | None,
    store: Path,
    name: str,
    closed: bool = True,
    instrument: str | None = None,
    sample: str | None = None,
    config: ReductionConfig | None = None,
    merging: MergingConfig | None = None,
    n_workers: int = 1,
    merge_every: int = 4,
    arrival_limit_s: float = 600.0,
    scheduler: str | None = None,
) -> Reduced:
    """Reduce the series of a session that an instrument announced, and merge what there is.

    Series that were reduced before are not reduced again: a session that is announced twice, or
    taken up after a crash, goes on where it was.

    Parameters
    ----------
    folder : of the session on this machine.
    series : finished ones; None for all that lie in the folder now.
    store : root of the artefact store.
    name : of the session.
    closed : whether it is over; it is merged then, and otherwise every few series.
    instrument : its name, for what files do not say.
    sample : its name; structures are solved then.
    config : choices of reduction; None for the defaults.
    merging : choices of sorting and merging; None for the defaults.
    n_workers : series to reduce at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    merge_every : series after which an unfinished session is merged anew.
    arrival_limit_s : how long frames that are still on their way are waited for.
    """
    ArtefactStore(store).create()
    known = load_sample(sample) if sample else None
    series = _all_in(folder) if series is None else series
    choices: dict[str, Any] = {
        "instrument": instrument,
        "reduction": None if config is None else config.model_dump(mode="json"),
    }
    labels = [_label(name, one) for one in series]
    with series_progress(f"session {name}", labels), workers(n_workers, scheduler) as address:
        now = _each(
            arrived_series,
            [
                (name, folder, one, store, choices, config, arrival_limit_s, address)
                for one in series
            ],
            address,
        )
        outcomes = _with(outcomes_of(name, store), now)
        if not closed and not merge_is_due(outcomes, merged_series(name, store), merge_every):
            return Reduced(outcomes, (), "")
        with holding(f"merge-{name}", store, wait=closed) as mine:
            if not mine:  # another run is at it; the next few series, or the end, bring another
                say(f"{name} is being merged by another run")
                return Reduced(outcomes, (), "")
            outcomes = _with(outcomes_of(name, store), now)
            outcomes, phases, found = finish_session(
                outcomes, store, name, config, merging, known, address
            )
            return Reduced(outcomes, phases, summarise(outcomes, store, name, phases, found))


@task(task_run_name="{name} {series.folder}", cache_policy=NO_CACHE, persist_result=False)
def arrived_series(
    name: str,
    folder: Path,
    series: AnnouncedSeries,
    store: Path,
    choices: dict[str, Any],
    config: ReductionConfig | None,
    arrival_limit_s: float,
    workers: str | None,
) -> SeriesOutcome:
    """One series, from its arrival to its report; whatever goes wrong stays with it."""
    label = _label(name, series)
    source = folder / series.folder
    # a run that was taken for dead may still be at it
    with holding(label, store, wait=True):
        if before := known_outcome(name, label, series.digest, choices, store):
            tell(label, "known already", 1.0)
            say(f"{before.line()} (as before)")
            return before
        try:
            wait_for(folder, series, arrival_limit_s)
        except UserError as error:
            tell(label, "did not arrive", 1.0)
            say(f"{label} failed: {error}", logging.WARNING)
            return SeriesOutcome(label, str(source), reason=str(error))
        outcome = one_series(label, source, store, choices["instrument"], None, config, workers)
        if not outcome.reason.startswith("unexpected"):  # a fault of ours may be mended
            keep_outcome(outcome, name, series.digest, choices, store)
    return outcome


def _label(session: str, series: AnnouncedSeries) -> str:
    """Name of a series among those of all sessions."""
    return session if series.folder == "." else f"{session}-{series.folder.replace('/', '-')}"


def _all_in(folder: Path) -> tuple[AnnouncedSeries, ...]:
    try:
        found = series_below(folder)
    except OSError as error:
        raise UserError(
            folder, error.strerror or str(error), "the folder of a session", "check the path"
        ) from None
    if not found:
        raise UserError(
            folder, "no frames", "a folder of frames for each series", "give a session's folder"
        )
    return found


def _with(kept: Sequence[SeriesOutcome], now: Sequence[SeriesOutcome]) -> tuple[SeriesOutcome, ...]:
    """All outcomes by name; those of this run stand where they differ."""
    by_name = {one.name: one for one in (*kept, *now)}
    return tuple(by_name[name] for name in sorted(by_name))
