"""The laboratory's real series are read with the geometry they were taken with."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, load_instrument, read_series, smv, write_series
from ewaldflow.lib.formats.xds_inp import read_xds_inp
from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.series.storage import pixel_digest

pytestmark = pytest.mark.real
ROOT = Path(ewaldflow.__file__).resolve().parent
DATA = Path(os.environ.get("EWALDFLOW_REAL_DATA", ROOT.parent / "shared" / "data"))


def unpacked(archive: str, folder: Path, only: str = "") -> Path:
    path = DATA / "cred" / archive
    if not path.exists():
        pytest.skip(f"real data absent: {archive} not below {DATA}")
    with tarfile.open(path) as tar:
        members = [one for one in tar if one.name.startswith(only)]
        tar.extractall(folder, members=members, filter="data")
    return folder


@pytest.fixture(scope="module")
def garnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked("garnet_experiment_1.tar.xz", tmp_path_factory.mktemp("garnet"))


@pytest.fixture(scope="module")
def lysozyme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked("lysozyme_experiment_14.tar.xz", tmp_path_factory.mktemp("lysozyme"))


@pytest.fixture(scope="module")
def cinchonine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cinchonine")
    return unpacked("cinchonine_with_xds.tar.xz", folder) / "DemoData" / "Cinchonine"


def test_garnet(garnet: Path) -> None:
    series = read_series(garnet, instrument=load_instrument("jeol2100-timepix516"))
    assert series.frames.shape == (566, 516, 516)
    assert series.name == "experiment_1"
    geometry = series.geometry
    # the headers call themselves ADSC's, whose centres are in mm; these are in pixels, and the
    # direct beam stands at (261.5, 248.8)
    np.testing.assert_allclose(geometry.beam_centre_px, [262.56, 247.78])
    np.testing.assert_allclose(geometry.beam_centre_px, [261.5, 248.8], atol=1.5)
    assert (geometry.pixel_size_mm, geometry.distance_mm) == (0.05, 237.71)
    np.testing.assert_allclose(series.angle_start_deg, -29.75 + 0.12 * np.arange(566))
    assert any("step by 0.124" in note for note in series.notes)
    assert any("pixel_size_mm: 0.05" in note and "0.055" in note for note in series.notes)
    # the wide pixels of the cross are spread over three each, which therefore count the same
    mean = series.frames[::50].mean(axis=0).compute()
    for first in (255, 258):
        assert mean[first : first + 3, :].mean(axis=1).std() < 0.01 * mean.mean()
        assert mean[:, first : first + 3].mean(axis=0).std() < 0.01 * mean.mean()
    assert series.mask[255:261].all()
    assert series.mask[:, 255:261].all()
    assert not series.mask[:255, :255].any()


def test_garnet_needs_an_axis(garnet: Path) -> None:
    with pytest.raises(UserError, match="rotation_axis"):
        read_series(garnet)


def test_lysozyme(lysozyme: Path) -> None:
    top = lysozyme / "experiment_14"
    series = read_series(top, instrument=load_instrument("jeol2100-timepix516"))
    assert (series.name, len(series)) == ("experiment_14", 49)
    geometry = series.geometry
    # header 243.90, 227.73 from the corner; the direct beam stands at (227.25, 243.38)
    np.testing.assert_allclose(geometry.beam_centre_px, [227.25, 243.38], atol=0.05)
    assert geometry.distance_mm == 1481.7449
    np.testing.assert_allclose(geometry.axis, [-0.6204, 0.7843, 0.0], atol=5e-5)
    np.testing.assert_allclose(series.angle_start_deg[[0, -1]], [-18.28, 14.7127], atol=1e-3)
    np.testing.assert_allclose(series.angle_width_deg, 0.6873)
    assert series.tracking_numbers == ()
    # its XDS.INP has the same numbers, without the pixel that XDS counts from
    assert any("XDS.INP says (226.73, 242.9)" in note for note in series.notes)
    # the log alone knows as much as its XDS.INP
    alone = read_series(
        top / "SMV" / "data", overrides=SeriesOverrides(frame_range=(10, 12), voltage_kV=200)
    )
    np.testing.assert_allclose(alone.geometry.axis, geometry.axis)


def test_lysozyme_through_every_format(lysozyme: Path, tmp_path: Path) -> None:
    series = read_series(lysozyme / "experiment_14", instrument=load_instrument("twin"))
    for form in ("SMV", "TIFF", "MRC"):
        assert write_series(series, tmp_path / form, form).lossless
        again = read_series(tmp_path / form)
        assert pixel_digest(again) == pixel_digest(series)
        np.testing.assert_allclose(again.angle_start_deg, series.angle_start_deg, atol=1e-4)
        np.testing.assert_array_equal(again.mask, series.mask)


def test_cinchonine(cinchonine: Path) -> None:
    series = read_series(cinchonine, instrument=load_instrument("timepix512"))
    # XDS used frames 5 to 403 of 405 and put frame 0 at -50.46
    np.testing.assert_array_equal(series.frame_number, np.arange(5, 404))
    np.testing.assert_allclose(series.angle_start_deg, -50.46 + 0.2522 * np.arange(5, 404))
    np.testing.assert_allclose(series.geometry.axis, [0.7880, -0.6157, 0.0], atol=2e-5)
    assert series.geometry.beam_centre_px == (255.0, 255.0)
    assert series.geometry.distance_mm == 443
    assert series.saturation == 4095
    assert any("../diff_corr/????.tif" in note for note in series.notes)
    every = read_series(cinchonine, overrides=SeriesOverrides(frame_range=(0, 404)))
    assert len(every) == 405


def xparm(path: Path) -> dict[str, np.ndarray]:
    lines = path.read_text().split("\n")
    numbers = [np.array([float(word) for word in line.split()]) for line in lines[1:12]]
    return {
        "scan": numbers[0],
        "beam": numbers[1],
        "cell": np.array(numbers[3:6]),
        "pixels": numbers[6],
        "origin": numbers[7],
    }


def test_xds_own_reflections_fall_where_xds_put_them(cinchonine: Path, tmp_path: Path) -> None:
    """Predict real reflections, from XDS' refined parameters turned into our terms."""
    x = xparm(cinchonine / "xds" / "GXPARM.XDS")
    as_input = (
        "ROTATION_AXIS= {} {} {}\n".format(*x["scan"][3:6])
        + "INCIDENT_BEAM_DIRECTION= {} {} {}\n".format(*x["beam"][1:4])
        + f"X-RAY_WAVELENGTH= {x['beam'][0]}\n"
        + f"STARTING_FRAME= {int(x['scan'][0])}\nSTARTING_ANGLE= {x['scan'][1]}\n"
        + f"OSCILLATION_RANGE= {x['scan'][2]}\nQX= {x['pixels'][3]} QY= {x['pixels'][4]}\n"
        + "ORGX= {} ORGY= {} DETECTOR_DISTANCE= {}\n".format(*x["origin"])
    )
    (tmp_path / "XDS.INP").write_text(as_input)
    said = read_xds_inp(tmp_path / "XDS.INP").metadata
    assert said.beam_centre_px is not None
    assert said.rotation_axis is not None
    assert said.start_deg is not None
    assert said.start_number is not None
    assert said.oscillation_deg is not None
    geometry = Geometry(
        said.wavelength_A or 0,
        said.pixel_size_mm or 0,
        said.distance_mm or 0,
        said.beam_centre_px,
        said.rotation_axis,
    )
    text = (cinchonine / "xds" / "XDS_ASCII.HKL").read_text().splitlines()
    found = np.array([line.split() for line in text if line[0] != "!"], float)
    hkl, x_px, y_px, z = found[:, :3], found[:, 5], found[:, 6], found[:, 7]
    # frame coordinate z: the start of frame n (from STARTING_FRAME) is at z = n - 1 in XDS
    phi = said.start_deg + said.oscillation_deg * (z + 1 - said.start_number)
    reciprocal = np.linalg.inv(x["cell"]) @ hkl.T  # rows of x["cell"] are a, b, c in the lab
    # the cell axes are in XDS' frame; ours differs by the tilt of the beam, 0.03 degrees
    q = np.einsum("nij,jn->ni", rotation_about(geometry.axis, phi), reciprocal)
    off = geometry.to_pixel(q) - np.stack([y_px - 1, x_px - 1], axis=1)
    assert len(found) > 1900
    assert np.median(np.linalg.norm(off, axis=1)) < 0.3
    # and at the angles XDS gives they lie on the Ewald sphere: half a frame beside these they
    # are 1.2e-3 1/A off it
    miss = np.linalg.norm(q + geometry.s0, axis=1) - 1 / geometry.wavelength_A
    assert np.abs(miss).mean() < 3e-4


@pytest.mark.parametrize(
    ("name", "centre"),
    [
        ("dials_TIMEPIX_SU_516.img", (239.85, 245.64)),
        ("dials_TIMEPIX_SU_512.img", (239.5, 245.5)),
        ("scipion_garnet_0001.img", (262.56, 247.78)),
        # 28.16 mm / 0.055 mm = 512 px from the corner
        ("dials_simtbx_JHSim.img", (511.5, 511.5)),
        ("ccp4_biotin_m1.smv", None),
    ],
)
def test_single_smv_frames(name: str, centre: tuple[float, float] | None) -> None:
    path = DATA / "images" / name
    if not path.exists():
        pytest.skip(f"real data absent: {name} not below {DATA}")
    header = smv.read_header(path)
    if centre is None:
        assert header.metadata.beam_centre_px is None
    else:
        assert header.metadata.beam_centre_px == pytest.approx(centre)
    pixels = smv.read_pixels(path, header, 0, 1)
    assert pixels.shape == (1, *header.shape)
    assert pixels.any()
