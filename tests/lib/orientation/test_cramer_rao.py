"""The least possible error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ewaldflow.lib.orientation.bundle_fit import fit_bundle
from ewaldflow.lib.orientation.bundle_model import LONGEST, rows_from
from ewaldflow.lib.orientation.bundle_profile import GAUSSIAN, RockingShape
from ewaldflow.lib.orientation.cramer_rao import bounds_of_series, cramer_rao, mean_angle
from ewaldflow.lib.orientation.geometry import SmoothRotation, displaced, from_engine, small_angles

SMOOTH = SmoothRotation(np.array([1.0, 0, 0]), np.array([0.0, 0, -1.0]), 0.0)


def test_mean_angle_by_hand() -> None:
    # equal axes: Rayleigh, sqrt(pi / 2) sd; one axis only: half-normal, sqrt(2 / pi) sd
    assert mean_angle(np.array([4 * np.eye(2)]))[0] == pytest.approx(2 * np.sqrt(np.pi / 2))
    assert mean_angle(np.array([np.diag([9.0, 0])]))[0] == pytest.approx(3 * np.sqrt(2 / np.pi))


def made(n_frames: int, lasting: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    crossing = np.repeat(np.arange(60), lasting)
    start = rng.integers(0, n_frames - lasting + 1, 60)
    frame = (start[:, None] + np.arange(lasting)).ravel()
    expected = rng.uniform(5, 50, len(frame))
    slope = 1e5 * rng.normal(size=(len(frame), 2))
    return crossing, frame, expected, slope, expected + 30


def test_bound_is_the_inverse_of_fishers_information() -> None:
    crossing, frame, expected, slope, variance = made(10, 4)
    tangents = SMOOTH.tangents(np.linspace(-5, 5, 10))
    bound = cramer_rao(crossing, frame, expected, slope, variance, tangents)
    n = len(frame)
    jacobian = np.zeros((n, 20 + 60))
    for k in range(2):
        jacobian[np.arange(n), 2 * frame + k] = slope[:, k]
    jacobian[np.arange(n), 20 + crossing] = expected
    information = jacobian.T @ (jacobian / variance[:, None])
    inverse = np.linalg.inv(information)[:20, :20]
    for f in range(10):
        part = np.rad2deg(np.rad2deg(inverse[2 * f : 2 * f + 2, 2 * f : 2 * f + 2]))
        assert bound.free_deg2[f] == pytest.approx(part, rel=1e-4)
    t = tangents.reshape(20, 5)
    of_p = np.linalg.inv(t.T @ np.linalg.inv(inverse) @ t)
    expected_smooth = np.rad2deg(np.rad2deg(tangents[3] @ of_p @ tangents[3].T))
    assert bound.smooth_deg2[3] == pytest.approx(expected_smooth, rel=1e-4)
    assert bound.smooth_mean_deg < bound.free_mean_deg


def test_long_passages_by_the_full_matrix() -> None:
    crossing, frame, expected, slope, variance = made(LONGEST + 12, LONGEST + 2)
    tangents = SMOOTH.tangents(np.linspace(-5, 5, LONGEST + 12))
    bound = cramer_rao(crossing, frame, expected, slope, variance, tangents)
    assert np.isfinite(bound.free_deg2).all()
    assert 0 < bound.smooth_mean_deg < bound.free_mean_deg


@pytest.mark.parametrize("continuous", [True, False])
def test_stage_b_comes_close(series: Any, continuous: bool) -> None:
    free, smooth = [], []
    for seed in (1, 2, 3):
        data, truth = series(seed=seed, d_min_A=0.9, continuous=continuous, range_deg=14)
        start = from_engine(
            "x", data.orientation, data.reciprocal_basis, data.geometry, data.angle_deg
        )
        bound = bounds_of_series(
            data, truth.direction, start.axis, truth.expected, 30.0,
            RockingShape(1.5e-3, np.deg2rad(0.05), GAUSSIAN),
        )  # fmt: skip
        rows = rows_from(data.intensities, data.reciprocal_basis, data.used, np.zeros(0, np.int64))
        fit = fit_bundle(rows, start, data.angle_deg, data.exposure_deg, data.geometry.wavelength_A)
        reference = fit.smooth.directions(data.angle_deg)
        for small, least, kept in (
            (fit.small_unshrunk, bound.free_mean_deg, free),
            (fit.small, bound.smooth_mean_deg, smooth),
        ):
            e = displaced(reference, fit.smooth.axis, small)
            error = np.linalg.norm(small_angles(e, truth.direction, fit.smooth.axis), axis=1)
            kept.append(np.rad2deg(error.mean()) / least)
    assert 0.85 < np.mean(free) < 1.2
    # five numbers a series: their mean over three scatters by a third
    assert 0.4 < np.mean(smooth) < 1.6
