"""Refinement: derivatives, recovery of what is known, and honest e.s.d.s."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from ewaldflow.lib.crystal.lattice_symmetry import strain_basis
from ewaldflow.lib.geometry import EllipticalDistortion, rotation_about
from ewaldflow.lib.reduction.refinement import TRICLINIC_STRAINS, Observations, refine
from ewaldflow.lib.reduction.residuals import Problem, _left_jacobian, _rotation

CELL = (9.0, 11.0, 14.0, 85.0, 97.0, 102.0)
BLOCKS = (
    "orientation", "strain", "centre", "axis", "axis_azimuth", "rotation_scale", "distortion",
    "distance", "radial",
)  # fmt: skip
LENS = {"distortion": EllipticalDistortion(1.03, 25.0), "radial_per_mm2": 2e-4}


def observe(model, predictions, rng=None, sigma_px=0.1, sigma_excitation=2e-4):
    """Observations at the model's own predictions, with noise if there is an `rng`.

    Noise of the excitation error is noise of the frame divided by the rate.
    """
    p, n = predictions, len(predictions)
    d_row, d_column, d_e = rng.normal(size=(3, n)) if rng else np.zeros((3, n))
    frame = p.frame + sigma_excitation * d_e / p.rate
    rc = model.geometry.to_pixel(model.diffracted(p.hkl, frame), model.centre_px(frame))
    return Observations(
        p.hkl,
        rc[:, 0] + sigma_px * d_row,
        rc[:, 1] + sigma_px * d_column,
        frame,
        np.full(n, sigma_px),
        np.full(n, sigma_excitation),
    )


@pytest.fixture(scope="module")
def triclinic(make_model, make_spots):
    """A model with everything distorted, and where its reflections are."""
    plain = make_model(CELL)
    model = make_model(CELL, geometry=plain.geometry.with_(**LENS)).with_knots(3)
    model = replace(model, centre_offset_px=np.array([[0.5, -0.3], [0.1, 0.2], [-0.4, 0.6]]))
    return model, make_spots(model, kept=0.4)[1]


@pytest.mark.parametrize("free", [*((block,) for block in BLOCKS), BLOCKS[:4] + BLOCKS[5:]])
@pytest.mark.parametrize("bravais", ["aP", "mP", "hP"])
def test_every_derivative_equals_central_differences(triclinic, free, bravais):
    model, predictions = triclinic
    obs = observe(model, predictions, np.random.default_rng(1))
    problem = Problem(model, obs, free, strain_basis(bravais))
    x = np.random.default_rng(2).normal(0, 0.01, problem.n)
    _, jacobian = problem.evaluate(x, True)
    for k in range(problem.n):
        step = np.zeros(problem.n)
        step[k] = 1e-5
        high, low = (problem.evaluate(x + s * step, False)[0] for s in (1, -1))
        assert_allclose(
            jacobian[:, k], (high - low) / 2e-5, atol=1e-5 * np.abs(jacobian[:, k]).max()
        )


@pytest.mark.parametrize("free", [BLOCKS[:4] + BLOCKS[5:], BLOCKS[4:5]])
def test_the_residuals_are_those_of_the_updated_model(triclinic, free):
    model, predictions = triclinic
    obs = observe(model, predictions, np.random.default_rng(1))
    problem = Problem(model, obs, free, TRICLINIC_STRAINS)
    x = np.random.default_rng(3).normal(0, 0.01, problem.n)
    residual = problem.evaluate(x, False)[0]
    new = problem.updated(x)
    q = new.diffracted(obs.hkl, obs.frame)
    rc = new.geometry.to_pixel(q, new.centre_px(obs.frame))
    excitation = np.linalg.norm(q + new.geometry.s0, axis=1) - 1 / new.geometry.wavelength_A
    expected = [(rc[:, 0] - obs.row) / 0.1, (rc[:, 1] - obs.column) / 0.1, excitation / 2e-4]
    assert_allclose(residual, np.concatenate(expected), atol=1e-7)


@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3))
@settings(deadline=None)
def test_the_left_jacobian_of_a_rotation(w):
    w = np.array(w)
    assert_allclose(_rotation(w), Rotation.from_rotvec(w).as_matrix(), atol=1e-12)
    for k in range(3):
        step = 1e-6 * np.eye(3)[k]
        turned = _rotation(w + step) @ _rotation(w - step).T
        assert_allclose(
            Rotation.from_matrix(turned).as_rotvec() / 2e-6, _left_jacobian(w)[:, k], atol=1e-6
        )


def disturbed(model, *, turn_deg=0.2, axis_deg=0.5, centre_px=(0.8, -0.6), stretch=1.004):
    """The model, wrong by so much."""
    g = model.geometry
    turn = rotation_about(np.array([1.0, 2, 2]) / 3, turn_deg)
    return replace(
        model,
        orientation=turn @ model.orientation * stretch,
        geometry=g.with_(axis=tuple(rotation_about((0, 0, 1), axis_deg) @ np.array(g.axis))),
        beam_track_px=model.beam_track_px + centre_px,
    )


def test_what_is_known_is_recovered_to_a_millionth(make_model, make_spots):
    truth = make_model(CELL)
    obs = observe(truth, make_spots(truth, kept=0.5)[1])
    start = disturbed(truth)
    free = ("orientation", "strain", "centre", "axis")
    for _ in range(3):
        refined = refine(start, obs, free, TRICLINIC_STRAINS)
        start = refined.model
    assert_allclose(refined.model.orientation, truth.orientation, atol=1e-6 * 0.1)
    assert_allclose(refined.model.cell, truth.cell, rtol=1e-6)
    assert_allclose(refined.model.geometry.axis, truth.geometry.axis, atol=1e-6)
    assert_allclose(refined.model.centre_px(obs.frame), truth.centre_px(obs.frame), atol=1e-4)
    assert refined.rms_px < 1e-4
    assert refined.rms_excitation < 1e-7


def test_lens_and_rotation_scale_are_recovered_where_a_lattice_holds_the_cell(
    make_model, make_spots
):
    truth = make_model((10.0, 13.0, 17.0, 90, 90, 90), rotation_scale=1.02)
    truth = replace(truth, geometry=truth.geometry.with_(**LENS))
    obs = observe(truth, make_spots(truth, "oP", kept=0.5)[1])
    start = disturbed(replace(truth, rotation_scale=1.0), stretch=1.0)
    start = replace(
        start,
        geometry=start.geometry.with_(distortion=EllipticalDistortion(), radial_per_mm2=0.0),
    )
    free = ("orientation", "strain", "centre", "axis", "distortion", "rotation_scale", "radial")
    for _ in range(4):
        refined = refine(start, obs, free, strain_basis("oP"))
        start = refined.model
    g = refined.model.geometry
    assert refined.model.rotation_scale == pytest.approx(1.02, abs=1e-6)
    assert g.distortion.ratio == pytest.approx(1.03, abs=1e-6)
    assert g.distortion.azimuth_deg == pytest.approx(25, abs=1e-4)
    assert g.radial_per_mm2 == pytest.approx(2e-4, rel=1e-4)
    assert_allclose(refined.model.cell, truth.cell, rtol=1e-6)


def test_a_known_cell_gives_the_camera_length(make_model, make_spots):
    truth = make_model(CELL)
    obs = observe(truth, make_spots(truth, kept=0.5)[1])
    g = truth.geometry
    start = replace(truth, geometry=g.with_(distance_mm=1.02 * g.distance_mm))
    refined = refine(start, obs, ("orientation", "centre", "distance"), TRICLINIC_STRAINS)
    assert refined.model.geometry.distance_mm == pytest.approx(g.distance_mm, rel=1e-6)
    assert refined.cell_esd == (0.0,) * 6


def test_knots_follow_a_drifting_centre(make_model, make_spots):
    truth = make_model(CELL)
    n = len(truth.beam_track_px)
    drift = np.stack([np.linspace(0, 3, n), np.abs(np.linspace(-2, 2, n))], axis=1)
    moving = replace(truth, beam_track_px=truth.beam_track_px + drift)
    obs = observe(moving, make_spots(moving, kept=0.5)[1])
    refined = refine(truth.with_knots(5), obs, ("orientation", "centre"), TRICLINIC_STRAINS)
    frames = np.arange(n, dtype=float)
    assert_allclose(refined.model.centre_px(frames), moving.centre_px(frames), atol=0.01)


@pytest.mark.parametrize(
    ("bravais", "cell"),
    [
        ("mP", (9.0, 11.0, 14.0, 90, 97, 90)),
        ("oP", (9.0, 11.0, 14.0, 90, 90, 90)),
        ("tP", (9.0, 9.0, 14.0, 90, 90, 90)),
        ("hP", (9.0, 9.0, 14.0, 90, 90, 120)),
        ("cP", (12.0, 12.0, 12.0, 90, 90, 90)),
    ],
)
def test_a_constraint_keeps_the_lattice_exactly(make_model, make_spots, bravais, cell):
    start = make_model(cell)
    p = make_spots(start, kept=0.4)[1]
    obs = observe(start, p, np.random.default_rng(5), sigma_px=1.0)
    # positions that no cell explains give the constraint something to resist
    obs = replace(obs, row=obs.row + 3 * np.sin(p.row / 50))
    refined = refine(start, obs, ("orientation", "strain", "centre"), strain_basis(bravais)).model
    a, b, c, alpha, beta, gamma = refined.cell
    assert_allclose((alpha, gamma if bravais == "mP" else beta), 90, atol=1e-10)
    if bravais in ("oP", "tP", "cP"):
        assert gamma == pytest.approx(90, abs=1e-10)
    if bravais in ("tP", "hP", "cP"):
        assert a == pytest.approx(b, rel=1e-12)
    if bravais == "hP":
        assert gamma == pytest.approx(120, abs=1e-10)
    if bravais == "cP":
        assert a == pytest.approx(c, rel=1e-12)
    assert abs(a - cell[0]) > 1e-5  # it did move


def test_esds_are_the_scatter_over_repeats(make_model, make_spots):
    truth = make_model((10.0, 13.0, 17.0, 90, 90, 90))
    truth = replace(truth, geometry=truth.geometry.with_(distortion=EllipticalDistortion(1.02, 30)))
    predictions = make_spots(truth, "oP", kept=0.15)[1]
    free = ("orientation", "strain", "centre", "axis", "distortion", "rotation_scale")
    found, told = [], []
    for seed in range(80):
        obs = observe(truth, predictions, np.random.default_rng(seed))
        r = refine(truth, obs, free, strain_basis("oP"))
        axis = np.array(r.model.geometry.axis)
        found.append(
            [
                *r.model.cell[:3],
                *r.model.centre_offset_px[0],
                np.rad2deg(np.arctan2(axis[1], axis[0])),
                r.model.rotation_scale,
                r.model.geometry.distortion.ratio,
                r.model.geometry.distortion.azimuth_deg,
            ]
        )
        e = r.esd
        told.append(
            [
                *r.cell_esd[:3],
                e["centre_row_px"],
                e["centre_column_px"],
                e["axis_azimuth_deg"],
                e["rotation_scale"],
                e["distortion_ratio"],
                e["distortion_azimuth_deg"],
            ]
        )
    scatter = np.std(found, axis=0)
    assert_allclose(np.mean(told, axis=0) / scatter, 1, atol=0.3)
    # and they are unbiased
    pull = (np.mean(found, axis=0)[:3] - [10, 13, 17]) / (scatter[:3] / np.sqrt(80))
    assert np.abs(pull).max() < 4


def test_underrated_sigmas_scale_the_esds_up(make_model, make_spots):
    truth = make_model(CELL)
    predictions = make_spots(truth, kept=0.3)[1]
    obs = observe(truth, predictions, np.random.default_rng(1))
    boast = replace(obs, sigma_px=obs.sigma_px / 10, sigma_excitation=obs.sigma_excitation / 10)
    free = ("orientation", "strain", "centre")
    honest, boasting = (
        refine(truth, o, free, TRICLINIC_STRAINS, robust=False).cell_esd for o in (obs, boast)
    )
    assert_allclose(boasting, honest, rtol=0.01)


def test_a_few_wrong_indices_hardly_matter(make_model, make_spots):
    truth = make_model(CELL)
    obs = observe(truth, make_spots(truth, kept=0.3)[1], np.random.default_rng(1))
    row = obs.row.copy()
    row[::20] += 8.0  # 80 sigma
    refined = refine(
        truth, replace(obs, row=row), ("orientation", "strain", "centre"), TRICLINIC_STRAINS
    )
    plain = refine(truth, obs, ("orientation", "strain", "centre"), TRICLINIC_STRAINS)
    shift = np.abs(np.array(refined.model.cell) - plain.model.cell) / plain.cell_esd
    assert shift.max() < 4
    assert refined.rms_px < 2 * plain.rms_px


def test_a_prior_holds_what_the_data_do_not_tell(make_model, make_spots):
    truth = make_model(CELL)
    obs = observe(truth, make_spots(truth, kept=0.3)[1], np.random.default_rng(1))
    start = replace(truth, beam_track_px=truth.beam_track_px + np.array([2.0, 0.0]))
    held = refine(start, obs, ("centre",), TRICLINIC_STRAINS, priors={"centre": 1e-6})
    assert_allclose(held.model.centre_offset_px, 0, atol=1e-6)
    free = refine(start, obs, ("centre",), TRICLINIC_STRAINS, priors={"centre": 10.0})
    assert_allclose(free.model.centre_offset_px, [[-2, 0]], atol=0.02)
