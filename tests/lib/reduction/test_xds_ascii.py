import re
from dataclasses import fields, replace

import gemmi
import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.reduction.result import Flag, FrameTable, Lattice, Reflections
from ewaldflow.lib.reduction.xds_ascii import read_xds_ascii, write_xds_ascii

CUBE = (10.0, 10.0, 10.0, 90.0, 90.0, 90.0)


def frame_table(number, angle):
    others = {f.name: np.zeros(len(number)) for f in fields(FrameTable)}
    given = {"frame_number": np.asarray(number, np.int64), "angle_deg": np.asarray(angle, float)}
    return FrameTable(**{**others, **given})


def cube(hkl, angle, **changes):
    """A 10 A cube along the laboratory axes, turned about x."""
    n = len(hkl)
    columns = {f.name: np.zeros(n) for f in fields(Reflections)} | {
        "hkl": np.asarray(hkl, np.int32),
        "intensity": np.full(n, 1234.5),
        "sigma": np.full(n, 12.5),
        "row": np.full(n, 25.5),
        "column": np.full(n, 30.0),
        "angle_deg": np.asarray(angle, float),
        "partiality": np.full(n, 0.876),
        "d_A": 10 / np.linalg.norm(hkl, axis=1),
        "flags": np.zeros(n, np.uint32),
        **changes,
    }
    reflections = Reflections(**columns)
    return Lattice(
        bravais="cP",
        orientation=np.eye(3) / 10,
        cell=CUBE,
        cell_esd=(0.01,) * 6,
        cell_p1=CUBE,
        cell_p1_esd=(0.01,) * 6,
        niggli=CUBE,
        geometry=Geometry(0.025, 0.055, 300.0, (20.0, 30.0), (1.0, 0.0, 0.0)),
        esd={},
        rotation_scale=1.0,
        candidates=(),
        mosaicity_deg=0.1,
        size_per_A=0.001,
        n_spots=10,
        n_indexed=10,
        rms_px=0.3,
        rms_deg=0.05,
        reflections=reflections,
    )


# 0 1 0 meets the Ewald sphere where q_z = 0.1 sin(phi) = -lambda / (2 d^2) = -1.25e-4
ANGLE = np.rad2deg(np.arcsin(-1.25e-3))
FRAMES = frame_table([5, 6, 7, 8, 9], [-1.0, -0.5, 0.0, 0.5, 1.0])


def written(path):
    """Header values by keyword, and the table of records."""
    header, records = {}, []
    for line in path.read_text().splitlines():
        if line.startswith("!"):
            for key, value in re.findall(r"([A-Z][^\s=]*)=\s*(.*?)(?=\s+[A-Z][^\s=]*=|$)", line):
                header[key] = value.strip()
        else:
            records.append([float(v) for v in line.split()])
    return header, np.array(records)


def test_a_reflection_at_a_known_place(tmp_path):
    path = tmp_path / "XDS_ASCII.HKL"
    n = write_xds_ascii(path, cube([[0, 1, 0]], [ANGLE]), FRAMES, name="cube", shape=(64, 48))
    header, records = written(path)
    assert n == 1
    # frame 5 is exposed from -1.25 to -0.75; the angle is 2.357 steps after its start
    zd = 4 + (ANGLE + 1.25) / 0.5
    assert zd == pytest.approx(6.357, abs=1e-3)
    assert np.allclose(records[0][:5], [0, 1, 0, 1234.5, 12.5])
    assert np.allclose(records[0][5:8], [31.0, 26.5, zd], atol=5e-4)
    # zeta = 1 and sin(2 theta) = lambda / d; PSI of a - c between x (s x s0) and -z
    assert np.allclose(records[0][8:], [0.0025, 88, 100, 45.0], atol=0.1)
    assert records[0][8] == pytest.approx(0.0025, abs=2e-6)
    expected = {
        "FORMAT": "XDS_ASCII",
        "MERGE": "FALSE",
        "FRIEDEL'S_LAW": "TRUE",
        "NAME_TEMPLATE_OF_DATA_FRAMES": "cube",
        "DATA_RANGE": "5       9",
        "ROTATION_AXIS": "1.000000   0.000000   0.000000",
        "OSCILLATION_RANGE": "0.500000",
        "STARTING_ANGLE": "-1.2500",
        "STARTING_FRAME": "5",
        "SPACE_GROUP_NUMBER": "207",
        "UNIT_CELL_B-AXIS": "0.00000   10.00000    0.00000",
        "X-RAY_WAVELENGTH": "0.0250000",
        "NX": "48",
        "NY": "64",
        "QX": "0.055000",
        "ORGX": "31.00",
        "ORGY": "21.00",
        "DETECTOR_DISTANCE": "300.000",
        "NUMBER_OF_ITEMS_IN_EACH_DATA_RECORD": "12",
        "ITEM_SIGMA(IOBS)": "5",
        "ITEM_PSI": "12",
    }
    assert {key: header[key] for key in expected} == expected
    assert path.read_text().endswith("\n!END_OF_DATA\n")


def test_a_negative_rotation_turns_the_axis_round(tmp_path):
    path = tmp_path / "XDS_ASCII.HKL"
    frames = frame_table([1, 2, 3], [0.4, 0.0, -0.4])
    write_xds_ascii(path, cube([[0, 1, 0]], [ANGLE]), frames, name="cube", shape=(64, 48))
    header, records = written(path)
    axis = [float(v) for v in header["ROTATION_AXIS"].split()]
    assert axis == [-1, 0, 0]
    assert header["OSCILLATION_RANGE"] == "0.400000"
    assert header["STARTING_ANGLE"] == "-0.6000"
    assert records[0][7] == pytest.approx((-ANGLE + 0.6) / 0.4, abs=1e-3)


def test_missing_frames_leave_no_mark_and_uneven_ones_are_told(tmp_path):
    path = tmp_path / "XDS_ASCII.HKL"
    gap = frame_table([5, 6, 9], [-1.0, -0.5, 1.0])
    write_xds_ascii(path, cube([[0, 1, 0]], [ANGLE]), gap, name="cube", shape=(64, 48))
    header, records = written(path)
    assert header["OSCILLATION_RANGE"] == "0.500000"
    assert records[0][7] == pytest.approx(6.357, abs=1e-3)
    assert "off even" not in path.read_text()
    uneven = frame_table([5, 6, 7, 8], [-1.0, -0.5, 0.2, 0.5])
    write_xds_ascii(path, cube([[0, 1, 0]], [ANGLE]), uneven, name="cube", shape=(64, 48))
    # line through the angles: step 2.6 / 5 = 0.52, mean -0.2; frame 7 lies 0.14 degrees off it
    assert "!Frames up to 0.27 steps off even rotation\n" in path.read_text()


def test_misfits_unmeasured_and_order(tmp_path):
    path = tmp_path / "XDS_ASCII.HKL"
    lattice = cube(
        [[0, -1, 0], [0, 0, 2], [1, 0, 0], [2, 0, 0]],
        [ANGLE, 0.5, 0.25, 0.1],
        flags=np.array([Flag.OVERLAP, Flag.SATURATED, 0, 0], np.uint32),
        intensity=np.array([10.0, 20.0, 30.0, np.nan]),
    )
    n = write_xds_ascii(
        path, lattice, FRAMES, name="c", shape=(64, 48), space_group_number=195, friedel=False
    )
    header, records = written(path)
    assert n == 3
    assert "!Reflections without an intensity, left out: 1\n" in path.read_text()
    assert header["SPACE_GROUP_NUMBER"] == "195"
    assert header["FRIEDEL'S_LAW"] == "FALSE"
    # equivalents stand together, in the order of their representatives and of frames
    assert records[:, :3].tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 2]]
    assert records[:, 3].tolist() == [10, 30, 20]
    assert records[:, 4].tolist() == [-12.5, 12.5, 12.5]


def test_what_is_written_is_read_back(tmp_path, reduction, simulated):
    path = tmp_path / "XDS_ASCII.HKL"
    lattice = reduction.lattices[0]
    r = lattice.reflections
    misfit = np.zeros(len(r), np.uint32)
    misfit[::7] = np.uint32(Flag.OUTLIER)
    lattice = replace(lattice, reflections=replace(r, flags=misfit))
    n = write_xds_ascii(
        path, lattice, reduction.frames, name="demo", shape=simulated[0].shape, overload=65000
    )
    back = read_xds_ascii(path)
    assert n == len(back.hkl) == len(r)
    assert np.allclose(back.cell, lattice.cell, atol=1e-3)
    assert back.space_group_number == 16
    assert back.wavelength_A == pytest.approx(lattice.geometry.wavelength_A, abs=1e-7)
    assert np.allclose(back.axis, lattice.geometry.axis, atol=1e-5)
    assert back.friedel
    number = np.interp(r.frame, np.arange(len(reduction.frames.frame_number)),
                       reduction.frames.frame_number)  # fmt: skip
    mine = np.lexsort((number, *r.hkl.T))
    theirs = np.lexsort((back.frame_number, *back.hkl.T))
    assert np.array_equal(back.hkl[theirs], r.hkl[mine])
    assert np.allclose(back.intensity[theirs], r.intensity[mine], rtol=1e-5)
    assert np.allclose(back.sigma[theirs], r.sigma[mine], rtol=1e-5)
    assert np.array_equal(back.misfit[theirs], misfit[mine] != 0)
    assert np.allclose(back.row[theirs], r.row[mine], atol=0.006)
    assert np.allclose(back.column[theirs], r.column[mine], atol=0.006)
    inside = (r.frame >= 0) & (r.frame <= len(reduction.frames.frame_number) - 1)
    deviation = (back.frame_number[theirs] - number[mine])[inside[mine]]
    assert np.max(np.abs(deviation)) < 0.02


def test_gemmi_reads_the_header(tmp_path):
    path = tmp_path / "XDS_ASCII.HKL"
    write_xds_ascii(path, cube([[0, 1, 0]], [ANGLE]), FRAMES, name="cube", shape=(64, 48))
    file = gemmi.read_xds_ascii(str(path))
    assert file.generated_by == "CORRECT"
    assert list(file.cell_constants) == list(CUBE)
    assert file.zd_array[0] == pytest.approx(6.357, abs=1e-3)
    assert len(file.to_mtz().columns) > 5


def test_nothing_to_write_is_told(tmp_path):
    lattice = cube([[0, 1, 0]], [ANGLE], sigma=np.array([np.nan]))
    with pytest.raises(UserError, match="no reflection with a sigma"):
        write_xds_ascii(tmp_path / "a.HKL", lattice, FRAMES, name="cube", shape=(64, 48))
    one = frame_table([1], [0.0])
    with pytest.raises(UserError, match="found 1 frames, expected at least 2"):
        write_xds_ascii(
            tmp_path / "a.HKL", cube([[0, 1, 0]], [ANGLE]), one, name="c", shape=(64, 48)
        )
    with pytest.raises(UserError, match="choose another place"):
        write_xds_ascii(
            tmp_path / "no" / "a.HKL", cube([[0, 1, 0]], [ANGLE]), FRAMES, name="c", shape=(64, 48)
        )


@pytest.mark.parametrize("text", ["", "hello\n", "!FORMAT=XDS_ASCII    MERGE=FALSE\n"])
def test_what_is_no_xds_ascii_is_told(tmp_path, text):
    path = tmp_path / "wrong.HKL"
    path.write_text(text)
    with pytest.raises(UserError, match="expected an XDS_ASCII file"):
        read_xds_ascii(path)
    with pytest.raises(UserError, match=r"missing\.HKL"):
        read_xds_ascii(tmp_path / "missing.HKL")


def test_merged_data_are_refused(tmp_path):
    path = tmp_path / "merged.HKL"
    items = ["H", "K", "L", "IOBS", "SIGMA(IOBS)"]
    path.write_text(
        "!FORMAT=XDS_ASCII    MERGE=TRUE    FRIEDEL'S_LAW=TRUE\n!SPACE_GROUP_NUMBER=  16\n"
        "!UNIT_CELL_CONSTANTS= 10 11 12 90 90 90\n!NUMBER_OF_ITEMS_IN_EACH_DATA_RECORD=5\n"
        + "".join(f"!ITEM_{item}={i}\n" for i, item in enumerate(items, 1))
        + "!END_OF_HEADER\n 1 0 0 5.0 1.0\n!END_OF_DATA\n"
    )
    with pytest.raises(UserError, match=r"found 5 columns \(merged data\)"):
        read_xds_ascii(path)
