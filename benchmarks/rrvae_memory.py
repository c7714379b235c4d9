"""A 4D-STEM scan of 8.6 GB, prepared for learning from zarr: memory and time.

256 x 256 patterns of 256 x 256 pixels, 16 bits, written row by row to a temporary folder (1.7 GB of
disk) and removed in the end; prepared in a process of its own, whose peak is read.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import zarr
from _table import Table, options, say, work_folder

from ewaldflow.lib.cbed import Camera, Probe, simulate_graphene, with_dose
from ewaldflow.lib.stem4d.scan import scan_of
from ewaldflow.lib.stem4d.storage import create_frames, describe_scan, write_rows

POINTS, PIXELS = 256, 256
PIXEL_MRAD, PIXEL_MM = 0.26, 0.05
PREPARE = """
import resource, sys, time, zarr
from ewaldflow.lib.rrvae.preprocess import prepare
from ewaldflow.lib.stem4d.storage import read_scan
scan = read_scan(zarr.open_group(sys.argv[1], mode="r"))
before = time.process_time()
patterns = prepare(scan)
used = time.process_time() - before
print(len(patterns), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, used)
"""


def write(folder: Path, rows: int) -> None:
    """Rows of patterns drawn from 256 different ones with counting noise."""
    camera = Camera((PIXELS, PIXELS), (PIXEL_MRAD, PIXEL_MRAD))
    one = with_dose(simulate_graphene(probe=Probe(), camera=camera, scan_shape=(16, 16)), 2e5, 0)
    pool = np.asarray(one.frames).reshape(-1, PIXELS, PIXELS).astype(np.uint16)
    group = zarr.open_group(folder, mode="w")
    array = create_frames(group, (rows, POINTS), (PIXELS, PIXELS), np.dtype(np.uint16))
    random = np.random.default_rng(0)
    write_rows(array, (pool[random.integers(0, len(pool), POINTS)] for _ in range(rows)))
    stated = {
        "gain": 1.0,
        "pixel_size_mm": PIXEL_MM,
        "camera_length_mm": PIXEL_MM / (PIXEL_MRAD * 1e-3),
        "wavelength_A": one.wavelength_A,
        "convergence_mrad": one.convergence_mrad,
    }
    describe_scan(group, scan_of(array, "large", **stated))


def main() -> int:
    chosen = options(__doc__ or "").parse_args()
    rows = 32 if chosen.quick else POINTS
    with work_folder(chosen.work) as folder:
        scan = folder / "large.zarr"
        say("write")
        write(scan, rows)
        say("prepare")
        told = subprocess.run(
            [sys.executable, "-c", PREPARE, str(scan)], check=True, capture_output=True, text=True
        )
    n, peak_GB, cpu_s = map(float, told.stdout.split())
    table = Table(f"{rows} x {POINTS} patterns of {PIXELS} x {PIXELS}, prepared from zarr")
    table.check("patterns prepared", n, at_least=rows * POINTS, form=".0f")
    table.check("peak memory, GB", peak_GB, at_most=3.0, form=".2f")
    table.tell("CPU, s", f"{cpu_s:.1f}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
