"""session: series that an instrument announced are reduced as they come, and merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.merging.config import MergingConfig
from ..lib.reduction.config import ReductionConfig
from ..lib.report.outcome import SeriesOutcome
from ..lib.sample import load_sample
from ..lib.series.announced import AnnouncedSeries
from ..tasks.arrivals import (
    keep_outcome,
    known_outcome,
    merge_is_due,
    outcomes_of,
    wait_for,
)
from ..tasks.report import summarise
from ..tasks.sessions import holding, merged_series
from ..tasks.workers import workers
from .reduce import _THREADS, Reduced, _each, finish_session, one_series


@flow(name="session", flow_run_name="{name}", persist_result=False, task_runner=_THREADS)
def session(
    folder: Path,
    series: Sequence[AnnouncedSeries],
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
) -> Reduced:
    """Reduce the series of a session that an instrument announced, and merge what there is.

    Series that were reduced before are not reduced again: a session that is announced twice, or
    taken up after a crash, goes on where it was.

    Parameters
    ----------
    folder : of the session on this machine.
    series : finished ones.
    store : root of the artefact store.
    name : of the session.
    closed : whether it is over; it is merged then, and otherwise every few series.
    instrument, sample : names, for what files do not say and for structures.
    config, merging : choices of reduction and merging.
    n_workers : series to reduce at once.
    merge_every : series after which an unfinished session is merged anew.
    arrival_limit_s : how long frames that are still on their way are waited for.
    """
    ArtefactStore(store).create()
    known = load_sample(sample) if sample else None
    choices: dict[str, Any] = {
        "instrument": instrument,
        "reduction": None if config is None else config.model_dump(mode="json"),
    }
    with workers(n_workers) as address:
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
    label = name if series.folder == "." else f"{name}-{series.folder.replace('/', '-')}"
    source = folder / series.folder
    # a run that was taken for dead may still be at it
    with holding(label, store, wait=True):
        if before := known_outcome(name, label, series.digest, choices, store):
            return before
        try:
            wait_for(folder, series, arrival_limit_s)
        except UserError as error:
            return SeriesOutcome(label, str(source), reason=str(error))
        outcome = one_series(label, source, store, choices["instrument"], None, config, workers)
        if not outcome.reason.startswith("unexpected"):  # a fault of ours may be mended
            keep_outcome(outcome, name, series.digest, choices, store)
    return outcome


def _with(kept: Sequence[SeriesOutcome], now: Sequence[SeriesOutcome]) -> tuple[SeriesOutcome, ...]:
    """All outcomes by name; those of this run stand where they differ."""
    by_name = {one.name: one for one in (*kept, *now)}
    return tuple(by_name[name] for name in sorted(by_name))
