"""A real gold grating, whose ellipse and scale pyxem has published."""

import importlib
import sys
from pathlib import Path

import pytest
import tifffile

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.rings.calibrants import gold, thallium_chloride
from ewaldflow.lib.rings.calibrate import calibrate_rings
from ewaldflow.lib.rings.calibration import CALIBRATED, NOT_CALIBRATED
from ewaldflow.lib.rings.config import RingConfig

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
real = importlib.import_module("_real")

pytestmark = pytest.mark.real


@pytest.fixture
def grating():
    path = real.default_data() / "images" / "pyxem_au_xgrating_20cm.tif"
    if not path.exists():
        pytest.skip(f"real data absent: {path}")
    pixels = tifffile.imread(path)
    return DiffractionImage("grating", pixels, electron_wavelength_A(200), pixel_size_mm=0.055)


def test_ellipse_and_scale_of_a_gold_grating(grating):
    found = calibrate_rings([grating], gold())
    # pyxem: 1.0353, 147.4 degrees, 0.010237 1/Å per px
    assert found.distortion.ratio == pytest.approx(1.0353, abs=0.003)
    assert found.distortion.azimuth_deg == pytest.approx(147.4, abs=1.5)
    assert 0.0098 < found.per_A_per_px < 0.0102
    assert found.beam_centre_px == pytest.approx((127.9, 127.5), abs=0.4)
    # its rings are not concentric, which the default limits do not allow
    assert found.verdict == NOT_CALIBRATED
    assert any("not concentric" in reason for reason in found.reasons)


def test_it_is_not_thallium_chloride(grating):
    try:
        verdict = calibrate_rings(
            [grating], thallium_chloride(), RingConfig(largest_centre_sd_px=5)
        ).verdict
    except UserError:
        verdict = NOT_CALIBRATED
    assert verdict != CALIBRATED
