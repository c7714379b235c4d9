"""The standard sets are what the bars say they are."""

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.simulation import (
    STANDARD_RANGES_DEG,
    STRESSES,
    demo_series,
    standard_set,
    stress_set,
)
from ewaldflow.lib.simulation.sets import STANDARD_FRAMES


def test_standard_series():
    series, truth = standard_set("MOR", 10, 2)
    assert series.shape == (516, 516)
    assert len(series) == 50
    assert np.ptp(truth.angle_mid_deg) == pytest.approx(9.8)
    np.testing.assert_array_equal(series.frame_number[truth.blank], [10, 20, 30, 40, 50])
    excursion = np.linalg.norm(truth.beam_centres_px - truth.beam_centres_px[0], axis=1)
    assert excursion.max() == pytest.approx(1.5)
    assert truth.geometry.distortion.ratio == 1.01
    assert series.geometry.distortion.ratio == 1.0
    cosine = np.dot(series.geometry.axis, truth.geometry.axis)
    assert np.rad2deg(np.arccos(cosine)) == pytest.approx(0.3)
    off = np.subtract(series.geometry.beam_centre_px, truth.geometry.beam_centre_px)
    assert np.hypot(*off) == pytest.approx(0.7)
    table = truth.lattices[0].reflections
    assert np.count_nonzero(table.intensity * table.recorded > 300) > 150
    assert table.saturated.sum() < 20


def test_seeds_give_different_orientations():
    first, second = (standard_set("MOR", 10, s)[1].lattices[0].orientation for s in (1, 2))
    assert np.abs(first - second).max() > 0.01


def test_ranges():
    assert STANDARD_RANGES_DEG == (10, 20, 30, 45, 60)
    assert all(0.2 <= degrees / n <= 0.5 for degrees, n in STANDARD_FRAMES.items())
    with pytest.raises(UserError, match="use simulate_series"):
        standard_set("MFI", 17, 1)


def test_stresses_change_what_they_say():
    with pytest.raises(UserError, match="drift 5 px"):
        stress_set("nonsense")
    assert len(STRESSES) >= 10

    plain, truth = stress_set("5 deg only", code="MOR")
    assert np.ptp(truth.angle_mid_deg) == pytest.approx(4.8)
    assert len(plain) == 25


def test_scaled_detectors_hold_the_same_electrons():
    usual = {"range_deg": 5, "seed": 1, "code": "MOR"}
    plain, big, small = (
        standard_set(**usual, **STRESSES.get(name, {}))[0]
        for name in ("", "detector x16", "detector / 16")
    )
    far = (slice(0, 5), slice(400, 500), slice(20, 120))
    counts = [float(s.frames[far].mean().compute()) for s in (plain, big, small)]
    assert counts[1] == pytest.approx(16 * counts[0], rel=1e-9)
    assert small.frames.max().compute() == 738
    assert big.frames.max().compute() == 65535


def test_noise_only_has_no_lattice():
    series, truth = standard_set("MOR", 5, 1, **STRESSES["noise only"])
    assert truth.lattices == ()
    assert series.frames.max().compute() > 0


def test_demo():
    series, truth = demo_series(1)
    assert len(series) == 60
    assert np.ptp(truth.angle_mid_deg) == pytest.approx(29.5)
    assert not truth.blank.any()
    assert truth.lattices[0].name == "MFI"
