"""Where and when reflections cross the Ewald sphere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq

from ewaldflow.lib.crystal.lattice_symmetry import reindex_absences
from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.reduction.prediction import (
    all_indices,
    at_frames,
    crossing_frames,
    frame_of_angle,
    predict,
)
from ewaldflow.lib.reduction.refinement import Model

# lambda 0.025 Å; 400 mm / 0.05 mm = 8000 px
BY_HAND = Model(
    orientation=np.eye(3) * 0.1,
    geometry=Geometry(
        wavelength_A=0.025,
        pixel_size_mm=0.05,
        distance_mm=400.0,
        beam_centre_px=(149.0, 151.0),
        axis=(1, 0, 0),
    ),
    beam_track_px=np.tile((149.0, 151.0), (101, 1)),
    angle_mid_deg=np.linspace(-5, 5, 101),
    angle_step_deg=0.1,
)


def test_a_reflection_worked_out_by_hand():
    """(0, 5, 0) of an aligned 10 Å cube turning about x.

    q = (0, 0.5 cos, 0.5 sin) and q_z = -lambda |q|^2 / 2 = -0.003125 give sin(phi) = -0.00625,
    phi = -0.358101 degrees: frame 50 - 3.58101 = 46.41899; the other crossing, at -179.642, is
    nearer to the middle of the series than +180.358: frame 50 - 1796.41899. There
    s = (0, 0.4999902, 39.996875): y = 8000 * 0.01250073 = 100.0059 px.
    d|q + s0|/dphi = s0 . dq/dphi / |s| = 40 * 0.4999902 / 40 = 0.4999902 Å^-1 per radian.
    """
    hkl = np.array([[0, 5, 0]], np.int32)
    frames = np.array(crossing_frames(BY_HAND, hkl))[:, 0]
    assert_allclose(np.sort(frames), [50 - 1796.41899, 46.41899], atol=1e-4)
    p = at_frames(BY_HAND, hkl, frames.max(keepdims=True))
    assert p.row[0] == pytest.approx(149 + 100.0059, abs=1e-3)
    assert p.column[0] == pytest.approx(151, abs=1e-9)
    assert p.rate[0] == pytest.approx(0.4999902 * np.deg2rad(0.1), rel=1e-6)
    assert p.length[0] == pytest.approx(0.5)


def test_the_predictions_of_a_series_hold_it_once():
    p = predict(BY_HAND, "cP", 1.9, (300, 300))
    (row,) = np.flatnonzero((p.hkl == [0, 5, 0]).all(axis=1))
    assert p.frame[row] == pytest.approx(46.41899, abs=1e-4)
    # (0, -5, 0) comes as much later; (5, 0, 0) lies on the axis and never does
    (row,) = np.flatnonzero((p.hkl == [0, -5, 0]).all(axis=1))
    assert p.frame[row] == pytest.approx(53.58101, abs=1e-4)
    assert p.row[row] == pytest.approx(149 - 100.0059, abs=1e-3)
    assert not (p.hkl == [5, 0, 0]).all(axis=1).any()
    assert (np.diff(p.frame) >= 0).all()


def test_what_never_crosses_has_no_frame():
    hkl = np.array([[5, 0, 0], [-3, 0, 0], [4, 0, 1]], np.int32)
    first, second = crossing_frames(BY_HAND, hkl)
    assert np.isnan(first[:2]).all()
    assert np.isnan(second[:2]).all()
    # (4, 0, 1): q_z = 0.1 sin(phi + 90) reaches -lambda 0.17 / 2 = -0.002125
    assert np.isfinite([first[2], second[2]]).all()


@pytest.mark.parametrize("step_deg", [0.5, -0.5])
@pytest.mark.parametrize("seed", [1, 2])
def test_crossings_are_the_roots_of_the_excitation_error(make_model, seed, step_deg):
    model = make_model(
        (9.0, 11.0, 14.0, 85.0, 97.0, 102.0), seed=seed, step_deg=step_deg, rotation_scale=1.01
    )
    hkl = all_indices(model.orientation, 1.5, "aP")
    hkl = hkl[np.random.default_rng(seed).permutation(len(hkl))[:60]]
    first, second = crossing_frames(model, hkl)
    half_turn = 180 / abs(step_deg) / model.rotation_scale
    middle = (len(model.angle_mid_deg) - 1) / 2
    grid = middle + np.linspace(-half_turn, half_turn, 721)
    s0, k = model.geometry.s0, 1 / model.geometry.wavelength_A

    for h, *crossings in zip(hkl, first, second, strict=True):

        def excitation(frame, h=h):
            q = model.diffracted(np.tile(h, (len(frame), 1)), frame)
            return np.linalg.norm(q + s0, axis=1) - k

        values = excitation(grid)
        change = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
        roots = [
            brentq(lambda f: excitation(np.array([f]))[0], grid[i], grid[i + 1], xtol=1e-10)
            for i in change
        ]
        if not roots:
            # nothing, or two crossings within one step of the grid
            assert np.isnan(crossings).all() or abs(crossings[0] - crossings[1]) < 2
        else:
            assert_allclose(np.sort(crossings), roots, atol=1e-6)


def test_rate_is_the_slope_of_the_excitation_error(make_model):
    model = make_model((9.0, 11.0, 14.0, 85.0, 97.0, 102.0), rotation_scale=0.98)
    p = predict(model, "aP", 1.0, (516, 516))
    s0, k = model.geometry.s0, 1 / model.geometry.wavelength_A

    def excitation(frame):
        return np.linalg.norm(model.diffracted(p.hkl, frame) + s0, axis=1) - k

    assert_allclose(excitation(p.frame), 0, atol=1e-9)
    slope = (excitation(p.frame + 1e-3) - excitation(p.frame - 1e-3)) / 2e-3
    assert_allclose(p.rate, slope, rtol=1e-4, atol=1e-8)
    # and the pixel is where the diffracted beam meets the detector
    assert_allclose(
        model.geometry.to_pixel(model.diffracted(p.hkl, p.frame)),
        np.stack([p.row, p.column], axis=1),
        atol=1e-9,
    )


@settings(deadline=None)
@given(
    st.sampled_from([0.3, -0.3]),
    st.floats(0.9, 1.1),
    st.lists(st.integers(1, 4), min_size=1, max_size=30),
    st.lists(st.floats(-5, 40), min_size=1, max_size=20),
)
def test_frame_of_angle_inverts_angle_deg(step_deg, scale, gaps, frames):
    # frames missing from the numbering leave gaps in the angles
    number = np.cumsum([0, *gaps])
    model = replace(
        BY_HAND,
        angle_mid_deg=7.0 + step_deg * number,
        angle_step_deg=step_deg,
        rotation_scale=scale,
    )
    frames = np.array(frames)
    assert_allclose(frame_of_angle(model, model.angle_deg(frames)), frames, atol=1e-8)


@pytest.mark.parametrize("step_deg", [0.5, -0.5])
def test_a_series_with_gaps_by_hand(step_deg):
    # frame numbers 1, 2, 5, 6: the third frame (position 2) is at four steps
    model = replace(
        BY_HAND, angle_mid_deg=step_deg * np.array([0.0, 1, 4, 5]), angle_step_deg=step_deg
    )
    position = np.array([-1.0, 0, 1, 1.5, 2, 3, 4.5])
    angle = step_deg * np.array([-1.0, 0, 1, 2.5, 4, 5, 6.5])
    assert_allclose(model.angle_deg(position), angle)
    assert_allclose(frame_of_angle(model, angle), position)


@pytest.mark.parametrize(("bravais", "share"), [("cP", 1), ("cI", 1 / 2), ("cF", 1 / 4)])
def test_all_indices_fill_the_sphere(bravais, share):
    orientation = np.eye(3) * 0.05
    hkl = all_indices(orientation, 1.0, bravais)
    assert len(np.unique(hkl, axis=0)) == len(hkl)
    assert np.sum(hkl**2, axis=1).max() == 400
    assert not (hkl == 0).all(axis=1).any()
    assert not reindex_absences(bravais, hkl).any()
    assert len(hkl) == pytest.approx(share * 4 / 3 * np.pi * 20**3, rel=0.02)


def test_margin_detector_and_resolution_bound_the_predictions(make_model):
    model = make_model((9.0, 11.0, 14.0, 85.0, 97.0, 102.0))
    last = len(model.angle_mid_deg) - 1
    p = predict(model, "aP", 0.9, (400, 300), margin_frames=3.0, d_max_A=5.0)
    assert p.frame.min() >= -3.5
    assert p.frame.max() <= last + 3.5
    assert p.frame.min() < -2
    assert p.row.min() > -0.5
    assert p.row.max() < 399.5
    assert p.column.max() < 299.5
    assert 1 / p.length.max() >= 0.9
    assert 1 / p.length.min() <= 5.0
    inside = predict(model, "aP", 0.9, (400, 300), d_max_A=5.0)
    within = p[(p.frame >= -0.5) & (p.frame <= last + 0.5)]
    assert_array_equal(inside.hkl, within.hkl)


def test_a_distorted_lens_moves_the_pixel_not_the_time(make_model):
    model = make_model((9.0, 11.0, 14.0, 85.0, 97.0, 102.0))
    bent = replace(model, geometry=model.geometry.with_(distortion=EllipticalDistortion(1.1, 0.0)))
    hkl = all_indices(model.orientation, 2.0, "aP")
    first, _ = crossing_frames(model, hkl)
    assert_array_equal(first, crossing_frames(bent, hkl)[0])
    known = np.isfinite(first)
    a, b = (at_frames(m, hkl[known], first[known]) for m in (model, bent))
    centre = model.geometry.beam_centre_px
    assert_allclose(b.column - centre[1], np.sqrt(1.1) * (a.column - centre[1]), atol=1e-9)
    assert_allclose(b.row - centre[0], (a.row - centre[0]) / np.sqrt(1.1), atol=1e-9)
