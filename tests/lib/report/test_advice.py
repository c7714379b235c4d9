from __future__ import annotations

from dataclasses import replace

import numpy as np

from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.report.advice import after_reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth


def test_a_good_series_is_to_be_merged_and_nothing_else(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    (only,) = after_reduction(reduction, simulated[0])
    assert "merged" in only


def test_no_lattice_asks_for_a_look_first(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    (only,) = after_reduction(replace(reduction, lattices=()), simulated[0])
    assert only.startswith("No lattice: look at the frames")


def test_an_axis_that_was_given_wrongly_comes_first(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    series, lattice = simulated[0], reduction.lattices[0]
    x, y, _ = series.geometry.axis
    angle = np.arctan2(y, x) + np.deg2rad(7.0)
    turned = replace(lattice.geometry, axis=(float(np.cos(angle)), float(np.sin(angle)), 0.0))
    other = replace(reduction, lattices=(replace(lattice, geometry=turned),) * 2)
    first, second, _ = after_reduction(other, series)
    assert "is 7.0° from the one given" in first
    assert second.startswith("2 lattices")
