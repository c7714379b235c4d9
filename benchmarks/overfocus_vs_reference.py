"""Overfocus calibration against the published method on LiberTEM 0.16, on the same scans.

The published code (Microscope-Calibration with TemGym, GPL) is on GitHub only. `--reference` takes
a folder that holds checkouts of both; without it they are fetched, and if that fails LiberTEM runs
a UDF of ours after the description, and the table says so. CPU seconds are what is compared: they
hold on a busy machine too. temgym-core traces the same columns as a second check of our matrices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _environment import environment, install
from _table import Table, options, run_measured, say, skip, work_folder

from ewaldflow.lib.overfocus.calibrate import calibrate
from ewaldflow.lib.overfocus.config import OverfocusConfig
from ewaldflow.lib.overfocus.conventions import named_angles
from ewaldflow.lib.overfocus.model import matrices_of, similarity_of
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.overfocus.search import SearchResult, search
from ewaldflow.lib.overfocus.superposition import superpose
from ewaldflow.lib.overfocus.twin import verify_twin
from ewaldflow.lib.stem4d.scan import Scan4D, scan_of
from ewaldflow.lib.stem4d.simulate import Imperfections, simulate_scan

# the published code's own pin: newer ones replaced Powell's COBYLA
LIBERTEM = ("libertem==0.16.0", "scipy<1.16", "scikit-image")
TEMGYM_CORE = ("temgym-core==0.1.1",)
GITHUB = (
    "git+https://github.com/TemGym/TemGym@c7a851ce2d6719acc47d36d31d91df27b1e9590b",
    "git+https://github.com/LiberTEM/Microscope-Calibration@0af50b3a",
)
#: 3 detector px per scan px with an overfocus of 20 um
TRUTH = OverfocusParameters(
    overfocus_m=2e-5,
    scan_pixel_size_m=3 * 55e-6 * 2e-5 / (1.5 + 2e-5),
    camera_length_m=1.5,
    detector_pixel_size_m=55e-6,
    cy=127.5,
    cx=127.5,
    scan_rotation_deg=37.3,
)
TRUTHS = {
    "no descan": TRUTH,
    "descan 0.08": TRUTH.with_(descan_px=((0.06, -0.03), (0.04, 0.08))),
}
SIDE = 64  # scan points along an axis
#: How far the published search's ends lie apart, from different starts: degrees, and %.
SCATTER = (0.25, 0.5)
STARTS = ((4.0, 1.10), (-7.0, 0.85), (9.0, 1.20))  # degrees off, times the overfocus


def starts(count: int) -> list[OverfocusParameters]:
    """Of both methods: the published one knows nothing of descan."""
    return [
        TRUTH.with_(
            scan_rotation_deg=TRUTH.scan_rotation_deg + turn,
            overfocus_m=TRUTH.overfocus_m * factor,
        )
        for turn, factor in STARTS[:count]
    ]


def make_scans(folder: Path, cases: Sequence[str]) -> dict[str, Path]:
    """Scans of a cross grating, 10 electrons per pixel, as .npy."""
    paths = {}
    for name in cases:
        paths[name] = folder / f"{name.replace(' ', '_')}.npy"
        if not paths[name].exists():
            scan = simulate_scan(
                TRUTHS[name], (SIDE, SIDE), (256, 256), disc_radius_px=100.0, dose_per_px=10.0,
                seed=1, imperfect=Imperfections(gain_sd=0.02),
            )  # fmt: skip
            np.save(paths[name], scan.frames)
    return paths


def reference_python(folder: Path | None) -> Path:
    """LiberTEM's environment, with the published code if it can be had."""
    python = environment("libertem", LIBERTEM)
    probe = [str(python), "-c", "import microscope_calibration"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        sources = [str(one) for one in (folder or Path()).iterdir() if (one / "src").is_dir()]
        try:
            install(python, sources if folder else GITHUB, "--no-deps")
        except subprocess.CalledProcessError as error:
            say(f"the published code cannot be installed: {error}")
    return python


def ask(python: Path, peer: str, jobs: Sequence[Any], work: Path) -> Any:
    """What a peer answers to jobs."""
    asked, told = work / f"{peer}.jobs.json", work / f"{peer}.out.json"
    asked.write_text(json.dumps(jobs))
    script = Path(__file__).with_name("_overfocus_peers.py").absolute()
    ran = run_measured((python, script, peer, asked, told), work, work / f"{peer}.log")
    if ran.code:
        raise RuntimeError(f"{peer}: {ran.output.splitlines()[-3:]}")
    return json.loads(told.read_text())


def timed(work: Any) -> tuple[Any, float, float]:
    """What a function returns, CPU seconds of all threads, and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    out = work()
    return out, time.process_time() - cpu, time.perf_counter() - wall


def compare_passes(table: Table, name: str, scan: Scan4D, peer: dict[str, Any], path: Path) -> None:
    """One superposition pass each, the best of a few."""
    matrices = matrices_of(TRUTH)
    superpose(scan, matrices)  # compiles
    runs = [timed(lambda: superpose(scan, matrices)) for _ in range(9)]
    cpu, wall = (min(run[k] for run in runs) for k in (1, 2))
    peer_cpu, peer_wall = (min(run[k] for run in peer["passes"]) for k in (0, 1))
    frames = float(np.prod(scan.scan_shape))
    table.check(
        f"{name}: superposition, frames per CPU second over the peer's", peer_cpu / cpu,
        at_least=5.0, peer=f"{frames / peer_cpu:.0f}/s, ours {frames / cpu:.0f}/s",
    )  # fmt: skip
    table.tell(
        f"{name}: superposition, frames per second of wall", f"{frames / wall:.0f}",
        f"{frames / peer_wall:.0f}",
    )  # fmt: skip
    theirs = np.load(path.with_suffix(".peer.npy"))
    same = np.corrcoef(theirs.ravel(), runs[0][0].ravel())[0, 1]
    table.check(f"{name}: superposition, correlation with the peer's", same, at_least=0.999,
                form=".5f")  # fmt: skip


def off(ends: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of rotation, degrees, and of overfocus, %."""
    rotation = np.array([end["rotation_deg"] for end in ends]) - TRUTH.scan_rotation_deg
    overfocus = np.array([end["overfocus_m"] for end in ends]) / TRUTH.overfocus_m - 1
    return rotation, 100 * overfocus


def as_end(found: SearchResult) -> dict[str, float]:
    """As the peer tells its ends."""
    p = found.parameters
    return {"rotation_deg": p.scan_rotation_deg, "overfocus_m": p.overfocus_m}


def compare_searches(table: Table, name: str, scan: Scan4D, peer: dict[str, Any]) -> None:
    """The published method by both, from the same starts."""
    same = starts(len(peer["searches"]))
    runs = [timed(lambda start=start: search(scan, start)) for start in same]
    ours, theirs = off([as_end(run[0]) for run in runs]), off(peer["searches"])
    named = ("rotation / deg", "overfocus / %")
    for what, mine, other, scatter in zip(named, ours, theirs, SCATTER, strict=True):
        table.check(
            f"{name}: shgo + COBYLA, our mean end beside the peer's, {what}",
            abs(float(mine.mean() - other.mean())), at_most=scatter,
            peer=f"off the truth {spread(other)}; ours {spread(mine)}",
        )  # fmt: skip
    blur = max(run[0].loss for run in runs) - max(one["loss"] for one in peer["searches"])
    table.check(f"{name}: shgo + COBYLA, our worst blur over the peer's", blur, at_most=0.002)
    cpu, other_cpu = float(np.mean([run[1] for run in runs])), mean_cpu(peer)
    table.check(
        f"{name}: shgo + COBYLA, CPU of the peer over ours", other_cpu / cpu, at_least=3.0,
        peer=f"{other_cpu:.1f} s, ours {cpu:.2f} s; evaluations "
        f"{[s['evaluations'] for s in peer['searches']]}, ours {[len(r[0].path) for r in runs]}",
    )  # fmt: skip


def mean_cpu(peer: dict[str, Any]) -> float:
    """CPU seconds of a search of the peer."""
    return float(np.mean([one["cpu_s"] for one in peer["searches"]]))


def spread(values: np.ndarray) -> str:
    """Mean and range of a few values."""
    return f"{values.mean():+.3f} ({values.min():+.3f} to {values.max():+.3f})"


def compare_calibrations(table: Table, name: str, scan: Scan4D, peer: dict[str, Any]) -> None:
    """Ours without a start against the published method from near the truth."""
    calibrate(scan, OverfocusConfig())  # compiles
    runs = [timed(lambda: calibrate(scan, OverfocusConfig())) for _ in range(3)]
    cpu = min(run[1] for run in runs)
    other_cpu = mean_cpu(peer)
    table.check(
        f"{name}: calibration, CPU of the peer's search over ours", other_cpu / cpu, at_least=20.0,
        peer=f"{other_cpu:.1f} s from near the truth, ours {cpu:.2f} s from nothing",
    )  # fmt: skip
    found = runs[0][0]
    if not np.isfinite(found.scan_to_detector).all():
        table.fail(f"{name}: calibration", " ".join(found.reasons))
        return
    close = similarity_of(found.scan_to_detector)
    rotation, overfocus = off(peer["searches"])
    table.check(
        f"{name}: calibration, rotation off / deg", abs(close.rotation_deg - 37.3), at_most=0.01,
        peer=spread(rotation),
    )  # fmt: skip
    table.check(
        f"{name}: calibration, scale off / %", abs(100 * (close.scale / 3 - 1)), at_most=0.03,
        peer=spread(overfocus),
    )  # fmt: skip


def compare_matrices(table: Table, work: Path) -> None:
    """Our closed form, TemGym Basic and temgym-core on columns drawn at random."""
    rng = np.random.default_rng(0)
    columns = [
        TRUTH.with_(
            overfocus_m=float(rng.choice((-1, 1)) * rng.uniform(1e-6, 5e-5)),
            camera_length_m=float(rng.uniform(0.1, 2)),
            scan_rotation_deg=float(rng.uniform(-180, 180)),
            flip_y=bool(rng.integers(2)),
            descan_px=tuple(map(tuple, rng.normal(0, 0.1, (2, 2)).tolist())),
        )
        for _ in range(20)
    ]
    table.check("matrices: TemGym Basic 0.5.5, largest relative difference",
                max(verify_twin(one) for one in columns), at_most=1e-9)  # fmt: skip
    try:
        python = environment("temgym-core", TEMGYM_CORE)
    except subprocess.CalledProcessError as error:
        table.tell("matrices: temgym-core 0.1.1", f"cannot be installed: {error}")
        return
    jobs, largest = [], 0.0
    for one in columns:
        a = matrices_of(one).scan_to_detector
        angle = named_angles(a, one.overfocus_m > 0).scan_clockwise_deg
        jobs.append({**asdict(one), "scan_clockwise_deg": angle})
    for one, told in zip(columns, ask(python, "temgym-core", jobs, work), strict=True):
        ours = matrices_of(one)
        scale = np.abs(ours.scan_to_detector).max()
        for name in ("scan_to_detector", "descan"):
            largest = max(largest, np.abs(getattr(ours, name) - told[name]).max() / scale)
    table.check("matrices: temgym-core 0.1.1, largest relative difference", largest, at_most=1e-9)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--reference", type=Path, help="checkouts of the published code")
    arguments = parser.parse_args()
    cases = list(TRUTHS)[-1:] if arguments.quick else list(TRUTHS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with work_folder(arguments.work) as work:
        try:
            python = reference_python(arguments.reference)
        except subprocess.CalledProcessError as error:
            return skip(f"LiberTEM cannot be installed: {error}")
        say("simulating")
        paths = make_scans(work, cases)
        tried = starts(1 if arguments.quick else len(STARTS))
        jobs = [
            {
                "path": str(paths[name]), "scan_shape": (SIDE, SIDE), "shape": (256, 256),
                "truth": asdict(TRUTH), "starts": [asdict(start) for start in tried],
            }
            for name in cases
        ]  # fmt: skip
        say("LiberTEM")
        peer = ask(python, "libertem", jobs, work)
        table = Table(f"overfocus against LiberTEM 0.16 with {peer['code']}, {SIDE} x {SIDE} scan")
        for (name, path), told in zip(paths.items(), peer["data"], strict=True):
            say(f"ours: {name}")
            scan = scan_of(np.load(path, mmap_mode="r"))
            compare_passes(table, name, scan, told, path)
            compare_searches(table, name, scan, told)
            compare_calibrations(table, name, scan, told)
        compare_matrices(table, work)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
