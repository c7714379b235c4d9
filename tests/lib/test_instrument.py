import re
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.instrument import (
    Instrument,
    SeriesMetadata,
    SeriesOverrides,
    available_instruments,
    load_instrument,
)

YAML = """
name: test
voltage_kV: 200
detector:
  shape: [10, 20]
  pixel_size_mm: 0.1
  untrusted_rectangles:
    - {rows: [2, 3], columns: [0, 19]}
  dead_pixels: [[9, 19]]
rotation_axis: {instamatic_rad: -2.24}
camera_lengths: {300: 532.3}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "test.yaml"
    path.write_text(text)
    return path


def test_all_that_come_along_load() -> None:
    assert {"jeol2100-timepix516", "timepix512", "twin"} <= set(available_instruments())
    for name in available_instruments():
        assert load_instrument(name).name == name


def test_the_timepix_cross() -> None:
    mask = load_instrument("jeol2100-timepix516").detector.mask
    # six rows and six columns of 516 less the 36 pixels counted twice
    assert mask.sum() == 2 * 6 * 516 - 36
    assert mask[255, 0]
    assert mask[260, 515]
    assert mask[0, 255]
    assert not mask[254, 254]
    assert not mask[261, 261]


def test_from_a_file(tmp_path: Path) -> None:
    one = load_instrument(written(tmp_path, YAML))
    assert one.detector.shape == (10, 20)
    assert one.detector.mask.sum() == 2 * 20 + 1
    np.testing.assert_allclose(one.rotation_axis, [-0.62036, 0.78432, 0.0], atol=1e-5)
    assert one.camera_lengths == {300.0: 532.3}
    assert one.defaults.exact_wavelength_A == pytest.approx(0.0250793, abs=5e-8)
    with pytest.raises(ValueError, match="frozen"):
        one.name = "other"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("voltage_kV: 200", "voltage: 200", "voltage_kV.*nothing"),
        ("voltage_kV: 200", "voltage_kV: -1", "voltage_kV.*-1"),
        ("pixel_size_mm: 0.1", "pixel_size: 0.1", "detector.pixel_size_mm.*nothing"),
        ("pixel_size_mm: 0.1", "pixel_size_mm: .nan", "detector.pixel_size_mm.*nan"),
        ("shape: [10, 20]", "shape: 10", "detector.shape.*10"),
        ("rows: [2, 3]", "rows: [3, 12]", r"detector.*\(3, 12\).*0..9"),
        ("[[9, 19]]", "[[10, 0]]", "dead pixel"),
        ("{instamatic_rad: -2.24}", "[0, 0, 0]", "rotation_axis.*not all zero"),
        ("{instamatic_rad: -2.24}", "{theta: 1}", "rotation_axis.*instamatic_rad"),
        ("{instamatic_rad: -2.24}", "{instamatic_rad: [1]}", "rotation_axis"),
        ("{instamatic_rad: -2.24}", "5", "rotation_axis"),
        ("name: test", "name: test\nnmae: x", "nmae.*Extra"),
        ("name: test", "name: !!python/object:os.system {}", "constructor"),
        ("name: test", "name: [", r"test\.yaml, line"),
    ],
)
def test_one_line_names_file_and_field(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in YAML
    path = written(tmp_path, YAML.replace(old, new))
    with pytest.raises(UserError) as error:
        load_instrument(path)
    text = str(error.value)
    assert "test.yaml" in text
    assert "\n" not in text
    assert re.search(says, text), text


def test_an_empty_instrument(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text("")
    with pytest.raises(UserError, match="name: found nothing"):
        load_instrument(path)


@pytest.mark.parametrize("content", ["just words", "- a\n- b\n"])
def test_not_an_instrument(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match="fields of an instrument"):
        load_instrument(written(tmp_path, content))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jeol2100-timepix516"):
        load_instrument("jeol")
    with pytest.raises(UserError, match="No such file"):
        load_instrument(tmp_path / "absent.yaml")


def test_voltage_or_wavelength_but_not_both() -> None:
    assert SeriesMetadata(wavelength_A=0.0251).exact_wavelength_A == 0.0251
    assert SeriesOverrides(voltage_kV=300).exact_wavelength_A == pytest.approx(0.0196875, abs=5e-8)
    with pytest.raises(ValueError, match="not both"):
        SeriesOverrides(voltage_kV=200, wavelength_A=0.0251)


def test_defaults_hold_what_the_instrument_knows() -> None:
    one = Instrument(
        name="x",
        voltage_kV=200,
        detector={"shape": (4, 4), "pixel_size_mm": 0.05, "gain": 2.0, "saturation": 100},
        distortion={"ratio": 1.02, "azimuth_deg": 30},
        radial_per_mm2=1e-4,
    )
    assert one.defaults.gain == 2.0
    assert one.defaults.saturation == 100
    assert one.defaults.distortion.ratio == 1.02
    assert one.defaults.radial_per_mm2 == 1e-4
    assert one.defaults.rotation_axis is None
