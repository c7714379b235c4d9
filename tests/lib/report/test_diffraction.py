from __future__ import annotations

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.report.diffraction import (
    excitation_error_per_A,
    mean_rocking_curve,
    observed_in_crystal,
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
    curve = mean_rocking_curve(series, lattice, reduction.frames, truth.gain, chosen)
    assert curve is not None
    assert curve.n_reflections > 100
    assert abs(curve.x[np.argmax(curve.mean)]) < 0.5
    assert np.interp([-3.0, 3.0], curve.x, curve.mean).max() < 0.4 * curve.mean.max()
    assert np.median(np.abs(curve.turn_deg)) < 0.05


def test_no_rocking_curve_from_reflections_off_the_detector(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    lattice = reduction.lattices[0]
    none = np.zeros(0, np.int64)
    assert mean_rocking_curve(simulated[0], lattice, reduction.frames, 1.0, none) is None


def test_reach_is_part_of_the_curve(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    lattice = reduction.lattices[0]
    chosen = strongest_first(lattice, at_least=5)[:50]
    curve = mean_rocking_curve(simulated[0], lattice, reduction.frames, 1.0, chosen, reach=2.0)
    assert curve is not None
    assert np.abs(curve.x).max() < 2.0
    assert curve.mean == pytest.approx(curve.mean, nan_ok=False)
