"""sweep-rrvae: trainings on one scan with other choices or seeds, over worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.rrvae.plan import Plan
from ..lib.stem4d.metadata import ScanMetadata
from ..tasks.convert import label
from ..tasks.overfocus import name_in
from ..tasks.progress import tell
from ..tasks.rrvae import train_model
from ..tasks.rrvae_sweep import Point, compare, grid
from ..tasks.workers import workers
from .forms import described
from .reduce import _THREADS, _each, _fault
from .scans import kept_scan, names_of


@flow(
    name="sweep-rrvae",
    flow_run_name="sweep {source}",
    persist_result=False,
    task_runner=_THREADS,
)
@described
def sweep_rrvae(
    source: str,
    store: Path,
    tried: Mapping[str, Sequence[Any]] | None = None,
    repeat: int = 1,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    keep: bool = True,
    n_workers: int = 1,
    scheduler: str | None = None,
) -> tuple[str, tuple[Point, ...]]:
    """Train on one scan with every combination of values, and compare.

    Parameters
    ----------
    source : a file or zarr folder of a scan, or the reference of a `scan` artefact.
    tried : values of fields of the model or of the preparation, by name.
    repeat : times that each combination is trained, with other seeds.
    plan : choices that all share.
    n_workers : trainings at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    store, stated, overfocus, rings, keep : as of `train_rrvae`.

    Returns
    -------
    Reference of the `rrvae-sweep` artefact, and what became of each training.
    """
    points = grid(plan or Plan(), tried or {}, repeat)
    ArtefactStore(store).create()
    (name,) = names_of([source])
    with workers(n_workers, scheduler) as address:
        scan = kept_scan(source, name, store, stated, keep, address)
        name = name_in(scan or source)
        digits = len(str(len(points)))
        done: tuple[Point, ...] = _each(
            one_point,
            [
                (scan or source, label(f"{name}-{number:0{digits}d}"), store, choices, one,
                 None if scan else stated, overfocus, rings, address)
                for number, (choices, one) in enumerate(points, 1)
            ],
            address,
        )  # fmt: skip
    return compare(name, done, store), done


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def one_point(
    scan: str,
    name: str,
    store: Path,
    choices: dict[str, Any],
    plan: Plan,
    stated: ScanMetadata | None,
    overfocus: str | None,
    rings: str | None,
    workers: str | None,
) -> Point:
    """One training; whatever goes wrong with it stays with it."""
    try:
        made = train_model(scan, store, plan, stated, overfocus, rings, workers, name)
        figures: dict[str, Any] = ArtefactStore(store).get(made).manifest.figures_of_merit
        return Point(choices, made, figures=figures)
    except UserError as error:
        return Point(choices, reason=str(error))
    except Exception as error:
        return Point(choices, reason=_fault(name, error))
    finally:
        tell(name, "done", 1.0)
