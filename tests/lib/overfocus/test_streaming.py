"""A scan binned in blocks of rows is the one binned at once, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.overfocus.calibrate import bin_scan
from ewaldflow.lib.overfocus.config import OverfocusConfig
from ewaldflow.lib.overfocus.streaming import (
    BinnedRows,
    Rows,
    bin_rows,
    bin_scan_by,
    room_in,
    row_blocks,
)
from ewaldflow.lib.stem4d import storage
from ewaldflow.lib.stem4d.scan import Scan4D, scan_of


def _scan(kind: str = "uint16") -> Scan4D:
    """Odd pixels, missing frames, a dead pixel; as floats, fractions and pixels that are NaN."""
    rng = np.random.default_rng(3)
    y, x = np.indices((40, 48)) - 20
    disc = 20.0 * (np.hypot(y, x - 4) < 15)
    frames = rng.poisson(disc, (14, 11, 40, 48)).astype(kind)
    frames[..., 20, 20] = 900
    missing = rng.random((14, 11)) < 0.1
    if kind == "float32":
        frames *= np.float32(0.1)
        frames[..., 5, 5] = np.nan
        frames[3, 4, 30, 30] = np.nan
    return scan_of(frames, missing=missing, pedestal=0.3, saturation=40.0)


def _work(scan: Scan4D, order: int) -> Callable[[int, list[Rows]], Iterable[BinnedRows]]:
    def work(binning: int, blocks: list[Rows]) -> Iterable[BinnedRows]:
        assert len(blocks) >= 5
        shuffled = np.random.default_rng(order).permutation(len(blocks))
        return (bin_rows(scan, binning, blocks[n]) for n in shuffled)

    return work


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("stored", [False, True])
def test_in_any_order_it_is_the_same(
    kind: str, stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = _scan(kind)
    monkeypatch.setattr("ewaldflow.lib.stem4d.rows.RUN_BYTES", 3 * scan.frames[0].nbytes)
    if stored:
        monkeypatch.setattr(storage, "CHUNK_BYTES", 2 * scan.frames[0].nbytes)
        group = zarr.open_group(tmp_path / "scan.zarr", mode="w")
        storage.write_scan(group, scan)
        scan = storage.read_scan(group)
    monkeypatch.setattr("ewaldflow.lib.overfocus.streaming.BLOCK_BYTES", 1)
    config = OverfocusConfig(binning=3)
    once = bin_scan(scan, config, threads=1)
    parts = bin_scan_by(scan, config, _work(scan, 7), room_in(tmp_path, 1e5))
    for name in ("frames", "recorded", "mask", "mean"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(once, name), strict=True)
    assert (parts.sampled, parts.saturated) == (once.sampled, once.saturated)
    assert once.sampled > 0
    np.testing.assert_array_equal(parts.bad_px(), once.bad_px())
    assert isinstance(parts.frames.base, np.memmap)
    assert not list(tmp_path.glob("tmp*"))
    assert room_in(tmp_path, 1e5)((10, 10), np.float32).base is None


@given(rows=st.integers(0, 40), run=st.integers(1, 9), size=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_blocks_hold_every_row_once_and_whole_runs(rows: int, run: int, size: int) -> None:
    frames = np.broadcast_to(np.uint8(0), (rows, 5, 4, 4))
    scan = scan_of(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ewaldflow.lib.stem4d.rows.RUN_BYTES", run * 80)
        blocks = row_blocks(scan, size * 80)
    assert [row for begin, stop in blocks for row in range(begin, stop)] == list(range(rows))
    for begin, stop in blocks:
        assert begin % run == 0
        assert stop == rows or (stop - begin >= size and stop - begin < size + run)
