"""Beam centres and PONI files: by hand, there and back, every version, and against pyFAI."""

import stat
from math import cos, tan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.rings import (
    center_to_poni,
    get_calibration_parameters,
    poni_to_center,
    read_poni,
    update_ai,
    write_poni,
)
from ewaldflow.lib.rings.calibration import Ring, RingCalibration
from ewaldflow.lib.rings.poni import poni_of, to_integrator
from ewaldflow.lib.rings.poni_file import read_poni_file, write_poni_file

# the example of the document that these functions were first described in: no Detector line
SAMPLE = """# Calibration file for pyFAI
# Using format for pyFAI detector configuration

Distance: 0.2344
Poni1: 0.001234
Poni2: 0.001456
Rot1: 0.00234
Rot2: 0.00134
Rot3: 0.00512
Wavelength: 2.51e-12
Detector_config: {"pixel1": 5e-6, "pixel2": 5e-6, "max_shape": [3712, 3840]}
"""
NUMBERS = "Distance: 0.5\nPoni1: 0.01\nPoni2: 0.02\nRot1: 0\nRot2: 0\nRot3: 0\n"
VERSION_1 = "PixelSize1: 5.5e-05\nPixelSize2: 5.5e-05\n" + NUMBERS + "SplineFile: None\n"
CONFIG = '"pixel1": 5.5e-05, "pixel2": 5.5e-05, "max_shape": [512, 500]'
VERSION_2 = f"poni_version: 2\nDetector: Detector\nDetector_config: {{{CONFIG}}}\n" + NUMBERS
VERSION_21 = VERSION_2.replace("2\n", "2.1\n", 1).replace("]}", '], "orientation": 1}')
VERSION_3 = VERSION_21.replace("2.1", "3") + "Parallax: False\n"


def calibration(**changes: object) -> RingCalibration:
    fields = {
        "name": "gold",
        "shape": (300, 400),
        "calibrant": "gold",
        "wavelength_A": 0.025079340,
        "pixel_size_mm": 0.03,
        "distance_mm": 700.0,
        "beam_centre_px": (140.3, 220.7),
        "distortion": EllipticalDistortion(1.024, 83.0),
        "three_fold_per_px": (1e-5, -2e-5),
        "radial_per_mm2": 1e-5,
        "rings": (Ring((1, 1, 1), 2.3545, 100, 0, 1.0, 0.1, 0.0),),
    }
    return RingCalibration(**(fields | changes))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "one.poni"
    path.write_text(text)
    return path


def test_the_centre_of_a_pixel_is_half_a_pixel_in() -> None:
    assert center_to_poni(10, 20, 1e-4, 2e-4, 0.5) == pytest.approx((41e-4, 10.5e-4), rel=1e-12)


@pytest.mark.parametrize(
    ("orientation", "rows_from_corner", "columns_from_corner"),
    [(1, 79.5, 189.5), (2, 79.5, 10.5), (3, 20.5, 10.5), (4, 20.5, 189.5)],
)
def test_the_corner_that_an_orientation_counts_from(
    orientation: int, rows_from_corner: float, columns_from_corner: float
) -> None:
    # row 20, column 10 of 100 x 200 pixels of 0.1 mm
    found = center_to_poni(10, 20, 1e-4, 1e-4, 0.5, orientation=orientation, shape=(100, 200))
    expected = (rows_from_corner * 1e-4, columns_from_corner * 1e-4)
    assert found == pytest.approx(expected, rel=1e-12)


def test_tilts_move_the_foot_of_the_normal_and_rot3_does_not() -> None:
    straight = center_to_poni(10, 20, 1e-4, 1e-4, 0.5)
    tilted = center_to_poni(10, 20, 1e-4, 1e-4, 0.5, 0.1, 0.2)
    assert tilted[0] - straight[0] == pytest.approx(-0.5 * tan(0.2) / cos(0.1))
    assert tilted[1] - straight[1] == pytest.approx(0.5 * tan(0.1))
    assert center_to_poni(10, 20, 1e-4, 1e-4, 0.5, 0.1, 0.2, 1.5) == tilted


centres = st.floats(-3000, 3000)
tilts = st.floats(-0.6, 0.6)


@given(centres, centres, tilts, tilts, tilts, st.sampled_from([1, 2, 3, 4]))
def test_there_and_back(
    cx: float, cy: float, rot1: float, rot2: float, rot3: float, orientation: int
) -> None:
    sizes = (1.5e-5, 3e-5, 0.8, rot1, rot2, rot3)
    options = {"orientation": orientation, "shape": (2048, 4096)}
    poni = center_to_poni(cx, cy, *sizes, **options)
    assert poni_to_center(*poni, *sizes, **options) == pytest.approx((cx, cy), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "what"),
    [
        ((1, 1, 1e-4, 1e-4, 0.5), {"orientation": 5}, "orientation"),
        ((1, 1, 1e-4, 1e-4, 0.5), {"orientation": 1}, "shape"),
        ((1, 1, 0, 1e-4, 0.5), {}, "px_size"),
        ((1, 1, 1e-4, 1e-4, -1), {}, "dist"),
        ((1, 1, 1e-4, 1e-4, 0.5, 1.6), {}, "rot1"),
    ],
)
def test_arguments_that_cannot_be(arguments: tuple, options: dict, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        center_to_poni(*arguments, **options)


def test_pyfai_finds_the_beam_where_it_was_put(tmp_path: Path) -> None:
    # the direct beam is the one point of no scattering angle, whatever tilt and orientation
    one = calibration(rot1_rad=0.05, rot2_rad=-0.03)
    angles = []
    for orientation in (1, 2, 3, 4):
        path = write_poni(one, tmp_path / f"{orientation}.poni", orientation=orientation)
        integrator = to_integrator(read_poni_file(path))
        assert integrator.detector.orientation == orientation
        angles.append(integrator.center_array((300, 400), unit="2th_rad"))
        b1, b2 = read_poni_file(path).poni1_m, read_poni_file(path).poni2_m
        assert (integrator.poni1, integrator.poni2) == (b1, b2)
    for other in angles[1:]:
        np.testing.assert_allclose(other, angles[0], atol=1e-9)
    assert np.unravel_index(int(np.argmin(angles[0])), (300, 400)) == (140, 221)
    # along both axes tan(2 theta) falls to zero at the centre
    row = np.tan(angles[0][:, 221])
    near = np.argsort(row)[:3]
    fit = np.polyfit(near, row[near] ** 2, 2)
    assert -fit[1] / (2 * fit[0]) == pytest.approx(140.3, abs=0.02)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_a_calibration_survives_its_poni(tmp_path: Path, orientation: int) -> None:
    one = calibration(rot1_rad=0.05, rot2_rad=-0.03)
    back = read_poni(write_poni(one, tmp_path / "one.poni", orientation=orientation))
    assert back.beam_centre_px == pytest.approx(one.beam_centre_px, abs=1e-9)
    for name in ("shape", "calibrant", "distortion", "three_fold_per_px", "radial_per_mm2",
                 "rot1_rad", "rot2_rad", "name"):  # fmt: skip
        assert getattr(back, name) == getattr(one, name)
    for name in ("wavelength_A", "pixel_size_mm", "distance_mm"):
        assert getattr(back, name) == pytest.approx(getattr(one, name), rel=1e-12)
    assert [ring.d_A for ring in back.rings] == [2.3545]


def test_the_documents_sample(tmp_path: Path) -> None:
    found = get_calibration_parameters(written(tmp_path, SAMPLE))
    assert found["distance"] == 0.2344
    assert (found["poni1"], found["poni2"]) == (0.001234, 0.001456)
    assert (found["rot1"], found["rot2"], found["rot3"]) == (0.00234, 0.00134, 0.00512)
    assert (found["pixel1"], found["pixel2"], found["max_shape"]) == (5e-6, 5e-6, (3712, 3840))
    assert (found["wavelength"], found["orientation"], found["detector"]) == (
        2.51e-12,
        3,
        "Detector",
    )
    # (0.001234 + 0.2344 tan(0.00134)/cos(0.00234)) / 5e-6 - 0.5 and the same for columns
    assert found["center"] == pytest.approx((181.0, 309.1), abs=0.1)
    again = write_poni_file(read_poni_file(tmp_path / "one.poni"), tmp_path / "two.poni")
    assert "Detector: Detector" in again.read_text()


@pytest.mark.parametrize(
    ("text", "version", "orientation", "shape"),
    [
        (VERSION_1, 1.0, 3, None),
        (VERSION_2, 2.0, 3, (512, 500)),
        (VERSION_21, 2.1, 1, (512, 500)),
        (VERSION_3, 3.0, 1, (512, 500)),
        ("detector: Pilatus1M\n" + NUMBERS, 1.0, 3, (1043, 981)),
    ],
)
def test_versions(
    tmp_path: Path, text: str, version: float, orientation: int, shape: tuple[int, int] | None
) -> None:
    found = get_calibration_parameters(written(tmp_path, text))
    assert (found["poni_version"], found["orientation"]) == (version, orientation)
    assert found["max_shape"] == shape
    assert found["pixel1"] == pytest.approx(1.72e-4 if "Pilatus" in text else 5.5e-5)
    if orientation == 3:  # 0.02 m / pixel - 0.5
        assert found["center"][0] == pytest.approx(0.02 / found["pixel2"] - 0.5)


def test_the_last_entry_of_a_file_that_was_appended_to_counts(tmp_path: Path) -> None:
    text = VERSION_2 + VERSION_2.replace("0.01", "0.03")
    assert get_calibration_parameters(written(tmp_path, text))["poni1"] == 0.03


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (NUMBERS, "no detector and no pixel size"),
        (VERSION_2.replace("Poni1: 0.01\n", ""), "Poni1: found nothing"),
        (VERSION_2.replace("Rot1: 0", "Rot1: x"), "Rot1: found 'x'"),
        (VERSION_2.replace("0.5", "-0.5"), "Distance"),
        (VERSION_2.replace("{", "{{"), "JSON"),
        (VERSION_2.replace("5.5e-05", "55"), "pixels of"),
        (VERSION_21.replace('"orientation": 1', '"orientation": 7'), "orientation: found 7"),
        ("poni_version: 9\n" + VERSION_1, "poni_version: found 9"),
        ("Detector: Abacus\n" + NUMBERS, "Abacus"),
        (VERSION_2 + "# Ewaldflow: {broken\n", "JSON object"),
        ("", "Distance"),
    ],
)
def test_files_that_are_no_poni(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        get_calibration_parameters(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_filenotfounderror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        get_calibration_parameters(tmp_path / "none.poni")


def test_writing_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "one.poni"
    for _ in range(3):
        write_poni(calibration(), path)
    assert path.read_text().count("Poni1") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["one.poni"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    with pytest.raises(UserError, match="check the folder"):
        write_poni(calibration(), tmp_path / "none" / "one.poni")


def test_what_a_calibration_needs_of_a_poni(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Wavelength: found nothing"):
        read_poni(written(tmp_path, VERSION_2))
    assert read_poni(tmp_path / "one.poni", wavelength_A=0.025).wavelength_A == 0.025
    with pytest.raises(UserError, match="512 x 500, expected 100 x 100"):
        read_poni(tmp_path / "one.poni", wavelength_A=0.025, shape=(100, 100))
    with pytest.raises(UserError, match="max_shape: found nothing"):
        read_poni(written(tmp_path, VERSION_1), wavelength_A=0.025)
    with pytest.raises(UserError, match="square"):
        read_poni(written(tmp_path, SAMPLE.replace('pixel1": 5e-6', 'pixel1": 6e-6')))


def test_update_ai_moves_only_the_poni(tmp_path: Path) -> None:
    path = written(tmp_path, VERSION_3)
    integrator = update_ai(path, 0.5, 0.25, tmp_path / "two.poni")
    assert (integrator.poni1, integrator.poni2, integrator.dist) == (0.5, 0.25, 0.5)
    before, after = read_poni_file(path), read_poni_file(tmp_path / "two.poni")
    assert (after.poni1_m, after.poni2_m, after.orientation, after.version) == (0.5, 0.25, 1, 3.0)
    assert (before.poni1_m, before.distance_m) == (0.01, after.distance_m)


def test_a_poni_of_an_integrator_of_pyfai_itself_is_read(tmp_path: Path) -> None:
    integrator = to_integrator(poni_of(calibration(), orientation=2))
    integrator.save(str(tmp_path / "one.poni"))
    found = read_poni(tmp_path / "one.poni")
    assert found.beam_centre_px == pytest.approx((140.3, 220.7), abs=1e-6)
