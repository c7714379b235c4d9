from __future__ import annotations

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.reduction.result import Reduction, StrongSpots
from ewaldflow.lib.report.diffraction import (
    examples,
    excitation_error_per_A,
    mean_rocking_curve,
    observed_in_crystal,
    rms_of_frames,
    rocking_curves,
    spots_in_crystal,
)
from ewaldflow.lib.report.summary import strongest_first
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth


def test_observed_reflections_fall_on_their_lattice_points(reduction: Reduction) -> None:
    lattice = reduction.lattices[0]
    chosen = strongest_first(lattice, at_least=5)
    q = observed_in_crystal(lattice, reduction.frames, chosen)
    fractional = q @ np.linalg.inv(reciprocal_basis(lattice.cell)).T
    off = np.abs(fractional - lattice.reflections.hkl[chosen])
    # positions were given 0.25 px of noise: 0.25 * 0.0049 1/Å * 20 Å = 0.02 of an index
    assert np.median(off) < 0.03
    assert np.quantile(off, 0.95) < 0.1


def test_a_reflection_is_on_the_sphere_where_it_crosses(reduction: Reduction) -> None:
    lattice = reduction.lattices[0]
    r = lattice.reflections
    at = excitation_error_per_A(lattice, r.hkl, r.angle_deg)
    before = excitation_error_per_A(lattice, r.hkl, r.angle_deg - 1)
    assert np.abs(at).max() < 1e-6
    assert np.median(np.abs(before)) > 1e-3


def test_mean_rocking_curve_is_the_one_put_in(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    series, truth = simulated
    lattice = reduction.lattices[0]
    chosen = strongest_first(lattice, at_least=5)[:300]
    # the fixture's background is made up, so take the spots' own level off: pass it as none
    curves = rocking_curves(series, lattice, reduction.frames, truth.gain, chosen)
    assert curves is not None
    curve = mean_rocking_curve(curves, reduction.frames)
    assert curve.n_reflections > 100
    assert abs(curve.x[np.argmax(curve.mean)]) < 0.5
    assert np.interp([-3.0, 3.0], curve.x, curve.mean).max() < 0.4 * curve.mean.max()
    assert np.median(np.abs(curve.turn_deg)) < 0.05


def test_no_rocking_curve_from_reflections_off_the_detector(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    lattice = reduction.lattices[0]
    none = np.zeros(0, np.int64)
    assert rocking_curves(simulated[0], lattice, reduction.frames, 1.0, none) is None


def test_reach_is_part_of_the_curve(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    lattice = reduction.lattices[0]
    chosen = strongest_first(lattice, at_least=5)[:50]
    curves = rocking_curves(simulated[0], lattice, reduction.frames, 1.0, chosen)
    assert curves is not None
    curve = mean_rocking_curve(curves, reduction.frames, reach=2.0)
    assert np.abs(curve.x).max() < 2.0
    assert np.isfinite(curve.mean).all()


def test_examples_run_from_low_to_high_resolution_and_are_read_foot_to_foot(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    lattice = reduction.lattices[0]
    chosen = strongest_first(lattice, at_least=5)[:300]
    curves = rocking_curves(simulated[0], lattice, reduction.frames, 1.0, chosen)
    assert curves is not None
    shown = examples(lattice, curves, 6)
    assert len(set(shown.tolist())) == 6
    d_A = lattice.reflections.d_A[curves.chosen[shown]]
    assert np.all(np.diff(d_A) <= 0)
    assert np.all(curves.x[:, shown].min(0) < -3)
    assert np.all(curves.x[:, shown].max(0) > 3)


def test_rms_of_a_frame_is_that_of_the_noise_put_in(reduction: Reduction) -> None:
    rms = rms_of_frames(reduction.lattices[0], reduction.frames)
    assert rms.shape == reduction.frames.frame_number.shape
    # 0.25 px in both directions
    assert np.nanmedian(rms) == pytest.approx(0.25 * np.sqrt(2), rel=0.1)


def test_frames_with_too_few_reflections_have_no_rms(reduction: Reduction) -> None:
    assert np.isnan(rms_of_frames(reduction.lattices[0], reduction.frames, 10**6)).all()


def test_strong_spots_fall_on_the_lattice_that_they_are_of(reduction: Reduction) -> None:
    lattice = reduction.lattices[0]
    r = lattice.reflections[strongest_first(lattice, at_least=5)]
    r = r[(r.frame >= 0) & (r.frame <= len(reduction.frames.frame_number) - 1)]
    spots = StrongSpots(r.row, r.column, r.frame, r.intensity, np.ones(len(r), np.int64))
    hkl = (
        spots_in_crystal(lattice, reduction.frames, spots)
        @ np.linalg.inv(reciprocal_basis(lattice.cell)).T
    )
    np.testing.assert_allclose(hkl, r.hkl, atol=0.02)
