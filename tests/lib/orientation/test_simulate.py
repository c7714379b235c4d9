"""Simulated series: what they claim as truth is what they show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.orientation.simulate import (
    Diffraction,
    Rotation,
    error_deg,
    excitation_errors,
    mean_error_deg,
    simulate_orientation,
)


def test_error_of_directions_a_known_angle_apart():
    x = np.array([[1.0, 0, 0], [1, 0, 0]])
    y = np.array([[2.0, 0, 0], [0, 3, 0]])
    assert error_deg(x, y) == pytest.approx([0, 90])
    assert mean_error_deg(x, y) == pytest.approx(45)


def test_error_leaves_out_unknown_frames():
    x = np.array([[1.0, 0, 0], [np.nan, 0, 0]])
    assert mean_error_deg(x, np.array([[0, 1.0, 0], [0, 1, 0]])) == pytest.approx(90)
    assert np.isnan(mean_error_deg(x[1:], x[:1]))


def test_excitation_error_of_a_point_worked_out_by_hand():
    # r = 1; P - e = (0.6, 0, 0.8 + 0.5): length 1.43178; a quarter turn about z moves e onto P's y
    s = excitation_errors(
        np.array([[0.6, 0.0, 0.5]]), np.array([[0.0, 0.6, -0.8]]), np.array([0.0, 0, 1]),
        np.array([0.0, 90.0]),
    )  # fmt: skip
    # turned by +90 degrees, e goes to (0.6, 0, -0.8): |P - e| = 1.3
    assert s[0] == pytest.approx([np.sqrt(0.36 + 0.36 + 1.69) - 1, 0.3])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["sRED", "cRED"]), st.sampled_from([0.05, 0.3]))
def test_truth_agrees_with_itself(seed, kind, jitter):
    rotation = Rotation(kind, 0.5, 6.0, jitter_deg=(jitter, jitter), about_beam_deg=0.1)
    sim = simulate_orientation(rotation, Diffraction(d_min_A=1.0), seed=seed)
    radius = 1 / sim.data.geometry.wavelength_A
    assert np.linalg.norm(sim.centre, axis=1) == pytest.approx(radius)
    # towards the centre of the sphere is against the beam
    assert np.einsum("nij,nj->ni", sim.rotation, sim.centre)[:, 2] == pytest.approx(-radius)
    assert sim.rotation @ np.swapaxes(sim.rotation, 1, 2) == pytest.approx(
        np.tile(np.eye(3), (13, 1, 1)), abs=1e-12
    )


def test_smooth_rotation_is_about_the_axis_by_the_scaled_readout():
    sim = simulate_orientation(Rotation("sRED", 0.5, 10.0, scale=1.01), seed=3)
    for frame in (0, 20):
        expected = rotation_about(sim.data.geometry.axis, 1.01 * sim.data.angle_deg[frame])
        assert expected @ sim.rotation[10] == pytest.approx(sim.rotation[frame])
    in_lab = sim.rotation[10] @ sim.axis
    assert in_lab == pytest.approx(sim.data.geometry.axis)
    assert sim.data.orientation == pytest.approx(sim.rotation[10] @ sim.data.reciprocal_basis)


def test_small_rotations_move_the_beam_in_the_crystal_by_as_much():
    # the axis is normal to the beam, so both small rotations move e by their own size
    smooth = simulate_orientation(Rotation("sRED", 0.1, 3.0), seed=4)
    shaken = simulate_orientation(Rotation("sRED", 0.1, 3.0, jitter_deg=(0.02, 0.05)), seed=4)
    moved = error_deg(shaken.centre, smooth.centre)
    assert moved == pytest.approx(np.hypot(*shaken.small_deg.T), abs=1e-6)
    assert np.std(shaken.small_deg, axis=0) == pytest.approx([0.02, 0.05], rel=0.5)
    e = smooth.centre * smooth.data.geometry.wavelength_A
    t1 = np.cross(smooth.axis, e)
    across = np.stack([np.sum(shaken.centre * t, axis=1) for t in (t1, np.cross(e, t1))], 1)
    along_and_perp = np.rad2deg(across * smooth.data.geometry.wavelength_A)
    assert along_and_perp == pytest.approx(shaken.small_deg, abs=1e-6)


def test_sinusoid_has_its_amplitudes_and_period():
    sim = simulate_orientation(Rotation("sRED", 0.1, 30.0, sinusoid_deg=(0.05, 0.03)), seed=5)
    assert np.abs(sim.small_deg).max(axis=0) == pytest.approx([0.05, 0.03], rel=0.01)
    assert sim.small_deg[30:] == pytest.approx(sim.small_deg[:-30], abs=1e-12)


def test_still_in_bragg_position_counts_the_amplitude():
    conditions = Diffraction(noise=False, median_peak=500.0)
    sim = simulate_orientation(Rotation("sRED", 0.02, 2.0), conditions, seed=6)
    rows = sim.data.intensities
    near = sim.nearest_per_A < 5e-5
    assert near.any()
    top = np.full(rows.crossing.max() + 1, -np.inf)
    np.maximum.at(top, rows.crossing, rows.intensity)
    assert rows.intensity[near] == pytest.approx(top[rows.crossing[near]], rel=2e-3)


@pytest.mark.parametrize("curve", ["gaussian", "sinc2"])
def test_exposure_is_the_mean_of_the_stills_in_it(curve):
    conditions = Diffraction(noise=False, curve=curve)
    stills = simulate_orientation(Rotation("sRED", 0.01, 1.0), conditions, seed=7)
    exposed = simulate_orientation(Rotation("cRED", 0.11, 0.33), conditions, seed=7)
    # exposures of 11 substeps centred where stills 50 - 16.5 + 11 k are; compare by reflection
    a, b = stills.data.intensities, exposed.data.intensities
    assert exposed.data.angle_deg[1] == pytest.approx(-0.055)
    both = {}
    for hkl, frame, value in zip(b.hkl.tolist(), b.frame.tolist(), b.intensity, strict=True):
        if frame == 1:
            both[tuple(hkl)] = value
    wanted = dict.fromkeys(both, 0.0)
    angle = stills.data.angle_deg[a.frame]
    for hkl, value in zip(
        a.hkl[np.abs(angle + 0.055) < 0.0551].tolist(),
        a.intensity[np.abs(angle + 0.055) < 0.0551], strict=True,
    ):  # fmt: skip
        if tuple(hkl) in wanted:
            wanted[tuple(hkl)] += value / 12  # 12 stills, from edge to edge
    strong = [h for h in both if both[h] > 50]
    assert len(strong) > 10
    ratio = np.array([wanted[h] / both[h] for h in strong])
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


def test_counting_noise_has_the_variance_it_claims():
    sim = simulate_orientation(Rotation("sRED", 0.1, 20.0), seed=8)
    true_variance = sim.expected + 30.0
    z = (sim.data.intensities.intensity - sim.expected) / np.sqrt(true_variance)
    assert np.mean(z) == pytest.approx(0, abs=0.03)
    assert np.std(z) == pytest.approx(1, abs=0.03)


def test_rows_of_a_passage_are_successive_frames_of_one_reflection():
    rows = simulate_orientation(Rotation("cRED", 0.2, 20.0), seed=9).data.intensities
    same = np.diff(rows.crossing) == 0
    assert np.all(np.diff(rows.crossing) >= 0)
    assert np.all(np.diff(rows.frame)[same] == 1)
    assert np.all(np.diff(rows.hkl, axis=0)[same] == 0)


def test_list_holds_the_spots_near_the_sphere_without_noise():
    sim = simulate_orientation(Rotation("sRED", 0.1, 5.0), seed=10)
    listed = sim.listed().intensities
    assert len(listed) == np.count_nonzero(sim.nearest_per_A < 0.0055)
    assert np.all(listed.intensity > 3 * np.sqrt(listed.variance))
    point = listed.hkl @ sim.data.reciprocal_basis.T
    s = np.linalg.norm(point - sim.centre[listed.frame], axis=1) - 1 / 0.02508
    assert np.abs(s).max() < 0.0055


def test_spots_are_where_the_rotation_takes_them():
    conditions = Diffraction(noise=False, median_peak=1e8, d_min_A=1.0)
    sim = simulate_orientation(Rotation("sRED", 0.1, 5.0, about_beam_deg=0.5), conditions, seed=11)
    rows, geometry = sim.data.intensities, sim.data.geometry
    q = np.einsum("nij,nj->ni", sim.rotation[rows.frame], rows.hkl @ sim.data.reciprocal_basis.T)
    seen = np.isfinite(rows.row)
    offset = np.stack([rows.row, rows.column], 1) - geometry.to_pixel(q)
    assert np.abs(offset[seen & (rows.intensity > 1e7)]).max() < 0.01


def test_start_is_as_far_off_as_asked():
    sim = simulate_orientation(
        Rotation("sRED", 0.5, 5.0), seed=12, axis_error_deg=2.0, direction_error_deg=1.0
    )
    true = simulate_orientation(Rotation("sRED", 0.5, 5.0), seed=12)
    axes = np.array([[sim.data.geometry.axis], [true.data.geometry.axis]])
    assert error_deg(axes[0], axes[1]) == pytest.approx([2.0])
    beam = [np.linalg.inv(d.orientation) @ [0, 0, 1.0] for d in (sim.data, true.data)]
    assert error_deg(beam[0][None], beam[1][None]) == pytest.approx([1.0], abs=1e-6)
    assert np.array_equal(sim.data.intensities.intensity, true.data.intensities.intensity)


def test_same_seed_same_numbers_and_the_crystal_has_its_own():
    a, b, c = (
        simulate_orientation(Rotation("sRED", 0.5, 5.0), seed=seed, crystal_seed=1)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(a.data.intensities.intensity, b.data.intensities.intensity)
    assert np.array_equal(a.centre, c.centre)
    assert not np.array_equal(a.data.intensities.intensity, c.data.intensities.intensity)


@pytest.mark.parametrize(
    ("rotation", "conditions", "named"),
    [
        (Rotation(step_deg=0.0), Diffraction(), "step_deg"),
        (Rotation(range_deg=-1.0), Diffraction(), "range_deg"),
        (Rotation(), Diffraction(d_min_A=0.5), "d_min_A"),
    ],
)
def test_impossible_conditions_are_named(rotation, conditions, named):
    with pytest.raises(ValueError, match=named):
        simulate_orientation(rotation, conditions, seed=1)
