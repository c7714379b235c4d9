"""An overfocused scan read by several processes, and by one that has too little memory for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from ewaldflow.lib.artefacts import ArtefactStore, Recipe
from ewaldflow.lib.artefacts.records import read_record
from ewaldflow.lib.overfocus.config import OverfocusConfig
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.overfocus.plan import Plan, PublishedStart
from ewaldflow.lib.overfocus.result import OverfocusResult
from ewaldflow.lib.stem4d.simulate import simulate_scan
from ewaldflow.lib.stem4d.storage import read_scan, write_scan
from ewaldflow.tasks import overfocus, scan_rows
from ewaldflow.tasks.progress import listening
from ewaldflow.tasks.scan_rows import binned_scan
from ewaldflow.tasks.workers import workers

# the shadow moves 3 px per step: s = M d o / (o + l)
OVERFOCUS, LENGTH, PITCH = 20e-6, 0.5, 50e-6
STEP = 3 * PITCH * OVERFOCUS / (OVERFOCUS + LENGTH)
TRUTH = OverfocusParameters(OVERFOCUS, STEP, LENGTH, PITCH, 47.0, 48.5, -61.0, True)
PLAN = Plan(
    config=OverfocusConfig(binning=2),
    published=PublishedStart(scan_rotation_deg=-57, overfocus_um=21, flip_y=True),
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with scan/gold@v0001, 24 x 24 x 96 x 96."""
    root = tmp_path_factory.mktemp("store") / "runs"
    scan = simulate_scan(TRUTH, (24, 24), (96, 96), "cross_grating", 10.0, disc_radius_px=36.0)
    with (
        pytest.MonkeyPatch.context() as patch,
        ArtefactStore(root).draft(Recipe(kind="scan", name="gold")) as draft,
    ):
        patch.setattr("ewaldflow.lib.stem4d.storage.CHUNK_BYTES", 2 * scan.frames[0].nbytes)
        write_scan(draft.arrays, scan)
        draft.publish()
    return root


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a large scan: two chunks, of two scan rows each."""
    monkeypatch.setattr("ewaldflow.lib.overfocus.streaming.BLOCK_BYTES", 4 * 24 * 96 * 96 * 2)


def calibrated(store: Path, address: str | None) -> OverfocusResult:
    ref = overfocus.overfocus_artefact("scan/gold", store, PLAN, workers=address)
    return read_record(ArtefactStore(store).get(ref).arrays, OverfocusResult)


def test_several_processes_find_the_same_to_the_last_bit(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(ArtefactStore, "find", lambda self, recipe: None)
    alone = calibrated(stored, None)
    with (
        workers(2) as address,
        listening(lambda name, step, part: told.append((step, part))),
    ):
        together = calibrated(stored, address)
    for name in ("scan_to_detector", "descan", "covariance"):
        one, other = getattr(alone.calibration, name), getattr(together.calibration, name)
        np.testing.assert_array_equal(one, other, strict=True)
    assert alone.calibration.verdict == "calibrated"
    assert alone.published is not None
    assert together.published is not None
    assert together.published.end == alone.published.end
    np.testing.assert_array_equal(together.published.path, alone.published.path)
    rows = [step for step, _ in told if step.startswith("row ")]
    assert rows == [f"row {done} of 24" for done in range(4, 25, 4)]
    assert any(step.startswith("published method, evaluation") for step, _ in told)
    parts = [part for _, part in told]
    assert parts == sorted(parts)


def test_a_worker_killed_meanwhile_changes_nothing(stored: Path) -> None:
    store = ArtefactStore(stored)
    scan = read_scan(store.get("scan/gold").arrays)
    once = binned_scan(scan, PLAN.config, store, "scan/gold", None, lambda rows: None)
    done: list[int] = []
    with workers(2) as address:

        def kill_at_first(rows: int) -> None:
            done.append(rows)
            if len(done) == 1:
                children = psutil.Process().children(recursive=True)
                worker = next(one for one in children if "spawn_main" in str(one.cmdline()))
                os.kill(worker.pid, signal.SIGKILL)

        parts = binned_scan(scan, PLAN.config, store, "scan/gold", address, kill_at_first)
    np.testing.assert_array_equal(parts.frames, once.frames)
    np.testing.assert_array_equal(parts.mean, once.mean)
    assert done[-1] == 24


def test_what_does_not_fit_in_memory_is_kept_in_a_file(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtefactStore(stored)
    scan = read_scan(store.get("scan/gold").arrays)
    once = binned_scan(scan, PLAN.config, store, "scan/gold", None, lambda rows: None)
    assert not isinstance(once.frames.base, np.memmap)
    monkeypatch.setattr(scan_rows, "_MEMORY", 1e-9)
    done: list[int] = []
    parts = binned_scan(scan, PLAN.config, store, "scan/gold", None, done.append)
    assert isinstance(parts.frames.base, np.memmap)
    np.testing.assert_array_equal(parts.frames, once.frames)
    assert done == list(range(4, 25, 4))
    assert not list(store.staging.iterdir())
