"""What is written for other programs, read back by readers that are not ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import fabio
import h5py
import mrcfile
import numpy as np
import pytest
import tifffile

from ewaldflow.lib.crystal.cell import Cell
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, read_series, write_series
from ewaldflow.lib.formats.cbf import write_cbf
from ewaldflow.lib.formats.crysalis import write_crysalis
from ewaldflow.lib.formats.nxmx import write_nxmx
from ewaldflow.lib.formats.pets import write_pets
from ewaldflow.lib.formats.redp import write_redp
from ewaldflow.lib.geometry import Geometry, to_dials_frame
from ewaldflow.lib.orientation.from_pets import read_pts
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest

Make = Callable[..., RotationSeries]
needs_dials = pytest.mark.skipif(
    shutil.which("dials.import") is None, reason="DIALS is not installed"
)


def dials_import(folder: Path, *command: str) -> dict:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told: dict = json.loads((folder / "imported.expt").read_text())
    return told


def sees_our_geometry(told: dict, series: RotationSeries) -> None:
    """Whether DIALS' models make of a pixel the scattering vector that ours do."""
    geometry = series.geometry
    assert told["beam"][0]["wavelength"] == pytest.approx(geometry.wavelength_A, rel=1e-9)
    axis = told["goniometer"][0]["rotation_axis"]
    np.testing.assert_allclose(axis, to_dials_frame(geometry.axis), atol=1e-6)
    scan = told["scan"][0]
    assert scan["oscillation"] == pytest.approx([-10, 0.5])
    assert scan["image_range"][1] - scan["image_range"][0] + 1 == len(series)
    panel = told["detector"][0]["panels"][0]
    assert panel["image_size"] == [series.shape[1], series.shape[0]]
    assert panel["trusted_range"][1] == 11810
    origin, fast, slow = (np.array(panel[key]) for key in ("origin", "fast_axis", "slow_axis"))
    for row, column in ((12, 20), (0, 0), (19, 29)):
        at = origin + 0.05 * ((column + 0.5) * fast + (row + 0.5) * slow)
        s1 = at / np.linalg.norm(at) / geometry.wavelength_A
        s0 = np.array([0, 0, -1]) / geometry.wavelength_A
        ours = to_dials_frame(geometry.to_q(row, column))
        np.testing.assert_allclose(s1 - s0, ours, atol=1e-6)


@needs_dials
def test_dials_imports_nxmx(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 3])
    write_series(series, tmp_path, "NXmx")
    told = dials_import(tmp_path, "dials.import", "made.nxs")
    sees_our_geometry(told, series)
    # pixels and mask, as dxtbx reads them
    script = """
import sys
from dxtbx.model.experiment_list import ExperimentListFactory
images = ExperimentListFactory.from_json_file(sys.argv[1])[0].imageset
for i in range(len(images)):
    print(*images.get_raw_data(i)[0].as_1d())
print(*(int(one) for one in images.get_mask(0)[0].as_1d()))
panel = images.get_detector()[0]
print(*panel.get_ray_intersection_px((0, 0, -1)))
"""
    with open(shutil.which("dials.import") or "") as file:
        python = file.readline()[2:].split()[0]
    ran = subprocess.run(
        [python, "-c", script, "imported.expt"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    *frames, mask, centre = (np.array(line.split(), float) for line in ran.stdout.splitlines())
    np.testing.assert_array_equal(frames, series.frames.compute().reshape(3, -1))
    trusted = series.frames[0].compute() <= 11810
    np.testing.assert_array_equal(mask.reshape(series.shape) == 0, series.mask | ~trusted)
    np.testing.assert_allclose(centre, [17.25, 9.75], atol=1e-6)


@needs_dials
def test_dials_imports_cbf(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 3])
    write_series(series, tmp_path, "CBF")
    sees_our_geometry(dials_import(tmp_path, "sh", "dials_import.sh"), series)


def test_nxmx_reads_back(tmp_path: Path, make_series: Make) -> None:
    series = make_series(range(1, 71)).with_(name="crystal")
    assert write_nxmx(series, tmp_path).lossless
    read = read_series(tmp_path)
    assert pixel_digest(read) == pixel_digest(series)
    assert read.name == "crystal"
    for name in ("wavelength_A", "pixel_size_mm", "distance_mm"):
        assert getattr(read.geometry, name) == pytest.approx(getattr(series.geometry, name))
    np.testing.assert_allclose(read.geometry.beam_centre_px, (9.25, 16.75))
    np.testing.assert_allclose(read.geometry.axis, series.geometry.axis)
    np.testing.assert_allclose(read.angle_start_deg, series.angle_start_deg)
    np.testing.assert_allclose(read.angle_width_deg, 0.5)
    np.testing.assert_array_equal(read.mask, series.mask)
    assert (read.saturation, read.exposure_s) == (11810, 0.3)
    with h5py.File(tmp_path / "crystal.nxs") as file:
        assert file["entry/definition"][()] == b"NXmx"
        # ours (x, y, z) is (-x, -y, z) there
        vector = file["entry/sample/transformations/omega"].attrs["vector"]
        np.testing.assert_allclose(vector, [0.6204, -0.7843, 0], atol=2e-5)


def test_nxmx_after_a_gap_is_another_file(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 5, 6, 7])
    report = write_nxmx(series, tmp_path)
    assert [path.name for path in report.files] == ["made.nxs", "made_2.nxs"]
    assert "frame 5 is number 1 in made_2.nxs" in report.notes
    second = read_series(tmp_path / "made_2.nxs")
    np.testing.assert_allclose(second.angle_start_deg, [-8, -7.5, -7])
    np.testing.assert_array_equal(second.frames[0].compute(), series.frames[2].compute())
    with pytest.raises(UserError, match="none yet"):
        write_nxmx(series, tmp_path)
    with pytest.raises(UserError, match="no frames"):
        write_nxmx(series.select(slice(0, 0)), tmp_path / "none")


def test_cbf_reads_back(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 4])
    report = write_cbf(series, tmp_path)
    assert report.lossless
    image = fabio.open(str(report.files[2]))
    np.testing.assert_array_equal(image.data, series.frames[2].compute())
    # the digest that the header gives is that of the packed pixels
    content = report.files[0].read_bytes()
    said = re.search(rb"Content-MD5: (\S+)", content)
    size = re.search(rb"X-Binary-Size: (\d+)", content)
    assert said is not None
    assert size is not None
    start = content.index(b"\x0c\x1a\x04\xd5") + 4
    packed = content[start : start + int(size[1])]
    assert said[1] == base64.b64encode(hashlib.md5(packed).digest())
    read = read_series(tmp_path, overrides=SeriesOverrides(rotation_axis=series.geometry.axis))
    assert pixel_digest(read) == pixel_digest(series)
    np.testing.assert_allclose(read.geometry.beam_centre_px, (9.25, 16.75))
    assert read.geometry.distance_mm == pytest.approx(400)
    np.testing.assert_allclose(read.angle_start_deg, series.angle_start_deg)


def test_cbf_of_negative_pixels(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1])
    frames = series.frames.astype(np.float32)
    frames[0, 0, 0] = -3
    report = write_cbf(series.with_(frames=frames), tmp_path)
    assert report.pedestal_added == 3
    assert fabio.open(str(report.files[0])).data[0, 0] == 0


def test_a_pets_project(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 5], name="gly")
    centres = np.array([[9.0, 16.0], [9.5, 16.5], [10.25, 17.75]])
    cell: Cell = (5.0876, 11.8092, 5.4615, 90, 111.992, 90)
    report = write_pets(series.with_(beam_centres_px=centres), tmp_path, cell=cell)
    assert report.lossless
    said = read_pts(tmp_path / "gly.pts")
    assert said.wavelength_A == pytest.approx(0.025079)
    assert said.per_A_per_px == pytest.approx(0.05 / (400 * 0.025079), rel=1e-6)
    assert said.half_exposure_deg == 0.25
    np.testing.assert_allclose(said.alpha_deg, [-9.75, -9.25, -7.75])
    np.testing.assert_allclose(said.cell, cell)
    # counts from 1, x first
    assert said.centre_px == (17.75, 10.25)
    omega = np.deg2rad(said.omega_deg)
    axis = (np.cos(omega), -np.sin(omega))
    np.testing.assert_allclose(axis, series.geometry.axis[:2], atol=1e-6)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "gly.cenloc")[:, :2], centres[:, ::-1] + 1)
    listed = re.findall(r"^(tiff\\\S+)", (tmp_path / "gly.pts").read_text(), re.MULTILINE)
    for name, frame in zip(listed, series.frames.compute(), strict=True):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name.replace("\\", "/")), frame)
    out = Geometry(0.025, 0.05, 400, (9, 16), (1, 0, 0.1))
    with pytest.raises(UserError, match="in the plane"):
        write_pets(series.with_(geometry=out), tmp_path / "out")


def test_a_redp_project(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 4])
    report = write_redp(series, tmp_path)
    text = (tmp_path / "RED" / "1.ed3d").read_text()
    said = dict(re.findall(r"^([A-Z]+) +(\S+)$", text, re.MULTILINE))
    theta = np.deg2rad(float(said["ROTATIONAXIS"]))
    axis = (np.cos(theta), -np.sin(theta))
    np.testing.assert_allclose(axis, series.geometry.axis[:2], atol=1e-6)
    assert float(said["CCDPIXELSIZE"]) == pytest.approx(0.05 / (400 * 0.025079), rel=1e-6)
    assert float(said["GONIOTILTSTEP"]) == 0.5
    listed = re.findall(r"^FILE (\S+) +(\S+) +0 +(\S+)$", text, re.MULTILINE)
    assert [float(one[1]) for one in listed] == [-9.75, -9.25, -8.25]
    with pytest.warns(RuntimeWarning), mrcfile.open(report.files[2], permissive=True) as file:
        np.testing.assert_array_equal(file.data[::-1], series.frames[2].compute())
    given = SeriesOverrides(
        voltage_kV=200, pixel_size_mm=0.05, distance_mm=400, rotation_axis=(1, 0, 0),
        oscillation_deg=0.5, start_deg=-10,
    )  # fmt: skip
    assert pixel_digest(read_series(tmp_path, overrides=given)) == pixel_digest(series)


def test_esperanto_for_crysalis(tmp_path: Path, make_series: Make) -> None:
    from fabio.xcaliburimage import RunDescription

    series = make_series([1, 2, 3])
    report = write_crysalis(series, tmp_path)
    assert report.lossless
    image = fabio.open(str(tmp_path / "made_1_2.esperanto"))
    assert image.data.shape == (256, 256)
    np.testing.assert_array_equal(image.data[::-1, ::-1][:20, :30], series.frames[1].compute())
    assert image.data.sum() == series.frames[1].compute().sum()
    header = image.header
    assert (header["dom_s"], header["dom_e"]) == (-9.5, -9.0)
    assert header["ddistanceinmm"] == 400
    assert header["dalpha1"] == 0.025079
    # the corner's (17.25, 9.75), turned
    assert (header["dxorigininpix"], header["dyorigininpix"]) == (238.75, 246.25)
    run = RunDescription.read(tmp_path / "made.run")
    assert (run.pssweep[0].dstart, run.pssweep[0].dwidth) == (-10, 0.5)
    # rows 9 and 10 of the mask, turned
    mask = (tmp_path / "made.set").read_text()
    assert re.search(r"BADRECTANGLE \d+ \d+ 245 246", mask)
    with pytest.raises(UserError, match="unbroken"):
        write_crysalis(make_series([1, 3]), tmp_path / "gap")
    with pytest.raises(UserError, match="bin them"):
        write_crysalis(make_series([1, 2], shape=(20, 4100)), tmp_path / "large")
