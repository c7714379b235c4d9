"""A goniometer whose faults are known, seen through orientations with known errors."""

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.orientation.geometry import SmoothRotation
from ewaldflow.lib.orientation.goniometer import study_goniometer
from ewaldflow.lib.orientation.goniometer_steps import dead_travel, step_clusters
from ewaldflow.lib.orientation.observations import FrameOrientations, OrientationData

WAVELENGTH = 0.0251


def orientations(angle, turned, out, error, seed=1, scale=1.0):
    """Data and orientations of a crystal turned by `turned` beyond scale x angle."""
    n = len(angle)
    rng = np.random.default_rng(seed)
    geometry = Geometry(WAVELENGTH, 0.055, 400.0, (257.0, 257.0), (1.0, 0.0, 0.0))
    smooth = SmoothRotation(np.array([1.0, 0, 0]), np.array([0.0, 0, -1]), float(angle.mean()))
    small = np.stack([-turned, out], axis=1) + rng.normal(0, error, (n, 2))
    covariance = np.tile(np.eye(2) * error**2, (n, 1, 1))
    data = OrientationData(
        "made-up", np.eye(3) * 0.1, np.eye(3) * 0.1, geometry, angle, np.full(n, 0.1),
        np.ones(n, bool), np.full(n, 257.0), np.full(n, 257.0), None,
    )  # fmt: skip
    found = FrameOrientations(
        "stage B", np.tile(np.eye(3), (n, 1, 1)), smooth.directions(angle) / WAVELENGTH,
        small, small, covariance, covariance, np.zeros(n), np.full(n, 0.01), np.ones(n),
        np.full(n, 30), np.ones(n), ("",) * n, smooth.axis, scale, {}, (),
    )  # fmt: skip
    return data, found


def test_errors_are_taken_off_the_steps():
    rng = np.random.default_rng(0)
    angle = 0.1 * np.arange(1500)
    # a random walk: steps are independent, sd 0.02
    turned = np.cumsum(rng.normal(0, 0.02, 1500))
    data, found = orientations(angle, turned, np.zeros(1500), 0.015)
    spread = study_goniometer(data, found).spread
    assert spread.n == 1499
    assert spread.mean == pytest.approx(0.1, abs=0.002)
    assert spread.estimation_sd == pytest.approx(0.015 * np.sqrt(2), rel=1e-6)
    assert spread.observed_sd == pytest.approx(np.hypot(0.02, 0.015 * np.sqrt(2)), rel=0.05)
    assert spread.true_sd == pytest.approx(0.02, rel=0.08)


def test_covariance_of_neighbours_counts():
    rng = np.random.default_rng(0)
    n = 1500
    angle = 0.1 * np.arange(n)
    data, found = orientations(angle, np.cumsum(rng.normal(0, 0.02, n)), np.zeros(n), 0.0)
    # errors that neighbours share: e_i = (a_i + a_i+1) / sqrt 2, covariance half the variance
    a = rng.normal(0, 0.03, n + 1)
    shared = (a[1:] + a[:-1]) / np.sqrt(2)
    small = found.small_unshrunk_deg + np.stack([shared, 0 * shared], axis=1)
    covariance = np.tile(np.eye(2) * 0.03**2, (n, 1, 1))
    found = replace(found, small_unshrunk_deg=small, covariance_unshrunk_deg2=covariance)
    told = study_goniometer(data, found, next_covariance_deg2=np.full(n, 0.5 * 0.03**2)).spread
    assert told.true_sd == pytest.approx(0.02, rel=0.1)
    assert study_goniometer(data, found).spread.true_sd < 0.015


def test_halves_tell_the_steps_without_any_model_of_errors():
    rng = np.random.default_rng(2)
    angle = 0.1 * np.arange(1500)
    turned = np.cumsum(rng.normal(0, 0.02, 1500))
    data, found = orientations(angle, turned, np.zeros(1500), 0.01)
    # errors three times what they are said to be
    halves = tuple(orientations(angle, turned, np.zeros(1500), 0.03, seed)[1] for seed in (5, 6))
    assert study_goniometer(data, found, halves=halves).spread.half_set_sd == pytest.approx(
        0.02, rel=0.15
    )


def test_waves_scale_and_curves():
    angle = np.linspace(-30, 30, 601)
    turned = 0.05 * np.sin(2 * np.pi * angle / 3)
    out = 0.03 * np.cos(2 * np.pi * angle / 10) + 0.2
    study = study_goniometer(*orientations(angle, turned, out, 0.005, scale=1.01))
    assert study.in_plane.best.period == pytest.approx(3, rel=0.01)
    assert study.in_plane.best.amplitude == pytest.approx(0.05, rel=0.05)
    assert study.out_of_plane.best.period == pytest.approx(10, rel=0.02)
    assert study.out_of_plane.best.amplitude == pytest.approx(0.03, rel=0.05)
    assert study.in_plane.best.p_value < 0.01
    assert abs(study.out_of_plane_deg.mean()) < 0.002
    # fitted = scale x read-out + in plane: 60 degrees of read-out are 60.6
    assert study.fitted_deg[-1] - study.fitted_deg[0] == pytest.approx(60.6, abs=0.02)
    assert study.scale == 1.01
    # the wave counts as scatter (1.05 of its amplitude, robustly), over 601 points of 60 degrees
    assert study.scale_sd == pytest.approx(0.0525 / (np.sqrt(601) * 17.35), rel=0.1)
    assert study.backlash_deg == pytest.approx(0, abs=1e-9)


def test_read_out_against_equal_steps():
    angle = np.linspace(0, 30, 301)
    wavy = angle + 0.1 * np.sin(2 * np.pi * angle / 6)
    study = study_goniometer(*orientations(wavy, 0 * angle, 0 * angle, 0.005))
    assert np.std(study.read_out_deg - study.expected_deg - (wavy - angle)) < 1.0
    # what the read-out makes wrong, the crystal does not do: it shows as its negative
    study = study_goniometer(*orientations(wavy, angle - wavy, 0 * angle, 0.005))
    assert study.in_plane.best.amplitude == pytest.approx(0.1, rel=0.05)


def test_backlash_is_the_way_travelled_in_vain():
    angle = np.linspace(-20, 20, 401)
    sd = np.full(401, 0.01)
    noise = np.random.default_rng(0).normal(0, 0.01, 401)
    for sense in (1, -1):
        true = -sense * np.minimum(sense * (sense * angle + 20), 0.4)
        found, error = dead_travel(sense * angle, -sense * np.minimum(angle + 20, 0.4) + noise, sd)
        assert found == pytest.approx(0.4, abs=0.1)
        assert error < 0.15
        assert true is not None
    assert dead_travel(angle, noise, sd)[0] == 0


def stepwise(coarse_sd=0.03, fine_sd=0.002, seed=0):
    """21 beam tilts of 0.1 degrees, then 2 degrees of the goniometer and the tilts back."""
    rng = np.random.default_rng(seed)
    tilt = np.tile(0.1022 * (np.arange(21) - 10), 20) + rng.normal(0, fine_sd, 420)
    moved = np.cumsum(np.r_[0, rng.normal(2.035, coarse_sd, 19)])
    nominal = np.repeat(2.0 * np.arange(20), 21) + np.tile(0.1 * (np.arange(21) - 10), 20)
    return nominal, np.repeat(moved, 21) + tilt


def test_goniometer_and_beam_tilt_are_told_apart():
    nominal, true = stepwise()
    study = study_goniometer(*orientations(nominal, true - nominal, 0 * true, 0.003))
    clusters = study.clusters
    assert clusters.period == 21
    assert clusters.at_goniometer.sum() == 19
    assert np.all((study.step_frame[clusters.at_goniometer] + 1) % 21 == 0)
    assert clusters.beam_tilt_deg == pytest.approx(0.1022, abs=0.001)
    assert clusters.goniometer_deg == pytest.approx(2.035, abs=0.02)
    assert clusters.goniometer_sd_deg == pytest.approx(0.03, rel=0.5)
    assert abs(clusters.combined_deg) < 0.03
    # the spread is that of the beam tilt alone: 0.002 sqrt 2
    assert study.spread.n == 400
    assert study.spread.true_sd < 0.006


def test_one_kind_of_step_has_no_clusters():
    rng = np.random.default_rng(1)
    rotation = np.cumsum(rng.normal(0.1, 0.01, 300))
    frame = np.arange(300)
    assert step_clusters(np.diff(rotation), frame[:-1], rotation, frame) is None
    # a few outliers here and there are no second kind
    rotation[[40, 47, 200]] += 0.3
    assert step_clusters(np.diff(rotation), frame[:-1], rotation, frame) is None


def test_frames_not_used_interrupt_the_steps():
    angle = 0.1 * np.arange(100)
    data, found = orientations(angle, 0 * angle, 0 * angle, 0.01)
    used = data.used.copy()
    used[[30, 60]] = False
    study = study_goniometer(replace(data, used=used), found)
    assert len(study.frame) == 98
    assert study.spread.n == 95
    assert not np.isin(study.step_frame, [29, 30, 59, 60]).any()


def test_jitter_is_the_prior_or_what_errors_leave():
    rng = np.random.default_rng(0)
    angle = 0.1 * np.arange(800)
    data, found = orientations(angle, rng.normal(0, 0.04, 800), rng.normal(0, 0.02, 800), 0.03)
    study = study_goniometer(data, found)
    assert study.jitter_along_deg == pytest.approx(0.04, rel=0.1)
    assert study.jitter_perp_deg == pytest.approx(0.02, rel=0.2)
    figures = {"jitter_along_deg": 0.041, "jitter_perp_deg": 0.019}
    study = study_goniometer(data, replace(found, figures=figures))
    assert (study.jitter_along_deg, study.jitter_perp_deg) == (0.041, 0.019)


def test_halves_see_the_jitter_there_is_and_no_more():
    rng = np.random.default_rng(4)
    angle = 0.1 * np.arange(1200)
    turned, out = rng.normal(0, 0.03, 1200), np.zeros(1200)
    data, found = orientations(angle, turned, out, 0.02)
    # the prior takes noise for jitter across
    found = replace(found, figures={"jitter_along_deg": 0.03, "jitter_perp_deg": 0.02})
    halves = tuple(orientations(angle, turned, out, 0.03, seed)[1] for seed in (5, 6))
    study = study_goniometer(data, found, halves=halves)
    assert study.half_jitter_along_deg == pytest.approx(0.03, rel=0.1)
    assert study.half_jitter_perp_deg < 0.01
    assert any("perpendicular" in note for note in study.notes)
    assert not any("jitter along" in note for note in study.notes)
    assert np.isnan(study_goniometer(data, found).half_jitter_along_deg)


def test_stage_a_alone_makes_no_study():
    angle = 0.1 * np.arange(100)
    data, found = orientations(angle, 0 * angle, 0 * angle, 0.01)
    found = replace(found, small_unshrunk_deg=np.full((100, 2), np.nan))
    with pytest.raises(UserError, match="stage B"):
        study_goniometer(data, found)
