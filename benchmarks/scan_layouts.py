"""Chunks and shards of a 4D-STEM scan in zarr, read as the calibration and as the network do.

Both read every frame once, in runs along scan rows (`for_each_rows`); a page of the report and a
person look at single frames. CPU of one core, per GB of 16-bit counts; files of a scan of 50 GB.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from _table import Table, options, work_folder
from conversion import counts

from ewaldflow.lib.artefacts.arrays import compressed_array
from ewaldflow.lib.stem4d.rows import for_each_rows
from ewaldflow.lib.stem4d.scan import scan_of

SCAN, PATTERN = (16, 128), (256, 256)
LARGE_BYTES = 50e9
REPEATS = 3
Layout = tuple[tuple[int, ...], tuple[int, ...] | None]
LAYOUTS: dict[str, Layout] = {
    "chunks of 8 MiB (ours)": ((1, 64, *PATTERN), None),
    "chunks of 1 MiB": ((1, 8, *PATTERN), None),
    "chunks of 32 MiB": ((2, 128, *PATTERN), None),
    "chunks of a frame, shards of a row": ((1, 1, *PATTERN), (1, 128, *PATTERN)),
    "chunks of 8 MiB, shards of 64 MiB": ((1, 64, *PATTERN), (4, 128, *PATTERN)),
    "chunks across frames, 16 x 16 x 64 x 64": ((16, 16, 64, 64), None),
}


def cpu(work: Callable[[], Any]) -> float:
    """Least CPU seconds of several runs after a first one."""
    work()
    took = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def main() -> int:
    """Measure and print the table."""
    given = options(__doc__ or "").parse_args()
    frames = np.resize(counts(PATTERN, 3), (*SCAN, *PATTERN))
    table = Table(f"Layouts of a scan of {SCAN}, frames of {PATTERN}, CPU s/GB")
    taken: dict[str, float] = {}
    with work_folder(given.work) as folder:
        for name, (chunks, shards) in LAYOUTS.items():
            place = Path(folder) / "layout.zarr"
            group = zarr.open_group(place, mode="w", zarr_format=3)
            separator = "." if shards is None else "/"
            array = compressed_array(
                group, "frames", frames.shape, frames.dtype, chunks, shards, separator
            )
            array[...] = frames
            files = sum(one.is_file() for one in place.rglob("*")) - 2
            held = scan_of(zarr.open_group(place, mode="r")["frames"])
            rows = cpu(lambda: for_each_rows(held, lambda first, some: None, 1))  # noqa: B023
            one = cpu(lambda: [held.frames[3, column] for column in range(0, 128, 16)])  # noqa: B023
            taken[name] = rows / frames.nbytes * 1e9
            table.tell(
                name, f"rows {taken[name]:.2f} s/GB",
                f"a frame {one / 8 * 1e3:.1f} ms; {files * LARGE_BYTES / frames.nbytes:.0f} files",
            )  # fmt: skip
            shutil.rmtree(place)
    ours, *others = taken.values()
    table.check("ours, of the fastest other", ours / min(others), at_most=1.3)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
