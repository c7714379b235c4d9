"""calibrate-axis: the rotation axis of an instrument, from indexed series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from ..lib.artefacts import ArtefactStore
from ..tasks.live import prefect_progress
from ..tasks.rotation_axis import calibrate_axis as by_series
from ..tasks.workers import workers
from .forms import described


@flow(name="calibrate-axis", flow_run_name="calibrate-axis {name}", persist_result=False)
@described
def calibrate_axis(
    indexed: Sequence[str],
    store: Path,
    name: str = "axis",
    reach_deg: float = 10.0,
    n_workers: int = 1,
    scheduler: str | None = None,
) -> str:
    """Calibrate the rotation axis; a series that tells none stops no other.

    Parameters
    ----------
    indexed : references of reductions, or files of PETS2, DIALS or XDS.
    store : root of the artefact store.
    name : of the calibration.
    reach_deg : half range of the search about the axis each series was reduced with.
    n_workers : series at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.

    Returns
    -------
    Reference of the `rotation-axis` artefact.
    """
    ArtefactStore(store).create()
    with prefect_progress(name, f"calibrate-axis {name}"), workers(n_workers, scheduler) as address:
        return by_series(list(indexed), store, name, reach_deg, address)
