"""Stage A: centroids, and the rotation through them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ewaldflow.lib.orientation.centroid_fit import angle_at, centroids_from, fit_centroids
from ewaldflow.lib.orientation.geometry import from_engine, small_angles
from ewaldflow.lib.orientation.observations import FrameIntensities


def one_passage(intensity: list[float]) -> FrameIntensities:
    n = len(intensity)
    unknown = np.full(n, np.nan)
    return FrameIntensities(
        np.tile(np.array([[1, 2, 3]], np.int32), (n, 1)), np.zeros(n, np.int64),
        np.arange(10, 10 + n), np.array(intensity), np.full(n, 4.0), unknown, unknown,
    )  # fmt: skip


def test_centroid_by_hand() -> None:
    # 0, 50, 100, 100, 0 at 10 ... 14: sum 250, first moment (11*50 + 12*100 + 13*100) / 250
    found, passage = centroids_from(one_passage([0, 50, 100, 100, 0]), np.ones(20, bool))
    assert found.frame == pytest.approx([12.2])
    assert found.intensity == pytest.approx([250.0])
    assert passage.tolist() == [0]


@pytest.mark.parametrize(
    ("intensity", "why"),
    [
        ([100, 50, 0, 0], "begins on its peak"),
        ([0, 50, 100], "ends on its peak"),
        ([0, 50, 100, 60], "ends on its flank"),
        ([0, 5, 7, 5, 0], "is noise"),
    ],
)
def test_unclear_passages_do_not_count(intensity: list[float], why: str) -> None:
    found, _ = centroids_from(one_passage(intensity), np.ones(20, bool))
    assert len(found.frame) == 0, why


def test_a_gap_cuts() -> None:
    used = np.ones(20, bool)
    used[11] = False
    found, _ = centroids_from(one_passage([0, 50, 100, 50, 0]), used)
    assert len(found.frame) == 0


def test_angles_between_frames() -> None:
    assert angle_at(np.array([0.5, 1.25]), np.array([0.0, 1.0, 3.0])) == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize(
    ("axis", "direction", "scale"), [(10, 5, 1.0), (-10, 5, 1.05), (3, -5, 0.95)]
)
def test_same_end_from_far_starts(
    series: Any, off: Any, axis: float, direction: float, scale: float
) -> None:
    data, truth = series(d_min_A=0.9)
    found, _ = centroids_from(data.intensities, data.used)
    points = found.hkl @ data.reciprocal_basis.T

    def fit(given: Any, scale: float) -> Any:
        start = from_engine("x", given.orientation, data.reciprocal_basis, given.geometry, angle)
        start = replace(start, scale=scale)
        return fit_centroids(start, points, found, angle, data.geometry.wavelength_A)

    angle = data.angle_deg
    near, far = fit(data, 1.0), fit(off(data, axis, direction), scale)
    a, b = near.smooth.directions(angle), far.smooth.directions(angle)
    assert np.rad2deg(np.abs(a - b).max()) < 1e-5
    error = np.rad2deg(np.linalg.norm(small_angles(b, truth.direction, far.smooth.axis), axis=1))
    assert error.mean() < 0.003
    assert far.smooth.scale == pytest.approx(1, abs=5 * np.sqrt(far.covariance[4, 4]))
    assert far.inliers > 0.99


def test_a_third_of_wrong_indices_does_not_matter(series: Any) -> None:
    data, truth = series(d_min_A=0.9)
    found, _ = centroids_from(data.intensities, data.used)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(found.hkl)) < 0.3
    frame = np.where(wrong, rng.uniform(0, data.n_frames - 1, len(wrong)), found.frame)
    found = replace(found, frame=frame)
    start = from_engine("x", data.orientation, data.reciprocal_basis, data.geometry, data.angle_deg)
    points = found.hkl @ data.reciprocal_basis.T
    fit = fit_centroids(start, points, found, data.angle_deg, data.geometry.wavelength_A)
    e = fit.smooth.directions(data.angle_deg)
    error = np.rad2deg(np.linalg.norm(small_angles(e, truth.direction, fit.smooth.axis), axis=1))
    assert error.mean() < 0.01
    assert np.median(fit.weight[wrong]) < 0.05 < 0.5 < np.median(fit.weight[~wrong])
