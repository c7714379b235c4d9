"""What flows of 4D-STEM scans share: names of sources and runs, and scans kept on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from ..lib.overfocus.config import OverfocusConfig
from ..lib.stem4d.metadata import ScanMetadata
from ..tasks.convert import series_names
from ..tasks.overfocus import is_reference
from ..tasks.scan import keep_scan


def name_of_run(flow_name: str) -> Callable[[], str]:
    """What a run is called: the flow and the names of its sources, not their paths."""

    def name() -> str:
        given: dict[str, Any] = flow_run.parameters
        return f"{flow_name} " + ", ".join(Path(one).name for one in given["sources"])

    return name


def names_of(sources: Sequence[str]) -> list[str]:
    """A name for each source: a reference itself, or as much of a path as tells it apart."""
    files = [one for one in sources if not is_reference(one)]
    names = series_names([Path(one.partition("::")[0]) for one in files])
    given = {
        one: name.removesuffix(".zarr").removesuffix(".zspy")
        for one, name in zip(files, names, strict=True)
    }
    return [given.get(one, one) for one in sources]


def kept_scan(
    source: str,
    name: str,
    store: Path,
    stated: ScanMetadata | None,
    keep: bool,
    workers: str | None,
    live: OverfocusConfig | None = None,
) -> str:
    """Reference of the scan's artefact; "" if it is a file that is not to be kept.

    With `live` the scan is calibrated while it is read, for a person to watch.
    """
    if is_reference(source):
        return source
    return keep_scan(name, source, store, stated, workers, live) if keep else ""
