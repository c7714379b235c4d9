"""Shadows that are known to the pixel, laid over each other."""

from __future__ import annotations

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus.blur import blur_of
from ewaldflow.lib.overfocus.model import ScanMatrices
from ewaldflow.lib.overfocus.superposition import (
    control_images,
    superpose,
    superpose_dask,
    superpose_with_coverage,
)
from ewaldflow.lib.stem4d.scan import Scan4D, scan_of

# two detector px per scan px; right on the scan is up on the detector; descan moves it down
A = np.array([[0.0, -2.0], [2.0, 0.0]])
D = np.array([[0.0, 0.0], [0.0, 1.0]])
MATRICES = ScanMatrices(A, D, np.array([20.0, 22.0]))
SCAN, SHAPE = (7, 5), (41, 45)
POINT = (2, 3)  # the one point of the specimen that lets electrons through


@pytest.fixture
def scan() -> Scan4D:
    """Frames with one lit pixel, the shadow of POINT: x = c + A (p - ds) + D ds, worked out."""
    frames = np.zeros((*SCAN, *SHAPE), np.uint16)
    for row in range(7):
        for column in range(5):
            down, right = POINT[0] - row, POINT[1] - column  # p - ds
            frames[row, column, 20 - 2 * right, 22 + 2 * down + (column - 2)] = 9
    return scan_of(frames)


def test_all_shadows_of_a_point_fall_on_it(scan: Scan4D) -> None:
    expected = np.zeros(SCAN)
    expected[POINT] = 9 * 35
    np.testing.assert_array_equal(superpose(scan, MATRICES), expected)


@pytest.mark.parametrize("wrong", [-A, A.T, 1.3 * A])
def test_wrong_matrices_spread_them(scan: Scan4D, wrong: np.ndarray) -> None:
    assert superpose(scan, ScanMatrices(wrong, D, MATRICES.centre_px))[POINT] < 9 * 35 / 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_type_of_counts(scan: Scan4D, dtype: type) -> None:
    assert superpose(scan.with_(frames=scan.frames.astype(dtype)), MATRICES)[POINT] == 9 * 35


@pytest.mark.parametrize("rows_per_task", [1, 3, 100])
def test_dask_gives_the_same(rows_per_task: int) -> None:
    frames = np.random.default_rng(0).integers(0, 9, (*SCAN, *SHAPE)).astype(np.uint16)
    noisy = scan_of(frames)
    task = superpose_dask(noisy, MATRICES, rows_per_task)
    np.testing.assert_array_equal(task.compute(scheduler="synchronous"), superpose(noisy, MATRICES))


def test_a_slow_sum_gives_the_same() -> None:
    """Point by point, as the equation says, with matrices of no symmetry."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 9, (*SCAN, *SHAPE)).astype(np.uint16)
    mask, missing = rng.random(SHAPE) < 0.2, rng.random(SCAN) < 0.2
    scan = scan_of(frames, mask=mask, missing=missing)
    a, d, c = rng.normal(size=(2, 2)) * 5, rng.normal(size=(2, 2)), np.array([21.3, 19.8])
    total, hits = np.zeros(SCAN), np.zeros(SCAN)
    middle = (np.array(SCAN) - 1) / 2
    for s in np.argwhere(~missing):
        for t in np.ndindex(SCAN):
            y, x = np.floor(c + a @ (np.array(t) - s) + d @ (s - middle) + 0.5).astype(int)
            if 0 <= y < 41 and 0 <= x < 45 and not mask[y, x]:
                total[t] += frames[s[0], s[1], y, x]
                hits[t] += 1
    found, coverage = superpose_with_coverage(scan, ScanMatrices(a, d, c))
    np.testing.assert_array_equal(found, total)
    np.testing.assert_array_equal(coverage, hits)
    np.testing.assert_array_equal(superpose(scan, ScanMatrices(a, d, c)), total)


def test_control_images(scan: Scan4D) -> None:
    images = control_images(scan, MATRICES, selected=(4, 2))
    lit = np.zeros(SCAN)
    lit[POINT] = 9
    # the ray down the middle meets the specimen where the beam is
    np.testing.assert_array_equal(images.point, lit)
    np.testing.assert_array_equal(images.selected, lit)
    np.testing.assert_array_equal(images.shifted_sum, 35 * lit)
    assert images.coverage[3, 2] == 35
    np.testing.assert_array_equal(images.sum, scan.frames.sum((0, 1)))


def test_the_transformed_sum_is_turned_and_not_scaled() -> None:
    frames = np.zeros((3, 3, *SHAPE), np.uint16)
    frames[..., 20 - 6, 22] = 1  # above the centre, which is right in the scan
    images = control_images(scan_of(frames), ScanMatrices(A, np.zeros((2, 2)), MATRICES.centre_px))
    assert np.unravel_index(images.transformed_sum.argmax(), SHAPE) == (20, 22 + 6)


def test_missing_frames_and_masked_pixels_show_as_unknown(scan: Scan4D) -> None:
    missing = np.zeros(SCAN, bool)
    missing[0, 1] = True
    mask = np.zeros(SHAPE, bool)
    mask[20, 22] = True
    images = control_images(scan.with_(missing=missing, mask=mask), MATRICES)
    assert np.isnan(images.point[0, 1])
    assert np.isnan(images.point[:, 2]).all()  # the beam is on the masked pixel there
    # but for the missing frame, and the one whose shadow is masked... which is that of POINT
    assert images.shifted_sum[POINT] == 9 * 34
    with pytest.raises(UserError, match="missing"):
        control_images(scan.with_(missing=missing), MATRICES, selected=(0, 1))


def test_a_beam_beside_the_detector_is_told(scan: Scan4D) -> None:
    off = ScanMatrices(A, D, np.array([20.0, 60.0]))
    with pytest.raises(UserError, match="cy and cx"):
        control_images(scan, off)


def test_blur() -> None:
    sharp = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8)))
    soft = np.cumsum(np.cumsum(sharp - 0.5, 0), 1)
    assert blur_of(sharp) < blur_of(soft)
    # where nothing is superposed nothing is sharp
    assert blur_of(np.zeros((16, 16))) == 1.0
