"""reduce: folders of frames become cells, integrated intensities and reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
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
from ..lib.reduction.config import ReductionConfig
from ..lib.report.outcome import SeriesOutcome, headline_from
from ..tasks.convert import convert, series_names
from ..tasks.progress import tell
from ..tasks.reduce import reduce_series
from ..tasks.report import report, summarise
from ..tasks.workers import workers

# They only wait for the workers, whose number is what counts.
_THREADS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=32))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reduced:
    """What `reduce` did.

    Attributes
    ----------
    outcomes : of each source, in order.
    session : reference of the artefact that lists them.
    """

    outcomes: tuple[SeriesOutcome, ...]
    session: str


@flow(
    name="reduce",
    flow_run_name="reduce {session}",
    persist_result=False,
    task_runner=_THREADS,
)
def reduce(
    sources: Sequence[Path],
    store: Path,
    instrument: str | None = None,
    overrides: SeriesOverrides | None = None,
    config: ReductionConfig | None = None,
    n_workers: int = 1,
    session: str = "session",
) -> Reduced:
    """Reduce rotation series, from files to reports.

    Parameters
    ----------
    sources : folders of frames, or stacks.
    store : root of the artefact store.
    instrument : name as in configs/instruments, or path of a YAML file.
    overrides : what the user states about the series; wins over what files say.
    config : choices of the reduction engine.
    n_workers : series to reduce at once.
    session : name for this set of series.
    """
    ArtefactStore(store).create()
    names = series_names(sources)
    with workers(n_workers) as address:
        each = [
            (name, source, store, instrument, overrides, config, address)
            for name, source in zip(names, sources, strict=True)
        ]
        if address is None:
            outcomes = [one_series(*one) for one in each]
        else:
            running = [one_series.submit(*one) for one in each]
            outcomes = [one.result() for one in running]
    return Reduced(tuple(outcomes), summarise(outcomes, store, session))


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def one_series(
    name: str,
    source: Path,
    store: Path,
    instrument: str | None,
    overrides: SeriesOverrides | None,
    config: ReductionConfig | None,
    workers: str | None,
) -> SeriesOutcome:
    """One series, all the way; whatever goes wrong with it stays with it."""
    began = datetime.now(UTC)
    try:
        series = convert(name, source, store, instrument, overrides, workers)
        reduction = reduce_series(series, store, config, workers)
        page = report(reduction, store, workers)
    except UserError as error:
        return SeriesOutcome(name, str(source), reason=str(error))
    except Exception as error:
        _log.exception("%s: this is a fault of Ewaldflow, please report it", source)
        found = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
        return SeriesOutcome(name, str(source), reason=found)
    finally:
        tell(name, "done", 1.0)
    kept = ArtefactStore(store)
    figures: dict[str, Any] = kept.get(reduction).manifest.figures_of_merit
    return SeriesOutcome(
        name=reduction.partition("/")[2].partition("@")[0],
        source=str(source),
        headline=headline_from(figures["headline"]),
        verdict=figures["verdict"],
        reduction=reduction,
        report=page,
        reused=kept.get(page).manifest.finished < began,
    )
