"""Conversion to zarr artefacts against the plain copy of the same bytes on the same disk.

Series of TIFF and SMV frames and a Merlin scan, of simulated electron counts, are converted by what
`ewaldflow reduce` and `ewaldflow convert` run: read, digested, checked, compressed, digested again
and held by the disk. The plain copy of the same files (read, written, then ``fsync`` of each) runs
before each conversion, both from files that the page cache holds; medians of several turns.

A Merlin scan and an MRC stack of 50 GB, sparse files of zeros, are converted for the memory taken.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import tifffile
from _table import Table, options, run_measured, say, work_folder

from ewaldflow.lib.artefacts.durable import fsync
from ewaldflow.lib.instrument import SeriesOverrides
from ewaldflow.lib.stem4d.metadata import ScanMetadata
from ewaldflow.tasks.convert import convert_series
from ewaldflow.tasks.scan import scan_artefact

FRAME = (516, 516)
PATTERN = (256, 256)
SIDE = 64  # a scan is SIDE x 2 SIDE points for each GB
TURNS = 5
BAR = 2.0
POOL = 64  # different frames; the others repeat them
GEOMETRY = SeriesOverrides(
    voltage_kV=200, pixel_size_mm=0.055, distance_mm=500, rotation_axis=(1, 0, 0),
    start_deg=-30, oscillation_deg=0.05,
)  # fmt: skip


def counts(shape: tuple[int, int], seed: int) -> np.ndarray:
    """(POOL, row, column) electron counts: a diffuse background, Bragg spots, a direct beam."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape) - np.array(shape).reshape(2, 1, 1) / 2
    radius = np.hypot(rows, columns)
    diffuse = 40 * np.exp(-radius / (0.15 * shape[0])) + 0.5
    frames = np.empty((POOL, *shape), np.uint16)
    for frame in frames:
        mean = diffuse + 3000 * np.exp(-(radius**2) / 8)
        for row, column in random.uniform(5, np.array(shape) - 5, (60, 2)):
            at = slice(int(row) - 4, int(row) + 5), slice(int(column) - 4, int(column) + 5)
            away = (np.indices((9, 9)) - 4) ** 2
            mean[at] += random.exponential(200) * np.exp(-away.sum(0) / 4)[: mean[at].shape[0]]
        frame[...] = random.poisson(mean)
    return frames


def write_tiff(folder: Path, size: float) -> Path:
    """A folder of plain TIFF frames, as cameras write them."""
    pool = counts(FRAME, 1)
    folder.mkdir()
    for n in range(round(size * 1e9 / pool[0].nbytes)):
        tifffile.imwrite(folder / f"{n + 1:05d}.tiff", pool[n % POOL], metadata=None)
    return folder


def write_smv(folder: Path, size: float) -> Path:
    """A folder of SMV frames in TIMEPIX_SU's dialect."""
    pool = counts(FRAME, 2)
    folder.mkdir()
    head = (
        "{{\nHEADER_BYTES=512;\nDIM=2;\nBYTE_ORDER=little_endian;\nTYPE=unsigned_short;\n"
        "SIZE1=516;\nSIZE2=516;\nPIXEL_SIZE=0.055;\nBIN=1x1;\nADC=fast;\nDETECTOR_SN=901;\n"
        "BEAMLINE=TIMEPIX_SU;\nDISTANCE=500.0;\nWAVELENGTH=0.0250793;\nPHI={phi:.4f};\n"
        "OSC_START={phi:.4f};\nOSC_RANGE=0.05;\nTIME=0.5;\nBEAM_CENTER_X=258.5;\n"
        "BEAM_CENTER_Y=258.5;\n}}\n"
    )
    for n in range(round(size * 1e9 / pool[0].nbytes)):
        text = head.format(phi=-30 + 0.05 * n).encode().ljust(512)
        (folder / f"{n + 1:05d}.img").write_bytes(text + pool[n % POOL].tobytes())
    return folder


def write_mib(folder: Path, size: float) -> Path:
    """A Merlin's scan of 12-bit counts, big-endian behind a header for each frame."""
    pool = counts(PATTERN, 3).astype(">u2")
    folder.mkdir()
    path = folder / "scan.mib"
    head = "MQ1,{:06d},00384,01,0256,0256,U16,   1x1,01,2021-04-15 15:04:00.7,0.001,0,0,0,"
    head += "2.0,2021-04-15T14:04:00.746234381Z,1000000ns,12,"
    rows = max(2, round(size * 1e9 / pool[0].nbytes / (2 * SIDE)))
    with path.open("wb") as file:
        for n in range(rows * 2 * SIDE):
            file.write(head.format(n + 1).encode().ljust(384) + pool[n % POOL].tobytes())
    path.with_suffix(".hdr").write_text(
        f"HDR,\t\nCounter Depth (number):\t12\nFrames in Acquisition (Number):\t"
        f"{rows * 2 * SIDE}\nFrames per Trigger (Number):\t{2 * SIDE}\nEnd\t\n"
    )
    return path


def copy(source: Path, to: Path) -> None:
    """Every file, then held by the disk."""
    to.mkdir()
    block = memoryview(bytearray(2**23))
    folder = source if source.is_dir() else source.parent
    for path in sorted(folder.iterdir()):
        with path.open("rb", buffering=0) as read, (to / path.name).open("wb", buffering=0) as out:
            while n := read.readinto(block):
                out.write(block[:n])
    for path in to.iterdir():
        fsync(path)
    fsync(to)


def size_of(source: Path) -> int:
    """Bytes of the files that are converted."""
    folder = source if source.is_dir() else source.parent
    return sum(path.stat().st_size for path in folder.iterdir())


def read_once(source: Path) -> None:
    """Have the page cache hold the files."""
    folder = source if source.is_dir() else source.parent
    for path in folder.iterdir():
        with path.open("rb") as file:
            while file.read(2**23):
                pass


def series(source: Path, store: Path) -> None:
    convert_series("bench", source, store, None, GEOMETRY)


def scan(source: Path, store: Path) -> None:
    scan_artefact("bench", str(source), store, ScanMetadata())


Timed = tuple[float, float]  # seconds by the clock, of CPU


def timed(work: Callable[[], object]) -> Timed:
    os.sync()  # what was written before is not waited for in here
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


KINDS: dict[str, tuple[Callable[[Path, float], Path], Callable[[Path, Path], None]]] = {
    "TIFF": (write_tiff, series),
    "SMV": (write_smv, series),
    "MIB": (write_mib, scan),
}


def measure(table: Table, kind: str, folder: Path, size: float, turns: int) -> None:
    """The rows of one format."""
    write, convert = KINDS[kind]
    say(f"{kind}: write {size:g} GB")
    small = write(folder / f"small-{kind}", 0.02)
    convert(small, folder / "store")  # compiles and imports
    source = write(folder / kind, size)
    read_once(source)
    copies: list[Timed] = []
    conversions: list[Timed] = []
    for turn in range(turns):
        copies.append(timed(lambda: copy(source, folder / "copy")))
        shutil.rmtree(folder / "copy")
        conversions.append(timed(lambda: convert(source, folder / "store")))
        kept = sum(p.stat().st_size for p in (folder / "store").rglob("*") if p.is_file())
        shutil.rmtree(folder / "store")
        say(
            f"  turn {turn + 1}: copy {copies[-1][0]:.2f} s ({copies[-1][1]:.2f} CPU), "
            f"conversion {conversions[-1][0]:.2f} s ({conversions[-1][1]:.2f} CPU)"
        )
    nbytes = size_of(source)
    plain, ours = (statistics.median(t for t, _ in one) for one in (copies, conversions))
    cpu = statistics.median(t for _, t in conversions)
    table.check(
        f"{kind} to zarr: times the plain copy", ours / plain, at_most=BAR,
        peer=f"{nbytes / ours / 1e6:.0f} MB/s, copy {nbytes / plain / 1e6:.0f} MB/s",
    )  # fmt: skip
    table.tell(
        f"{kind}: CPU per GB, what is kept", f"{cpu / nbytes * 1e9:.2f} s",
        f"{kept / nbytes:.2f} of the bytes",
    )  # fmt: skip
    shutil.rmtree(folder / kind)


def sparse_mib(path: Path, gigabytes: float) -> None:
    """A Merlin's scan of zeros that takes no disk: headers at its beginning and its end only."""
    one = write_mib(path.parent / "first", 1e-9).read_bytes()[: 384 + 2 * PATTERN[0] * PATTERN[1]]
    columns = 512
    rows = round(gigabytes * 1e9 / len(one) / columns)
    with path.open("wb") as file:
        for n in (0, rows * columns - 1):
            file.seek(n * len(one))
            file.write(one)
    path.with_suffix(".hdr").write_text(f"HDR,\t\nScanX:\t{columns}\nScanY:\t{rows}\nEnd\t\n")


def sparse_mrc(path: Path, gigabytes: float) -> None:
    """A stack of zeros of 4096 x 4096 pixels that takes no disk."""
    side = 4096
    n = round(gigabytes * 1e9 / (2 * side * side))
    with mrcfile.new(path, np.zeros((1, side, side), np.uint16)) as stack:
        stack.header.nz = stack.header.mz = n
    os.truncate(path, 1024 + n * 2 * side * side)


LARGE = {"MIB": ("scan.mib", sparse_mib, scan), "MRC": ("stack.mrc", sparse_mrc, series)}


def stream(table: Table, kind: str, folder: Path, gigabytes: float) -> None:
    """Memory of converting a file larger than memory, in a process of its own."""
    name, write, _ = LARGE[kind]
    place = folder / f"large-{kind}"
    place.mkdir()
    write(place / name, gigabytes)
    say(f"{kind}: {(place / name).stat().st_size / 1e9:.1f} GB, mostly of zeros")
    began = time.perf_counter()
    ran = run_measured(
        [sys.executable, __file__, "--convert", kind, place], folder, folder / f"{kind}.log"
    )
    took = time.perf_counter() - began
    if ran.code:
        table.fail(f"{kind} of {gigabytes:g} GB", ran.output[-300:])
    else:
        table.check(
            f"{kind} of {gigabytes:g} GB to zarr: peak memory, MB", ran.memory_MB, at_most=1000,
            form=".0f", peer=f"{took:.0f} s, {ran.cpu_s:.0f} of CPU",
        )  # fmt: skip
    shutil.rmtree(place)


def main() -> int:
    """Measure and print the table."""
    parser = options(__doc__ or "")
    parser.add_argument("--large", type=float, default=50.0, help="GB of the largest file")
    parser.add_argument("--convert", nargs=2, metavar=("KIND", "FOLDER"), help="only convert")
    parser.add_argument("--size", type=float, default=1.0, help="GB of each format")
    parser.add_argument("--only", choices=[*KINDS, "MRC"], help="one format")
    parser.add_argument("--turns", type=int, default=TURNS, help="times each is done")
    given = parser.parse_args()
    if given.convert:
        kind, place = given.convert
        LARGE[kind][2](Path(place) / LARGE[kind][0], Path(place) / "store")
        return 0
    size, turns = (0.2, 3) if given.quick else (given.size, given.turns)
    table = Table(f"Conversion of {size:g} GB, {os.cpu_count()} cores")
    with work_folder(given.work) as folder:
        for kind in [one for one in KINDS if given.only in (None, one)]:
            measure(table, kind, folder, size, turns)
        for kind in LARGE if given.only is None else [k for k in LARGE if k == given.only]:
            stream(table, kind, folder, 1.0 if given.quick else given.large)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
