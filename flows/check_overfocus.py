"""check-overfocus: does an old calibration hold on a new scan?"""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from ..lib.artefacts import ArtefactStore
from ..lib.overfocus.config import OverfocusConfig
from ..lib.stem4d.metadata import ScanMetadata
from ..tasks.overfocus_check import check_scan
from .forms import described


@flow(name="check-overfocus", flow_run_name="check {calibration} on {scan}", persist_result=False)
@described
def check_overfocus(
    calibration: str,
    scan: str,
    store: Path,
    config: OverfocusConfig | None = None,
    stated: ScanMetadata | None = None,
) -> str:
    """Hold a calibration against a new scan, which is read once for it.

    Parameters
    ----------
    calibration : reference of an `overfocus` artefact, or a calibration.yaml.
    scan : file or zarr folder, or reference of a `scan` artefact.
    store : root of the artefact store.
    config : choices; None for the defaults.
    stated : what the user states about the scan.

    Returns
    -------
    Reference of the `overfocus-check` artefact.
    """
    ArtefactStore(store).create()
    return check_scan(calibration, scan, store, config, stated)
