"""train-rrvae: 4D-STEM scans become trained autoencoders, judged, with maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from ..tasks.pictures import looking_on, show_pictures
from ..tasks.progress import tell
from ..tasks.rrvae import show_maps, train_model
from ..tasks.workers import workers
from .forms import described
from .reduce import _THREADS, _each, _fault
from .scans import kept_scan, name_of_run, names_of

_NOTES = 3  # shown in a table


@dataclass(frozen=True)
class RrvaeOutcome:
    """What became of one scan.

    Attributes
    ----------
    source : file or reference given.
    scan : reference of the scan artefact; "" if it was not kept or not read.
    made : reference of the `rrvae` or `rrvae-map` artefact; "" where it failed.
    verdict : of it; "" where it failed.
    figures : of merit, by name.
    reason : one line, why it failed, or what the verdict rests on.
    """

    source: str
    scan: str = ""
    made: str = ""
    verdict: str = ""
    figures: dict[str, Any] | None = None
    reason: str = ""


@flow(
    name="train-rrvae",
    flow_run_name=name_of_run("train-rrvae"),
    persist_result=False,
    task_runner=_THREADS,
)
@described
def train_rrvae(
    sources: Sequence[str],
    store: Path,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    keep: bool = True,
    n_workers: int = 1,
    scheduler: str | None = None,
) -> tuple[RrvaeOutcome, ...]:
    """Learn rotation and content of scans, each by an ensemble of its own.

    Parameters
    ----------
    sources : files or zarr folders of scans, or references of `scan` artefacts.
    store : root of the artefact store.
    plan : choices; None for the defaults.
    stated : what the user states about all these scans.
    overfocus : reference of an `overfocus` artefact or its calibration.yaml.
    rings : reference of a `rings` artefact or a PONI.
    keep : whether scans in files are kept as artefacts.
    n_workers : scans at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    """
    ArtefactStore(store).create()
    names = names_of(sources)
    with workers(n_workers, scheduler) as address:
        outcomes: tuple[RrvaeOutcome, ...] = _each(
            one_scan,
            [
                (one, name, store, plan, stated, overfocus, rings, keep, address)
                for one, name in zip(sources, names, strict=True)
            ],
            address,
        )
    for one in outcomes:
        tell_prefect(one, label(name_in(one.source)), store)
    return outcomes


@task(task_run_name="{source}", cache_policy=NO_CACHE, persist_result=False)
def one_scan(
    source: str,
    name: str,
    store: Path,
    plan: Plan | None,
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
        made = train_model(
            scan or source, store, plan, None if scan else stated, overfocus, rings, workers
        )
        return outcome(source, scan, made, store)
    except UserError as error:
        return RrvaeOutcome(source, scan, reason=str(error))
    except Exception as error:
        return RrvaeOutcome(source, scan, reason=_fault(source, error))
    finally:
        tell(name, "done", 1.0)


def outcome(source: str, scan: str, made: str, store: Path) -> RrvaeOutcome:
    """What an artefact says of itself."""
    manifest = ArtefactStore(store).get(made).manifest
    figures: dict[str, Any] = manifest.figures_of_merit
    reason = " ".join(f"{one.rstrip('.')}." for one in manifest.notes[:_NOTES])
    return RrvaeOutcome(source, scan, made, figures["verdict"], figures, reason)


def tell_prefect(one: RrvaeOutcome, name: str, store: Path) -> None:
    """A few lines and the maps in Prefect's own pages."""
    with looking_on(f"what became of {name}"):
        if one.made:
            show_maps(one.made, store)
        else:
            show_pictures(f"rrvae-{name}", f"rrVAE of {name}", (), text=f"**failed**: {one.reason}")
