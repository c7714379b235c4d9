"""How the results of DIALS and XDS are read, with numbers worked out by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from _dials import DialsRun, _indexed_part, reduction_of
from _real import against_xds, to_setting
from _table import Ran
from reduction_simulated import sharing_pixels

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.reduction.result import Flag

CELL = (7.0, 9.0, 11.0, 90.0, 105.0, 90.0)
TURN = rotation_about([0.6, 0.8, 0.0], 33.0)


def test_the_setting_of_others():
    ours = TURN @ reciprocal_basis(CELL)
    swap = np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]])  # their h is our l, and so on
    theirs = ours @ np.linalg.inv(swap)
    assert np.array_equal(to_setting(theirs, ours), swap)
    slightly_off = rotation_about([0, 0, 1], 1.0) @ ours
    assert np.array_equal(to_setting(theirs, slightly_off), swap)
    assert to_setting(theirs, rotation_about([0, 0, 1], 20.0) @ ours) is None


def test_the_setting_of_a_centred_cell():
    # I-centred cubic: primitive vectors (-a+b+c)/2 ... in columns
    conventional = TURN @ reciprocal_basis((12, 12, 12, 90, 90, 90))
    centring = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2
    primitive = np.linalg.inv(np.linalg.inv(conventional).T @ centring).T
    to_primitive = to_setting(primitive, conventional)
    assert np.array_equal(to_primitive @ [1, 1, 0], [0, 0, 1])
    assert np.allclose(to_setting(conventional, primitive) @ to_primitive, np.eye(3))


def test_observations_are_paired_by_index_and_frame():
    ours = TURN @ reciprocal_basis(CELL)
    swap = np.diag([-1, 1, -1])
    theirs = SimpleNamespace(
        hkl=np.array([[1, 2, 3], [1, 2, 3], [0, 4, 0], [2, 0, 0], [5, 5, 5]]),
        frame_number=np.array([10.0, 90.0, 30.0, 40.0, 50.0]),
        intensity=np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        misfit=np.array([False, False, False, True, False]),
    )
    hkl = np.array([[1, 2, 3], [1, 2, 3], [0, 4, 0], [2, 0, 0]]) @ swap.T
    frame = np.array([88.0, 12.0, 40.0, 40.0])  # the third is 10 frames off, the fourth a misfit
    intensity = np.array([20.0, 10.0, 30.0, 40.0])
    found = against_xds(ours, hkl, frame, intensity, theirs, ours @ np.linalg.inv(swap))
    assert found.n_common == 2
    assert found.ours.tolist() == [1, 0]
    assert found.cc == pytest.approx(1.0)
    assert np.allclose(found.cell, CELL)


def test_another_lattice_has_nothing_in_common():
    ours = reciprocal_basis(CELL)
    found = against_xds(ours, np.zeros((0, 3)), np.zeros(0), np.zeros(0), None, 1.3 * ours)
    assert found.n_common == 0
    assert np.isnan(found.cc)


def write_experiment(folder, **crystal):
    real = np.linalg.inv(reciprocal_basis(CELL)) * [1, -1, -1]  # rows a, b, c in DIALS' frame
    experiment = {
        "crystal": [
            {f"real_space_{axis}": row.tolist() for axis, row in zip("abc", real, strict=True)}
            | {"space_group_hall_symbol": " P 1"}
            | crystal
        ],
        "beam": [{"direction": [0.0, 0.0, 1.0], "wavelength": 0.025}],
        "goniometer": [{"rotation_axis": [-0.6, -0.8, 0.0]}],
        "scan": [{"image_range": [5, 24]}],
    }
    (folder / "integrated.expt").write_text(json.dumps(experiment))


def tables():
    return {
        "n_spots": np.array(10),
        "n_indexed": np.array(9),
        "hkl": np.array([[1, 2, 3], [4, 5, 6]]),
        "xyz_px": np.array([[10.5, 20.5, 5.5], [30.0, 40.0, 6.25]]),
        "d_A": np.array([2.0, 1.0]),
        "partiality": np.array([0.5, 1.0]),
        "lp": np.array([0.2, 0.1]),
        "overloaded": np.array([True, False]),
        "masked": np.array([False, False]),
        "sum_intensity": np.array([100.0, 200.0]),
        "sum_variance": np.array([100.0, 400.0]),
        "prf_intensity": np.array([150.0, np.nan]),
        "prf_variance": np.array([100.0, np.nan]),
    }


def test_what_dials_found_in_our_terms(tmp_path):
    write_experiment(tmp_path)
    run = DialsRun(tmp_path, "", {"index": 10.0, "integrate": 5.0, "scale": 7.0}, "", tables())
    assert run.cpu_s == 15.0
    angles = np.arange(20) * 0.5
    summed = reduction_of(run, "sum", angles)
    lattice, r = summed.lattices[0], summed.lattices[0].reflections
    assert np.allclose(lattice.orientation, reciprocal_basis(CELL))
    assert np.allclose(lattice.cell, CELL)
    assert np.allclose(lattice.geometry.axis, [-0.6, 0.8, 0.0])
    assert lattice.indexed_fraction == 0.9
    assert lattice.bravais == "aP"
    # corner to centre of pixels; image 5, the first, spans z = 4 to 5
    assert r.column.tolist() == [10.0, 29.5]
    assert r.row.tolist() == [20.0, 39.5]
    assert r.frame.tolist() == [1.0, 1.75]
    assert np.allclose(r.angle_deg, [0.5, 0.875])
    # 100 x 0.2 / 0.5 and 200 x 0.1
    assert np.allclose(r.intensity, [40.0, 20.0])
    assert np.allclose(r.sigma, [4.0, 2.0])
    assert r.has(Flag.SATURATED).tolist() == [True, False]
    profile = reduction_of(run, "prf", angles).lattices[0].reflections
    assert profile.intensity[0] == pytest.approx(30.0)
    assert profile.has(Flag.PROFILE_FAILED).tolist() == [False, True]


@pytest.mark.parametrize(
    ("hall", "bravais"),
    [(" P 1", "aP"), (" P 2y", "mP"), (" C 2 2", "oC"), (" P 4", "tP"), (" I 2 2 3", "cI")],
)
def test_the_lattice_of_a_hall_symbol(tmp_path, hall, bravais):
    write_experiment(tmp_path, space_group_hall_symbol=hall)
    run = DialsRun(tmp_path, "", {}, "", tables())
    assert reduction_of(run, "sum", np.arange(20.0)).lattices[0].bravais == bravais


def test_the_indexed_part_is_that_of_the_last_table():
    log = """
|   Imageset |   # indexed |   # unindexed | % indexed   |
|------------+-------------+---------------+-------------|
|          0 |         300 |           411 | 42.2%       |
...
|          0 |         590 |           121 | 83.0%       |
"""
    assert _indexed_part(Ran(0, 1.0, 1.0, log)) == pytest.approx(0.83)
    assert _indexed_part(Ran(1, 1.0, 1.0, log)) == 0.0
    assert _indexed_part(Ran(0, 1.0, 1.0, "no suitable lattice")) == 0.0


def test_pixels_are_shared_at_the_same_place_and_time():
    def reflections(row, column, frame):
        return SimpleNamespace(row=np.array(row), column=np.array(column), frame=np.array(frame))

    # the second shares only the place, at another time; the third nothing; the fourth is 2.8 px off
    first = reflections([10.0, 50.0, 90.0, 20.0], [10.0, 50.0, 90.0, 20.0], [5.0, 5.0, 5.0, 5.0])
    second = reflections([11.0, 50.0, 22.0], [11.0, 50.0, 22.0], [5.2, 9.0, 5.0])
    assert sharing_pixels(first, second).tolist() == [True, False, False, False]
