"""Real images of DM, EMD, TIFF and MRC files: shape, pixel type and calibration."""

import gzip
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_image
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
    if name.endswith(".gz"):
        path = folder / name[:-3]
        path.write_bytes(gzip.decompress((DATA / name).read_bytes()))
        return path
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
]


@pytest.mark.parametrize("row", IMAGES, ids=[row[0] for row in IMAGES])
def test_what_a_real_image_says(tmp_path: Path, row: tuple) -> None:
    name, frame, shape, kind, voltage, length, pixel, scale, exposure = row
    image = read_image(real(name, tmp_path), frame)
    assert image.shape == shape
    assert image.pixels.dtype == np.dtype(kind)
    expected = None if voltage is None else electron_wavelength_A(voltage)
    assert image.wavelength_A == expected
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


@pytest.mark.parametrize("name", ["rsciio_EELS_SI.dm4", "ncem_08_carbon.dm3"])
def test_spectra_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="spectra"):
        read_image(real(name, tmp_path))


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
