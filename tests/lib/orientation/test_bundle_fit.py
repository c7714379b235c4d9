"""Stage B: its parts by hand or by brute force, and what it recovers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.orientation.bundle_band import solve
from ewaldflow.lib.orientation.bundle_fit import BundleFit, fit_bundle
from ewaldflow.lib.orientation.bundle_model import (
    LONGEST,
    normal_equations,
    proportional_error,
    rows_from,
    weigh,
)
from ewaldflow.lib.orientation.bundle_profile import (
    GAUSSIAN,
    MULTIPLES,
    RockingShape,
    averaged,
    fit_mixture,
)
from ewaldflow.lib.orientation.geometry import displaced, from_engine, small_angles
from ewaldflow.lib.orientation.observations import FrameIntensities

NOTHING = np.zeros(0, np.int64)


# ---- the rocking curve -------------------------------------------------------------------------


def test_a_still_sees_the_curve_itself() -> None:
    table = RockingShape(1e-3, 0.0, GAUSSIAN).table
    s = np.array([0.0, 1e-3, -2e-3])
    w, slope, _ = averaged(s, np.zeros(3), np.full(3, 1e-3), table)
    assert w == pytest.approx(np.exp([0, -0.5, -2]), abs=1e-4)
    assert slope == pytest.approx([0, -1e3 * np.exp(-0.5), 2e3 * np.exp(-2)], abs=0.2)


@given(st.integers(0, 10_000))
@settings(deadline=None)  # compiles on its first call
def test_an_exposure_sees_the_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = rng.dirichlet(np.ones(6))
    s, delta = rng.uniform(-6e-3, 6e-3, 20), rng.uniform(1e-4, 3e-3, 20)
    sigma = rng.uniform(5e-4, 3e-3, 20)
    w, slope, width = averaged(s, delta, sigma, RockingShape(1e-3, 0, mixture).table)
    parts = (np.arange(2000) + 0.5) / 1000 - 1
    x = (s[:, None] + parts * delta[:, None])[..., None] / sigma[:, None, None]
    brute = np.exp(-0.5 * (x / MULTIPLES) ** 2).mean(axis=1) @ mixture
    assert w == pytest.approx(brute, abs=2e-5)
    table, h = RockingShape(1e-3, 0, mixture).table, 1e-7
    up, down = averaged(s + h, delta, sigma, table)[0], averaged(s - h, delta, sigma, table)[0]
    assert slope == pytest.approx((up - down) / (2 * h), abs=1e-3 / sigma.min())
    up = averaged(s, delta, sigma * 1.0001, table)[0]
    down = averaged(s, delta, sigma * 0.9999, table)[0]
    assert width == pytest.approx((up - down) / 2e-4, abs=2e-3)


def test_mixture_is_found_and_noise_makes_none() -> None:
    rng = np.random.default_rng(0)
    n, sigma = 9000, np.full(9000, 1e-3)
    s, delta = np.tile(np.linspace(-4e-3, 4e-3, 30), 300), np.zeros(9000)
    true = np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.0])
    bounds = np.arange(0, n + 1, 30)
    gauss = averaged(s, delta, sigma, RockingShape(1e-3, 0, GAUSSIAN).table)[0]
    for mixture in (true, GAUSSIAN):
        curve = averaged(s, delta, sigma, RockingShape(1e-3, 0, mixture).table)[0]
        seen = 100 * curve + rng.normal(size=n)
        found = GAUSSIAN
        for _ in range(4):
            now = averaged(s, delta, sigma, RockingShape(1e-3, 0, found).table)[0]
            top = np.full(n, float(seen @ now) / float(now @ now))
            found = fit_mixture(s, delta, sigma, np.ones(n), seen, top, now, found, bounds)
        assert found == pytest.approx(mixture, abs=0.05)
    assert gauss[0] < 1e-3


# ---- the equations -----------------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_banded_solution_is_the_dense_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, width = 12, 10
    n = 3 * frames
    dense = np.zeros((n, n))
    for i in range(0, n - width + 1, 3):
        v = rng.normal(size=(width, 5))
        dense[i : i + width, i : i + width] += v @ v.T
    band = np.zeros((width, n))
    for d in range(width):
        band[d, : n - d] = np.diag(dense, -d)
    t, b, eps = rng.normal(size=(n, 5)), rng.normal(size=n), rng.normal(size=n)
    precision = rng.uniform(0.5, 5, n)
    held, at = np.array([0.0, 0.0, 0.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0, -1.0])
    found = solve(band, b, t, precision, eps, held, at)
    whole = np.block(
        [[t.T @ dense @ t + np.diag(held), t.T @ dense], [dense @ t, dense + np.diag(precision)]]
    )
    expected = np.linalg.solve(whole, np.r_[t.T @ b - held * at, b - precision * eps])
    assert np.r_[found.smooth, found.frame.ravel()] == pytest.approx(expected, abs=1e-5)
    covariance = np.linalg.inv(whole)
    both = np.hstack([t, np.eye(n)])
    total = both @ covariance @ both.T
    for f in range(frames):
        own = slice(3 * f, 3 * f + 3)
        part = covariance[5:, 5:][own, own]
        assert found.deviation[f] == pytest.approx(part, rel=1e-5, abs=1e-6)
        assert found.total[f] == pytest.approx(total[own, own], rel=1e-5, abs=1e-6)


def made_rows(rng: np.random.Generator, frames: int) -> dict[str, np.ndarray]:
    """Passages of 2 to 6 frames with random curves."""
    bounds, frame = [0], []
    for _ in range(30):
        length = int(rng.integers(2, 7))
        start = int(rng.integers(0, frames - length + 1))
        frame.extend(range(start, start + length))
        bounds.append(len(frame))
    n = len(frame)
    return {
        "bounds": np.array(bounds), "frame": np.array(frame), "curve": rng.uniform(0.1, 1, n),
        "slope": rng.normal(size=n), "small": rng.normal(size=(n, 2)),
    }  # fmt: skip


@pytest.mark.parametrize("shift_sd", [0.0, 0.3])
def test_elimination_is_the_whole_problem(shift_sd: float) -> None:
    rng = np.random.default_rng(3)
    frames = 8
    r = made_rows(rng, frames)
    n, pieces = len(r["frame"]), 30
    scale, amplitude = rng.uniform(0.8, 1.2, frames), rng.uniform(1, 3, pieces)
    weight, residual = rng.uniform(0.5, 2, n), rng.normal(size=n)
    shift, lean = shift_sd * rng.normal(size=pieces), 0.7 * r["slope"]
    width = 3 * 6
    band, right = normal_equations(
        r["bounds"], r["frame"], r["curve"], r["slope"], lean, r["small"], scale, amplitude,
        weight, residual, shift, shift_sd, frames, width,
    )  # fmt: skip
    own = np.repeat(np.arange(pieces), np.diff(r["bounds"]))
    k = scale[r["frame"]]
    jacobian = np.zeros((n, 3 * frames + 2 * pieces))
    row = np.arange(n)
    for p in range(2):
        jacobian[row, 3 * r["frame"] + p] = k * amplitude[own] * r["slope"] * r["small"][:, p]
    jacobian[row, 3 * r["frame"] + 2] = k * amplitude[own] * r["curve"]
    jacobian[row, 3 * frames + own] = k * r["curve"]
    jacobian[row, 3 * frames + pieces + own] = k * amplitude[own] * lean
    if shift_sd == 0:
        jacobian = jacobian[:, : 3 * frames + pieces]
    h = jacobian.T @ (weight[:, None] * jacobian)
    g = jacobian.T @ (weight * residual)
    if shift_sd > 0:
        last = np.arange(3 * frames + pieces, 3 * frames + 2 * pieces)
        h[last, last] += 1 / shift_sd**2
        g[last] -= shift / shift_sd**2
    m = 3 * frames
    gone = np.linalg.solve(h[m:, m:], np.column_stack([h[m:, :m], g[m:]]))
    schur, reduced = h[:m, :m] - h[:m, m:] @ gone[:, :m], g[:m] - h[:m, m:] @ gone[:, m]
    for d in range(width):
        assert band[d, : m - d] == pytest.approx(np.diag(schur, -d), abs=1e-9)
    assert right == pytest.approx(reduced, abs=1e-9)


def test_amplitude_by_hand_and_an_outlier_weighs_less() -> None:
    # curve 1, 1, 1; intensities 10, 10, 40 of equal variance: the mean is 20, the robust one less
    ones = np.ones(3)
    amplitude, weight, residual, leverage, *_ = weigh(
        np.array([0, 3]), np.arange(3), np.array([10.0, 10, 40]), ones, 0.0, 0.0, ones,
        0 * ones, ones, ones, np.zeros(1), 0.0,
    )  # fmt: skip
    assert weight[2] < 0.5 * weight[0]
    assert 10 < amplitude[0] < 19
    assert residual == pytest.approx(np.array([10.0, 10, 40]) - amplitude[0])
    assert leverage.sum() == pytest.approx(1)


def test_proportional_error_is_found() -> None:
    rng = np.random.default_rng(0)
    model = rng.uniform(10, 1e4, 20_000)
    variance = model + 30
    noise = rng.normal(size=20_000) * np.sqrt(variance + (0.15 * model) ** 2)
    found = proportional_error(noise, np.zeros(20_000), variance, model)
    assert found == pytest.approx(0.15, rel=0.05)
    counted = rng.normal(size=20_000) * np.sqrt(0.9 * variance)
    assert proportional_error(counted, np.zeros(20_000), variance, model) == 0


def test_long_passages_are_cut_and_gaps_kept_out() -> None:
    n = 3 * LONGEST
    unknown = np.full(n, np.nan)
    table = FrameIntensities(
        np.ones((n, 3), np.int32), np.zeros(n, np.int64), np.arange(n)[::-1].copy(),
        np.arange(n, dtype=float)[::-1], np.full(n, 9.0), unknown, unknown,
    )  # fmt: skip
    used = np.ones(n, bool)
    used[5] = False
    rows = rows_from(table, np.eye(3), used, NOTHING)
    assert 5 not in rows.frame
    assert (np.diff(rows.frame) > 0).all()
    assert np.ptp(rows.frame[rows.bounds[0] : rows.bounds[1]]) < LONGEST
    assert len(rows.bounds) == 4
    assert (rows.intensity == rows.frame).all()
    assert len(rows_from(table, np.eye(3), used, np.zeros(1, np.int64)).frame) == 0


# ---- what it recovers --------------------------------------------------------------------------


def refined(data: Any) -> BundleFit:
    start = from_engine("x", data.orientation, data.reciprocal_basis, data.geometry, data.angle_deg)
    rows = rows_from(data.intensities, data.reciprocal_basis, data.used, NOTHING)
    return fit_bundle(rows, start, data.angle_deg, data.exposure_deg, data.geometry.wavelength_A)


def off_deg(fit: BundleFit, small: np.ndarray, data: Any, truth: Any) -> np.ndarray:
    """(frames, 2) along and perp, deg."""
    e = displaced(fit.smooth.directions(data.angle_deg), fit.smooth.axis, small)
    return np.rad2deg(small_angles(e, truth.direction, fit.smooth.axis))


def test_jitter_is_recovered_with_honest_errors(series: Any) -> None:
    data, truth = series(jitter_deg=(0.03, 0.02), d_min_A=0.8)
    fit = refined(data)
    error = off_deg(fit, fit.small, data, truth)
    assert np.linalg.norm(error, axis=1).mean() < 0.006
    for k in range(2):
        slope = np.polyfit(truth.small_deg[:, k], np.rad2deg(fit.small[:, k]), 1)[0]
        assert slope == pytest.approx(1, abs=0.06)
        z = error[:, k] / np.rad2deg(np.sqrt(fit.covariance[:, k, k]))
        assert 0.75 < np.sqrt(np.mean(z**2)) < 1.3
        free = off_deg(fit, fit.small_unshrunk, data, truth)[:, k]
        z = free / np.rad2deg(np.sqrt(fit.covariance_unshrunk[:, k, k]))
        assert 0.75 < np.sqrt(np.mean(z**2)) < 1.3
    assert fit.sd_deg[:2] == pytest.approx([0.03, 0.02], rel=0.25)
    assert fit.shape.size_per_A == pytest.approx(1.5e-3, rel=0.02)
    assert np.rad2deg(fit.shape.mosaic_rad) == pytest.approx(0.05, rel=0.2)
    assert (fit.shape.mixture == GAUSSIAN).all()
    assert fit.shift_sd == 0


def test_a_perfect_goniometer_comes_out_smooth(series: Any) -> None:
    data, truth = series(seed=2, d_min_A=0.8)
    fit = refined(data)
    assert fit.sd_deg[:2] == pytest.approx([1e-5, 1e-5])
    smooth = np.linalg.norm(off_deg(fit, fit.small, data, truth), axis=1).mean()
    free = np.linalg.norm(off_deg(fit, fit.small_unshrunk, data, truth), axis=1).mean()
    assert smooth < 0.0015
    assert 3 * smooth < free < 0.01


def test_wrong_models_give_wider_errors(series: Any) -> None:
    data, truth = series(
        d_min_A=0.8, jitter_deg=(0.03, 0.03), sinc=True, asymmetry=0.3, scale_sd=0.1,
        multiplicative=0.2,
    )  # fmt: skip
    fit = refined(data)
    error = off_deg(fit, fit.small, data, truth)
    assert np.linalg.norm(error, axis=1).mean() < 0.03
    predicted = np.rad2deg(np.sqrt(np.trace(fit.covariance, axis1=1, axis2=2).mean()))
    actual = np.sqrt(np.mean(np.sum(error**2, axis=1)))
    assert 1 / 1.5 < actual / predicted < 1.5
    assert fit.shift_sd > 0.1
    assert fit.kappa > 0.1


def test_a_slow_curve_is_no_jitter(series: Any) -> None:
    def wave(angle: np.ndarray) -> np.ndarray:
        return np.stack([0.03 * np.sin(angle / 4), 0 * angle], axis=1)

    data, truth = series(d_min_A=0.9, wave=wave, range_deg=24)
    fit = refined(data)
    assert fit.drift_sd_deg[0] > 0.005 > fit.drift_sd_deg[1]
    assert fit.sd_deg[0] < 0.003
    slow = np.linalg.norm(off_deg(fit, fit.small, data, truth), axis=1).mean()
    free = np.linalg.norm(off_deg(fit, fit.small_unshrunk, data, truth), axis=1).mean()
    assert slow < 0.6 * free
