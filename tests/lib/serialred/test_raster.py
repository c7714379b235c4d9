"""The raster covers its area with the moves worked out by hand, and stays within the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.raster import Box, Circle, Polygon, ScanArea, raster

# 50 px per um; rows of the picture along y, columns along x
UPRIGHT = np.array([[0.0, 50.0], [50.0, 0.0]])


def places(stops) -> list[tuple[float, float]]:
    return [(round(one.x_um, 9), round(one.y_um, 9)) for one in stops]


def test_box_of_two_by_two_fields() -> None:
    # a field of 1000 columns x 500 rows is 20 um along x and 10 um along y
    stops = raster(
        Box(x_um=(0, 40), y_um=(0, 20)), shape=(500, 1000), px_per_um=UPRIGHT, backlash_um=3
    )
    assert places(stops) == [(10, 5), (30, 5), (30, 15), (10, 15)]
    # both axes arrive upwards: the first comes from nowhere known, the last goes back along x
    assert [one.approach_um for one in stops] == [(7, 2), None, None, (7, 15)]


def test_overlap_shortens_the_steps() -> None:
    # steps of 18 and 8 um: ceil(40/18) = 3 along x and ceil(20/8) = 3 along y, spread about the
    # middle of the area
    stops = raster(
        Box(x_um=(0, 40), y_um=(0, 20)), shape=(500, 1000), px_per_um=UPRIGHT, overlap_um=2
    )
    assert places(stops) == [
        (2, 2), (20, 2), (38, 2), (38, 10), (20, 10), (2, 10), (2, 18), (20, 18), (38, 18)
    ]  # fmt: skip
    assert all(one.approach_um is None for one in stops)


def test_turned_picture() -> None:
    # the picture is turned by 90 degrees: columns along y, rows along -x; 20 um along y now
    turned = np.array([[-50.0, 0.0], [0.0, 50.0]])
    stops = raster(Box(x_um=(0, 10), y_um=(0, 40)), shape=(500, 1000), px_per_um=turned)
    assert sorted(places(stops)) == [(5, 10), (5, 30)]


def test_circle_leaves_the_corners_out() -> None:
    # fields of 10 x 10 um over a disc of radius 14: rows about y = -9, 0, 9 are 28 long at the
    # middle (3 fields) and 2 sqrt(14^2 - 4^2) = 26.8 beside it (3), so 9 in all with overlap 1;
    # with radius 12 and no overlap rows about -10, 0, 10 reach 2 sqrt(12^2 - 5^2) = 21.8 (3), 24
    stops = raster(Circle(radius_um=12), shape=(500, 500), px_per_um=UPRIGHT)
    assert len(stops) == 9
    # with radius 5.5 two rows, each 11 long
    assert len(raster(Circle(radius_um=5.5), shape=(500, 500), px_per_um=UPRIGHT)) == 4
    assert places(raster(Circle(radius_um=4.9), shape=(500, 500), px_per_um=UPRIGHT)) == [(0, 0)]


def test_a_gap_of_a_polygon_is_not_visited() -> None:
    # a U of arms 10 um wide and 30 um high, 20 um apart, on a base of 10 um
    u = ((0, 0), (40, 0), (40, 40), (30, 40), (30, 10), (10, 10), (10, 40), (0, 40))
    stops = raster(Polygon(corners_um=u), shape=(500, 500), px_per_um=UPRIGHT)
    assert len(stops) == 4 + 3 * 2
    assert (15, 25) not in places(stops)


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(-np.pi, np.pi),
    shear=st.floats(-0.2, 0.2),
    radius=st.floats(3, 40),
    overlap=st.floats(0, 4),
    mirrored=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_point_is_seen(angle, shear, radius, overlap, mirrored, seed) -> None:
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([1.0, -1.0 if mirrored else 1.0])
    px_per_um = 50 * rotation @ np.array([[1, shear], [0, 1]]) @ flip
    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * np.pi, 7))
    star = radius * rng.uniform(0.3, 1, 7)[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    if np.diff(turns, append=turns[0] + 2 * np.pi).max() > 3.1:
        return  # no star about the origin
    area = Polygon(corners_um=tuple(map(tuple, star.tolist())))
    stops = raster(area, shape=(400, 600), px_per_um=px_per_um, overlap_um=overlap, backlash_um=2.0)
    centres = np.array([(one.x_um, one.y_um) for one in stops])
    rim = np.concatenate([star, 0.5 * (star + np.roll(star, -1, axis=0))])
    inside = np.concatenate([rim * share for share in (1.0, 0.8, 0.5, 0.2)])
    away = np.abs((inside[:, None] - centres) @ px_per_um.T) / [200, 300]
    assert (away.max(axis=2).min(axis=1) <= 1 + 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-np.pi, np.pi), radius=st.floats(5, 40))
def test_both_axes_always_arrive_from_one_side(angle: float, radius: float) -> None:
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stops = raster(
        Circle(radius_um=radius), shape=(500, 500), px_per_um=50 * rotation, backlash_um=2.0
    )
    path, arrivals = [np.array([np.nan, np.nan])], []
    for one in stops:
        if one.approach_um is not None:
            path.append(np.array(one.approach_um))
        path.append(np.array([one.x_um, one.y_um]))
        # the last way each axis moved before it stood here
        moves = np.diff(path, axis=0)
        last = [column[np.abs(column) > 1e-9] for column in moves.T]
        arrivals.append([np.sign(column[-1]) for column in last])
    assert len({tuple(one) for one in arrivals}) == 1
    needed = sum(one.approach_um is not None for one in stops)
    assert needed <= 1 + 0.75 * len(stops)


def test_area_beyond_the_limits_names_its_corner() -> None:
    def scan(area):
        return raster(
            area, shape=(500, 500), px_per_um=UPRIGHT, x_limits_um=(-50, 50), y_limits_um=(-20, 20)
        )

    with pytest.raises(UserError, match=r"corner of the box: found \(60, -5\) um"):
        scan(Box(x_um=(0, 60), y_um=(-5, 10)))
    with pytest.raises(UserError, match=r"corner of the circle: found \(0, -25\) um"):
        scan(Circle(centre_um=(0, -5), radius_um=20))
    with pytest.raises(UserError, match=r"corner of the polygon: found \(-51, 0\)"):
        scan(Polygon(corners_um=((-51, 0), (10, 10), (10, -10))))


def test_approach_beyond_the_limits_is_refused_too() -> None:
    with pytest.raises(UserError, match=r"approach to a position: found \(-11, -11\)"):
        raster(
            Box(x_um=(-10, 10), y_um=(-10, 10)), shape=(500, 500), px_per_um=UPRIGHT,
            backlash_um=6, x_limits_um=(-10, 10), y_limits_um=(-10, 10),
        )  # fmt: skip


def test_overlap_must_leave_something() -> None:
    with pytest.raises(UserError, match=r"0 to 7.5 um, three quarters of the field"):
        raster(Circle(radius_um=9), shape=(500, 500), px_per_um=UPRIGHT, overlap_um=10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "circle", "radius_um": -1},
        {"kind": "box", "x_um": [3, 3], "y_um": [0, 1]},
        {"kind": "polygon", "corners_um": [[0, 0], [1, 1], [2, 2]]},
        {"kind": "polygon", "corners_um": [[0, 0], [1, 1]]},
        {"kind": "box", "x_um": [0, 1], "y_um": [0, 1], "z_um": [0, 1]},
        {"kind": "star"},
    ],
)
def test_wrong_areas_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ScanArea).validate_python(wrong)


def test_areas_are_read_by_kind() -> None:
    read = TypeAdapter(ScanArea).validate_python
    assert read({"kind": "circle", "radius_um": 3}) == Circle(radius_um=3)
    assert read({"kind": "box", "x_um": [0, 1], "y_um": [0, 2]}) == Box(x_um=(0, 1), y_um=(0, 2))
