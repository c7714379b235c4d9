"""Opens damaged variants of files in a process of its own, for `test_fuzz`.

``fuzz_worker.py FOLDER JOB`` works through ``{"files": [...], "variants": n, "first": n}`` (JSON in
the file JOB), telling of each variant in a line of JSON: when it begins, and how it ended. Whoever
started it sees by the last line where it hung or died, and starts another behind that.
"""

import gzip
import json
import random
import resource
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_image, read_series
from ewaldflow.lib.formats.scan4d import read_scan
from ewaldflow.lib.instrument import SeriesOverrides
from ewaldflow.lib.stem4d.metadata import ScanMetadata

MEMORY = 3 * 2**30  # address space that reading a damaged file may take beside what is loaded
RESIDENT_MB = 1000  # what it may fill of it
LONGEST = 1000  # characters of a line
HEAD = 4096
KINDS = ("cut", "head", "body", "size", "suffix", "empty", "twice")
SUFFIXES = [
    ".img", ".tif", ".mrc", ".cbf", ".dm3", ".dm4", ".emd", ".mib", ".tvips", ".ser", ".blo", ".h5",
    ".hspy", ".npy", ".raw", ".zspy", ".nxs", ".gz", ".txt",
]  # fmt: skip
GEOMETRY = SeriesOverrides(
    voltage_kV=200, pixel_size_mm=0.05, distance_mm=500, rotation_axis=(1, 0, 0), start_deg=0,
    oscillation_deg=0.1,
)  # fmt: skip


def variant(content: bytes, kind: str, random: random.Random) -> bytes:
    """A file's bytes, damaged."""
    data = bytearray(content)
    n = len(data)
    if kind == "cut":
        return bytes(
            data[: random.choice((random.randrange(n + 1), random.randrange(min(n, HEAD) + 1)))]
        )
    if kind == "empty":
        return b""
    if kind == "twice":
        return content + content
    if kind == "head":
        for _ in range(random.randint(1, 16)):
            data[random.randrange(min(n, HEAD))] ^= 1 << random.randrange(8)
    if kind == "body":
        for _ in range(random.randint(1, 64)):
            data[random.randrange(n)] ^= 1 << random.randrange(8)
    if kind == "size":  # what may be the size of something
        for _ in range(random.randint(1, 3)):
            at = random.randrange(min(n, 1024))
            some = (
                b"\xff\xff\xff\x7f",
                b"\xff\xff\xff\xff",
                b"\0\0\0\0",
                b"9999",
                b"\x7f\xff\xff\xff",
            )
            data[at : at + 4] = random.choice(some)[: n - at]
    return bytes(data)


def repacked(path: Path, content: bytes) -> bytes:
    """Bytes of a file, packed as it was: damage within a packed file is found by its checksum."""
    return gzip.compress(content, 1) if path.suffix == ".gz" else content


def name_of(path: Path, kind: str, random: random.Random) -> str:
    if kind != "suffix":
        return path.name
    stem = path.name.partition(".")[0]
    return stem + random.choice([one for one in SUFFIXES if not path.name.endswith(one)])


def companions(path: Path, folder: Path) -> None:
    """What lies beside a file, under the names it asks for."""
    for one in path.parent.iterdir():
        if one == path or not one.is_file() or one.stat().st_size > 2**24:
            continue
        for name in {one.name, one.name.removeprefix("rsciio_arina_")}:
            linked = "master" in path.name and name.endswith(".h5")
            if linked or one.suffix in {".hdr", ".xml", ".emi"}:
                shutil.copyfile(one, folder / name)


def attempt(open_it, path: Path) -> str:
    """How opening ended: "read", "refused", or what is wrong with it."""
    try:
        open_it(path)
    except UserError as error:
        line = str(error)
        cause, seen = error, set()
        while cause is not None and id(cause) not in seen:
            if isinstance(cause, MemoryError):
                return f"memory: {line}"
            seen.add(id(cause))
            cause = cause.__cause__ or cause.__context__
        if "\n" in line or len(line) > LONGEST or path.stem not in line:
            return f"line: {line[:300]}"
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "read"


def image(path: Path) -> None:
    try:
        read_image(path)
    except UserError as error:
        if "a stack of" not in error.found:
            raise
        read_image(path, 1)


def scan(path: Path) -> None:
    stated = None
    try:
        found = read_scan(path, digest=False)
    except UserError as error:
        if "frames in a row" not in error.found:
            raise
        stated = ScanMetadata(scan_shape=(1, int(error.found.split()[0])))
        found = read_scan(path, stated=stated, digest=False)
    row = np.asarray(found.frames[0, : max(1, 2**25 // int(np.prod(found.shape)))])
    assert row.shape[1:] == found.shape


def series(path: Path) -> None:
    found = read_series(path, overrides=GEOMETRY)
    np.asarray(found.frames[: max(1, 2**25 // int(np.prod(found.shape)))])


OPENERS = {"image": image, "scan": scan, "series": series}


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def peak_MB() -> int:
    """Most memory this program had; what getrusage says counts that of who started it, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def main(folder: Path, job: dict) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    number = 0
    for file in map(Path, job["files"]):
        content = packed = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(packed)
        for n in range(job["variants"]):
            number += 1
            if number <= job["first"]:
                continue
            rng = random.Random(f"{file.name} {n}")
            kind = KINDS[n % len(KINDS)]
            within = file.suffix == ".gz" and n % 2
            data = (
                repacked(file, variant(content, kind, rng))
                if within
                else variant(packed, kind, rng)
            )
            place = folder / "case"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            companions(file, place)
            path = place / name_of(file, kind, rng)
            path.write_bytes(data)
            tell(begin=number, file=file.name, variant=n, kind=kind, name=path.name)
            ended = {name: attempt(open_it, path) for name, open_it in OPENERS.items()}
            peak = peak_MB()
            tell(end=number, ended=ended, peak_MB=peak)
            if peak > job.get("peak_MB", RESIDENT_MB):
                tell(stop="memory")
                return


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
