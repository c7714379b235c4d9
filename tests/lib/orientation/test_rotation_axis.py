"""The rotation axis from indexed series: search, refinement, and several together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import instamatic_axis, rotation_about
from ewaldflow.lib.orientation.from_reduction import from_reduction
from ewaldflow.lib.orientation.observations import OrientationData
from ewaldflow.lib.orientation.rotation_axis import (
    SeriesAxis,
    azimuth_deg,
    calibrate_axis,
    combine_axes,
)
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth


@pytest.fixture(scope="module")
def data(simulated: tuple[RotationSeries, Truth], reduction: Reduction) -> OrientationData:
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    (made,) = from_reduction(simulated[0], replace(reduction, lattices=(lattice,)))
    return made


def turned(data: OrientationData, azimuth: float, elevation: float = 0.0) -> OrientationData:
    """The same as if it had been reduced with an axis so far off."""
    axis = np.asarray(data.geometry.axis)
    up = np.cross(axis, (0, 0, 1))
    axis = rotation_about((0, 0, 1), azimuth) @ rotation_about(up, elevation) @ axis
    return replace(data, geometry=data.geometry.with_(axis=tuple(axis)))


@pytest.mark.parametrize(
    ("azimuth", "elevation"), [(0.0, 0.0), (0.33, 0.0), (-3.0, 0.5), (7.1, -1.0)]
)
def test_a_wrong_axis_is_found_and_refined(
    data: OrientationData,
    simulated: tuple[RotationSeries, Truth],
    azimuth: float,
    elevation: float,
) -> None:
    truth = azimuth_deg(simulated[1].geometry)
    found = calibrate_axis(turned(data, azimuth, elevation))
    assert found.said_deg == pytest.approx(truth + azimuth)
    # the thesis names 0.1 degrees for the search, which takes the elevation for granted
    assert found.searched_deg == pytest.approx(truth, abs=0.1 + 0.5 * abs(elevation))
    assert found.azimuth_deg == pytest.approx(truth, abs=0.02)
    assert found.elevation_deg == pytest.approx(0, abs=0.03)
    assert found.azimuth_sd_deg < 0.02
    assert found.matched > 0.9
    assert not found.reversed


def test_the_search_is_sequential(data: OrientationData) -> None:
    coarse, middle, fine = calibrate_axis(turned(data, 2.4)).grids
    assert np.ptp(coarse.azimuth_deg) == pytest.approx(20)
    assert np.diff(fine.azimuth_deg) == pytest.approx(0.04)
    best = coarse.azimuth_deg[np.argmax(coarse.matched)]
    assert middle.azimuth_deg.mean() == pytest.approx(best)


def test_an_axis_out_of_reach_is_refused(data: OrientationData) -> None:
    with pytest.raises(UserError, match="at the end of the search"):
        calibrate_axis(turned(data, 15.0))


def test_the_opposite_sense_is_noticed(data: OrientationData) -> None:
    axis = tuple(-v for v in data.geometry.axis)
    found = calibrate_axis(replace(data, geometry=data.geometry.with_(axis=axis)))
    assert found.reversed
    assert "sign of its oscillation" in combine_axes([found]).notes[-1]


def test_what_cannot_tell_an_axis(data: OrientationData) -> None:
    with pytest.raises(UserError, match="no orientation"):
        calibrate_axis(replace(data, orientation=None))
    with pytest.raises(UserError, match="several"):
        calibrate_axis(replace(data, angle_deg=data.angle_deg / 100))
    assert data.intensities is not None
    few = replace(data.intensities, row=np.full(len(data.intensities), np.nan))
    with pytest.raises(UserError, match="0 indexed spots"):
        calibrate_axis(replace(data, intensities=few))


def one(azimuth: float, sd: float = 0.03, elevation: float = 0.0) -> SeriesAxis:
    return SeriesAxis(
        "s", azimuth, azimuth, (), 1.0, False, azimuth, sd, elevation, 0.05, 100, 0.3
    )  # fmt: skip


def test_several_series_by_hand() -> None:
    same = combine_axes([one(128.0, 0.03), one(128.03, 0.03)])
    # they agree: no scatter, and the error of a mean of two
    assert same.azimuth_deg == pytest.approx(128.015)
    assert same.scatter_deg == 0
    assert same.azimuth_sd_deg == pytest.approx(0.03 / np.sqrt(2))
    # half a degree apart: tau^2 = 0.5^2 / 2 - 0.03^2
    apart = combine_axes([one(128.0, 0.03), one(128.5, 0.03)])
    assert apart.scatter_deg == pytest.approx(np.sqrt(0.125 - 0.0009))
    assert apart.azimuth_sd_deg == pytest.approx(np.sqrt(0.125 / 2))
    assert "one series" in combine_axes([one(1.0)]).notes[0]


def test_directions_wrap_and_opposites_are_one() -> None:
    assert combine_axes([one(179.9), one(-179.9)]).azimuth_deg == pytest.approx(180)
    both = combine_axes([one(128.0, elevation=0.4), one(-52.0, elevation=-0.4)])
    assert both.azimuth_deg == pytest.approx(128)
    assert both.elevation_deg == pytest.approx(0.4)
    assert "was reversed" in both.notes[0]
    with pytest.raises(UserError, match="one instrument"):
        combine_axes([one(10.0), one(60.0)])
    with pytest.raises(UserError, match="no series"):
        combine_axes([])


def test_what_other_programs_are_told() -> None:
    # instamatic's -2.24 rad is (-0.6204, 0.7843, 0), as the JEM-2100's XDS.INP has it
    axis = instamatic_axis(-2.24)
    said = combine_axes([one(float(np.rad2deg(np.arctan2(axis[1], axis[0]))))])
    assert said.axis == pytest.approx((-0.6204, 0.7843, 0), abs=1e-4)
    assert said.instamatic_rad == pytest.approx(-2.24)
    # from_pets: omega is (cos, -sin, 0)
    assert said.pets_omega_deg == pytest.approx(360 - np.rad2deg(2.24))
