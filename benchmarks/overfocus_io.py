"""Overfocused scans against the machine: binning, reading from zarr, and one of 8.6 GB."""

from __future__ import annotations

import os
import sys

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from _table import Table, options, run_measured, say, work_folder
from numba import njit

from ewaldflow.lib.overfocus.binning import Binner
from ewaldflow.lib.overfocus.calibrate import calibrate
from ewaldflow.lib.overfocus.config import OverfocusConfig
from ewaldflow.lib.overfocus.model import similarity_of
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.stem4d.rows import for_each_rows
from ewaldflow.lib.stem4d.scan import Scan4D
from ewaldflow.lib.stem4d.simulate import Imperfections, described_scan, simulate_rows
from ewaldflow.lib.stem4d.storage import create_frames, describe_scan, read_scan, write_rows

SHAPE, RADIUS_PX, BINNING = (256, 256), 100.0, 4
LENGTH_M, PITCH_M, OVERFOCUS_M, TURN_DEG = 0.5, 55e-6, 20e-6, 37.3
DESCAN = ((0.03, -0.01), (0.02, 0.04))
FAULTS = Imperfections(gain_sd=0.02)
USUAL, LARGE = (64, 64), (256, 256)
SCALE_PX = {USUAL: 3.0, LARGE: 1.5}  # detector px per scan step
FREE_BYTES = 5e9  # what the large scan may need, compressed, and some air
REPEATS = 5


def truth_of(scan_shape: tuple[int, int]) -> OverfocusParameters:
    """The column that a scan is made with."""
    step = SCALE_PX[scan_shape] * PITCH_M * OVERFOCUS_M / (LENGTH_M + OVERFOCUS_M)
    return OverfocusParameters(
        OVERFOCUS_M, step, LENGTH_M, PITCH_M, 127.5, 127.5, TURN_DEG, False, DESCAN
    )


def write(path: Path, scan_shape: tuple[int, int], dose: float) -> None:
    """Simulate a scan into a zarr folder, a scan row in memory at a time."""
    truth = truth_of(scan_shape)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = create_frames(group, scan_shape, SHAPE, np.dtype(np.uint16))
    rows = simulate_rows(
        truth, scan_shape, SHAPE, "cross_grating", dose, RADIUS_PX, imperfect=FAULTS
    )
    write_rows(array, rows)
    describe_scan(group, described_scan(array, truth, scan_shape, SHAPE, imperfect=FAULTS))


def opened(path: Path) -> Scan4D:
    """The scan in a zarr folder."""
    return read_scan(zarr.open_group(path, mode="r"))


def best(work: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Least CPU and least wall seconds of several runs, the first of them not counted."""
    work()
    cpu, wall = [], []
    for _ in range(repeats):
        began_cpu, began = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - began_cpu)
        wall.append(time.perf_counter() - began)
    return min(cpu), min(wall)


@njit(nogil=True, fastmath=True)
def accumulate(frames, total):  # type: ignore[no-untyped-def]
    """Sum of frames (n, pixel), as fast as memory gives them."""
    for n in range(frames.shape[0]):
        for k in range(frames.shape[1]):
            total[k] += frames[n, k]


def binning_rows(table: Table, scan: Scan4D) -> None:
    """The binning pass over frames in memory, beside the plain sum of the same frames."""
    frames = np.asarray(scan.frames[...]).reshape(-1, *SHAPE)
    flat = frames.reshape(len(frames), -1)
    total = np.zeros(flat.shape[1], np.uint32)
    plain, _ = best(lambda: accumulate(flat, total))
    columns = scan.scan_shape[1]

    def binned() -> None:
        binner = Binner(scan, BINNING)
        for first in range(0, len(frames), columns):
            binner.add(first, frames[first : first + columns])

    ours, _ = best(binned)
    speed = f"{frames.nbytes / ours / 1e9:.1f} GB/s of {frames.nbytes / plain / 1e9:.1f}"
    table.check(
        "binning pass over frames in memory, CPU of the plain sum", ours / plain, at_most=2.0,
        peer=speed,
    )  # fmt: skip


def reading_rows(table: Table, scan: Scan4D) -> None:
    """A whole calibration from zarr, beside only reading the frames."""
    rows = scan.scan_shape[0]

    def by_zarr() -> None:
        for row in range(rows):
            scan.frames[row]

    zarr_cpu, zarr_wall = best(by_zarr)
    ours_cpu, ours_wall = best(lambda: for_each_rows(scan, lambda first, frames: None))
    cpu, wall = best(lambda: calibrate(scan, OverfocusConfig()))
    size = scan.frames.size * scan.frames.dtype.itemsize
    table.check(
        "whole calibration from zarr, CPU of decoding by zarr", cpu / zarr_cpu, at_most=2.5,
        peer=f"{cpu:.2f} s, zarr {zarr_cpu:.2f} s",
    )  # fmt: skip
    table.tell(
        "the same, wall time of decoding by zarr", f"{wall / zarr_wall:.2f}",
        f"{wall:.2f} s, zarr {zarr_wall:.2f} s",
    )  # fmt: skip
    table.tell(
        "the same, CPU of our own decoding", f"{cpu / ours_cpu:.2f}",
        f"decoding at {size / ours_cpu / 1e9:.1f} GB/s per core",
    )  # fmt: skip
    table.check(
        "our decoding, CPU of zarr's", ours_cpu / zarr_cpu, at_most=1.0,
        peer=f"{zarr_wall / ours_wall:.1f} times its speed on two threads",
    )  # fmt: skip


def large_rows(table: Table, folder: Path) -> None:
    """The scan of 8.6 GB: written in pieces, calibrated, removed."""
    name = "x".join(str(n) for n in (*LARGE, *SHAPE))
    if shutil.disk_usage(folder).free < FREE_BYTES:
        table.fail(name, f"less than {FREE_BYTES / 1e9:g} GB free in {folder}")
        return
    path = folder / "large.zarr"
    say(f"simulate {name}")
    written = run_measured(
        [sys.executable, __file__, "--write", path], folder, folder / "write.log"
    )
    if written.code:
        table.fail(f"{name}, written", written.output[-200:])
        return
    held = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    say(f"calibrate {name}: {held / 1e9:.2f} GB on the disk")
    began = time.perf_counter()
    done = run_measured(
        [sys.executable, __file__, "--calibrate", path], folder, folder / "calibrate.log"
    )
    wall = time.perf_counter() - began
    shutil.rmtree(path)
    if done.code:
        table.fail(f"{name}, calibrated", done.output[-200:])
        return
    found = json.loads(done.output.splitlines()[-1])
    for what, ran in (("written", written), ("calibrated", done)):
        table.check(f"{name} {what}: peak memory, GB", ran.memory_MB / 1e3, at_most=3.0)
    table.tell(f"{name} calibrated", f"{done.cpu_s:.1f} s CPU, {wall:.1f} s", found["verdict"])
    table.check(f"{name}: error of rotation, degrees", found["turn_deg"], at_most=0.01)
    table.check(f"{name}: error of scale, %", found["scale_percent"], at_most=0.03)
    table.check(f"{name}: error of descan, px/px", found["descan"], at_most=0.002)


def calibrate_here(path: Path) -> None:
    """Calibrate a stored scan and print how far it is from the truth."""
    scan = opened(path)
    truth = truth_of(scan.scan_shape)
    found = calibrate(scan, OverfocusConfig(), say)
    like = similarity_of(found.scan_to_detector)
    told = {
        "verdict": found.verdict,
        "turn_deg": abs(like.rotation_deg - truth.scan_rotation_deg),
        "scale_percent": 100 * abs(like.scale / SCALE_PX[scan.scan_shape] - 1),
        "descan": float(np.abs(found.descan - np.array(truth.descan_px)).max()),
    }
    print(json.dumps(told))


def main() -> int:
    """Measure and print the table."""
    parser = options(__doc__)
    parser.add_argument("--write", type=Path, help="only write the large scan to this folder")
    parser.add_argument("--calibrate", type=Path, help="only calibrate the scan in this folder")
    given = parser.parse_args()
    if given.write:
        write(given.write, LARGE, 5.0)
        return 0
    if given.calibrate:
        calibrate_here(given.calibrate)
        return 0
    table = Table("Overfocused scans against the machine")
    with work_folder(given.work) as folder:
        path = folder / "usual.zarr"
        say("simulate 64 x 64 x 256 x 256")
        write(path, USUAL, 10.0)
        binning_rows(table, opened(path))
        reading_rows(table, opened(path))
        if not given.quick:
            large_rows(table, folder)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
