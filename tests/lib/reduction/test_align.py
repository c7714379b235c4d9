"""The beam on every frame, against simulated series whose beam is known."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.reduction.align import align, smooth_track, write_centres
from ewaldflow.lib.reduction.beam_centre import BeamTrack
from ewaldflow.lib.reduction.engines.steady import moved_along
from ewaldflow.lib.series.rotation_series import RotationSeries

SHAPE = (96, 110)
MIDDLE = np.array([47.0, 53.0])


def blob(centre: np.ndarray, counts: float, fwhm_px: float, disc_px: float = 0.0) -> np.ndarray:
    """Counts of a round spot, averaged over each pixel."""
    total = np.zeros(SHAPE)
    lo = np.maximum(np.rint(centre).astype(int) - 11, 0)
    cut = np.s_[lo[0] : lo[0] + 23, lo[1] : lo[1] + 23]
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]][(slice(None), *cut)]
    for i in (-1 / 3, 0, 1 / 3):
        for j in (-1 / 3, 0, 1 / 3):
            r = np.hypot(row + i - centre[0], column + j - centre[1])
            if disc_px:
                total[cut] += 1 / (1 + np.exp((r - disc_px) / 0.4))
            else:
                total[cut] += np.exp(-4 * np.log(2) * r**2 / fwhm_px**2)
    return np.asarray(counts * total / total.sum())


def simulated(
    counts: float = 2e4,
    disc_px: float = 0.0,
    hidden: bool = False,
    wrong: int = 0,
    n: int = 60,
    cross: bool = False,
) -> tuple[RotationSeries, np.ndarray]:
    """Frames with a drifting beam, Friedel pairs about it of unequal strength, and shot noise."""
    rng = np.random.default_rng(1)
    t = np.linspace(0, 1, n)
    centres = MIDDLE + np.stack([3 * np.sin(4 * t) + 2 * t, 2 * np.cos(3 * t)], axis=1)
    spots = rng.uniform(-40, 40, (16, 2))
    spots = spots[np.hypot(*spots.T) > 14]
    strength = rng.exponential(400, len(spots))
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    frames = np.empty((n, *SHAPE))
    for k, centre in enumerate(centres):
        image = 0.5 + blob(centre, counts, 4, disc_px)
        for spot, mean in zip(spots, strength, strict=True):
            a, b = rng.uniform(0.4, 1, 2)
            image += blob(centre + spot, a * mean, 3) + blob(centre - spot, b * mean, 3)
        if hidden:
            image[np.hypot(row - MIDDLE[0], column - MIDDLE[1]) < 11] = 0.2
        frames[k] = rng.poisson(image)
    for k in rng.choice(np.arange(5, n), wrong, replace=False):
        frames[k] = rng.poisson(0.5, SHAPE)
        frames[k, 20:25, 80:85] += 5000
    mask = np.zeros(SHAPE, bool)
    if cross:
        mask[48:50] = True
        frames[:, 48:50] *= 3  # wide pixels
    return RotationSeries(
        "simulated", da.from_array(frames.astype(np.uint16), chunks=(16, *SHAPE)),
        np.arange(1, n + 1), 0.5 * np.arange(n), np.full(n, 0.5),
        Geometry(0.0251, 0.05, 500, (47.0, 53.0), (1, 0, 0)), mask,
    ), centres  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "off_px"),
    [
        ({}, 0.02),
        ({"disc_px": 5.0}, 0.02),
        ({"counts": 2000.0}, 0.03),
        ({"hidden": True}, 0.05),
        ({"wrong": 6}, 0.02),
    ],
    ids=["narrow", "disc", "weak", "hidden", "outliers"],
)
def test_a_drifting_beam_is_followed(kind: dict, off_px: float) -> None:
    series, centres = simulated(**kind)
    found = align(series)
    off = found.centres_px - centres
    assert np.sqrt(np.mean(off**2)) < off_px
    assert np.abs(off).max() < 0.1
    assert ("Friedel" in found.note) == ("hidden" in kind)
    assert (~found.seen).sum() == kind.get("wrong", 0)
    told = found.applied(series)
    assert told.beam_centres_px is found.centres_px
    assert told.notes[-1] == found.note


def test_the_uncertainty_is_what_the_scatter_is() -> None:
    series, centres = simulated()
    found = align(series)
    scatter = np.std((found.measured_px - centres)[found.seen])
    assert 0.6 < scatter / np.median(found.sigma_px[found.seen]) < 1.7


def test_masked_pixels_on_the_beam_do_not_count() -> None:
    series, centres = simulated(disc_px=5.0, cross=True)
    found = align(series, "beam")
    assert np.abs(found.centres_px - centres).mean() < 0.05


def test_frames_are_moved_and_the_list_is_written(tmp_path: Path) -> None:
    series, centres = simulated(n=20)
    found = align(series)
    moved = moved_along(series, BeamTrack(found.centres_px, found.seen, found.note))
    row, column = moved.series.geometry.beam_centre_px
    left = centres - moved.shift_px - (row, column)
    assert np.abs(left).max() < 0.75
    assert np.abs(moved.shift_px).max() >= 1
    k = int(np.argmax(np.abs(moved.shift_px[:, 0])))
    r, c = moved.shift_px[k]
    before, after = series.frames[k].compute(), moved.series.frames[k].compute()
    np.testing.assert_array_equal(after[20:70, 20:70], before[20 + r : 70 + r, 20 + c : 70 + c])
    write_centres(found, series, moved.shift_px, tmp_path / "c.csv")
    table = np.genfromtxt(tmp_path / "c.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["row_px"], found.centres_px[:, 0], atol=1e-4)
    np.testing.assert_array_equal(table["shifted_columns_px"], moved.shift_px[:, 1])
    assert table["frame"][0] == 1


def test_what_cannot_be_aligned() -> None:
    series, _ = simulated(n=12)
    blank = series.with_(frames=series.frames * 0)
    with pytest.raises(UserError, match="not seen"):
        align(blank, "beam")
    with pytest.raises(UserError, match="no beam"):
        align(blank)
    with pytest.raises(UserError, match="no frames"):
        align(series.select(slice(0, 0)))


@settings(max_examples=20, deadline=None)
@given(
    st.floats(-3, 3), st.floats(-0.1, 0.1), st.integers(6, 60), st.integers(0, 3),
    st.integers(0, 1000),
)  # fmt: skip
def test_a_straight_drift_stays_what_it_is(
    start: float, slope: float, n: int, wrong: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    number = np.cumsum(rng.integers(1, 3, n)).astype(np.int64)
    line = np.stack([start + slope * number, 5 - slope * number], axis=1)
    measured = line.copy()
    out = rng.choice(n, min(wrong, n // 8), replace=False)
    measured[out] += 30
    sigma = np.full(n, 0.01)
    track, on = smooth_track(measured, sigma, number)
    np.testing.assert_allclose(track, line, atol=0.05)
    assert not on[out].any()


def test_a_track_through_missing_centres() -> None:
    number = np.arange(40, dtype=np.int64)
    line = np.stack([0.1 * number, 3 - 0.05 * number], axis=1)
    measured = line.copy()
    measured[10:15] = np.nan
    sigma = np.where(np.isfinite(measured[:, 0]), 0.02, np.nan)
    track, on = smooth_track(measured, sigma, number)
    np.testing.assert_allclose(track, line, atol=0.02)
    assert not on[10:15].any()
    with pytest.raises(ValueError, match="some centres"):
        smooth_track(np.full((4, 2), np.nan), sigma[:4], number[:4])


def test_noise_is_smoothed_whether_all_frames_are_there_or_each_sixth() -> None:
    rng = np.random.default_rng(3)
    for step in (1, 6):
        number = np.arange(1, 400, step, dtype=np.int64)
        t = number / 400
        truth = np.stack([3 * np.sin(3 * t), 2 * t], axis=1)
        measured = truth + rng.normal(0, 0.05, truth.shape)
        track, on = smooth_track(measured, np.full(len(t), 0.05), number)
        assert on.all()
        assert np.sqrt(np.mean((track - truth) ** 2)) < 0.025
        assert np.sqrt(np.mean((track - measured) ** 2)) > 0.04
