"""Sections of reciprocal space, with single pixels whose indices are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis, d_spacing_A
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.reduction.result import FrameTable, Lattice, Reduction
from ewaldflow.lib.reduction.sections import (
    Section,
    _optics,
    _scattering_vector,
    plane_of,
    sections,
    write_section,
)
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

# 0.01 1/Å in a pixel at the centre: 0.05 mm / (200 mm * 0.025 Å). Nearly flat: the sphere has a
# radius of 40 1/Å, so that at 0.2 1/Å it is 0.0005 1/Å off its tangent.
GEOMETRY = Geometry(0.025, 0.05, 200.0, (50.0, 50.0), (1.0, 0.0, 0.0))
CELL_A = 10.0  # a* = 0.1 1/Å: ten pixels


def cubic(lattice: Lattice, bravais: str = "cP") -> Lattice:
    """A cubic cell of 10 Å, a* along the columns, b* up the page of hk0, c* along the beam."""
    orientation = np.eye(3) / CELL_A
    cell = cell_from_reciprocal_basis(orientation)
    return replace(
        lattice, bravais=bravais, orientation=orientation, cell=cell, geometry=GEOMETRY,
        size_per_A=0.002, mosaicity_deg=0.0, reflections=lattice.reflections[:0],
    )  # fmt: skip


def still(angle_deg: float, spots: dict[tuple[int, int], float], width_deg: float = 0.0):
    """A series of one frame with counts at (row, column) and what the reduction says of it."""
    frame = np.zeros((1, 101, 101))
    for place, counts in spots.items():
        frame[(0, *place)] = counts
    series = RotationSeries(
        "still", da.from_array(frame), np.array([1]), np.array([angle_deg - width_deg / 2]),
        np.array([width_deg]), GEOMETRY, np.zeros((101, 101), bool),
    )  # fmt: skip
    n = np.zeros(1, np.int64)
    table = FrameTable(
        series.frame_number, np.array([angle_deg]), np.array([50.0]), np.array([50.0]), np.ones(1),
        np.ones(1), n, n, np.zeros(1), np.zeros(1, bool),
    )  # fmt: skip
    return series, table


def brightest(section: Section) -> tuple[int, int]:
    row, column = np.unravel_index(np.nanargmax(section.image), section.image.shape)
    return int(row), int(column)


def test_a_spot_in_the_plane_of_the_detector_lands_at_its_h_and_k(reduction: Reduction) -> None:
    lattice = cubic(reduction.lattices[0])
    # 20 columns right of the beam and 10 rows below: x = 0.2, y = 0.1 1/Å, h = 2 and k = 1
    series, table = still(0.0, {(60, 70): 7.0})
    (hk0,) = sections(series, lattice, table, planes=["hk0"], d_min_A=2.5)
    assert hk0.step_per_A == pytest.approx(0.01)
    assert hk0.image.shape == (81, 81)
    assert hk0.reach_per_A == pytest.approx(0.4)
    # right by 20 px; k is up, so that it is 10 px above the middle
    assert brightest(hk0) == (30, 60)
    assert hk0.image[30, 60] == 7.0
    np.testing.assert_allclose(hk0.place([2, 1, 0]), [[30.0, 60.0]], atol=1e-9)
    # 40 px from the middle are 0.4 1/Å, where the sphere is 0.002 off: all within 0.006
    assert np.isfinite(hk0.image).all()


def test_a_rotated_spot_lands_in_the_section_that_it_was_turned_out_of(
    reduction: Reduction,
) -> None:
    lattice = cubic(reduction.lattices[0])
    # Turned by 90 degrees about x, y goes to z and z to -y: c* now points up the detector, along
    # -y, so that 20 rows above the beam l = 2, and 10 columns left of it h = -1.
    series, table = still(90.0, {(30, 40): 5.0})
    h0l, hk0 = sections(series, lattice, table, planes=["h0l", "hk0"], d_min_A=2.5)
    assert brightest(h0l) == (20, 30)  # l up, h to the right
    np.testing.assert_allclose(h0l.place([-1, 0, 2]), [[20.0, 30.0]], atol=1e-9)
    # hk0 meets this frame in the row through the beam alone
    recorded = np.isfinite(hk0.image)
    assert recorded[40].all()
    assert not recorded[:38].any()
    assert np.nanmax(hk0.image) == 0.0


def test_a_layer_above_the_origin(reduction: Reduction) -> None:
    lattice = cubic(reduction.lattices[0])
    # at 90 degrees, 10 rows above the beam: l = 1, and 30 columns right: h = 3
    series, table = still(90.0, {(40, 80): 5.0})
    hk1, hk0 = sections(series, lattice, table, planes=["hk1", "hk0"], d_min_A=2.0)
    assert hk1.height_per_A == pytest.approx(0.1)
    row, column = brightest(hk1)
    assert column == 50 + 30
    assert abs(row - 50) <= 2  # k = 0 but for the sphere and the slab
    assert np.nanmax(hk1.image) == pytest.approx(5.0)
    assert np.nanmax(hk0.image) == 0.0


def test_counts_become_electrons_and_masked_pixels_and_blank_frames_are_left_out(
    reduction: Reduction,
) -> None:
    lattice = cubic(reduction.lattices[0])
    series, table = still(0.0, {(60, 70): 107.0, (50, 60): 50.0})
    mask = series.mask.copy()
    mask[50, 60] = True
    series = series.with_(mask=mask, pedestal=7.0, gain=4.0)
    (hk0,) = sections(series, lattice, table, 4.0, planes=["hk0"], d_min_A=2.5)
    assert hk0.image[30, 60] == 25.0  # (107 - 7) / 4
    assert np.isnan(hk0.image[40, 50])
    assert hk0.times[40, 50] == 0
    assert hk0.times.sum() == 81 * 81 - 1
    blank = replace(table, blank=np.ones(1, bool))
    (nothing,) = sections(series, lattice, blank, planes=["hk0"], d_min_A=2.5)
    assert np.isnan(nothing.image).all()


def test_a_frame_counts_at_all_angles_that_it_was_exposed_over(reduction: Reduction) -> None:
    lattice = cubic(reduction.lattices[0])
    # a spot far from the axis moves in 0kl; at 0.4 1/Å two degrees are 1.4 px
    series, table = still(90.0, {(10, 50): 6.0}, width_deg=2.0)
    (wide,) = sections(series, lattice, table, planes=["0kl"], d_min_A=2.5)
    series, table = still(90.0, {(10, 50): 6.0})
    (sharp,) = sections(series, lattice, table, planes=["0kl"], d_min_A=2.5)
    assert np.count_nonzero(np.nan_to_num(sharp.image)) == 1
    assert np.count_nonzero(np.nan_to_num(wide.image)) == 2
    assert wide.times.sum() > sharp.times.sum()


def test_lattice_points_are_those_of_the_plane_that_the_centring_leaves(
    reduction: Reduction,
) -> None:
    series, table = still(0.0, {})
    for bravais, n in (("cP", 5 * 5 - 1), ("cI", 12), ("cF", 8)):
        lattice = cubic(reduction.lattices[0], bravais)
        # up to h and k of 2: I leaves h + k even, F both even
        (hk0,) = sections(series, lattice, table, planes=["hk0"], d_min_A=1 / 0.2)
        points = hk0.reflections()
        assert len(points) == n
        assert np.all(points[:, 2] == 0)
        assert np.abs(points).max() == 2


@pytest.mark.parametrize("name", ["hkl", "000", "hk", "h0", "kh0", "", "hk0.5", "0k0"])
def test_what_is_no_plane_is_told(name: str) -> None:
    with pytest.raises(UserError, match="a plane such as hk0"):
        plane_of(name)


def test_planes_by_name() -> None:
    assert [plane_of(n) for n in ("hk0", "h0l", "0kl", "hk-2", "12kl")] == [
        (2, 0), (1, 0), (0, 0), (2, -2), (0, 12),
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    row=st.floats(0, 500), column=st.floats(0, 500), ratio=st.floats(1, 1.1),
    azimuth=st.floats(0, 179), radial=st.floats(-3e-4, 3e-4),
)  # fmt: skip
def test_pixels_become_scattering_vectors_as_the_geometry_has_them(
    row: float, column: float, ratio: float, azimuth: float, radial: float
) -> None:
    geometry = Geometry(
        0.0251, 0.055, 240.0, (250.0, 240.0), (0.6, 0.8, 0.0),
        EllipticalDistortion(ratio, azimuth), radial,
    )  # fmt: skip
    found = _scattering_vector(row, column, np.array([251.0, 242.0]), *_optics(geometry))
    wanted = geometry.to_q(row, column, (251.0, 242.0))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)


def test_spots_of_a_simulated_series_stand_at_their_lattice_points(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    series, truth = simulated
    lattice = reduction.lattices[0]
    planes = sections(series, lattice, reduction.frames, truth.gain)
    d_A = 1.2
    for section in planes:
        hkl = section.reflections()
        hkl = hkl[d_spacing_A(hkl, lattice.cell) > d_A]
        at = np.rint(section.place(hkl)).astype(int)
        between = np.rint(section.place(hkl + 0.5 * (hkl != 0))).astype(int)
        image = section.image

        def around(places: np.ndarray, image: np.ndarray = image) -> np.ndarray:
            n = len(image)
            places = places[np.all((places > 1) & (places < n - 2), axis=1)]
            boxes = [image[r - 1 : r + 2, c - 1 : c + 2] for r, c in places]
            return np.array([np.nanmax(b) for b in boxes if np.isfinite(b).sum() == 9])

        on, off = around(at), around(between)
        assert len(on) > 5
        assert len(off) > 5
        # many reflections are weak, but nothing strong stands between lattice points
        assert np.quantile(on, 0.9) > 5 * np.quantile(off, 0.9)


def test_a_section_is_written_with_its_scale(tmp_path: Path, reduction: Reduction) -> None:
    series, table = still(0.0, {(60, 70): 7.0})
    (hk0,) = sections(series, cubic(reduction.lattices[0]), table, planes=["hk0"], d_min_A=2.5)
    write_section(tmp_path / "hk0.tif", hk0)
    with tifffile.TiffFile(tmp_path / "hk0.tif") as file:
        told = json.loads(file.pages[0].description)
        np.testing.assert_array_equal(file.asarray(), hk0.image)
    assert told["section"] == "hk0"
    assert told["step_per_A"] == pytest.approx(0.01)
