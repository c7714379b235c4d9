"""Intensities frame by frame, from frames whose electrons are known."""

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.from_reduction import from_reduction


@pytest.fixture(scope="module")
def rows(simulated, reduction):
    (data,) = from_reduction(simulated[0], reduction)
    return data


def totals(rows, true):
    """Sum, variance and truth (electrons of the whole passage) of passages matched to events."""
    found = []
    for crossing in np.unique(rows.crossing)[::5]:
        own = rows.crossing == crossing
        near = np.abs(true.frame - rows.frame[own].mean()) < 2
        event = np.flatnonzero((true.hkl == rows.hkl[own][0]).all(axis=1) & near)
        if len(event) == 1 and true.recorded[event[0]] > 0.99:
            found.append(
                (rows.intensity[own].sum(), rows.variance[own].sum(), true.intensity[event[0]])
            )
    return np.array(found).T


def test_sums_are_the_electrons_that_fell_into_the_core(rows, simulated):
    total, variance, truth = totals(rows.intensities, simulated[1].lattices[0].reflections)
    strong = truth > np.quantile(truth, 0.8)
    part = np.median(total[strong] / truth[strong])
    assert 0.88 < part < 1.0  # the core holds 90 % and a little more
    weak = truth < 50
    z = (total[weak] - part * truth[weak]) / np.sqrt(variance[weak])
    assert weak.sum() > 50
    assert abs(z.mean()) < 0.35
    assert 0.8 < z.std() < 1.35


def test_absent_reflections_have_rows_too(rows):
    r = rows.intensities
    significance = r.intensity / np.sqrt(r.variance)
    assert np.mean(significance < 1) > 0.3
    assert (r.intensity < 0).any()
    assert np.all(r.variance > 0)


def test_rows_lie_where_the_reflection_is_near_the_sphere(rows, simulated):
    r, truth = rows.intensities, simulated[1]
    strong = r.intensity > 30 * np.sqrt(r.variance)
    events = truth.lattices[0].reflections
    away = []
    for i in np.flatnonzero(strong)[::40]:
        same = (events.hkl == r.hkl[i]).all(axis=1) & (np.abs(events.frame - r.frame[i]) < 4)
        distance = np.hypot(events.row[same] - r.row[i], events.column[same] - r.column[i])
        away += distance[:1].tolist()
    assert len(away) > 20
    assert np.quantile(away, 0.9) < 2


def test_data_speak_of_the_series(rows, simulated):
    series, truth = simulated
    assert rows.n_frames == len(series)
    np.testing.assert_allclose(rows.angle_deg, series.angle_mid_deg)
    np.testing.assert_allclose(rows.exposure_deg, 0.5)
    np.testing.assert_allclose(rows.beam_row, truth.beam_centres_px[:, 0])
    np.testing.assert_allclose(
        cell_from_reciprocal_basis(rows.reciprocal_basis),
        cell_from_reciprocal_basis(truth.lattices[0].orientation),
        atol=1e-6,
    )


def test_saturated_masked_and_blank_are_left_out(simulated, reduction):
    series, _ = simulated
    mask = series.mask.copy()
    mask[:200] = True
    blank = np.zeros(len(series), bool)
    blank[20] = True
    spoilt = replace(reduction, frames=replace(reduction.frames, blank=blank))
    (data,) = from_reduction(series.with_(mask=mask, saturation=200.0), spoilt)
    (whole,) = from_reduction(series, reduction)
    r = data.intensities
    assert len(r) < 0.8 * len(whole.intensities)
    assert np.nanmin(r.row) > 200
    assert not (r.frame == 20).any()
    assert not data.used[20]
    # fewer than 200 electrons in every pixel of the core
    assert r.intensity.max() < 200 * np.pi * 8**2


def test_a_wider_window_has_more_rows(simulated, reduction):
    (narrow,) = from_reduction(*(simulated[0], reduction), window_per_A=0.002)
    (wide,) = from_reduction(*(simulated[0], reduction), window_per_A=0.006)
    assert len(wide.intensities) > 1.1 * len(narrow.intensities)


def test_each_lattice_has_its_data(simulated, reduction):
    lattice = reduction.lattices[0]
    both = from_reduction(simulated[0], replace(reduction, lattices=(lattice, lattice)))
    assert [one.name for one in both] == ["demo lattice 1", "demo lattice 2"]
    # all their spots coincide: nothing is left
    assert len(both[0].intensities) == 0


def test_a_reduction_without_lattice_is_refused(simulated, reduction):
    with pytest.raises(UserError, match="no lattice"):
        from_reduction(simulated[0], replace(reduction, lattices=()))


def test_a_reduction_of_other_frames_is_refused(simulated, reduction):
    with pytest.raises(UserError, match="not those of the series"):
        from_reduction(simulated[0].select(slice(0, 30)), reduction)
