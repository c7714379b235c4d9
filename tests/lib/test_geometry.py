"""One reflection, worked out by hand, in every program's terms; and the way there and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.geometry import (
    EllipticalDistortion,
    Geometry,
    centre_from_corner,
    centre_from_xds,
    centre_to_corner,
    centre_to_xds,
    instamatic_axis,
    rotated,
    rotation_about,
    to_beam_frame,
    to_dials_frame,
)
from ewaldflow.lib.optics import electron_wavelength_A

# The beam meets pixel (row 100, column 200); a spot lies 40 columns right of it and 30 rows
# below: 2.0 and 1.5 mm at 400 mm, so 2.5 mm off the beam.
GEOMETRY = Geometry(0.025, 0.05, 400.0, (100.0, 200.0), (0.0, 1.0, 0.0))
SPOT = (130.0, 240.0)

pixels = st.floats(-500, 5000)
small = st.floats(-0.8, 0.8)


def test_the_spot_in_reciprocal_space() -> None:
    # |(2, 1.5, 400)| = sqrt(160006.25) = 400.0078124; 1 / lambda = 40 1/A
    q = GEOMETRY.to_q(*SPOT)
    np.testing.assert_allclose(q, [0.19999609, 0.14999707, -0.00078123], atol=1e-8)
    # it lies on the Ewald sphere, and d = lambda / (2 sin theta), 2 theta = atan(2.5 / 400)
    assert np.linalg.norm(q + GEOMETRY.s0) == pytest.approx(40.0, rel=1e-14)
    assert np.linalg.norm(q) == pytest.approx(2 * math.sin(math.atan(0.00625) / 2) / 0.025)
    np.testing.assert_allclose(GEOMETRY.to_pixel(q), SPOT, atol=1e-9)


def test_the_centre_in_every_programs_terms() -> None:
    # XDS counts the first pixel as 1: beam at ORGX 201, ORGY 101, spot at 241, 131
    assert centre_to_xds((100.0, 200.0)) == (201.0, 101.0)
    assert centre_to_xds(SPOT) == (241.0, 131.0)
    # DIALS and pyFAI begin at the corner of the first pixel: beam at x 200.5, y 100.5
    assert centre_to_corner((100.0, 200.0)) == (200.5, 100.5)
    assert centre_from_corner(200.5, 100.5) == (100.0, 200.0)
    assert centre_from_xds(201.0, 101.0) == (100.0, 200.0)


def test_a_tilted_beam_is_a_shifted_centre() -> None:
    # 400 mm are 8000 px: a beam of slope 0.001 along x and -0.002 along y comes 8 px to the
    # right of and 16 px above the foot of the perpendicular
    assert centre_from_xds(201.0, 101.0, 8000.0, (0.04, -0.08, 40.0)) == pytest.approx((84, 208))


def test_axes_of_instamatic_xds_and_dials() -> None:
    # cos(-2.24) = -0.6204, -sin(-2.24) = 0.7843: what instamatic writes for XDS
    ours = instamatic_axis(-2.24)
    np.testing.assert_allclose(ours, [-0.6204, 0.7843, 0.0], atol=5e-5)
    # DIALS has y up and looks against the beam: (cos, +sin, 0)
    np.testing.assert_allclose(to_dials_frame(ours), [-0.6204, -0.7843, 0.0], atol=5e-5)
    np.testing.assert_allclose(to_dials_frame(to_dials_frame(ours)), ours)


def test_turning_keeps_its_sense_between_xds_and_dials() -> None:
    # The same turn seen in either frame takes the same point to the same place.
    axis, q = instamatic_axis(-2.24), np.array([0.3, -0.2, 0.1])
    in_ours = rotation_about(axis, 17.0) @ q
    in_dials = rotation_about(to_dials_frame(axis), 17.0) @ to_dials_frame(q)
    np.testing.assert_allclose(in_dials, to_dials_frame(in_ours), atol=1e-15)


def test_rotation_is_right_handed() -> None:
    # a quarter turn about z takes x to y (columns to rows)
    np.testing.assert_allclose(rotation_about([0, 0, 1], 90.0) @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_to_beam_frame() -> None:
    beam = np.array([0.3, -0.4, 1.2])
    np.testing.assert_allclose(to_beam_frame(beam, beam), [0, 0, 1.3], atol=1e-12)
    # what is square to both beams stays
    square = np.cross(beam, [0, 0, 1.0])
    np.testing.assert_allclose(to_beam_frame(square, beam), square, atol=1e-12)


def test_distortion_by_hand() -> None:
    # 4 % longer along columns: D = diag(sqrt 1.04, 1 / sqrt 1.04); 10 mm -> 10.198, 9.806 mm
    d = EllipticalDistortion(1.04, 0.0).matrix
    np.testing.assert_allclose(d @ [10, 0], [10.198039, 0], atol=1e-6)
    np.testing.assert_allclose(d @ [0, 10], [0, 9.805807], atol=1e-6)
    # at 90 degrees the rows are stretched instead
    np.testing.assert_allclose(
        EllipticalDistortion(1.04, 90.0).matrix @ [0, 10], [0, 10.198039], atol=1e-6
    )
    # ratio 1.21 at 45 degrees: D = (1.1 + 1/1.1)/2 on the diagonal, (1.1 - 1/1.1)/2 off it
    np.testing.assert_allclose(
        EllipticalDistortion(1.21, 45.0).matrix,
        [[1.0045454545, 0.0954545455], [0.0954545455, 1.0045454545]],
        atol=1e-9,
    )


@pytest.mark.parametrize("ratio", [0.9, 2.0, math.nan])
def test_distortion_refuses(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        EllipticalDistortion(ratio)


@pytest.mark.parametrize(
    "change",
    [
        {"wavelength_A": 0.0},
        {"distance_mm": -1.0},
        {"pixel_size_mm": math.inf},
        {"axis": (0, 0, 0)},
    ],
)
def test_geometry_refuses(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        GEOMETRY.with_(**change)


def test_relativistic_wavelength() -> None:
    # 200 kV: 0.0250793 A with the relativistic term, 0.0274 without
    assert electron_wavelength_A(200.0) == pytest.approx(0.0250793, abs=5e-8)
    assert electron_wavelength_A(300.0) == pytest.approx(0.0196875, abs=5e-8)


@given(pixels, pixels)
def test_centres_there_and_back(row: float, column: float) -> None:
    assert centre_from_corner(*centre_to_corner((row, column))) == pytest.approx((row, column))
    assert centre_from_xds(*centre_to_xds((row, column))) == pytest.approx((row, column))


@given(
    st.floats(-300, 800),
    st.floats(-300, 800),
    st.floats(1.0, 1.2),
    st.floats(0, 180),
    st.floats(-4e-5, 1e-4),
)
def test_pixels_to_q_and_back(
    row: float, column: float, ratio: float, azimuth: float, radial: float
) -> None:
    geometry = GEOMETRY.with_(
        distortion=EllipticalDistortion(ratio, azimuth), radial_per_mm2=radial
    )
    q = geometry.to_q(row, column)
    np.testing.assert_allclose(geometry.to_pixel(q), [row, column], atol=1e-6)
    assert np.linalg.norm(q + geometry.s0) == pytest.approx(1 / geometry.wavelength_A)


def test_nothing_is_imaged_beyond_a_fold() -> None:
    # r = u (1 - u^2 / 7500) is largest at u = 50 mm, where r = 100/3 mm
    geometry = GEOMETRY.with_(radial_per_mm2=-1 / 7500)
    row, column = geometry.beam_centre_px
    r_px = 100 / 3 / geometry.pixel_size_mm
    seen = geometry.to_q([row, row], [column + r_px * (1 - 1e-12), column + r_px * 1.001])
    straight = GEOMETRY.to_q(row, column + 50 / geometry.pixel_size_mm)
    np.testing.assert_allclose(seen[0], straight, atol=1e-5)
    assert np.isnan(seen[1]).all()


@given(small, small, st.floats(-180, 180))
def test_beam_frame_is_a_rotation(x: float, y: float, angle: float) -> None:
    beam, v = np.array([x, y, 1.0]), rotation_about([0, 1, 0], angle) @ [0.6, 0.0, 0.8]
    turned = to_beam_frame(v, beam)
    assert np.linalg.norm(turned) == pytest.approx(1.0)
    assert turned[2] == pytest.approx(v @ beam / np.linalg.norm(beam), abs=1e-9)


def test_rotated_vectors_are_those_of_the_matrices() -> None:
    rng = np.random.default_rng(1)
    axis = np.array([0.6, -0.48, 0.64])
    vectors, angle_deg = rng.normal(size=(50, 3)), rng.uniform(-400, 400, 50)
    expected = np.einsum("nij,nj->ni", rotation_about(axis, angle_deg), vectors)
    np.testing.assert_allclose(rotated(vectors, axis, angle_deg), expected, atol=1e-14)
    # a quarter turn about z takes x to y
    np.testing.assert_allclose(rotated([[1.0, 0, 0]], (0, 0, 1), [90.0]), [[0, 1, 0]], atol=1e-15)
