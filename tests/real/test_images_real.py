"""Real images of every format: shape, pixel type, calibration; pixels as others read them."""

import csv
import importlib
import os
import shutil
import zipfile
from pathlib import Path

import fabio
import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, read_image, read_series
from ewaldflow.lib.formats.registry import reader_of_suffix
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.rings.calibration import RingCalibration
from ewaldflow.lib.rings.recentre import recentre

pytestmark = pytest.mark.real
ROOT = Path(ewaldflow.__file__).resolve().parent
DATA = Path(os.environ.get("EWALDFLOW_REAL_DATA", ROOT.parent / "shared" / "data")) / "images"


def real(name: str, folder: Path) -> Path:
    """The file, unpacked into `folder` if need be."""
    if not (DATA / name).exists():
        pytest.skip(f"real data absent: {name} not in {DATA}")
    if name.endswith(".zip"):
        with zipfile.ZipFile(DATA / name) as packed:
            packed.extractall(folder)
            return folder / packed.namelist()[0]
    return DATA / name


# name, frame, shape, dtype, kV, camera length mm, pixel mm, 1/Å per px, exposure s
IMAGES = [
    ("dials_Gatan_zero.dm4.gz", None, (4096, 4096), "f4", 300, 488.342888, 0.015, 0.00156005807, 3),
    ("rsciio_diffraction_pattern.dm3", None, (87, 87), "i4", 200, 32.0, 0.014, 0.017443286, 0.2),
    ("rsciio_diffraction_tags_removed.dm3", None, (87, 87), "i4", 200, None, 0.014, 0.0174433, 0.2),
    ("skued_bismuth.dm3", None, (256, 256), "i1", 90, None, 0.014, None, 5),
    ("ncem_float32_nonsquare.dm4", None, (64, 128), "f4", None, None, None, None, None),
    ("rsciio_2d_1.dm4", None, (2, 2), "i2", None, None, None, None, None),
    ("ncem_Acquisition_18.emd", None, (1024, 1024), "u2", 200, None, None, None, None),
    ("rsciio_berkeley_image.emd", None, (3, 3), "i4", None, None, None, None, None),
    ("rsciio_velox_tem_stack.emd", 2, (3, 3), "i2", 300, None, None, None, 0.8),
    ("rsciio_TVIPS_bin4.zip", None, (1024, 1024), "u1", 99, None, 0.0624, None, 0.4),
    ("rsciio_JEOL-SightX-SAED-dummy.tif.gz", None, (556, 556), "u2", 200, 400, 0.27457, None, None),
    ("pyxem_au_xgrating_20cm.tif", None, (256, 256), "f4", None, None, None, None, None),
    ("pyxem_moo3_20cm.tif", None, (256, 256), "f4", None, None, None, None, None),
    ("skued_ewald_walkoff.tif", None, (512, 512), "f8", None, None, None, None, None),
    ("serialed_Ref12_reference.tif", None, (516, 1556), "f4", None, None, None, None, None),
    ("rsciio_HAADFscan.mrc", None, (16, 16), "u2", 300, 91.1, None, None, None),
    ("rsciio_DE_movie.mrc", 32, (4, 8), "u2", None, None, None, None, None),
    ("ncem_temp.mrc", 3, (128, 128), "f4", None, None, None, None, None),
    ("ncem_16_STO.ser", None, (1024, 1024), "u2", None, None, None, None, None),
    ("rsciio_test1.blo", 6, (144, 144), "u1", 200, 200, 0.1606168, None, None),
    ("rsciio_tvips_2345_000.tvips", 6, (4, 5), "u2", 200, 80, None, None, None),
    ("pyxem_Amorphous.hspy", None, (512, 512), "i8", 200, 510, None, None, None),
    ("skued_test.mib", None, (256, 256), "u2", None, None, 0.055, None, 1),
    ("skued_test_multi.mib", 9, (256, 256), "u1", None, None, 0.055, None, 0.0004),
    ("rsciio_arina_test_00_data_000001.h5", 16, (192, 192), "u4", None, None, None, None, None),
    ("dials_dlsnxs2cbf.cbf.gz", None, (4362, 4148), "i4", "0.98027 Å", 213.96, 0.075, None, 0.008),
    ("xdskappa_phi_0001.cbf", None, (1024, 768), "i4", None, None, None, None, None),
    ("ccp4_biotin_m1.smv", None, (512, 512), "u2", "0.025 Å", 100, 0.1, None, None),
    ("dials_TIMEPIX_SU_512.img", None, (512, 512), "u2", "0.0251 Å", 531.85, 0.055, None, 0.0925),
    ("dials_TIMEPIX_SU_516.img", None, (516, 516), "u2", "0.0251 Å", 531.85, 0.055, None, 0.096288),
    ("dials_simtbx_JHSim.img", None, (1024, 1024), "u2", "0.02508 Å", 1590, 0.055, None, 0.1),
    ("scipion_garnet_0001.img", None, (516, 516), "u2", "0.0251 Å", 237.71, 0.05, None, 0.096288),
]
# every other file, and what its one line says
REFUSED = {
    "rsciio_EELS_SI.dm4": "spectra",
    "ncem_08_carbon.dm3": "spectra",
    "dials_eiger_master.h5": "dectris_eiger_data_000001.h5, which is not beside it",
    "ncem_au_145mm_master.h5": "microprobe_01_data_000001.h5, which is not beside it",
    "rsciio_arina_test_00_master.h5": "test_00_data_000001.h5, which is not beside it",
    "ncem_au_145mm.h5": "without frames in entry/data",
    "rsciio_Merlin_Single_Quad.zip": "suffix '.zip'",
    "rsciio_zipstore.zspy": "suffix '.zspy'",
    "pyxem_amorphousSiO2.hspy": "data of shape (2538,)",
    "dials_al_calibrated.expt": "suffix '.expt'",
    "dials_al_eyeballed.expt": "suffix '.expt'",
    "dials_al_imported.expt": "suffix '.expt'",
    "pyxem_demos_data_README.md": "suffix '.md'",
}


@pytest.mark.parametrize("row", IMAGES, ids=[row[0] for row in IMAGES])
def test_what_a_real_image_says(tmp_path: Path, row: tuple) -> None:
    name, frame, shape, kind, voltage, length, pixel, scale, exposure = row
    image = read_image(real(name, tmp_path), frame)
    assert image.shape == shape
    assert image.pixels.dtype == np.dtype(kind)
    if isinstance(voltage, str):
        assert image.wavelength_A == float(voltage.split()[0])
    else:
        assert image.wavelength_A == (voltage and electron_wavelength_A(voltage))
    for found, said in (
        (image.camera_length_mm, length),
        (image.pixel_size_mm, pixel),
        (image.per_A_per_px, scale),
        (image.exposure_s, exposure),
    ):
        assert found == (None if said is None else pytest.approx(said, rel=2e-5))


@pytest.mark.parametrize("name", ["dials_Gatan_zero.dm4.gz", "rsciio_diffraction_pattern.dm3"])
def test_the_camera_length_is_the_one_that_the_scale_means(tmp_path: Path, name: str) -> None:
    # pixel / (wavelength scale), from independent tags of the same file
    image = read_image(real(name, tmp_path))
    meant = image.pixel_size_mm / (image.wavelength_A * image.per_A_per_px)
    assert image.camera_length_mm == pytest.approx(meant, rel=2e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_in_one_line(tmp_path: Path, name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"real data absent: {name} not in {DATA}")
    with pytest.raises(UserError) as error:
        read_image(DATA / name)
    assert REFUSED[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_every_file_is_in_one_of_the_tables() -> None:
    if not (DATA / "MANIFEST.tsv").exists():
        pytest.skip(f"real data absent: no MANIFEST.tsv in {DATA}")
    with (DATA / "MANIFEST.tsv").open() as file:
        every = {row["file"] for row in csv.DictReader(file, delimiter="\t")}
    opened = {row[0] for row in IMAGES}
    # of archives, one file is looked at here; all of the Merlin's in tests/lib/formats/test_mib.py
    assert every - opened - REFUSED.keys() == set()
    assert opened & REFUSED.keys() == set()


OTHER_READERS = {
    "fabio": (
        "ccp4_biotin_m1.smv", "dials_TIMEPIX_SU_512.img", "dials_TIMEPIX_SU_516.img",
        "dials_simtbx_JHSim.img", "scipion_garnet_0001.img", "xdskappa_phi_0001.cbf",
        "dials_dlsnxs2cbf.cbf.gz", "rsciio_arina_test_00_data_000001.h5",
        "serialed_Ref12_reference.tif", "skued_ewald_walkoff.tif", "ncem_temp.mrc",
    ),
    "digitalmicrograph": (
        "rsciio_diffraction_pattern.dm3", "rsciio_diffraction_tags_removed.dm3",
        "skued_bismuth.dm3", "ncem_float32_nonsquare.dm4", "rsciio_2d_1.dm4",
    ),
    "emd": ("rsciio_velox_tem_stack.emd",),
    "mrc": ("ncem_temp.mrc", "rsciio_DE_movie.mrc", "rsciio_HAADFscan.mrc"),
    "tia": ("ncem_16_STO.ser",),
    "blockfile": ("rsciio_test1.blo",),
    "tvips": ("rsciio_tvips_2345_000.tvips",),
    "quantumdetector": ("skued_test.mib", "skued_test_multi.mib"),
    "tiff": ("pyxem_au_xgrating_20cm.tif", "pyxem_moo3_20cm.tif"),
    "hspy": ("pyxem_Amorphous.hspy",),
    "h5py": ("ncem_Acquisition_18.emd", "rsciio_berkeley_image.emd"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("program", "name"),
    [(program, one) for program, names in OTHER_READERS.items() for one in names],
)
def test_pixels_are_those_that_others_read(tmp_path: Path, program: str, name: str) -> None:
    path = real(name, tmp_path)
    reader = reader_of_suffix(path)
    assert reader is not None
    header = reader.header(path)
    ours = reader.pixels(path, header, 0, header.n_frames)
    if program == "fabio":
        with fabio.open(str(path)) as image:
            ours, theirs = ours[:1], np.asarray(image.data)
    elif program == "h5py":
        with h5py.File(path) as file:
            sets: list[np.ndarray] = []
            file.visititems(
                lambda _, one: sets.append(one[()])
                if isinstance(one, h5py.Dataset) and one.ndim > 1 else None
            )  # fmt: skip
        theirs = max(sets, key=lambda one: one.size)
    else:
        found = importlib.import_module(f"rsciio.{program}").file_reader(str(path))
        theirs = max((np.asarray(one["data"]) for one in found), key=lambda one: one.size)
        if program == "quantumdetector":  # which turns rows over
            theirs = theirs[..., ::-1, :]
    np.testing.assert_array_equal(theirs.reshape(ours.shape), ours)


def test_a_series_of_mib_frames_of_a_quad(tmp_path: Path) -> None:
    real("rsciio_Merlin_Single_Quad.zip", tmp_path)
    given = SeriesOverrides(
        voltage_kV=200, distance_mm=1000, rotation_axis=(1, 0, 0), oscillation_deg=0.1, start_deg=0
    )
    path = next(tmp_path.rglob("Quad_9_Frame_CounterDepth_1_Rows_256RAW.mib"))
    series = read_series(path, overrides=given)
    assert series.frames.shape == (9, 512, 512)
    assert (series.saturation, series.geometry.pixel_size_mm) == (1, 0.055)
    assert (series.frames.compute() <= 1).all()


def test_an_arina_with_its_data_file(tmp_path: Path) -> None:
    for name in ("master", "data_000001"):  # as they were called when they were written
        shutil.copy(
            real(f"rsciio_arina_test_00_{name}.h5", tmp_path), tmp_path / f"test_00_{name}.h5"
        )
    image = read_image(tmp_path / "test_00_master.h5", 16)
    assert image.wavelength_A == electron_wavelength_A(300)  # photon_energy 300000 eV
    assert (image.shape, image.pixels.dtype) == ((192, 192), np.dtype("u4"))
    assert (image.saturation, image.camera) == (8352, "Dectris ARINA CZT")
    assert image.pixel_size_mm == pytest.approx(0.1)
    assert image.camera_length_mm is None  # 0 in the file
    with h5py.File(tmp_path / "test_00_data_000001.h5") as file:
        np.testing.assert_array_equal(image.pixels, file["entry/data/data"][15])


def test_the_real_gold_grating_is_recentred(tmp_path: Path) -> None:
    image = read_image(real("pyxem_au_xgrating_20cm.tif", tmp_path))
    # the ellipse that pyxem published for it; the centre of single rings drifts by a pixel in rows
    start = RingCalibration(
        "x", (256, 256), "gold", 0.02508, 0.03, 700.0, (115.0, 135.0),
        EllipticalDistortion(1.0325, 147.0),
    )  # fmt: skip
    found = recentre(image, start)
    assert 127.8 - 0.3 < found.beam_centre_px[0] < 128.8 + 0.3
    assert found.beam_centre_px[1] == pytest.approx(127.4, abs=0.3)
    assert len(found.radii_px) >= 4
    # 111, 200, 220 and 311 of gold: ratios of radii
    ratios = found.radii_px / found.radii_px[0]
    for expected in (np.sqrt(8 / 3), np.sqrt(11 / 3)):
        assert np.min(np.abs(ratios / expected - 1)) < 0.02
