"""Every file of `images/`: a 4D-STEM scan is read, everything else refused in one line."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.scan4d import read_scan
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.stem4d.metadata import ScanMetadata

pytestmark = pytest.mark.real
ROOT = Path(ewaldflow.__file__).resolve().parent
IMAGES = Path(os.environ.get("EWALDFLOW_REAL_DATA", ROOT.parent / "shared" / "data")) / "images"
SCANS = {"rsciio_test1.blo"}


@pytest.fixture
def images() -> Path:
    if not IMAGES.is_dir():
        pytest.skip(f"real data absent: no {IMAGES}")
    return IMAGES


def test_a_nanomegas_blockfile(images):
    scan = read_scan(images / "rsciio_test1.blo")
    assert scan.frames.shape == (3, 2, 144, 144)
    assert scan.scan_step_nm == pytest.approx((12.8, 12.8))
    assert scan.wavelength_A == electron_wavelength_A(200)
    assert np.asarray(scan.frames[1]).mean() > 1


def test_frames_of_an_arina(images, tmp_path):
    # the master links to its data file by the name both had when they were written
    for name in ("test_00_master.h5", "test_00_data_000001.h5"):
        shutil.copy(images / f"rsciio_arina_{name}", tmp_path / name)
    with pytest.raises(UserError, match="16 frames in a row"):
        read_scan(tmp_path / "test_00_master.h5")
    scan = read_scan(
        tmp_path / "test_00_master.h5", stated=ScanMetadata(scan_shape=(4, 4), voltage_kV=300)
    )
    assert scan.frames.shape == (4, 4, 192, 192)
    assert scan.pixel_size_mm == pytest.approx(0.1)
    assert scan.saturation == 8352


def test_frames_of_a_merlin_quad(images, tmp_path):
    with zipfile.ZipFile(images / "rsciio_Merlin_Single_Quad.zip") as archive:
        archive.extractall(tmp_path)
    read = refused = 0
    for path in sorted(tmp_path.rglob("*.mib")):
        if "9_Frame" not in path.name:
            with pytest.raises(UserError, match="one image of"):
                read_scan(path)
            refused += 1
            continue
        scan = read_scan(path, stated=ScanMetadata(scan_shape=(3, 3)))
        side = 512 if "Quad" in path.name else 256
        assert scan.frames.shape == (3, 3, side, side)
        assert not scan.missing.any()
        depth = int(path.name.split("CounterDepth_")[1].split("_")[0])
        assert scan.saturation == 2**depth - 1
        assert scan.pixel_size_mm == 0.055
        assert np.asarray(scan.frames[...]).max() <= scan.saturation
        read += 1
    assert (read, refused) == (10, 10)


# file, frames, (rows, columns), dtype, kV, camera length mm, pixel mm, saturation
STACKS = [
    ("ncem_temp.mrc", 3, (128, 128), "f4", None, None, None, None),
    ("rsciio_DE_movie.mrc", 32, (4, 8), "u2", None, None, None, None),
    ("rsciio_arina_test_00_data_000001.h5", 16, (192, 192), "u4", None, None, None, None),
    ("rsciio_tvips_2345_000.tvips", 6, (4, 5), "u2", 200, 80.0, None, None),
    ("rsciio_velox_tem_stack.emd", 2, (3, 3), "i2", 300, None, None, None),
    ("skued_test_multi.mib", 9, (256, 256), "u1", None, None, 0.055, 63),
]


@pytest.mark.parametrize("row", STACKS, ids=[row[0] for row in STACKS])
def test_stacks_of_frames_need_the_shape_of_their_scan(images, row):
    name, n, shape, kind, voltage, length, pixel, saturation = row
    with pytest.raises(UserError, match=f"{n} frames in a row"):
        read_scan(images / name)
    scan = read_scan(images / name, stated=ScanMetadata(scan_shape=(1, n)))
    assert scan.frames.shape == (1, n, *shape)
    assert scan.frames.dtype == np.dtype(kind)
    assert scan.wavelength_A == (None if voltage is None else electron_wavelength_A(voltage))
    assert scan.camera_length_mm == length
    assert scan.pixel_size_mm == pixel
    assert scan.saturation == saturation
    assert np.asarray(scan.frames[0]).shape == (n, *shape)


REFUSED = {
    "ncem_au_145mm_master.h5": r"a link to au_145mm_68kx_microprobe_01_data_000001\.h5",
    "dials_eiger_master.h5": r"a link to dectris_eiger_data_000001\.h5",
    "ncem_16_STO.ser": "one image of 1024 x 1024",
    "rsciio_EELS_SI.dm4": "found spectra",
    "rsciio_zipstore.zspy": r"of shape \(10, 10\)",
    "pyxem_Amorphous.hspy": r"of shape \(512, 512\)",
    "skued_test.mib": "one image of 256 x 256",
    "serialed_Ref12_reference.tif": "one image of 516 x 1556",
    "dials_Gatan_zero.dm4.gz": "suffix '.gz'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_why_others_are_refused(images, name):
    with pytest.raises(UserError, match=REFUSED[name]):
        read_scan(images / name)


def test_everything_else_is_refused_in_one_line(images):
    paths = [p for p in sorted((images).iterdir()) if p.name not in SCANS]
    assert len(paths) > 40
    for path in paths:
        with pytest.raises(UserError) as error:
            read_scan(path)
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)
