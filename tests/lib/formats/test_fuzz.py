"""Damaged files of every format end in a result or in one line that names them.

By default a few variants of small files made here. With ``EWALDFLOW_FUZZ=200`` that many of each,
and of every file in the real data's ``images``: truncated, bits flipped, sizes overwritten, of
another suffix, empty, doubled. No traceback, no hang, no crash, no gigabytes.
"""

import json
import os
import select
import subprocess
import sys
import time
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
import zarr

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_image, write_series
from ewaldflow.lib.formats.scan4d import read_scan
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.stem4d.metadata import ScanMetadata

WORKER = Path(__file__).with_name("fuzz_worker.py")
LONG = int(os.environ.get("EWALDFLOW_FUZZ", "0"))
FEW = 7  # one of each kind
START_S, LIMIT_S = 120, 60  # until the worker has imported all; for one variant
ROOT = Path(ewaldflow.__file__).resolve().parent
IMAGES = Path(os.environ.get("EWALDFLOW_REAL_DATA", ROOT.parent / "shared" / "data")) / "images"
LARGEST = 3 * 2**20  # of the files packed in archives, of which there are many alike


def small_files(folder: Path) -> list[Path]:
    """A small file of each format, by our writers or byte by byte."""
    counts = np.random.default_rng(0).poisson(20, (6, 16, 24)).astype(np.uint16)
    made = [*_frames(folder, counts), *_containers(folder, counts), *_binary(folder, counts)]
    assert all(path.is_file() for path in made)
    return made


def _frames(folder: Path, counts: np.ndarray) -> list[Path]:
    series = RotationSeries(
        name="few",
        frames=da.from_array(counts, chunks=(2, 16, 24)),
        frame_number=np.arange(1, 7),
        angle_start_deg=np.arange(6) * 0.5,
        angle_width_deg=np.full(6, 0.5),
        geometry=Geometry(0.0251, 0.05, 500.0, (8.0, 12.0), (1.0, 0.0, 0.0)),
        mask=np.zeros((16, 24), bool),
    )
    made = []
    for name, suffix in (("SMV", ".img"), ("TIFF", ".tiff"), ("MRC", ".mrc"), ("CBF", ".cbf"),
                         ("NXmx", ".nxs")):  # fmt: skip
        write_series(series, folder / name, name)
        found = [*(folder / name).rglob(f"*{suffix}")] or [*(folder / name).rglob("*.h5")]
        made.append(min(found))
    tifffile.imwrite(folder / "stack.tif", counts)
    return [*made, folder / "stack.tif"]


def _containers(folder: Path, counts: np.ndarray) -> list[Path]:
    scan = counts.reshape(2, 3, 16, 24)
    np.save(folder / "scan.npy", scan)
    with h5py.File(folder / "scan.hspy", "w") as file:
        file["Experiments/s/data"] = scan
        for n in (0, 1):
            axis = file.create_group(f"Experiments/s/axis-{n}")
            axis.attrs.update({"scale": 1.5, "units": "nm"})
    with h5py.File(folder / "berkeley.emd", "w") as file:
        group = file.create_group("data/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = scan
        for n in range(1, 5):
            group[f"dim{n}"] = np.arange(4) * 25.0
    with h5py.File(folder / "velox.emd", "w") as file:
        group = file.create_group("Data/Image/0a")
        group["Data"] = np.moveaxis(counts, 0, -1)
        text = json.dumps({"Optics": {"AccelerationVoltage": "200000"}}).encode()
        column = np.frombuffer(text.ljust(2000, b"\0"), np.uint8)
        group["Metadata"] = np.repeat(column[:, None], 6, axis=1)
    with h5py.File(folder / "gold_data_000001.h5", "w") as file:
        file["entry/data/data"] = counts
    with h5py.File(folder / "gold_master.h5", "w") as file:
        link = h5py.ExternalLink("gold_data_000001.h5", "/entry/data/data")
        file["entry/data/data_000001"] = link
        detector = file.create_group("entry/instrument/detector")
        detector["x_pixel_size"] = detector["y_pixel_size"] = 1e-4
    with zarr.storage.ZipStore(folder / "scan.zspy", mode="w") as store:
        zarr.create_array(store, data=scan, zarr_format=2)
    names = ("scan.npy", "scan.hspy", "berkeley.emd", "velox.emd", "gold_master.h5", "scan.zspy")
    return [folder / name for name in names]


def _binary(folder: Path, counts: np.ndarray) -> list[Path]:
    head = "MQ1,{:06d},00384,01,0024,0016,U16,   1x1,01,2021-04-15 15:04:00.7,0.001,0,0,0,"
    head += "2.0,MQ1A,2021-04-15T14:04:00.746234381Z,1000000ns,12,"
    (folder / "scan.mib").write_bytes(
        b"".join(
            head.format(n).encode().ljust(384) + frame.astype(">u2").tobytes()
            for n, frame in enumerate(counts, 1)
        )
    )
    (folder / "scan.hdr").write_text("HDR,\t\nScanX:\t3\nScanY:\t2\nEnd\t\n")
    (folder / "scan_x3_y2.raw").write_bytes(np.zeros((6, 130, 128), "<f4").tobytes())
    blo = np.zeros(1, [("id", "S6"), ("magic", "<u2"), ("image", "<u4"), ("frames", "<u4"),
                       ("flags", "<u4"), ("side", "<u2"), ("_", "<u2"), ("columns", "<u2"),
                       ("rows", "<u2"), ("turn", "<u2"), ("x", "<f8"), ("y", "<f8"),
                       ("volts", "<u4"), ("px", "<u2"), ("cm", "<u4")])  # fmt: skip
    blo[0] = (b"IMGBLO", 258, 4096, 4102, 0, 16, 0, 3, 2, 0, 2.0, 2.0, 200000, 100, 500)
    patterns = np.zeros((6, 6 + 256), np.uint8)
    patterns[:, 6:] = counts[:, :, :16].reshape(6, -1)
    (folder / "scan.blo").write_bytes(blo.tobytes().ljust(4102, b"\0") + patterns.tobytes())
    tvips = np.zeros(64, "<u4")
    tvips[:13] = (256, 2, 24, 16, 16, 0, 0, 1, 1, 15600, 200, 300, 48)
    records = b"".join(bytes(48) + frame.tobytes() for frame in counts)
    (folder / "scan_000.tvips").write_bytes(tvips.tobytes() + records)
    (folder / "scan.ser").write_bytes(_ser(counts))
    return [folder / name for name in ("scan.mib", "scan_x3_y2.raw", "scan.blo", "scan_000.tvips",
                                       "scan.ser")]  # fmt: skip


def _ser(counts: np.ndarray) -> bytes:
    """Frames as TIA keeps them: file header, list of offsets, an element header before each."""
    size = 50 + counts[0].nbytes
    first = 30 + 16 * len(counts)
    offsets = np.array([first + n * size for n in range(len(counts))], "<u8")
    fields = np.array([(0x4949, 0x0197, 0x0220, 0x4122, 0x4152, 6, 6, 30)],
                      "<u2, <u2, <u2, <u4, <u4, <u4, <u4, <u8")  # fmt: skip
    element = np.array([(0.0, 1e8, 0, 0.0, 1e8, 0, 2, 24, 16)],
                       "<f8, <f8, <i4, <f8, <f8, <i4, <u2, <i4, <i4")  # fmt: skip
    frames = b"".join(element.tobytes() + frame.tobytes() for frame in counts)
    return fields.tobytes() + offsets.tobytes() + bytes(8 * len(counts)) + frames


def fuzzed(files: list[Path], variants: int, folder: Path) -> tuple[Counter, list[str]]:
    """How often opening ended in what, and a line for each variant that ended otherwise."""
    counted: Counter = Counter()
    faults: list[str] = []
    first, total = 0, len(files) * variants
    folder.mkdir(parents=True, exist_ok=True)
    job = folder / "job.json"
    while first < total:
        wanted = {"files": [str(one) for one in files], "variants": variants, "first": first}
        job.write_text(json.dumps(wanted))
        current, why = _watch(folder, job, counted, faults)
        if current is None:
            break
        faults.append(f"{why}: {current}")
        print(faults[-1], flush=True)
        first = current["begin"]
    return counted, faults


def _watch(folder, job, counted, faults):
    """Run a worker to its end; the variant that it did not end, and why."""
    errors = folder / "stderr.txt"
    with errors.open("wb") as told, subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(job)], stdout=subprocess.PIPE, stderr=told,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    ) as worker:  # fmt: skip
        current, limit, rest = None, START_S, b""
        handle = worker.stdout.fileno()
        try:
            while True:
                if not select.select([handle], [], [], limit)[0]:
                    return current or {"begin": 10**9}, f"hung for {limit} s"
                data = os.read(handle, 2**16)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in map(json.loads, lines):
                    limit = LIMIT_S
                    if "begin" in line:
                        current = line
                    elif "end" in line:
                        for opener, ended in line["ended"].items():
                            word = ended if ended in ("read", "refused") else "fault"
                            counted[f"{opener} {word}"] += 1
                            if word == "fault":
                                faults.append(f"{opener} {ended}: {current}")
                                print(faults[-1], flush=True)
                        counted["largest MB"] = max(counted["largest MB"], line["peak_MB"])
                        ended_with, current = current, None
                    elif "stop" in line:
                        return ended_with, "took too much memory"
        finally:
            worker.kill()
        if worker.wait() or current is not None:
            last = errors.read_text(errors="replace").strip().splitlines()[-1:]
            return current or {"begin": 10**9}, f"died of {worker.returncode} {last}"
    return None, ""


def test_damaged_files_of_every_format(tmp_path):
    (tmp_path / "files").mkdir()
    files = small_files(tmp_path / "files")
    assert len({path.suffix for path in files}) >= 14
    began = time.monotonic()
    counted, faults = fuzzed(files, LONG or FEW, tmp_path / "cases")
    print(dict(counted), f"{time.monotonic() - began:.0f} s")
    assert not faults, "\n".join(faults)
    tried = len(files) * (LONG or FEW)
    assert sum(n for name, n in counted.items() if name.startswith("scan ")) == tried
    for opener in ("image", "scan", "series"):
        assert counted[f"{opener} read"]
        assert counted[f"{opener} refused"]


def test_small_files_are_read_undamaged(tmp_path):
    scans = {}
    for path in small_files(tmp_path):
        if path.suffix not in {".npy", ".hspy", ".zspy", ".raw"} and path.stem != "berkeley":
            assert read_image(path, 1).shape in {(16, 24), (16, 16)}
        stated = ScanMetadata(scan_shape=(2, 3))
        with suppress(UserError):
            scans[path.name] = read_scan(path, stated=stated).scan_shape
    assert len(scans) >= 12
    assert set(scans.values()) == {(2, 3)}


@pytest.mark.real
@pytest.mark.skipif(not LONG, reason="long: EWALDFLOW_FUZZ=200 sets the variants of each file")
def test_damaged_real_files(tmp_path):
    if not IMAGES.is_dir():
        pytest.skip(f"real data absent: no {IMAGES}")
    files = [path for path in sorted(IMAGES.iterdir()) if path.is_file()]
    for archive in [path for path in files if path.suffix == ".zip"]:
        with zipfile.ZipFile(archive) as packed:
            for one in packed.infolist():
                if 0 < one.file_size <= LARGEST:
                    files.append(Path(packed.extract(one, tmp_path / "unpacked")))
    files.sort(key=lambda path: path.stat().st_size)
    counted, faults = fuzzed(files, LONG, tmp_path / "cases")
    print(f"{len(files)} files, {LONG} variants each: {dict(counted)}")
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults)
