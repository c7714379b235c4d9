from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.coverage import (
    BeamPath,
    beam_path,
    hemisphere,
    orientation_coverage,
    stereogram,
)

NONE = np.eye(3, dtype=int)[None]


def path(range_deg):
    """The beam along z, turning about x."""
    return BeamPath(np.zeros(3), np.array([0.0, 0, 1]), np.array([0.0, 1, 0]), range_deg)


def test_the_beam_is_found_from_the_reflections(crystals):
    for data in crystals(4, range_deg=(8.0, 60.0)).sets:
        found = beam_path(data)
        assert isinstance(found, BeamPath)
        turn = data.orientation @ np.linalg.inv(reciprocal_basis(data.cell))
        # mid-series is angle zero; the laboratory's x and z in the crystal's frame
        assert abs(found.axis @ turn.T @ [1, 0, 0]) == pytest.approx(1, abs=1e-4)
        assert found.at(data.range_deg / 2)[0] @ turn.T @ [0, 0, 1] == pytest.approx(1, abs=1e-6)


def test_wrong_indices_have_no_beam(crystals):
    data = crystals(1).sets[0]
    rng = np.random.default_rng(0)
    mixed = replace(data, hkl=data.hkl[rng.permutation(len(data))])
    assert "not consistent" in beam_path(mixed)
    assert beam_path(data.select(np.arange(5))) == "5 observations, 20 needed"
    assert "rotation range" in beam_path(replace(data, range_deg=float("nan")))
    coverage = orientation_coverage([mixed], NONE)
    assert set(coverage.unknown) == {mixed.name}
    assert coverage.covered == 0
    assert np.isnan(coverage.axis).all()


@pytest.mark.parametrize("range_deg", [10.0, 45.0, 90.0, 179.0])
def test_a_flat_sphere_sweeps_its_share(range_deg):
    # without curvature a plane turns: of all directions range / 180
    met = path(range_deg).recorded(hemisphere(20000), 1e-9)
    assert met.mean() == pytest.approx(range_deg / 180, abs=0.01)


def test_along_the_axis_nothing_is_recorded():
    found = path(360.0)
    # a point on the axis never meets a curved sphere; one beside it does
    assert not found.recorded(np.array([[1.0, 0, 0]]), 0.025).any()
    assert found.recorded(np.array([[0.9, 0.3, 0]]), 0.025).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 359))
def test_crossings_agree_with_turning_step_by_step(seed, range_deg):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(40, 3))
    found = path(range_deg).recorded(q, 0.1)
    phi = np.deg2rad(np.linspace(0, range_deg, 4000))
    beam = np.stack([0 * phi, np.sin(phi), np.cos(phi)], axis=1)
    excitation = q @ beam.T + 0.05 * np.sum(q**2, axis=1)[:, None]
    other = -q @ beam.T + 0.05 * np.sum(q**2, axis=1)[:, None]
    stepped = (np.ptp(np.sign(excitation), axis=1) > 0) | (np.ptp(np.sign(other), axis=1) > 0)
    near = np.minimum(np.abs(excitation).min(axis=1), np.abs(other).min(axis=1)) < 2e-3
    assert np.array_equal(found[~near | stepped], stepped[~near | stepped])


def test_symmetry_fills_in(crystals):
    made = crystals(1, range_deg=(60.0, 60.0))
    alone = orientation_coverage(made.sets, NONE, d_A=1.0)
    helped = orientation_coverage(made.sets, candidate_operators("oC"), d_A=1.0)
    assert alone.covered == alone.covered_without_symmetry
    assert alone.covered == pytest.approx(60 / 180, abs=0.04)
    assert helped.covered > alone.covered + 0.15
    assert helped.covered_without_symmetry == alone.covered
    # the wedge that was not recorded: 120 degrees, so that a cone of 60 fits in
    assert alone.missing_cone_deg == pytest.approx(60, abs=4)
    assert helped.missing_cone_deg < alone.missing_cone_deg


def test_more_crystals_see_more(crystals):
    made = crystals(6)
    one = orientation_coverage(made.sets[:1], candidate_operators("oC"))
    all_ = orientation_coverage(made.sets, candidate_operators("oC"))
    assert all_.covered > one.covered
    assert all_.times.max() <= 6
    assert all_.d_A == pytest.approx(1.0, abs=0.01)
    assert [len(b) for b in all_.beam] == [int(d.range_deg) + 2 for d in made.sets]
    assert np.allclose(np.linalg.norm(np.concatenate(all_.beam), axis=1), 1)


def test_stereogram():
    found = stereogram([[0, 0, 1], [1, 0, 0], [0, 0, -1], [0, -np.sqrt(0.5), -np.sqrt(0.5)]])
    assert found == pytest.approx(np.array([[0, 0], [1, 0], [0, 0], [0, np.tan(np.pi / 8)]]))


def test_the_hemisphere_is_even():
    v = hemisphere(2000)
    assert np.allclose(np.linalg.norm(v, axis=1), 1)
    assert np.abs(v[:, :2].mean(axis=0)).max() < 1e-3
    assert v[:, 2].mean() == pytest.approx(0.5, abs=1e-6)
