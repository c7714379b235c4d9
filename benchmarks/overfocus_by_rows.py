"""A scan binned by two worker processes, a block of rows each: the same bits, and little memory."""

from __future__ import annotations

import os
import sys

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
from _table import Table, options, say, work_folder

from ewaldflow.lib.artefacts import ArtefactStore, Recipe
from ewaldflow.lib.overfocus.binning import BinnedScan
from ewaldflow.lib.overfocus.config import OverfocusConfig
from ewaldflow.lib.stem4d.scan import scan_of
from ewaldflow.lib.stem4d.storage import create_frames, describe_scan, read_scan, write_rows
from ewaldflow.tasks.scan_rows import binned_scan
from ewaldflow.tasks.workers import workers

COLUMNS, SHAPE, BINNING = 128, (256, 256), 4


def write(store: ArtefactStore, rows: int) -> None:
    """A scan of noise in a disc, a row in memory at a time."""
    y, x = np.indices(SHAPE) - 128
    disc = 10.0 * (np.hypot(y, x) < 100)
    rng = np.random.default_rng(1)
    few = [rng.poisson(disc, (COLUMNS, *SHAPE)).astype(np.uint16) for _ in range(3)]
    with store.draft(Recipe(kind="scan", name="large")) as draft:
        array = create_frames(draft.arrays, (rows, COLUMNS), SHAPE, np.dtype(np.uint16))
        write_rows(array, (few[n % 3] for n in range(rows)))
        describe_scan(draft.arrays, scan_of(array))
        draft.publish()


@contextmanager
def watched() -> Iterator[dict[int, int]]:
    """The most memory that each process took, in bytes, by its number."""
    most: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        me = psutil.Process()
        while not over.wait(0.05):
            for one in (me, *me.children(recursive=True)):
                try:
                    most[one.pid] = max(most.get(one.pid, 0), one.memory_info().rss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def digest(binned: BinnedScan) -> str:
    """Of all that a calibration is made of."""
    total = hashlib.sha256()
    for array in (binned.frames, binned.recorded, binned.mask, binned.mean):
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def main() -> int:
    """Measure and print the table."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=128, help="of the scan, 17 MB each")
    given = parser.parse_args()
    table = Table("A scan binned by two worker processes")
    with work_folder(given.work) as folder:
        store = ArtefactStore(folder / "runs")
        say(f"write {given.rows} x {COLUMNS} x {SHAPE[0]} x {SHAPE[1]}")
        write(store, given.rows)
        scan = read_scan(store.get("scan/large").arrays)
        config = OverfocusConfig(binning=BINNING)
        raw = scan.frames.size * scan.frames.dtype.itemsize
        found = {}
        for name, n in (("one process", 1), ("two workers", 2)):
            with workers(n) as address, watched() as most:
                began = time.perf_counter()
                binned = binned_scan(scan, config, store, "scan/large", address, lambda rows: None)
                wall = time.perf_counter() - began
            found[name] = digest(binned)
            held = binned.frames.nbytes
            mine = most.pop(os.getpid())
            table.tell(f"{name}: wall time", f"{wall:.1f} s", f"{raw / 1e9:.2f} GB of frames")
            table.tell(f"{name}: most memory here, GB", f"{mine / 1e9:.2f}",
                       f"{held / 1e9:.2f} GB of binned frames")  # fmt: skip
            if most:
                table.check("most memory of a worker, GB", max(most.values()) / 1e9, at_most=0.6)
            del binned
        same = float(found["one process"] == found["two workers"])
        table.check("the same to the last bit (1: yes)", same, at_least=1.0)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
