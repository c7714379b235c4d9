"""recenter: the direct beam on many images of a calibrated camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from ..lib.artefacts import ArtefactStore
from ..tasks.live import prefect_progress
from ..tasks.recenter import recenter as recenter_images
from ..tasks.workers import workers
from .forms import described


@flow(name="recenter", flow_run_name="recenter {name}", persist_result=False)
@described
def recenter(
    images: Sequence[Path],
    calibration: str,
    store: Path,
    name: str = "images",
    n_workers: int = 1,
    scheduler: str | None = None,
) -> str:
    """Find the direct beam on each image; a bad image stops no other.

    Parameters
    ----------
    images : of the camera that was calibrated.
    calibration : reference of a `rings` artefact, or path of a PONI.
    store : root of the artefact store.
    name : of the set.
    n_workers : images at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.

    Returns
    -------
    Reference of the `centres` artefact.
    """
    ArtefactStore(store).create()
    with prefect_progress(name, f"recenter {name}"), workers(n_workers, scheduler) as address:
        return recenter_images(list(images), calibration, store, name, address)
