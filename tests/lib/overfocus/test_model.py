"""Parameters as matrices and back, by closed form and by ray-transfer matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus import ray_transfer
from ewaldflow.lib.overfocus.model import (
    check_parameters,
    matrices_of,
    parameters_of,
    scale_of,
    similarity_errors,
    similarity_of,
)
from ewaldflow.lib.overfocus.parameters import OverfocusParameters

# M = 1e-8 (0.99998 + 2e-5) / (1e-4 2e-5) = 5
FIVE = OverfocusParameters(
    overfocus_m=2e-5,
    scan_pixel_size_m=1e-8,
    camera_length_m=0.99998,
    detector_pixel_size_m=1e-4,
    cy=120.0,
    cx=130.0,
)
small = st.floats(-0.3, 0.3)
any_parameters = st.builds(
    OverfocusParameters,
    overfocus_m=st.tuples(st.sampled_from((-1, 1)), st.floats(3e-6, 1e-4)).map(np.prod).map(float),
    scan_pixel_size_m=st.floats(5e-10, 5e-8),
    camera_length_m=st.floats(0.05, 3.0),
    detector_pixel_size_m=st.floats(1e-5, 2e-4),
    cy=st.floats(0, 500),
    cx=st.floats(0, 500),
    scan_rotation_deg=st.floats(-179, 180),
    flip_y=st.booleans(),
    descan_px=st.tuples(st.tuples(small, small), st.tuples(small, small)),
)


def test_scale_by_hand() -> None:
    assert scale_of(FIVE) == pytest.approx(5.0, rel=1e-12)
    # the other sign: 1e-8 (0.99998 - 2e-5) / (-1e-4 2e-5)
    assert scale_of(FIVE.with_(overfocus_m=-2e-5)) == pytest.approx(-4.9998, rel=1e-12)


def test_matrix_by_hand() -> None:
    turned = FIVE.with_(scan_rotation_deg=90.0)
    # a scan step to the right moves up on the detector, a step down moves to the right
    np.testing.assert_allclose(matrices_of(turned).scan_to_detector, [[0, -5], [5, 0]], atol=1e-12)
    np.testing.assert_allclose(
        matrices_of(turned.with_(flip_y=True)).scan_to_detector, [[0, 5], [5, 0]], atol=1e-12
    )


def test_the_shadow_moves_against_the_scan_less_descan() -> None:
    given_ = FIVE.with_(descan_px=((0.5, 0.0), (0.0, 0.25)))
    np.testing.assert_allclose(matrices_of(given_).movement, [[-4.5, 0], [0, -4.75]], atol=1e-12)


@given(any_parameters)
def test_ray_transfer_and_closed_form_agree(parameters: OverfocusParameters) -> None:
    closed = matrices_of(parameters)
    traced = ray_transfer.matrices_by_ray_transfer(parameters)
    scale = abs(scale_of(parameters))
    for name in ("scan_to_detector", "descan"):
        difference = getattr(traced, name) - getattr(closed, name)
        assert np.abs(difference).max() < 1e-9 * max(scale, 1)
    np.testing.assert_array_equal(traced.centre_px, closed.centre_px)


def test_where_the_lens_lies_does_not_matter() -> None:
    elsewhere = ray_transfer.Column(2e-3, 0.1, descan_above=0.05, descan_apart=0.1)
    skew = FIVE.with_(scan_rotation_deg=30.0, descan_px=((0.1, 0.0), (0.2, 0.0)))
    scan_px = (7.0, -3.0)
    # the beam's axis ends where descan sends it, and is straight at the specimen
    axis = ray_transfer.to_specimen(skew, scan_px, elsewhere) @ [0, 0, 0, 0, 1]
    np.testing.assert_allclose(axis[[1, 3]], 0, atol=1e-12)
    np.testing.assert_allclose(axis[[0, 2]], ray_transfer.scan_shift_m(skew, scan_px), atol=1e-18)
    end = ray_transfer.to_detector(skew, scan_px, elsewhere) @ axis
    np.testing.assert_allclose(end[[0, 2]] / 1e-4, [0.7, 1.4], atol=1e-9)


@given(any_parameters)
def test_parameters_come_back(parameters: OverfocusParameters) -> None:
    back = parameters_of(
        matrices_of(parameters),
        scan_pixel_size_m=parameters.scan_pixel_size_m,
        camera_length_m=parameters.camera_length_m,
        detector_pixel_size_m=parameters.detector_pixel_size_m,
        overfocused=parameters.overfocus_m > 0,
    )
    assert back.overfocus_m == pytest.approx(parameters.overfocus_m, rel=1e-6)
    assert back.flip_y == parameters.flip_y
    turn = (back.scan_rotation_deg - parameters.scan_rotation_deg + 180) % 360 - 180
    assert abs(turn) < 1e-6
    np.testing.assert_allclose(back.descan_px, parameters.descan_px)


def test_the_wrong_sign_of_overfocus_turns_by_180_degrees() -> None:
    a = matrices_of(FIVE.with_(scan_rotation_deg=25.0)).scan_to_detector
    right, wrong = similarity_of(a, overfocused=True), similarity_of(a, overfocused=False)
    assert right.rotation_deg == pytest.approx(25.0)
    assert wrong.rotation_deg == pytest.approx(-155.0)
    assert wrong.scale == pytest.approx(-right.scale)


def test_anisotropy_by_hand() -> None:
    # singular values 3 and 2
    assert similarity_of([[3.0, 0.0], [0.0, 2.0]]).anisotropy == pytest.approx(0.2)


@pytest.mark.parametrize("flip_y", [False, True])
def test_errors_of_rotation_and_scale_are_those_of_drawn_matrices(flip_y: bool) -> None:
    rng = np.random.default_rng(1)
    a = matrices_of(FIVE.with_(scan_rotation_deg=50.0, flip_y=flip_y)).scan_to_detector
    root = 1e-3 * rng.normal(size=(4, 4))
    drawn = [
        similarity_of(a + (root @ rng.normal(size=4)).reshape(2, 2), overfocused=True)
        for _ in range(4000)
    ]
    turn_sd, scale_sd = similarity_errors(a, root @ root.T)
    assert np.std([one.rotation_deg for one in drawn]) == pytest.approx(turn_sd, rel=0.05)
    assert np.std([one.scale for one in drawn]) / 5 == pytest.approx(scale_sd, rel=0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overfocus_m", 20e-3),  # 20 mm for 20 um
        ("overfocus_m", 0.0),
        ("scan_pixel_size_m", 12.5e-6),  # 12.5 um for 12.5 nm
        ("scan_pixel_size_m", -1e-8),
        ("camera_length_m", 500.0),  # mm as m
        ("detector_pixel_size_m", 55e-3),  # mm for um
        ("detector_pixel_size_m", 55.0),
        ("cy", float("nan")),
        ("overfocus_m", float("inf")),
        ("descan_px", ((0.0, float("nan")), (0.0, 0.0))),
    ],
)
def test_implausible_parameters_are_named(name: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        check_parameters(FIVE.with_(**{name: value}))
    assert caught.value.where == name
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError):
        matrices_of(FIVE.with_(**{name: value}))


def test_lengths_that_do_not_go_together_are_told() -> None:
    # each possible by itself
    odd = FIVE.with_(overfocus_m=2e-8, scan_pixel_size_m=1e-6)
    with pytest.raises(UserError, match="wrong unit"):
        check_parameters(odd)


def test_a_scale_without_magnification_is_no_overfocus() -> None:
    lengths = {"scan_pixel_size_m": 1e-6, "camera_length_m": 1.0, "detector_pixel_size_m": 1e-4}
    small_scale = matrices_of(FIVE)
    small_scale = type(small_scale)(np.eye(2) * 0.005, np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(UserError, match="magnification"):
        parameters_of(small_scale, **lengths)


@pytest.mark.parametrize("matrix", [np.zeros((2, 2)), np.full((2, 2), np.nan), np.eye(3)])
def test_no_similarity_of_what_is_no_map(matrix: np.ndarray) -> None:
    with pytest.raises(UserError, match="invertible"):
        similarity_of(matrix)
