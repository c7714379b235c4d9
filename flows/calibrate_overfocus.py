"""calibrate-overfocus: overfocused 4D-STEM scans give the map between scan and detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.overfocus.plan import Plan
from ..lib.stem4d.metadata import ScanMetadata
from ..tasks.convert import label
from ..tasks.journal import say
from ..tasks.overfocus import calibrate_scan, name_in, show_overfocus
from ..tasks.pictures import looking_on, show_pictures
from ..tasks.progress import tell
from ..tasks.workers import workers, workers_at
from .forms import described
from .reduce import _THREADS, _each, _fault
from .scans import kept_scan, name_of_run, names_of


@dataclass(frozen=True)
class OverfocusOutcome:
    """What became of one scan.

    Attributes
    ----------
    source : file or reference given.
    scan : reference of the scan artefact; "" if it was not kept or not read.
    overfocus : reference of the calibration; "" where it failed.
    verdict : "calibrated" or "not calibrated"; "" where it failed.
    figures : of merit, by name.
    reason : one line, why it failed or is not calibrated; "" where neither.
    """

    source: str
    scan: str = ""
    overfocus: str = ""
    verdict: str = ""
    figures: dict[str, Any] | None = None
    reason: str = ""


@flow(
    name="calibrate-overfocus",
    flow_run_name=name_of_run("calibrate-overfocus"),
    persist_result=False,
    task_runner=_THREADS,
)
@described
def calibrate_overfocus(
    sources: Sequence[str],
    store: Path,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    keep: bool = True,
    n_workers: int = 1,
    scheduler: str | None = None,
) -> tuple[OverfocusOutcome, ...]:
    """Calibrate scans, from files to reports.

    Parameters
    ----------
    sources : files or zarr folders of scans, or references of `scan` artefacts.
    store : root of the artefact store.
    plan : choices; None for the defaults.
    stated : what the user states about all these scans.
    keep : whether scans in files are kept as artefacts.
    n_workers : scans to calibrate at once; of fewer scans, processes that read each together.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    """
    ArtefactStore(store).create()
    with workers(n_workers, scheduler) as address:
        by_rows = address is not None and max(n_workers, workers_at(address)) > len(sources)
        outcomes: tuple[OverfocusOutcome, ...] = _each(
            one_scan,
            [
                (one, name, store, plan, stated, keep, address, by_rows)
                for one, name in zip(sources, names_of(sources), strict=True)
            ],
            None if by_rows else address,  # one after the other, by all
        )
    for one in outcomes:
        _tell_prefect(one, label(name_in(one.source)), store)
    return outcomes


@task(task_run_name="{source}", cache_policy=NO_CACHE, persist_result=False)
def one_scan(
    source: str,
    name: str,
    store: Path,
    plan: Plan | None,
    stated: ScanMetadata | None,
    keep: bool,
    workers: str | None,
    by_rows: bool = False,
) -> OverfocusOutcome:
    """One scan, all the way; whatever goes wrong with it stays with it."""
    scan = ""
    try:
        live = (plan or Plan()).config
        scan = kept_scan(source, name, store, stated, keep, workers, live)
        told = None if scan else stated
        made = calibrate_scan(scan or source, store, plan, told, workers, by_rows)
        manifest = ArtefactStore(store).get(made).manifest
        figures: dict[str, Any] = manifest.figures_of_merit
        reason = "" if figures["verdict"] == "calibrated" else " ".join(manifest.notes[:3])
        return OverfocusOutcome(source, scan, made, figures["verdict"], figures, reason)
    except UserError as error:
        return OverfocusOutcome(source, scan, reason=str(error))
    except Exception as error:
        return OverfocusOutcome(source, scan, reason=_fault(source, error))
    finally:
        tell(name, "done", 1.0)


def _tell_prefect(one: OverfocusOutcome, name: str, store: Path) -> None:
    """A few lines and the superposition in Prefect's own pages."""
    say(f"{name}: {one.verdict or 'failed'} {one.reason}".rstrip())
    with looking_on(f"what became of {name}"):
        if one.overfocus:
            show_overfocus(one.overfocus, store)
        else:
            title = f"Overfocused scan {name}"
            show_pictures(f"overfocus-{name}", title, (), text=f"**failed**: {one.reason}")
