"""Effective camera lengths between calibrated ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.rings.calibration import NOT_CALIBRATED, RingCalibration
from ewaldflow.lib.rings.camera_lengths import CameraLengths, camera_lengths


def one(nominal: float | None, distance: float, sd: float = 0.1, **more: object) -> RingCalibration:
    given: dict[str, object] = {
        "name": f"au-{nominal}", "shape": (512, 512), "calibrant": "gold", "wavelength_A": 0.025,
        "pixel_size_mm": 0.055, "distance_mm": distance, "beam_centre_px": (250.0, 260.0),
        "parameters": ("distance_mm",), "covariance": np.array([[sd * sd]]),
        "camera_length_mm": nominal,
    }  # fmt: skip
    return RingCalibration(**(given | more))  # type: ignore[arg-type]


def test_a_constant_factor_is_exact() -> None:
    table = camera_lengths([one(400, 600.0), one(100, 150.0), one(200, 300.0)])
    np.testing.assert_array_equal(table.nominal_mm, [100, 200, 400])
    assert table.scatter == 0
    assert table.at(250)[0] == pytest.approx(375)
    assert table.per_A_per_px(250)[0] == pytest.approx(0.055 / (375 * 0.025))
    # those calibrated are as calibrated, also where the display rounds
    assert table.at(200.4) == (300.0, pytest.approx(0.1))


def test_two_points_by_hand() -> None:
    # factors 1.5 and 1.53; half way in the logarithm their geometric mean
    table = camera_lengths([one(100, 150.0, 0.0), one(400, 612.0, 0.0)])
    distance, sd = table.at(200)
    assert distance == pytest.approx(200 * np.sqrt(1.5 * 1.53))
    # tau = ln(1.53 / 1.5) / sqrt 2; between, sqrt(1 + 1/4 + 1/4) of it
    assert sd / distance == pytest.approx(np.log(1.02) / np.sqrt(2) * np.sqrt(1.5))
    size, size_sd = table.per_A_per_px(200)
    assert size_sd / size == pytest.approx(sd / distance)


@given(st.integers(0, 2**32 - 1))
def test_between_neighbours_for_any_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nominal = np.cumsum(rng.uniform(20, 200, 5))
    factor = rng.normal(1.5, 0.02, 5)
    table = camera_lengths([one(n, n * f) for n, f in zip(nominal, factor, strict=True)])
    at = 0.5 * (nominal[2] + nominal[3])
    distance, sd = table.at(at)
    assert min(factor[2:4]) <= distance / at * (1 + 1e-12)
    assert distance / at <= max(factor[2:4]) * (1 + 1e-12)
    assert sd > 0


def test_errors_cover_what_settings_do() -> None:
    # settings scatter by 1 % about a constant factor: errors must be of that size
    rng = np.random.default_rng(7)
    z = []
    for _ in range(300):
        nominal = np.array([100.0, 150, 200, 300, 400, 600, 800])
        real = nominal * 1.5 * np.exp(rng.normal(0, 0.01, 7))
        table = camera_lengths([one(n, d) for n, d in zip(nominal[::2], real[::2], strict=True)])
        for n, d in zip(nominal[1::2], real[1::2], strict=True):
            distance, sd = table.at(n)
            z.append((distance - d) / max(sd, 0.1))
    # tau is estimated from two settings only, so that the tails are long
    assert 0.45 < np.mean(np.abs(z) < 1) < 0.75


def test_several_of_one_setting_are_averaged() -> None:
    # weights 4 : 1; they differ by 1 mm, 4.5 of their common error, which grows accordingly
    table = camera_lengths([one(200, 300.0, 0.1), one(200, 301.0, 0.2)])
    assert table.distance_mm[0] == pytest.approx(300.2)
    chi2 = (0.2 / 0.1) ** 2 + (0.8 / 0.2) ** 2
    assert table.sd_mm[0] == pytest.approx(np.sqrt(chi2 / 125))
    assert np.isnan(table.scatter)


@pytest.mark.parametrize(
    ("calibrations", "found"),
    [
        ([], "no calibration"),
        ([one(None, 300.0)], "no nominal camera length"),
        ([one(100, 150.0, verdict=NOT_CALIBRATED)], "not calibrated"),
        ([one(100, 150.0), one(200, 300.0, wavelength_A=0.0197)], "wavelength_A"),
        ([one(100, 150.0), one(200, 300.0, pixel_size_mm=0.11)], "pixel_size_mm"),
    ],
)
def test_what_makes_no_table(calibrations: list[RingCalibration], found: str) -> None:
    with pytest.raises(UserError, match=found):
        camera_lengths(calibrations)


@pytest.mark.parametrize("nominal", [50.0, 99.0, 201.5, 400.0])
def test_nothing_is_extrapolated(nominal: float) -> None:
    table: CameraLengths = camera_lengths([one(100, 150.0), one(200, 300.0)])
    with pytest.raises(UserError, match="one of or between those calibrated"):
        table.at(nominal)
