"""What calibrations state about a series, and what the series makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, read_series
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.instrument import Instrument
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.rings.calibration import NOT_CALIBRATED, RingCalibration
from ewaldflow.lib.rings.hand_over import (
    calibration_text,
    correction_maps,
    instrument_text,
    write_correction_maps,
)
from ewaldflow.lib.rings.statement import stated_by

GOLD = RingCalibration(
    "au", (40, 60), "gold", electron_wavelength_A(200), 0.05, 600.0, (19.25, 30.75),
    EllipticalDistortion(1.024, 83), camera_length_mm=400.0,
    parameters=("distance_mm",), covariance=np.array([[0.0004]]),
)  # fmt: skip


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    for number in range(1, 5):
        pixels = np.full((40, 60), number, np.uint16)
        tifffile.imwrite(tmp_path / f"{number:05d}.tif", pixels)
    return tmp_path


def series(frames: Path, *calibrations: RingCalibration, **more: object):  # type: ignore[no-untyped-def]
    stated = {"rotation_axis": (1, 0, 0), "start_deg": 0.0, "oscillation_deg": 0.5} | more
    return read_series(frames, overrides=SeriesOverrides(**stated), calibrations=calibrations)


def test_a_calibration_is_all_that_a_series_needs(frames: Path) -> None:
    made = series(frames, GOLD)
    assert made.geometry.distance_mm == pytest.approx(600)
    assert made.geometry.wavelength_A == GOLD.wavelength_A
    assert made.geometry.pixel_size_mm == 0.05
    assert made.geometry.beam_centre_px == (19.25, 30.75)
    assert made.geometry.distortion == GOLD.distortion
    assert any("no file of the series states its camera length" in one for one in made.notes)


def test_what_is_calibrated_is_the_scale(frames: Path) -> None:
    # a nominal pixel 2 % larger: the same 1/Å per px
    made = series(frames, GOLD, pixel_size_mm=0.051, voltage_kV=200.0)
    assert made.geometry.per_A_per_px == pytest.approx(GOLD.per_A_per_px)
    assert made.geometry.distance_mm == pytest.approx(612)


def test_the_command_line_wins_and_the_difference_is_told(frames: Path) -> None:
    made = series(frames, GOLD, distance_mm=580.0)
    assert made.geometry.distance_mm == 580
    assert any("580 of the command line was used; the calibration au says 600" in one
               for one in made.notes)  # fmt: skip


def test_binned_frames_by_hand() -> None:
    said = stated_by([replace(GOLD, shape=(80, 120), beam_centre_px=(39.0, 62.0))], (40, 60), 400.0)
    assert said.metadata.per_A_per_px == pytest.approx(2 * GOLD.per_A_per_px)
    assert said.otherwise.pixel_size_mm == pytest.approx(0.1)
    # the edge between pixels 39 and 40 counts 39.5 and, binned, 19.5
    assert said.otherwise.beam_centre_px == pytest.approx((19.25, 30.75))
    assert said.notes == ()
    twice = stated_by([replace(GOLD, shape=(20, 30))], (40, 60), 400.0)
    assert twice.metadata.per_A_per_px == pytest.approx(GOLD.per_A_per_px / 2)


def test_another_camera_length_is_refused_or_interpolated() -> None:
    with pytest.raises(UserError, match="a camera length of 400 mm, expected 500 mm"):
        stated_by([GOLD], (40, 60), 500.0)
    longer = replace(GOLD, name="au-2", distance_mm=1200.0, camera_length_mm=800.0,
                     distortion=EllipticalDistortion(1.03, 80))  # fmt: skip
    said = stated_by([GOLD, longer], (40, 60), 700.0)
    assert said.metadata.per_A_per_px == pytest.approx(GOLD.per_A_per_px * 4 / 7)
    assert said.metadata.distortion == longer.distortion
    assert "interpolated between 400, 800 mm" in said.notes[0]
    with pytest.raises(UserError, match="none stated by the files"):
        stated_by([GOLD, longer], (40, 60), None)


@pytest.mark.parametrize("shape", [(40, 50), (20, 60), (38, 57), (516, 516)])
def test_another_camera_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="camera that took the series"):
        stated_by([GOLD], shape, 400.0)


def test_bad_calibrations(frames: Path) -> None:
    failed = replace(GOLD, verdict=NOT_CALIBRATED, reasons=("one ring only",))
    with pytest.raises(UserError, match="one ring only"):
        stated_by([failed], (40, 60))
    with pytest.raises(UserError, match="none"):
        stated_by([], (40, 60))
    with pytest.raises(UserError, match="at the series' voltage"):
        series(frames, GOLD, voltage_kV=300.0)


def test_what_a_geometry_cannot_be_told_is_noted() -> None:
    said = stated_by([replace(GOLD, three_fold_per_px=(1e-3, 0.0))], (40, 60), 400.0)
    assert "tilt and three-fold distortion of the calibration au are not" in said.notes[0]


def test_maps_hold_all_of_it(tmp_path: Path) -> None:
    # the ellipse along x by 1.01, and 1e-5 * 20^2 = 0.004 px of three-fold at 20 px
    bent = replace(GOLD, beam_centre_px=(20.0, 30.0), distortion=EllipticalDistortion(1.0201, 0),
                   three_fold_per_px=(1e-3, 0.0))  # fmt: skip
    x, y = correction_maps(bent)
    assert x.shape == (40, 60)
    assert x[20, 30] == y[20, 30] == 0
    # at column 50: r + 0.001 r^2 = 20 / 1.01, so r = 19.43; 57 hundredths less
    root = (np.sqrt(1 + 4e-3 * 20 / 1.01) - 1) / 2e-3
    assert x[20, 50] == round(100 * (root - 20))
    assert write_correction_maps(bent, tmp_path) == ("XCORR.cbf", "YCORR.cbf")


def test_the_instrument_takes_it(tmp_path: Path) -> None:
    longer = replace(GOLD, distance_mm=1200.0, camera_length_mm=800.0)
    text = instrument_text([GOLD, longer], "rings/au@v0001")
    assert text.startswith("# from rings/au@v0001, gold")
    base = {"name": "mine", "voltage_kV": 200,
            "detector": {"shape": [40, 60], "pixel_size_mm": 0.05}}  # fmt: skip
    made = Instrument.model_validate(base | yaml.safe_load(text))
    assert made.camera_lengths == {400: 600, 800: 1200}
    assert made.distortion == GOLD.distortion
    alone = yaml.safe_load(instrument_text([replace(GOLD, camera_length_mm=None)], "x"))
    assert alone["distance_mm"] == 600


def test_everything_stands_in_the_yaml() -> None:
    (record,) = yaml.safe_load(calibration_text([GOLD]))["calibrations"]
    assert record["distance_mm"] == 600
    assert record["standard_errors"] == {"distance_mm": pytest.approx(0.02)}
    assert record["distortion"] == {"ratio": 1.024, "azimuth_deg": 83}
    assert record["per_A_per_px"] == GOLD.per_A_per_px
