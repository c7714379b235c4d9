"""An overfocused scan binned in one pass: by this process, or by workers a block of rows each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..lib.artefacts import ArtefactStore
from .workers import carried_out

if TYPE_CHECKING:
    from ..lib.overfocus.binning import BinnedScan
    from ..lib.overfocus.config import OverfocusConfig
    from ..lib.overfocus.streaming import BinnedRows, Rows
    from ..lib.stem4d.scan import Scan4D

#: Part of the free memory that a scan or its binned frames may take.
_MEMORY = 0.4


def binned_scan(
    scan: Scan4D,
    config: OverfocusConfig,
    store: ArtefactStore,
    source: str,
    workers: str | None,
    done: Callable[[int], None],
) -> BinnedScan:
    """The scan binned for its calibration, the same to the last bit whoever reads it.

    Parameters
    ----------
    store, source : of the scan; by these, workers open it themselves.
    workers : address of worker processes, or None. With them, or if the scan is larger than the
        memory that is free, it is read in blocks of rows, and what does not fit is kept in a file.
    done : told how many scan rows are read.
    """
    import numpy as np
    import psutil

    from ..lib.overfocus.calibrate import bin_scan
    from ..lib.overfocus.streaming import bin_rows, bin_scan_by, room_in

    room = _MEMORY * psutil.virtual_memory().available
    size = np.prod(scan.frames.shape, dtype=float) * scan.frames.dtype.itemsize
    if size == 0 or (workers is None and size <= room):
        return bin_scan(scan, config)

    def read(binning: int, blocks: list[Rows]) -> Iterator[BinnedRows]:
        if workers is None:
            made = (bin_rows(scan, binning, rows) for rows in blocks)
        else:
            items = [(store.root, source, binning, rows) for rows in blocks]
            made = (part for _, part in carried_out(workers, stored_rows, items))
        rows_read = 0
        for part in made:
            rows_read += part.rows[1] - part.rows[0]
            done(rows_read)
            yield part

    store.staging.mkdir(exist_ok=True)
    return bin_scan_by(scan, config, read, room_in(store.staging, room))


def stored_rows(root: Path, source: str, binning: int, rows: Rows) -> BinnedRows:
    """A block of rows of a scan artefact, binned; what a worker does."""
    from ..lib.overfocus.streaming import bin_rows

    return bin_rows(_opened(root, source), binning, rows)


@lru_cache(maxsize=2)
def _opened(root: Path, source: str) -> Scan4D:
    """A scan that is opened once in each worker."""
    from ..lib.stem4d.storage import read_scan

    return read_scan(ArtefactStore(root).get(source).arrays)
