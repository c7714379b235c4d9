from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.reduction.result import Reduction, StrongSpots
from ewaldflow.lib.reduction.sections import sections
from ewaldflow.lib.report import reciprocal_space
from ewaldflow.lib.report.reciprocal_space import cameras, scene, viewer
from ewaldflow.lib.report.section_figures import above_radial_median, rings, section_figure
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth


@pytest.fixture(scope="module")
def with_spots(reduction: Reduction) -> Reduction:
    """The reduction with a thousand spots, every tenth of no lattice."""
    r = reduction.lattices[0].reflections
    r = r[np.isfinite(r.observed_row)][:1000]
    lattice = np.where(np.arange(len(r)) % 10, 1, 0)
    return replace(
        reduction, spots=StrongSpots(r.row, r.column, r.frame, r.intensity / r.sigma, lattice)
    )


def test_every_spot_is_drawn_with_the_lattice_that_it_is_of(with_spots: Reduction) -> None:
    assert with_spots.spots is not None
    drawn = {trace.name: trace for trace in scene(with_spots).data}
    assert len(drawn["of no lattice"].x) == np.sum(with_spots.spots.lattice == 0)
    assert len(drawn["indexed"].x) == np.sum(with_spots.spots.lattice == 1)
    # told apart by shape as well as by colour
    assert drawn["indexed"].marker.symbol != drawn["of no lattice"].marker.symbol


def test_axes_and_cell_edges_are_those_of_the_lattice(with_spots: Reduction) -> None:
    star = reciprocal_basis(with_spots.lattices[0].cell)
    drawn = {trace.name: trace for trace in scene(with_spots).data}
    for i, name in enumerate(("a*", "b*", "c*")):
        arm = np.array([drawn[name].x[1], drawn[name].y[1], drawn[name].z[1]])
        assert np.cross(arm, star[:, i]) == pytest.approx(np.zeros(3), abs=1e-9)
        assert arm @ star[:, i] > 0
    cell = drawn["reciprocal cell"]
    ends = np.array(
        [[np.nan if v is None else v for v in axis] for axis in (cell.x, cell.y, cell.z)]
    )
    assert np.isnan(ends[0]).sum() == 12  # edges
    assert np.nanmax(ends, axis=1) == pytest.approx(star.sum(axis=1), abs=1e-4)


def test_a_page_stays_small_however_many_spots_there_are(
    with_spots: Reduction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reciprocal_space, "MOST_POINTS", 200)
    drawn = {trace.name: trace for trace in scene(with_spots, seed=3).data}
    n = len(drawn["indexed"].x) + len(drawn["of no lattice"].x)
    assert 140 < n < 260
    again = {trace.name: trace for trace in scene(with_spots, seed=3).data}
    np.testing.assert_array_equal(again["indexed"].x, drawn["indexed"].x)
    assert "(200 of 1000 are drawn)" in viewer(with_spots)


def test_views_look_along_the_axes(with_spots: Reduction) -> None:
    lattice = with_spots.lattices[0]
    star = reciprocal_basis(lattice.cell)
    for i, label in enumerate(("along a*", "along b*", "along c*")):
        camera = cameras(lattice)[label]
        eye, up = (np.array([camera[k][x] for x in "xyz"]) for k in ("eye", "up"))
        assert np.cross(eye, star[:, i]) == pytest.approx(np.zeros(3), abs=1e-5)
        assert abs(eye @ up) < 1e-4
        assert np.linalg.norm(up) == pytest.approx(1, abs=1e-4)
        assert f">{label}</button>" in viewer(with_spots)


def test_without_a_list_of_spots_reflections_are_shown(reduction: Reduction) -> None:
    assert reduction.spots is None
    names = [
        trace.name for trace in scene(replace(reduction, lattices=reduction.lattices * 2)).data
    ]
    assert names[:2] == ["of lattice 1", "of lattice 2"]
    assert "of no lattice" not in names


def test_sections_are_drawn_with_their_axes_and_points(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    planes = sections(simulated[0], reduction.lattices[0], reduction.frames, most_px=101)
    drawing = section_figure(planes)
    drawing.draw_without_rendering()
    assert [panel.get_title() for panel in drawing.axes[:3]] == ["hk0", "h0l", "0kl"]
    words = {text.get_text() for text in drawing.axes[1].texts}
    assert {"a*", "c*", "1 Å"} <= words
    # points are marked in the right half only
    (marks,) = drawing.axes[1].get_lines()
    assert len(marks.get_xdata()) > 5
    assert np.min(marks.get_xdata()) > 0


def test_what_is_the_same_all_around_is_taken_off(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    (one,) = sections(
        simulated[0], reduction.lattices[0], reduction.frames, planes=["h0l"], most_px=101
    )
    radius = np.hypot(*(np.indices(one.image.shape) - one.image.shape[0] // 2)).astype(int)
    image = (100.0 - radius).astype(np.float32)
    image[10, 20] += 50
    image[:5] = np.nan
    flat = above_radial_median(replace(one, image=image))
    assert flat[10, 20] == pytest.approx(50)
    flat[10, 20] = 0
    assert np.nanmax(np.abs(flat)) == 0
    assert np.isnan(flat[:5]).all()


@pytest.mark.parametrize("reach", [0.3, 0.7, 1.2, 2.4])
def test_rings_are_in_the_picture_and_apart(reach: float) -> None:
    at = [1 / d for d in rings(reach)]
    assert at
    assert max(at) <= 1.2 * reach
    assert np.all(np.diff([0, *at]) >= 0.17 * reach)
