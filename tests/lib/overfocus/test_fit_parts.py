"""The parts of the calibration, each on numbers worked out by hand or frames made to order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from ewaldflow.lib.overfocus import bootstrap, drift
from ewaldflow.lib.overfocus.binning import Binner, bin_frames, odd_pixels
from ewaldflow.lib.overfocus.cross_spectra import candidates, halves_of, spectra_of, together
from ewaldflow.lib.overfocus.descan import edge_flux, even_layer, fit_descan, ring_of
from ewaldflow.lib.overfocus.disc import Disc, find_disc
from ewaldflow.lib.overfocus.flow import flow_of
from ewaldflow.lib.overfocus.gauss_newton import (
    Frames,
    compared,
    information_of_movement,
    newton_step,
)
from ewaldflow.lib.overfocus.object_grid import object_of, shifts_of
from ewaldflow.lib.overfocus.static_layer import mean_layer
from ewaldflow.lib.stem4d.scan import scan_of


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, ">u2"])
@pytest.mark.parametrize("binning", [1, 2, 3, 4])
def test_binning_sums_squares(dtype: str, binning: int) -> None:
    frames = np.random.default_rng(0).integers(0, 50, (3, 26, 37)).astype(dtype)
    h, w = 26 // binning, 37 // binning
    out = np.empty((3, h, w), np.float32)
    totals = bin_frames(frames, binning, 1.5, out)
    cut = frames[:, : h * binning, : w * binning].astype(float)
    expected = cut.reshape(3, h, binning, w, binning).sum((2, 4))
    np.testing.assert_allclose(out, expected - 1.5 * binning**2)
    np.testing.assert_allclose(totals, expected.sum((1, 2)))


def test_binner_leaves_out_what_was_not_recorded() -> None:
    frames = np.full((2, 3, 16, 16), 4, np.uint16)
    frames[1, 2] = 0
    missing = np.zeros((2, 3), bool)
    missing[0, 0] = True
    binner = Binner(scan_of(frames, missing=missing), 2)
    binner.add(3, frames[1])
    binner.add(0, frames[0])
    done = binner.finish()
    np.testing.assert_array_equal(done.recorded, [[False, True, True], [True, True, False]])
    assert np.all(done.frames[0, 1] == 16)


def test_binner_masks_dead_nan_pixels_and_drops_frames_with_others() -> None:
    frames = np.full((1, 12, 16, 16), 2.0, np.float32)
    frames[:, :, 5, 6] = np.nan
    frames[0, 7, 0, 0] = np.nan
    binner = Binner(scan_of(frames), 2)
    binner.add(0, frames[0])
    done = binner.finish()
    assert done.bad_px()[2, 3]
    assert done.bad_px().sum() == 1
    np.testing.assert_array_equal(np.flatnonzero(~done.recorded[0]), [7])


def test_hot_and_dead_pixels_are_seen_and_an_edge_is_none() -> None:
    mean = np.zeros((20, 20))
    mean[:, 10:] = 100
    mean[5, 5], mean[12, 15], mean[13, 15] = 80, 0, 0.5
    odd = odd_pixels(mean, 500)
    assert {tuple(one) for one in np.argwhere(odd)} == {(5, 5), (12, 15), (13, 15)}


def _disc_image(centre: tuple[float, float], radius: float, size: int = 64) -> np.ndarray:
    y, x = np.indices((size, size))
    return np.clip(0.5 + radius - np.hypot(y - centre[0], x - centre[1]), 0, 1) * 100


@settings(max_examples=20, deadline=None)
@given(
    st.floats(29, 35),
    st.floats(29, 35),
    st.floats(12, 24),
    st.sampled_from(["", "quadrant", "gap"]),
)
def test_disc_is_found(cy: float, cx: float, radius: float, hurt: str) -> None:
    image, bad = _disc_image((cy, cx), radius), np.zeros((64, 64), bool)
    if hurt == "quadrant":
        image[32:, 32:] = 0  # not in the mask
    if hurt == "gap":
        bad[31:33] = True
        image[bad] = 0
    found = find_disc(image, bad)
    assert found is not None
    np.testing.assert_allclose(found.centre, (cy, cx), atol=0.12)
    assert found.radius == pytest.approx(radius, abs=0.12)


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.ones((64, 64))])
def test_no_disc_is_found_where_there_is_none(image: np.ndarray) -> None:
    assert find_disc(image, np.zeros((64, 64), bool)) is None


def test_shifts_put_every_frame_at_its_place() -> None:
    movement = np.random.default_rng(1).uniform(-9, 9, (40, 2))
    places = shifts_of(movement, (8, 8), 3)
    fine = 3 * places.base + np.stack([places.plane // 3, places.plane % 3], -1)
    there = fine / 3 + places.rest + movement
    np.testing.assert_allclose(there, np.broadcast_to(there[0], there.shape), atol=1e-6)
    assert np.abs(places.rest).max() <= 1 / 6 + 1e-6


def _moving_frames(
    movement: np.ndarray, descan: np.ndarray, points: int = 16, size: int = 40, radius: float = 15
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a smooth random object behind a moving disc, and the scan positions."""
    random = np.random.default_rng(3)
    big = 1 + 0.5 * gaussian_filter(random.standard_normal((200, 200)), 2.5) / 0.1128
    axis = np.arange(points) - (points - 1) / 2
    scan = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    frames = []
    for s in scan:
        content = shift(big, movement @ s, order=3)[80 : 80 + size, 80 : 80 + size]
        centre = (size - 1) / 2 + descan @ s
        frames.append(_disc_image(tuple(centre), radius, size) * np.maximum(content, 0))
    return np.array(frames, np.float32), scan


G = np.array([[0.9, 0.35], [-0.3, 0.95]])


def _state(frames: np.ndarray, scan: np.ndarray, inside: float = 12) -> Frames:
    y, x = np.indices(frames.shape[1:])
    mask = np.hypot(y - 19.5, x - 19.5) < inside
    use, beam = np.arange(len(frames)), np.ones(len(frames), np.float32)
    return Frames(
        frames, (0, 0), use, scan, mask.astype(np.float32), mean_layer(frames, use, beam), beam
    )


def test_the_object_is_the_one_that_made_the_frames() -> None:
    frames, scan = _moving_frames(np.eye(2), np.zeros((2, 2)), points=15)
    state = _state(frames, scan)
    state.weight = np.full_like(state.weight, 100)
    shifts = shifts_of(scan, state.mask.shape, 1)
    grid = object_of(frames, (0, 0), state.use, state.beam, state.weight, state.mask, shifts)
    n = 7 * 15 + 7  # the middle frame
    top, left = shifts.base[n]
    found = grid.shadow[0, top + 10 : top + 30, left + 10 : left + 30]
    np.testing.assert_allclose(found, frames[n, 10:30, 10:30] / 100, atol=0.03)


def test_gauss_newton_finds_the_movement() -> None:
    frames, scan = _moving_frames(G, np.zeros((2, 2)))
    state = _state(frames, scan)
    state.weight = np.full_like(state.weight, 100)
    found = G * 1.03 + 0.01
    for _ in range(8):
        step = compared(state, found, 3)
        found = found + 0.8 * newton_step(state, step, information_of_movement(state, step))
    np.testing.assert_allclose(found, G, atol=2e-3)


def test_cross_spectra_find_the_movement_without_a_start() -> None:
    frames, scan = _moving_frames(G, np.zeros((2, 2)))
    state = _state(frames, scan)
    mask = state.mask > 0
    noise = 0.1 * np.random.default_rng(0).standard_normal(frames.shape)
    contrast = (frames / 100 - 1 + noise) * mask
    contrast -= (contrast.sum((1, 2)) / mask.sum())[:, None, None] * mask
    spectra = spectra_of(contrast.reshape(16, 16, 40, 40).astype(np.float32), mask)
    use = np.ones((16, 16), bool)
    down, across = (together(halves_of(spectra, use, axis), spectra) for axis in (0, 1))
    assert down is not None
    assert across is not None
    best = candidates(down, across, spectra.overlap, np.zeros((2, 2)))[0]
    # a smooth object's is pulled inwards by the window; the fit takes it from there
    np.testing.assert_allclose(best.movement, 0.85 * G, atol=0.15)
    assert best.snr > 20


def test_information_is_that_of_the_scatter_of_positions_and_never_negative() -> None:
    # so fast that an object point is seen by neighbours only
    frames, scan = _moving_frames(6 * np.eye(2), np.zeros((2, 2)), points=9)
    state = _state(frames, scan)
    state.weight = np.full_like(state.weight, 100)
    found = information_of_movement(state, compared(state, 6 * np.eye(2), 1))
    assert np.linalg.eigvalsh(found).min() > 0
    far = state.some(np.ones(len(scan), bool))
    far.scan = scan + np.array([40, -30])  # where the scan's origin lies tells nothing
    again = information_of_movement(far, compared(far, 6 * np.eye(2), 1))
    np.testing.assert_allclose(again, found, rtol=1e-3, atol=1e-3 * found.max())


def test_flow_measures_a_slow_movement_of_either_handedness() -> None:
    for side in (1, -1):
        movement = 0.08 * np.array([[0.8, -0.6 * side], [0.6, 0.8 * side]])
        descan = np.array([[0.01, 0], [0, -0.01]])
        frames, scan = _moving_frames(movement, np.zeros((2, 2)))
        mask = _state(frames, scan).mask > 0
        layer = np.full(mask.shape, 100, np.float32)
        found = flow_of(
            frames.reshape(16, 16, 40, 40), np.ones((16, 16), bool), layer, mask, descan * 0
        )
        assert found is not None
        np.testing.assert_allclose(found.movement, movement, atol=0.006)
        assert found.explained > 0.9
        assert found.snr > 20


def test_an_even_layer_holds_no_specimen() -> None:
    disc = Disc((31.5, 31.5), 20.0, 72)
    y, x = np.indices((64, 64))
    r = np.hypot(y - 31.5, x - 31.5)
    true = _disc_image((31.5, 31.5), 20) * (1 - 0.2 * (r / 20) ** 2)
    bars = true * (1 + 0.3 * np.sin(y))
    found = even_layer(bars.astype(np.float32), disc, np.zeros((64, 64), bool), 17.0)
    inside = r < 17
    np.testing.assert_allclose(found[inside] / true[inside], 1, atol=0.06)


def test_edge_flux_measures_descan() -> None:
    descan = np.array([[0.05, -0.02], [0.03, 0.04]])
    frames, scan = _moving_frames(np.zeros((2, 2)), descan)
    frames = np.clip(frames, 0, None) * 0 + _plain(descan, scan)
    state = _state(frames, scan)
    ring = ring_of(Disc((19.5, 19.5), 15.0, 72), (40, 40), np.zeros((40, 40), bool), 3.0)
    found = fit_descan(edge_flux(state, ring, state.weight, None), scan, state.beam)
    assert found is not None
    np.testing.assert_allclose(found.descan, descan, atol=5e-4)
    half = np.zeros((40, 40), bool)
    half[20:] = True
    sectors = np.unique(ring_of(Disc((19.5, 19.5), 15.0, 72), (40, 40), half, 3.0))
    assert len(sectors) == 13  # twelve whole ones, and what is outside


def _plain(descan: np.ndarray, scan: np.ndarray) -> np.ndarray:
    images = [_disc_image(tuple(19.5 + descan @ s), 15, 40) for s in scan]
    return np.array(images, np.float32)


def test_a_steady_drift_is_taken_out_of_a_sheared_map() -> None:
    # A = ((0, 2), (2, 0)) and a drift of (0.08, -0.16) px per row of 40 points
    sheared = np.array([[0 - 0.08, 2 - 0.002], [2 + 0.16, 0 + 0.004]])
    a, v = drift.steady_drift(sheared, 40)
    np.testing.assert_allclose(a, [[0, 2], [2, 0]], atol=1e-12)
    np.testing.assert_allclose(v, [0.08, -0.16])


def test_drift_polynomials_hold_nothing_linear_in_the_scan() -> None:
    use = np.arange(12 * 9)
    found = drift.polynomials(use, (12, 9))
    linear = np.column_stack([np.ones(len(use)), use // 9, use % 9])
    np.testing.assert_allclose(linear.T @ found, 0, atol=1e-9)


def test_bootstrap_gives_the_error_of_a_mean() -> None:
    # one unknown per element: information 100 regions x 1, scores of variance 1: error 0.1
    random = np.random.default_rng(0)
    scan = np.ones((100, 2)) * [1, 0] + np.column_stack([np.zeros(100), np.ones(100)])
    scores = random.standard_normal((100, 2))
    draws = bootstrap.draw_regions(100, 4000, 1)
    found = bootstrap.resampled_movement(scores, scan, 100 * np.eye(4), np.arange(100), draws)
    np.testing.assert_allclose(found.std(0), 0.1, rtol=0.2)


def test_regions_cut_the_scan_in_squares() -> None:
    scan = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), -1).reshape(-1, 2)
    region = bootstrap.regions(scan.astype(float), 3)
    np.testing.assert_array_equal(np.bincount(region), np.full(9, 4))
