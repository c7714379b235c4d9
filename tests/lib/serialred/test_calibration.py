"""Calibrations: the convention by hand, what is refused and in which words, and YAML."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import yaml

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.calibration import (
    CalibrationSet,
    ShiftCalibration,
    calibrations_from_dict,
    calibrations_to_dict,
    refuse_if_unfit,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
IMAGING = ShiftCalibration(
    "beam_shift", "imaging", "nm", np.array([[0.0, 0.1], [0.2, 0.0]]), 1e-8 * np.eye(4), 0.3,
    25, 0, "twin", NOW, magnification=2500,
)  # fmt: skip
DEFOCUSED = replace(
    IMAGING, condition="defocused", magnification=None, camera_length_mm=300.0, defocus_um=150.0
)


def test_shifts_of_picture_and_actuator():
    assert IMAGING.px([10, 20]) == pytest.approx([2.0, 2.0])
    assert IMAGING.shift([2.0, 2.0]) == pytest.approx([10, 20])
    assert IMAGING.px(np.ones((3, 2))).shape == (3, 2)


def test_the_expected_error_over_the_norm():
    # four elements of variance 1e-8, norm sqrt(0.05)
    assert IMAGING.relative_error == pytest.approx(np.sqrt(4e-8 / 0.05))


def check(one, **changes):
    now = {"instrument": "twin", "now": NOW, "magnification": 2500, "camera_length_mm": 300.0,
           "defocus_um": 150.0, **changes}  # fmt: skip
    refuse_if_unfit(one, **now)


def test_fit_ones_pass():
    check(IMAGING)
    check(DEFOCUSED)
    check(IMAGING, camera_length_mm=150.0, defocus_um=10.0)  # not of its condition
    check(DEFOCUSED, magnification=5000)
    check(DEFOCUSED, defocus_um=151.0)


@pytest.mark.parametrize(
    ("one", "changes", "words"),
    [
        (IMAGING, {"instrument": "jeol"}, "one of instrument twin, expected one of jeol"),
        (IMAGING, {"magnification": 5000}, "magnification 2500, expected 5000"),
        (DEFOCUSED, {"camera_length_mm": 250.0}, "camera length 300.0 mm, expected 250 mm"),
        (DEFOCUSED, {"defocus_um": 200.0}, "a defocus of 150.0 um, expected 200 um"),
        (IMAGING, {"now": NOW + timedelta(hours=30)}, "one 30 h old, expected at most 24 h"),
        (replace(IMAGING, covariance=np.eye(4)), {}, "an error of"),
        (replace(IMAGING, covariance=np.full((4, 4), np.nan)), {}, "an error of"),
        (replace(IMAGING, px_per_unit=np.zeros((2, 2))), {}, "an error of inf"),
        (replace(IMAGING, residual_px=9.0), {}, "residuals of 9 px"),
    ],
)
def test_unfit_ones_are_named_in_one_line(one, changes, words):
    with pytest.raises(UserError) as caught:
        check(one, **changes)
    text = str(caught.value)
    assert text.startswith(f"calibration of beam_shift, {one.condition}: found ")
    assert words in text
    assert "calibrate-deflectors" in text
    assert "\n" not in text


def test_through_yaml_and_back():
    calibrations = CalibrationSet((IMAGING, DEFOCUSED))
    text = yaml.safe_dump(calibrations_to_dict(calibrations))
    back = calibrations_from_dict(yaml.safe_load(text))
    for one, other in zip(calibrations, back, strict=True):
        assert np.array_equal(one.px_per_unit, other.px_per_unit)
        assert np.array_equal(one.covariance, other.covariance)
        assert (one.measured_at, one.defocus_um, one.unit) == (
            other.measured_at, other.defocus_um, other.unit,
        )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"calibrations": [{"actuator": "stage"}]},
        {"calibrations": [{**calibrations_to_dict(CalibrationSet((IMAGING,)))["calibrations"][0],
                           "px_per_unit": [[1, 2]]}]},
        {"calibrations": [{**calibrations_to_dict(CalibrationSet((IMAGING,)))["calibrations"][0],
                           "colour": "red"}]},
    ],
)  # fmt: skip
def test_anything_else_is_refused(content):
    with pytest.raises(UserError, match="calibrate-deflectors"):
        calibrations_from_dict(content)
