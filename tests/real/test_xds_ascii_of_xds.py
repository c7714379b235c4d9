"""Our XDS_ASCII conventions and statistics against a file and figures of XDS itself."""

import os
import re
import tarfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.reduction.laue_symmetry import laue_verdict
from ewaldflow.lib.reduction.result import Flag, FrameTable, Lattice, Reflections
from ewaldflow.lib.reduction.statistics import (
    cc_half,
    chi_square_of_equivalents,
    equivalents,
    r_meas,
    r_merge,
)
from ewaldflow.lib.reduction.xds_ascii import read_xds_ascii, write_xds_ascii

pytestmark = pytest.mark.real
MEMBER = "DemoData/Cinchonine/xds/XDS_ASCII.HKL"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    root = Path(ewaldflow.__file__).resolve().parent
    data = Path(os.environ.get("EWALDFLOW_REAL_DATA", root.parent / "shared" / "data"))
    archive = data / "cred" / "cinchonine_with_xds.tar.xz"
    if not archive.exists():
        pytest.skip(f"real data absent: {archive.name} not below {data}")
    path = tmp_path_factory.mktemp("cinchonine") / "XDS_ASCII.HKL"
    with tarfile.open(archive) as tar:
        path.write_bytes(tar.extractfile(MEMBER).read())
    return path


def header_of(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("!")]
    return dict(
        pair
        for line in lines
        for pair in re.findall(r"([A-Z][^\s=]*)=\s*(.*?)(?=\s+[A-Z][^\s=]*=|$)", line)
    )


def numbers(header, key):
    return np.array([float(v) for v in header[key].split()])


def direct_beam(header):
    """(row, column) where a beam tilted as INCIDENT_BEAM_DIRECTION says meets the detector."""
    beam = numbers(header, "INCIDENT_BEAM_DIRECTION")
    pixels = numbers(header, "DETECTOR_DISTANCE")[0] / numbers(header, "QX")[0]
    x, y = pixels * beam[:2] / beam[2]
    return numbers(header, "ORGY")[0] - 1 + y, numbers(header, "ORGX")[0] - 1 + x


def lattice_of(path):
    """The lattice that an XDS_ASCII file describes, as far as it does, with its frames."""
    header, back = header_of(path), read_xds_ascii(path)
    real = np.stack([numbers(header, f"UNIT_CELL_{a}-AXIS") for a in "ABC"], axis=1)
    start, step = numbers(header, "STARTING_ANGLE")[0], numbers(header, "OSCILLATION_RANGE")[0]
    first = numbers(header, "STARTING_FRAME")[0]
    angle = start + step * (back.frame_number + 0.5 - first)
    n = len(back.hkl)
    cell = back.cell
    geometry = Geometry(
        wavelength_A=back.wavelength_A,
        pixel_size_mm=numbers(header, "QX")[0],
        distance_mm=numbers(header, "DETECTOR_DISTANCE")[0],
        beam_centre_px=direct_beam(header),
        axis=back.axis,
    )
    columns = {f.name: np.zeros(n) for f in fields(Reflections)} | {
        "hkl": back.hkl,
        "intensity": back.intensity,
        "sigma": back.sigma,
        "frame": back.frame_number,
        "angle_deg": angle,
        "row": back.row,
        "column": back.column,
        "partiality": np.ones(n),
        "d_A": d_spacing_A(back.hkl, cell),
        "flags": np.where(back.misfit, np.uint32(Flag.OUTLIER), np.uint32(0)),
    }
    reflections = Reflections(**columns)
    lattice = Lattice(
        bravais="mP",
        orientation=np.linalg.inv(real).T,
        cell=cell,
        cell_esd=cell,
        cell_p1=cell,
        cell_p1_esd=cell,
        niggli=cell,
        geometry=geometry,
        esd={},
        rotation_scale=1.0,
        candidates=(),
        mosaicity_deg=0.2,
        size_per_A=0.001,
        n_spots=n,
        n_indexed=n,
        rms_px=0.0,
        rms_deg=0.0,
        reflections=reflections,
    )
    first, last = numbers(header, "DATA_RANGE").astype(int)
    number = np.arange(first, last + 1)
    mid = start + step * (number + 0.5 - numbers(header, "STARTING_FRAME")[0])
    others = {f.name: np.zeros(len(number)) for f in fields(FrameTable)}
    return lattice, FrameTable(**{**others, "frame_number": number, "angle_deg": mid})


def test_the_geometry_in_a_file_of_xds_is_ours(theirs):
    lattice, _ = lattice_of(theirs)
    r, g = lattice.reflections, lattice.geometry
    q = np.einsum("nij,nj->ni", rotation_about(g.axis, r.angle_deg), r.hkl @ lattice.orientation.T)
    excitation = np.linalg.norm(q + g.s0, axis=1) - 1 / g.wavelength_A
    speed = np.abs(np.cross(g.axis, q) @ g.s0) * g.wavelength_A
    turns = np.rad2deg(excitation / speed)[speed > 0.2 * np.linalg.norm(q, axis=1)]
    assert abs(np.median(turns)) < 0.03  # degrees; an eighth of a frame
    assert np.median(np.abs(turns)) < 0.05
    offset = g.to_pixel(q) - np.stack([r.row, r.column], axis=1)
    assert np.all(np.abs(np.median(offset, axis=0)) < 0.1)


def test_we_write_what_xds_wrote(theirs, tmp_path):
    lattice, frames = lattice_of(theirs)
    ours = tmp_path / "XDS_ASCII.HKL"
    write_xds_ascii(
        ours, lattice, frames, name="?", shape=(512, 512), space_group_number=4, friedel=False
    )
    a, b = header_of(theirs), header_of(ours)
    # absorption, polarisation and divergence are XDS's own
    known = {"OUTPUT_FILE", "DATE", "BUILT", "FRACTION_OF_POLARIZATION", "AIR", "SILICON",
             "POLARIZATION_PLANE_NORMAL", "SENSOR_THICKNESS", "OVERLOAD",
             "BEAM_DIVERGENCE_E.S.D."}  # fmt: skip
    assert set(a) - set(b) <= known
    assert set(b) - set(a) == set()
    for key in ("ROTATION_AXIS", "OSCILLATION_RANGE", "UNIT_CELL_CONSTANTS", "UNIT_CELL_A-AXIS",
                "UNIT_CELL_C-AXIS", "DETECTOR_DISTANCE", "X-RAY_WAVELENGTH",
                "DATA_RANGE", "NX", "NY", "QX", "SPACE_GROUP_NUMBER"):  # fmt: skip
        assert np.allclose(numbers(a, key), numbers(b, key), atol=2e-3), key
    assert np.allclose(direct_beam(a), direct_beam(b), atol=0.01)
    items = [key for key in a if key.startswith("ITEM_")]
    assert [a[key] for key in items] == [b[key] for key in items]
    # the first frame of the range differs, so the angle there does: 5 frames of 0.2522 degrees
    assert numbers(b, "STARTING_ANGLE") - numbers(a, "STARTING_ANGLE") == pytest.approx(1.261)

    def table(path):
        rows = np.loadtxt(path, comments="!")
        return rows[np.lexsort((rows[:, 7], rows[:, 2], rows[:, 1], rows[:, 0]))]

    x, y = table(theirs), table(ours)
    assert np.allclose(x[:, :8], y[:, :8], rtol=1e-4, atol=2e-3)
    # XDS's factor is a constant 1.7 % below zeta sin(2 theta)
    ratio = y[:, 8] / x[:, 8]
    assert np.std(ratio) < 0.002
    assert np.mean(ratio) == pytest.approx(1.017, abs=0.002)
    turn = (x[:, 11] - y[:, 11] + 180) % 360 - 180
    assert np.max(np.abs(turn)) < 0.1


def test_figures_of_merit_are_those_of_correct(theirs):
    # CORRECT.LP, subset with signal/noise >= -3, total: R 10.0 %, R-meas 14.2 %, CC(1/2) 97.7
    back = read_xds_ascii(theirs)
    fit = ~back.misfit
    operators = candidate_operators("mP")
    group = equivalents(back.hkl[fit], operators, friedel=False)
    intensity = back.intensity[fit]
    assert r_merge(group, intensity) == pytest.approx(0.100, abs=0.001)
    assert r_meas(group, intensity) == pytest.approx(0.142, abs=0.001)
    assert cc_half(group, intensity, seed=0) == pytest.approx(0.977, abs=0.005)
    assert chi_square_of_equivalents(group, intensity, back.sigma[fit]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("lattice", ["mP", "oP"])
def test_the_laue_class_of_cinchonine(theirs, lattice):
    back = read_xds_ascii(theirs)
    d = d_spacing_A(back.hkl, back.cell)
    operators = candidate_operators(lattice)
    assert laue_verdict(back.hkl, back.intensity, back.sigma, d, operators).laue_class == "2/m"
