"""Directions without a start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.centroid_fit import centroids_from
from ewaldflow.lib.orientation.closed_form import closed_form_start, two_best
from ewaldflow.lib.orientation.geometry import small_angles

RADIUS = 40.0


def on_sphere(direction: np.ndarray, n: int, rng: np.random.Generator, reach: float) -> np.ndarray:
    """Points of the sphere of `RADIUS` through the origin, about `direction`, near the origin."""
    points = rng.normal(size=(n, 3))
    points -= np.outer(points @ direction, direction)
    points *= reach * rng.uniform(0.3, 1, n)[:, None] / np.linalg.norm(points, axis=1)[:, None]
    height = RADIUS - np.sqrt(RADIUS**2 - np.sum(points**2, axis=1))
    return points + height[:, None] * direction


@given(st.integers(0, 10_000), st.sampled_from([0.8, 1.6]))
def test_points_on_the_sphere_give_its_centre(seed: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    found = two_best(on_sphere(direction, 20, rng, reach), RADIUS)
    assert np.linalg.norm(found.directions, axis=1) == pytest.approx([1, 1])
    assert np.linalg.norm(found.directions[0] - direction) < 1e-6
    assert found.cost[0] < 1e-12


def test_a_flat_pattern_has_a_centre_on_either_side() -> None:
    # all points in the plane z = 0: e is as well above as below
    points = np.array([[0.5, 0, 0], [0, 0.5, 0], [-0.5, 0.1, 0], [0.1, -0.6, 0], [0.3, 0.3, 0]])
    found = two_best(points, RADIUS)
    assert sorted(np.sign(found.directions[:, 2])) == [-1, 1]
    assert found.cost[0] == pytest.approx(found.cost[1], rel=1e-6)


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="found 2"):
        two_best(np.eye(3)[:2], RADIUS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hand_is_found_from_the_whole_scan(series: Any, seed: int) -> None:
    data, truth = series(seed=seed, d_min_A=1.2, step_deg=0.5, range_deg=30)
    rows, basis = data.intensities, data.reciprocal_basis
    centroids, _ = centroids_from(rows, data.used)
    seen = rows.intensity > 3 * np.sqrt(rows.variance)
    points = rows.hkl[seen] @ basis.T
    wavelength = data.geometry.wavelength_A
    fit = closed_form_start(
        "x", points, rows.frame[seen], rows.intensity[seen], centroids, centroids.hkl @ basis.T,
        data.angle_deg, wavelength,
    )  # fmt: skip
    off = small_angles(truth.direction, fit.smooth.directions(data.angle_deg), fit.smooth.axis)
    assert np.rad2deg(np.linalg.norm(off, axis=1)).mean() < 0.02
    with pytest.raises(UserError, match="0 frames with 5 indexed spots"):
        closed_form_start(
            "x", points[:4], rows.frame[seen][:4], np.ones(4), centroids, centroids.hkl @ basis.T,
            data.angle_deg, wavelength,
        )  # fmt: skip
