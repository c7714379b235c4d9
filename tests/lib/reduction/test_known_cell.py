"""A known cell: its setting, and the camera length it gives."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ewaldflow.lib.reduction.known_cell import in_known_setting, with_known_cell

EDGES = (9.0, 11.0, 14.0)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("bravais", ["oP", "oI", "oF"])
def test_axes_in_any_order(make_model, bravais, order):
    model = make_model((*EDGES, 90, 90, 90))
    known = (*np.array(EDGES)[list(order)], 90, 90, 90)
    found = in_known_setting(model, bravais, known)
    assert_allclose(found.cell, known)
    assert np.linalg.det(found.orientation) > 0
    # the same lattice
    change = np.linalg.inv(model.orientation) @ found.orientation
    assert_allclose(np.abs(change).sum(axis=0), 1)


def test_a_monoclinic_cell_keeps_its_unique_axis(make_model):
    model = make_model((9.0, 11.0, 14.0, 90, 97, 90))
    found = in_known_setting(model, "mP", (14.0, 11.0, 9.0, 90, 97, 90))
    assert_allclose(found.cell, (14, 11, 9, 90, 97, 90))
    assert in_known_setting(model, "mP", (11.0, 9.0, 14.0, 90, 97, 90)) is None


@pytest.mark.parametrize(
    "known",
    [(9.0, 11.0, 15.5, 90, 90, 90), (9.0, 11.0, 14.0, 90, 94, 90), (12.0, 14.7, 18.7, 90, 90, 90)],
    ids=["another edge", "another angle", "a third larger"],
)
def test_another_lattice_does_not_match(make_model, known):
    assert in_known_setting(make_model((*EDGES, 90, 90, 90)), "oP", known) is None


def test_the_camera_length_follows_from_the_cell(make_model):
    # edges 2 % too long: the camera length was given 2 % too long
    model = make_model((*(1.02 * np.array(EDGES)), 90, 90, 90))
    known = (*EDGES, 90, 90, 90)
    found = with_known_cell(in_known_setting(model, "oP", known), known)
    assert_allclose(found.cell, known)
    assert found.geometry.distance_mm == pytest.approx(model.geometry.distance_mm / 1.02)
    # the spots stay where they are, to first order in the Bragg angle
    hkl, frame = np.array([[3, 2, 1]]), np.array([10.0])
    before, after = (
        m.geometry.to_pixel(m.diffracted(hkl, frame), m.centre_px(frame)) for m in (model, found)
    )
    assert np.abs(before - after).max() < 0.05
    assert_allclose(replace(found, orientation=model.orientation).cell, model.cell)
