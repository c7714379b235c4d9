"""The published orientation fitting: its equations, its accuracy, and what it must survive."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.orientation.published import published_orientations
from ewaldflow.lib.orientation.simulate import (
    Diffraction,
    Rotation,
    error_deg,
    mean_error_deg,
    simulate_orientation,
)


def series(kind="sRED", step=0.1, range_deg=20.0, d_min=0.625, seed=1, **motion):
    rotation = Rotation(kind, step, range_deg, **motion)
    return simulate_orientation(rotation, Diffraction(d_min_A=d_min), seed=seed)


def selected(data, some):
    """The data with only some rows of intensities."""
    rows = type(data.intensities)(**{k: v[some] for k, v in vars(data.intensities).items()})
    return replace(data, intensities=rows)


@pytest.mark.parametrize(
    ("step", "thesis"), [(0.05, 0.004), (0.1, 0.006), (0.2, 0.011), (0.5, 0.025)]
)
def test_finest_row_of_table_6(step, thesis):
    errors = []
    for seed in (1, 2, 3):
        sim = series(step=step, range_deg=40.0, seed=seed)
        errors.append(mean_error_deg(published_orientations(sim.listed()).centre, sim.centre))
    assert np.mean(errors) == pytest.approx(thesis, rel=0.3)


def test_without_correction_as_in_table_7():
    sim = series(range_deg=30.0)
    found = published_orientations(sim.listed(), correct=False)
    assert mean_error_deg(found.centre, sim.centre) == pytest.approx(0.041, rel=0.3)
    assert found.figures["cycles"] == 1


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 500), st.sampled_from(["sRED", "cRED"]))
def test_axis_scale_and_length_of_e(seed, kind):
    sim = series(kind, seed=seed, d_min=0.8, scale=1.02)
    found = published_orientations(sim.listed())
    assert np.linalg.norm(found.centre, axis=1) == pytest.approx(1 / 0.02508)
    assert error_deg(found.axis[None], sim.axis[None])[0] < 1.5  # the sense of rotation too
    assert found.rotation_scale == pytest.approx(1.02, abs=0.005)


def test_rotations_turn_e_onto_the_beam_and_agree_with_the_truth():
    sim = series()
    found = published_orientations(sim.listed())
    beam = np.einsum("nij,nj->ni", found.rotation, found.centre)
    assert beam == pytest.approx(np.tile([0, 0, -1 / 0.02508], (len(beam), 1)), abs=1e-9)
    off = found.rotation @ np.swapaxes(sim.rotation, 1, 2)
    angle = np.rad2deg(np.arccos((np.trace(off, axis1=1, axis2=2) - 1) / 2))
    assert np.max(angle) < 0.3


def test_figure_of_merit_is_the_mean_square_deviation():
    sim = series(step=0.5, d_min=1.0)
    data = sim.listed()
    found = published_orientations(data, correct=False)
    rows = data.intensities
    on = rows.frame == 7
    point = rows.hkl[on] @ data.reciprocal_basis.T
    s = np.linalg.norm(point - found.centre[7], axis=1) - 1 / 0.02508
    assert found.merit[7] == pytest.approx(np.mean(s**2))
    assert found.n_spots[7] == on.sum()

    # e is a minimum of the weighted sum
    def cost(e):
        return np.sum(
            np.linalg.norm(point, axis=1) * (np.linalg.norm(point - e, axis=1) - 1 / 0.02508) ** 2
        )

    least = cost(found.centre[7])
    for axis in np.eye(3):
        for angle in (-0.01, 0.01):
            assert cost(rotation_about(axis, angle) @ found.centre[7]) >= least


def test_correction_smooths_jitter_away():
    sim = series("cRED", range_deg=30.0, jitter_deg=(0.02, 0.02))
    corrected = published_orientations(sim.listed())
    raw = published_orientations(sim.listed(), correct=False)
    slope = [
        np.polyfit(sim.small_deg[:, 0], found.small_deg[:, 0], 1)[0] for found in (corrected, raw)
    ]
    assert slope[0] < 0.3  # measured 0.17 with the original
    assert slope[1] > 0.8


def test_frames_with_few_spots_are_reported_and_spoil_no_other():
    sim = series(step=0.2)
    data = sim.listed()
    frame = data.intensities.frame
    two_each = np.concatenate([np.flatnonzero(frame == f)[:2] for f in (0, 30, 31, 60)])
    kept = ~np.isin(frame, (0, 30, 31, 60))
    kept[two_each] = True
    found = published_orientations(selected(data, kept))
    assert np.flatnonzero(np.isnan(found.centre[:, 0])).tolist() == [0, 30, 31, 60]
    assert all(found.flag[f] == "2 spots, fewer than 4" for f in (0, 30, 31, 60))
    assert np.isnan(found.merit[30])
    assert np.isnan(found.rotation[30]).all()
    assert np.nanmax(error_deg(found.centre, sim.centre)) < 0.1


def test_unused_frames_are_left_out():
    sim = series(step=0.2)
    used = sim.data.used.copy()
    used[40:45] = False
    found = published_orientations(replace(sim.listed(), used=used))
    assert np.isnan(found.centre[40:45]).all()
    assert found.flag[42] == "not used"
    assert mean_error_deg(found.centre, sim.centre) < 0.02


def test_mirror_image_is_not_taken_at_low_resolution():
    for seed in range(1, 7):
        sim = series("cRED", d_min=1.2, seed=seed)
        found = published_orientations(sim.listed())
        assert mean_error_deg(found.centre, sim.centre) < 0.1


def test_frames_out_of_order_change_nothing():
    sim = series(step=0.5)
    data = sim.listed()
    mixed = np.random.default_rng(1).permutation(data.n_frames)  # new place of each frame
    back = np.argsort(mixed)
    rows = replace(data.intensities, frame=mixed[data.intensities.frame])
    found = published_orientations(replace(data, intensities=rows, angle_deg=data.angle_deg[back]))
    assert found.centre[mixed] == pytest.approx(published_orientations(data).centre, abs=1e-5)


def test_covariance_is_about_the_scatter_of_uncorrected_spots():
    sim = series(range_deg=30.0)
    found = published_orientations(sim.listed(), correct=False)
    sd = np.sqrt(np.einsum("nii->ni", found.covariance_deg2))
    z = (found.small_deg - sim.small_deg) / sd
    assert 0.5 < np.median(np.abs(z)) / 0.6745 < 2


def test_one_row_of_spots_says_that_it_is_weak():
    sim = series(step=0.2)
    data = sim.listed()
    rows = data.intensities
    point = rows.hkl @ data.reciprocal_basis.T
    off_row = np.abs(point @ sim.axis) > 0.12
    found = published_orientations(selected(data, (rows.frame != 50) | ~off_row))
    assert "in one direction" in found.flag[50]
    assert np.sqrt(np.linalg.eigvalsh(found.covariance_deg2[50])[1]) > 0.3


def test_detection_limit_leaves_out_weak_spots():
    sim = series(step=0.5)
    rows = sim.data.intensities
    found = published_orientations(sim.data, detected=5.0)
    seen = rows.intensity > 5 * np.sqrt(rows.variance)
    assert found.n_spots.tolist() == np.bincount(rows.frame[seen], minlength=41).tolist()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: replace(data, intensities=None), "centroids only"),
        (lambda data: selected(data, data.intensities.frame < 3), "3 frames with 4 spots"),
        (lambda data: selected(data, np.zeros(len(data.intensities), bool)), "0 frames"),
        (lambda data: replace(data, angle_deg=np.zeros(data.n_frames)), "all frames at one angle"),
    ],
)
def test_what_cannot_be_oriented_is_said(change, found):
    with pytest.raises(UserError, match=found):
        published_orientations(change(series(step=0.5, range_deg=10.0).listed()))
