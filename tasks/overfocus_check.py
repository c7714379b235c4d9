"""check_scan: an `overfocus` calibration held against a new scan: an `overfocus-check` artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from ..lib.artefacts import ArtefactStore, Input, Manifest, Recipe
from ..lib.overfocus.config import OverfocusConfig
from ..lib.stem4d.metadata import ScanMetadata
from .live import prefect_progress
from .overfocus import KIND as CALIBRATION
from .overfocus import PAGE, name_in, open_scan
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.overfocus.calibration import ScanCalibration
    from ..lib.overfocus.check import Check
    from ..lib.overfocus.views import Stage
    from ..lib.stem4d.scan import Scan4D

KIND = "overfocus-check"
SCHEMA_VERSION = 1


@task(task_run_name="check {calibration} on {scan}", **TASK_OPTIONS)
def check_scan(
    calibration: str,
    scan: str,
    store: Path,
    config: OverfocusConfig | None = None,
    stated: ScanMetadata | None = None,
    workers: str | None = None,
) -> str:
    """Hold an old calibration against a new scan.

    Parameters
    ----------
    calibration : reference of an `overfocus` artefact, or a calibration.yaml.
    scan : reference of a `scan` artefact, or a file that is not kept.
    store : root of the artefact store.
    config : choices; the sign of the overfocus is that of the calibration.
    stated : what the user states about the scan, where it is a file.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its file is report.html.
    """
    with prefect_progress(name_in(scan)):
        return carry_out(
            workers, check_artefact, calibration, scan, store, config, stated, flow_run_id()
        )


def check_artefact(
    calibration: str,
    source: str,
    store: Path,
    config: OverfocusConfig | None = None,
    stated: ScanMetadata | None = None,
    flow_run: str | None = None,
) -> str:
    """What `check_scan` does, without Prefect."""
    kept = ArtefactStore(store)
    old, given, manifests = load_calibration(kept, calibration)
    found_scan = open_scan(kept, source, stated)
    chosen = (config or OverfocusConfig()).model_copy(update={"overfocused": old.overfocused})
    recipe = Recipe(
        kind=KIND,
        name=found_scan.name,
        schema_version=SCHEMA_VERSION,
        inputs=(given, *found_scan.inputs),
        configuration={
            **chosen.model_dump(mode="json", exclude={"seed"}), **found_scan.configuration
        },
        seeds={"bootstrap": chosen.seed},
    )  # fmt: skip
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import write_record
    from ..lib.overfocus.check import check
    from ..lib.report.check_page import check_page

    name, told = found_scan.name, 0.0

    def say(line: str) -> None:
        nonlocal told
        told = min(0.8, told + 0.1)
        tell(name, line, told)

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        result = check(found_scan.scan, old, chosen, say)
        write_record(draft.arrays, result)
        page = check_page(
            result, old, _stages(found_scan.scan, old, result), (*manifests, *found_scan.manifests)
        )
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        draft.notes += [*result.reasons, *found_scan.scan.notes]
        numbers = {
            "rotation_deg": result.rotation_deg,
            "scale_percent": result.scale_percent,
            "descan_px": result.descan_px,
        }
        draft.figures_of_merit = {
            "verdict": result.verdict,
            **{key: None if value != value else value for key, value in numbers.items()},
        }
        made = draft.publish()
    tell(name, "done", 1.0)
    return made.ref


def load_calibration(
    store: ArtefactStore, calibration: str
) -> tuple[ScanCalibration, Input, tuple[Manifest, ...]]:
    """An old calibration: of this store, or from a file."""
    if calibration.startswith(f"{CALIBRATION}/") and not Path(calibration).exists():
        from ..lib.artefacts.records import read_record
        from ..lib.overfocus.result import OverfocusResult

        artefact = store.get(calibration)
        record = read_record(artefact.arrays, OverfocusResult)
        given = Input.from_artefact("calibration", artefact)
        return record.calibration, given, (artefact.manifest,)
    from ..lib.overfocus.hand_over import read_yaml

    path = Path(calibration)
    return read_yaml(path), Input.from_file("calibration", path), ()


def _stages(scan: Scan4D, old: ScanCalibration, result: Check) -> list[Stage]:
    """The new scan with the old calibration, and with its own if there is one."""
    from ..lib.errors import UserError
    from ..lib.overfocus.calibration import CALIBRATED
    from ..lib.overfocus.model import matrices_of_calibration
    from ..lib.overfocus.views import stage_with

    tried: dict[str, Any] = {"the old calibration": old}
    if result.new.verdict == CALIBRATED:
        tried["its own calibration"] = result.new
    made = []
    for title, one in tried.items():
        try:
            made.append(stage_with(scan, title, matrices_of_calibration(one)))
        except UserError:  # the beam leaves the detector: the numbers say so
            continue
    return made
