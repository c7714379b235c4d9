"""apply-rrvae: scans mapped by a model that was trained on another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.stem4d.metadata import ScanMetadata
from ..tasks.convert import label
from ..tasks.overfocus import name_in
from ..tasks.progress import tell
from ..tasks.rrvae_apply import map_scan
from ..tasks.workers import workers
from .forms import described
from .reduce import _THREADS, _each, _fault
from .scans import kept_scan, name_of_run, names_of
from .train_rrvae import (
    RrvaeOutcome,
    outcome,
    tell_prefect,
)


@flow(
    name="apply-rrvae",
    flow_run_name=name_of_run("apply-rrvae"),
    persist_result=False,
    task_runner=_THREADS,
)
@described
def apply_rrvae(
    model: str,
    sources: Sequence[str],
    store: Path,
    preparation: dict[str, Any] | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    keep: bool = True,
    n_workers: int = 1,
    scheduler: str | None = None,
) -> tuple[RrvaeOutcome, ...]:
    """Map scans by a trained model; each is told to be in or out of its distribution.

    Parameters
    ----------
    model : reference of an `rrvae` artefact, or a model.safetensors with preparation.yaml beside.
    sources, store, stated, overfocus, rings, keep, n_workers, scheduler : as of
        `train_rrvae`.
    preparation : choices that differ from those in training, such as the gain of these scans.
    """
    ArtefactStore(store).create()
    with workers(n_workers, scheduler) as address:
        outcomes: tuple[RrvaeOutcome, ...] = _each(
            one_scan,
            [
                (model, one, name, store, preparation, stated, overfocus, rings, keep, address)
                for one, name in zip(sources, names_of(sources), strict=True)
            ],
            address,
        )
    for one in outcomes:
        tell_prefect(one, label(name_in(one.source)), store)
    return outcomes


@task(task_run_name="{source}", cache_policy=NO_CACHE, persist_result=False)
def one_scan(
    model: str,
    source: str,
    name: str,
    store: Path,
    preparation: dict[str, Any] | None,
    stated: ScanMetadata | None,
    overfocus: str | None,
    rings: str | None,
    keep: bool,
    workers: str | None,
) -> RrvaeOutcome:
    """One scan, all the way; whatever goes wrong with it stays with it."""
    scan = ""
    try:
        scan = kept_scan(source, name, store, stated, keep, workers)
        known = None if scan else stated
        made = map_scan(model, scan or source, store, preparation, known, overfocus, rings, workers)
        return outcome(source, scan, made, store)
    except UserError as error:
        return RrvaeOutcome(source, scan, reason=str(error))
    except Exception as error:
        return RrvaeOutcome(source, scan, reason=_fault(source, error))
    finally:
        tell(name, "done", 1.0)
