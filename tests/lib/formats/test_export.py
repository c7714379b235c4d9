"""Round trips through the files of other programs, and what DIALS itself makes of ours."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_series, write_dials_script, write_series
from ewaldflow.lib.geometry import EllipticalDistortion, Geometry, to_dials_frame
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest

Make = Callable[..., RotationSeries]


@pytest.mark.parametrize("form", ["SMV", "tiff", "MRC"])
@pytest.mark.parametrize("shape", [(20, 30), (516, 516)])
def test_a_series_comes_back(
    tmp_path: Path, make_series: Make, form: str, shape: tuple[int, int]
) -> None:
    series = make_series([3, 4, 6, 7, 12], shape=shape)
    report = write_series(series, tmp_path / "made", form)
    assert report.lossless
    assert len(report.files) == 5
    read = read_series(tmp_path / "made")
    assert pixel_digest(read) == pixel_digest(series)
    assert read.frames.dtype == np.uint16
    assert read.name == "made"
    np.testing.assert_array_equal(read.frame_number, series.frame_number)
    np.testing.assert_allclose(read.angle_start_deg, series.angle_start_deg, atol=1e-6)
    np.testing.assert_allclose(read.angle_width_deg, series.angle_width_deg, atol=1e-6)
    np.testing.assert_array_equal(read.mask, series.mask)
    assert read.saturation == series.saturation
    for name in ("wavelength_A", "pixel_size_mm", "distance_mm"):
        expected = getattr(series.geometry, name)
        assert getattr(read.geometry, name) == pytest.approx(expected, rel=1e-9)
    assert read.geometry.beam_centre_px == pytest.approx((9.25, 16.75), abs=1e-4)
    np.testing.assert_allclose(read.geometry.axis, series.geometry.axis, atol=1e-8)
    assert read.missing_numbers == (5, 8, 9, 10, 11)
    # no two of the files written disagree
    assert not any("was used;" in note for note in read.notes)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.floats(0.015, 0.05),
    st.floats(0.01, 0.2),
    st.floats(100, 5000),
    st.tuples(st.floats(0, 19), st.floats(0, 29)),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-0.3, 0.3)).filter(
        lambda axis: np.linalg.norm(axis[:2]) > 0.1
    ),
    st.floats(-180, 180),
    st.floats(0.01, 3),
)
def test_any_geometry_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    make_series: Make,
    wavelength: float,
    pixel: float,
    distance: float,
    centre: tuple[float, float],
    axis: tuple[float, float, float],
    start: float,
    width: float,
) -> None:
    geometry = Geometry(wavelength, pixel, distance, centre, axis)
    series = make_series([1, 2, 3]).with_(
        geometry=geometry,
        angle_start_deg=start + width * np.arange(3),
        angle_width_deg=np.full(3, width),
    )
    folder = tmp_path_factory.mktemp("any")
    write_series(series, folder)
    read = read_series(folder)
    np.testing.assert_allclose(read.geometry.axis, geometry.axis, atol=1e-7)
    assert read.geometry.beam_centre_px == pytest.approx(centre, abs=2e-3 if pixel < 0.02 else 1e-3)
    assert read.geometry.per_A_per_px == pytest.approx(geometry.per_A_per_px, rel=1e-6)
    np.testing.assert_allclose(read.angle_start_deg, series.angle_start_deg, atol=2e-6)


def test_unknown_format(tmp_path: Path, make_series: Make) -> None:
    with pytest.raises(UserError, match="one of SMV, TIFF, MRC"):
        write_series(make_series([1]), tmp_path, "DM4")


def test_the_script_by_hand(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 3, 7, 8]).with_(gain=2.0)
    path = tmp_path / "import.sh"
    assert write_dials_script(series, path, template="data/?????.img") == ()
    text = path.read_text()
    # row 9.25, column 16.75 from the corner; y of the axis turned over
    assert "fast_slow_beam_centre=17.25000,9.75000" in text
    axis = to_dials_frame(series.geometry.axis)
    assert axis[1] == pytest.approx(-0.7843, abs=1e-4)
    assert f"goniometer.axes={axis[0]:.7f},{axis[1]:.7f},0.0000000" in text
    assert "$(seq -f data/%05g.img 1 3)" in text
    assert "scan.oscillation=-10.000000,0.500000" in text
    # the second run of frames starts at number 7: -10 + 6 * 0.5
    assert "$(seq -f data/%05g.img 7 8)" in text
    assert "scan.oscillation=-7.000000,0.500000" in text
    # fast first, ends not included: rows 9 and 10, and the pixel (3, 7)
    assert "untrusted.rectangle=0,30,9,11" in text
    assert "untrusted.rectangle=7,8,3,4" in text
    ellipse = series.geometry.with_(distortion=EllipticalDistortion(1.02, 10))
    notes = write_dials_script(series.with_(geometry=ellipse), path)
    # 20 x 30: DIALS makes maps for square images only
    assert "elliptical" in notes[0]
    assert "# NOTE: the elliptical" in path.read_text()
    with pytest.raises(UserError, match="rotation"):
        write_dials_script(series.with_(angle_start_deg=np.zeros(5)), path)


@pytest.mark.skipif(shutil.which("dials.import") is None, reason="DIALS is not installed")
@pytest.mark.parametrize("shape", [(516, 516), (20, 30)])
def test_dials_sees_the_geometry(tmp_path: Path, make_series: Make, shape: tuple[int, int]) -> None:
    series = make_series([1, 2, 3], shape=shape)
    write_series(series, tmp_path)
    ran = subprocess.run(
        ["sh", str(tmp_path / "dials_import.sh")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads((tmp_path / "imported.expt").read_text())
    assert told["beam"][0]["wavelength"] == pytest.approx(0.025079)
    axis = told["goniometer"][0]["rotation_axis"]
    np.testing.assert_allclose(axis, to_dials_frame(series.geometry.axis), atol=1e-6)
    assert told["scan"][0]["oscillation"] == pytest.approx([-10, 0.5])
    panel = told["detector"][0]["panels"][0]
    assert panel["image_size"] == [shape[1], shape[0]]
    # the spot at row 12, column 20: where DIALS puts its pixel corner (20.5, 12.5), its
    # scattering vector must be ours turned into its frame
    origin, fast, slow = (np.array(panel[key]) for key in ("origin", "fast_axis", "slow_axis"))
    at = origin + 0.05 * (20.5 * fast + 12.5 * slow)
    s1 = at / np.linalg.norm(at) / 0.025079
    s0 = np.array([0, 0, -1]) / 0.025079
    np.testing.assert_allclose(s1 - s0, to_dials_frame(series.geometry.to_q(12, 20)), atol=1e-6)
    assert panel["trusted_range"][1] == 11810
    assert told["imageset"][0]["mask"]


_DIALS_SEES = """
import sys
from dxtbx.model.experiment_list import ExperimentListFactory
panel = ExperimentListFactory.from_json_file(sys.argv[1])[0].detector[0]
for row, column in ((12, 20), (500, 3), (100, 480)):
    x, y, z = panel.get_pixel_lab_coord((column + 0.5, row + 0.5))
    print(x, y, z)
"""


@pytest.mark.skipif(shutil.which("dials.import") is None, reason="DIALS is not installed")
def test_dials_sees_the_ellipse(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 3, 5, 6], shape=(516, 516))
    bent = series.geometry.with_(distortion=EllipticalDistortion(1.024, 83))
    report = write_series(series.with_(geometry=bent), tmp_path)
    assert not any("elliptical" in note for note in report.notes)
    ran = subprocess.run(
        ["sh", str(tmp_path / "dials_import.sh")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with open(shutil.which("dials.import") or "") as file:
        python = file.readline().removeprefix("#!").split()[0]
    for name in ("imported.expt", "imported_2.expt"):
        told = subprocess.run(
            [python, "-c", _DIALS_SEES, str(tmp_path / name)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        at = np.array([line.split() for line in told.stdout.splitlines()[-3:]], float)
        s1 = at / np.linalg.norm(at, axis=1)[:, None] / 0.025079
        q = s1 - np.array([0, 0, -1]) / 0.025079
        ours = to_dials_frame(bent.to_q([12, 500, 100], [20, 3, 480]))
        # the maps hold for whole pixels; without them these would be up to 6 px away
        np.testing.assert_allclose(q, ours, atol=0.01 * bent.per_A_per_px)


def test_maps_of_the_ellipse_go_with_the_frames(tmp_path: Path, make_series: Make) -> None:
    series = make_series([1, 2, 3])
    bent = series.geometry.with_(distortion=EllipticalDistortion(1.05, 0))
    write_series(series.with_(geometry=bent), tmp_path / "smv")
    text = (tmp_path / "smv" / "XDS.INP").read_text()
    assert "X-GEO_CORR= XCORR.cbf" in text
    assert "DETECTOR= PILATUS" in text
    assert (tmp_path / "smv" / "XCORR.cbf").exists()
    assert (tmp_path / "smv" / "YCORR.cbf").exists()
    report = write_series(series.with_(geometry=bent), tmp_path / "tiff", "tiff")
    assert any("elliptical" in note for note in report.notes)
    assert not (tmp_path / "tiff" / "XCORR.cbf").exists()
