"""merge-project: the series of all sessions of a project, merged together; for a schedule."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from ..lib.errors import UserError
from ..lib.merging.config import MergingConfig
from ..lib.reduction.config import ReductionConfig
from ..lib.sample import load_sample
from ..tasks.arrivals import outcomes_of_project
from ..tasks.live import series_progress
from ..tasks.report import summarise
from ..tasks.workers import workers
from .forms import described
from .reduce import _THREADS, Reduced, finish_session


@flow(
    name="merge-project",
    flow_run_name="merge {project}",
    persist_result=False,
    task_runner=_THREADS,
)
@described
def merge_project(
    project: str,
    store: Path,
    sample: str | None = None,
    config: ReductionConfig | None = None,
    merging: MergingConfig | None = None,
    n_workers: int = 1,
    scheduler: str | None = None,
) -> Reduced:
    """Sort and merge every series that sessions of a project brought, in whichever of them.

    Where nothing is new nothing is done again.

    Parameters
    ----------
    project : sessions whose names begin so, such as "garnet" or "2026-11".
    store : root of the artefact store.
    sample : name in configs/samples: structures are solved then.
    config : choices of reduction; None for the defaults.
    merging : choices of sorting and merging; None for the defaults.
    n_workers : processes to work with.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    """
    outcomes = outcomes_of_project(project, store)
    if not outcomes:
        raise UserError(
            "project", f"no session named {project}...", "sessions of it in the store",
            "`ewaldflow artefacts ls arrival` lists their series",
        )  # fmt: skip
    known = load_sample(sample) if sample else None
    with series_progress(f"merge {project}", ()), workers(n_workers, scheduler) as address:
        outcomes, phases, found = finish_session(
            outcomes, store, project, config, merging, known, address
        )
    return Reduced(outcomes, phases, summarise(outcomes, store, project, phases, found))
