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


def test_everything_else_is_refused_in_one_line(images):
    paths = [p for p in sorted((images).iterdir()) if p.name not in SCANS]
    assert len(paths) > 40
    for path in paths:
        with pytest.raises(UserError) as error:
            read_scan(path)
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)
