"""keep_scan: a 4D-STEM scan in files of any known kind becomes a `scan` artefact."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

from prefect import task

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.overfocus.config import OverfocusConfig
from ..lib.series.rotation_series import SourceFile
from ..lib.stem4d.metadata import ScanMetadata
from .convert import label, place
from .live import LiveReading, prefect_progress
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

KIND = "scan"
READ = 0.4  # of the time that a scan takes, what reading and keeping it does, about


@task(task_run_name="keep scan {name}", **TASK_OPTIONS)
def keep_scan(
    name: str,
    source: str,
    store: Path,
    stated: ScanMetadata | None = None,
    workers: str | None = None,
    live: OverfocusConfig | None = None,
) -> str:
    """Read a scan and keep it as an artefact, in chunks that are read fastest.

    Parameters
    ----------
    name : of the scan.
    source : a file, a zarr folder, or ``file::data/set``.
    store : root of the artefact store.
    stated : what the user states about the scan.
    workers : address of worker processes, or None.
    live : calibrate an overfocused scan by its first rows while the others are read, for the live
        page; None: do not.

    Returns
    -------
    Reference of the artefact, an older one if the same was kept before.
    """
    tell(name, "digest files")
    with prefect_progress(name):
        return carry_out(workers, scan_artefact, name, source, store, stated, flow_run_id(), live)


def scan_artefact(
    name: str,
    source: str,
    store: Path,
    stated: ScanMetadata | None = None,
    flow_run: str | None = None,
    live: OverfocusConfig | None = None,
) -> str:
    """What `keep_scan` does, without Prefect.

    Files are digested while they are converted, unless an older scan of that name may be theirs.
    """
    from ..lib.formats.scan4d import digested, read_scan
    from ..lib.stem4d.storage import SCHEMA_VERSION, describe_scan, write_frames

    known = stated or ScanMetadata()
    scan = read_scan(source, stated=known, digest=False)
    kept = ArtefactStore(store)

    def recipe(given: str, files: Sequence[SourceFile] = ()) -> Recipe:
        return Recipe(
            kind=KIND,
            name=given,
            schema_version=SCHEMA_VERSION,
            inputs=tuple(Input(role="raw", digest=file.sha256, path=file.path) for file in files),
            configuration={
                "stated": known.model_dump(mode="json", exclude_none=True),
                "inside": source.partition("::")[2],
            },
        )

    given, stop = label(name), Event()
    with ThreadPoolExecutor(1) as aside:
        sources = aside.submit(digested, scan.sources, stop)
        if kept.versions(KIND, given):
            files = sources.result()
            given, found = place(kept, given, lambda label: recipe(label, files))
            if found:
                return found.ref
        try:
            with kept.draft(recipe(given), flow_run_id=flow_run) as draft:
                watch = LiveReading(store, scan.with_(name=given), live).row if live else None
                write_frames(draft.arrays, scan, partial(_tell, name), watch)
                files = sources.result()
                describe_scan(draft.arrays, scan.with_(name=given, sources=files))
                draft.recipe = recipe(given, files)
                draft.notes += scan.notes
                draft.figures_of_merit = {
                    "scan_shape": list(scan.scan_shape),
                    "shape": list(scan.shape),
                    "missing_frames": int(scan.missing.sum()),
                }
                return draft.publish().ref
        finally:
            stop.set()


def _tell(name: str, step: str, fraction: float) -> None:
    tell(name, step, READ * fraction)
