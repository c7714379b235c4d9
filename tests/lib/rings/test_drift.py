"""A calibration compared with an earlier one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.rings.calibration import NOT_CALIBRATED, RingCalibration
from ewaldflow.lib.rings.drift import DriftLimits, comparable, drift

BEFORE = RingCalibration(
    "au", (512, 512), "gold", 0.025, 0.055, 600.0, (250.0, 260.0), EllipticalDistortion(1.024, 83),
    parameters=("distance_mm", "beam_row_px", "beam_column_px", "ratio"),
    covariance=np.diag([0.03, 0.02, 0.02, 0.0003]) ** 2, camera_length_mm=400.0,
)  # fmt: skip


def test_nothing_moved() -> None:
    now = replace(BEFORE, beam_centre_px=(253.0, 264.0), distance_mm=601.0)
    found = drift(now, BEFORE, "rings/au@v0001")
    assert found.warnings == ()
    assert found.changes[0].change == pytest.approx(100 / 600)
    assert found.changes[0].sd == pytest.approx(100 * 0.03 / 600 * np.sqrt(2), rel=1e-2)
    assert found.changes[1].change == pytest.approx(5.0)
    assert found.changes[2].change == pytest.approx(0, abs=1e-12)


def test_what_moved_is_told() -> None:
    now = replace(
        BEFORE, distance_mm=606.0, beam_centre_px=(280.0, 300.0),
        distortion=EllipticalDistortion(1.03, 83),
    )  # fmt: skip
    scale, centre, ellipse = drift(now, BEFORE, "rings/au@v0001").warnings
    assert "+1.00 % since rings/au@v0001: 600.00 mm then, 606.00 mm now" in scale
    assert "moved by 50.0 px" in centre
    assert "changed by 0.0058" in ellipse  # sqrt(1.03 / 1.024) less its inverse


def test_an_ellipse_that_turned_has_changed() -> None:
    now = replace(BEFORE, distortion=EllipticalDistortion(1.024, 173))
    # both of 1.2 % to either side: sqrt(1.024 * 1.024) less its inverse
    assert drift(now, BEFORE, "x").changes[2].change == pytest.approx(1.024 - 1 / 1.024)


def test_a_change_within_its_error_is_none() -> None:
    poor = replace(BEFORE, distance_mm=606.0, covariance=BEFORE.covariance * 1e4)
    assert drift(poor, BEFORE, "x").warnings == ()
    unknown = replace(poor, parameters=(), covariance=np.zeros((0, 0)))
    assert len(drift(unknown, BEFORE, "x").warnings) == 1
    assert drift(replace(BEFORE, distance_mm=606.0), BEFORE, "x", DriftLimits(distance_percent=2)
                 ).warnings == ()  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"camera_length_mm": 401.0}, True),
        ({"camera_length_mm": 500.0}, False),
        ({"camera_length_mm": None}, True),
        ({"camera_length_mm": None, "distance_mm": 750.0}, False),
        ({"distance_mm": 750.0}, True),
        ({"shape": (1024, 1024)}, False),
        ({"wavelength_A": 0.0197}, False),
        ({"verdict": NOT_CALIBRATED}, False),
    ],
)
def test_only_like_is_compared_with_like(changes: dict[str, object], same: bool) -> None:
    assert comparable(replace(BEFORE, **changes), BEFORE) is same
    assert comparable(BEFORE, replace(BEFORE, **changes)) is same
