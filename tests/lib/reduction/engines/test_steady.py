from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.reduction.engines.steady import put_back, steady
from ewaldflow.lib.reduction.result import Reduction, StrongSpots
from ewaldflow.lib.series import RotationSeries

N, ROWS, COLUMNS = 12, 60, 70


def series_with_beam(row: np.ndarray, column: np.ndarray) -> RotationSeries:
    r, c = np.indices((ROWS, COLUMNS))
    beam = np.exp(-((r - row[:, None, None]) ** 2 + (c - column[:, None, None]) ** 2) / 8)
    frames = (3 + 5000 * beam + (r * COLUMNS + c) % 7).astype(np.uint16)
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[10] = True
    return RotationSeries(
        "x", da.from_array(frames, chunks=(5, ROWS, COLUMNS)), np.arange(1, N + 1),
        np.arange(N) * 0.5, np.full(N, 0.5), Geometry(0.025, 0.05, 500, (30.0, 35.0), (1, 0, 0)),
        mask,
    )  # fmt: skip


def test_the_beam_stays_and_no_count_is_changed() -> None:
    row, column = np.linspace(28, 34, N), np.linspace(37, 33, N)
    series = series_with_beam(row, column)
    done = steady(series)
    centre = np.array(done.series.geometry.beam_centre_px)
    assert centre == pytest.approx([31, 35], abs=0.3)
    left = np.stack([row, column], axis=1) - done.shift_px - centre
    assert np.abs(left).max() < 0.9
    assert "shifted by up to 3 px" in done.notes[0]

    before, after = series.frames.compute(), done.series.frames.compute()
    assert after.dtype == before.dtype
    down, right = done.shift_px[0]
    assert (down, right) == (-3, 2)
    assert np.array_equal(after[0][3:, : COLUMNS - 2], before[0][: ROWS - 3, 2:])
    assert not after[0][:3].any()


def test_what_is_masked_on_any_frame_is_masked() -> None:
    done = steady(series_with_beam(np.linspace(28, 34, N), np.full(N, 35.0)))
    masked = np.flatnonzero(done.series.mask.all(axis=1)).tolist()
    # row 10 moves by -3 .. 3, and three rows come in at each end
    assert masked == [0, 1, 2, *range(7, 14), 57, 58, 59]
    assert done.series.mask.any(axis=0).all()


def test_a_beam_that_stays_is_left_alone() -> None:
    series = series_with_beam(np.full(N, 30.2), np.full(N, 34.9))
    done = steady(series)
    assert done.series is series
    assert done.notes == ()


def test_a_wrong_centre_is_mended_without_a_shift() -> None:
    done = steady(series_with_beam(np.full(N, 31.5), np.full(N, 35.0)))
    assert not done.shift_px.any()
    assert done.series.geometry.beam_centre_px == pytest.approx((31.5, 35.0), abs=0.1)


def test_without_a_beam_nothing_is_done() -> None:
    series = series_with_beam(np.full(N, 30.0), np.full(N, 35.0))
    series = series.with_(frames=series.frames * 0)
    done = steady(series)
    assert done.series is series
    assert "not seen" in done.notes[0]


def test_what_is_found_is_put_back(reduction: Reduction) -> None:
    n = len(reduction.frames.frame_number)
    shift = np.stack([np.arange(n) // 10, -(np.arange(n) // 20)], axis=1)
    r = reduction.lattices[0].reflections
    at = np.clip(np.rint(r.frame).astype(int), 0, n - 1)
    spots = StrongSpots(r.row, r.column, r.frame, r.intensity, np.ones(len(r), np.int64))
    moved = replace(
        reduction,
        spots=replace(spots, row=r.row - shift[at, 0], column=r.column - shift[at, 1]),
        lattices=(
            replace(
                reduction.lattices[0],
                reflections=replace(
                    r,
                    row=r.row - shift[at, 0],
                    column=r.column - shift[at, 1],
                    observed_row=r.observed_row - shift[at, 0],
                    observed_column=r.observed_column - shift[at, 1],
                ),
            ),
        ),
    )
    back = put_back(moved, shift)
    assert back.spots is not None
    assert back.spots.row == pytest.approx(r.row)
    assert back.spots.column == pytest.approx(r.column)
    found = back.lattices[0].reflections
    assert found.row == pytest.approx(r.row)
    assert found.column == pytest.approx(r.column)
    assert found.observed_row == pytest.approx(r.observed_row, nan_ok=True)
    assert back.frames.beam_row == pytest.approx(reduction.frames.beam_row + shift[:, 0])
    assert put_back(reduction, np.zeros((n, 2), np.int64)) is reduction
