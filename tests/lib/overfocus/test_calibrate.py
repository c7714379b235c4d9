"""The calibration with no start value, on simulated scans with a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus import gauss_newton
from ewaldflow.lib.overfocus.binning import Binner
from ewaldflow.lib.overfocus.calibrate import calibrate, wanted_binning
from ewaldflow.lib.overfocus.calibration import CALIBRATED, NOT_CALIBRATED, Quality, ScanCalibration
from ewaldflow.lib.overfocus.check import CANNOT_TELL, HOLDS, HOLDS_NOT, check
from ewaldflow.lib.overfocus.config import OverfocusConfig
from ewaldflow.lib.overfocus.model import matrices_of, similarity_of
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.overfocus.streaming import LiveCalibration
from ewaldflow.lib.overfocus.verdict import Evidence, judge
from ewaldflow.lib.stem4d.scan import Scan4D, scan_of
from ewaldflow.lib.stem4d.simulate import Imperfections, simulate_scan

DESCAN = ((0.05, -0.03), (0.02, 0.06))


def _truth(rotation_deg: float = 37.3, flip_y: bool = False, o: float = 20e-6) -> Any:
    step = 3.0 * 50e-6 * 20e-6 / (0.5 + 20e-6)
    return OverfocusParameters(
        o, step, 0.5, 50e-6, 64.2, 62.7, rotation_deg, flip_y, DESCAN
    )  # fmt: skip


def _scan(
    truth: OverfocusParameters, points: tuple[int, int] = (20, 20), seed: int = 5,
    specimen: str = "cross_grating", dose: float = 10.0, **faults: Any,
) -> Scan4D:  # fmt: skip
    return simulate_scan(
        truth, points, (128, 128), specimen, dose, 50, seed, imperfect=Imperfections(**faults)
    )


def _near(found: ScanCalibration, truth: OverfocusParameters, degrees: float, part: float) -> None:
    assert found.verdict == CALIBRATED, found.reasons
    true = matrices_of(truth)
    overfocused = truth.overfocus_m > 0
    a = similarity_of(found.scan_to_detector, overfocused)
    b = similarity_of(true.scan_to_detector, overfocused)
    assert a.flip_y == b.flip_y
    assert abs((a.rotation_deg - b.rotation_deg + 180) % 360 - 180) < degrees
    assert a.scale == pytest.approx(b.scale, rel=part)
    np.testing.assert_allclose(found.descan, true.descan, atol=0.006)
    np.testing.assert_allclose(found.centre_px, true.centre_px, atol=0.2)


@pytest.fixture(scope="module")
def plain() -> Scan4D:
    return _scan(_truth())


@pytest.fixture(scope="module")
def calibrated(plain: Scan4D) -> ScanCalibration:
    return calibrate(plain)


def test_rotation_scale_descan_and_centre(calibrated: ScanCalibration) -> None:
    _near(calibrated, _truth(), 0.05, 1e-3)
    assert calibrated.disc_radius_px == pytest.approx(50, abs=0.3)


def test_errors_are_as_large_as_stated(calibrated: ScanCalibration) -> None:
    true = matrices_of(_truth())
    off = np.concatenate(
        [(calibrated.scan_to_detector - true.scan_to_detector).ravel(),
         (calibrated.descan - true.descan).ravel()]
    )  # fmt: skip
    sigma = np.sqrt(np.diag(calibrated.covariance))
    assert np.abs(off / sigma).max() < 5
    assert sigma.max() < 0.01


@pytest.mark.parametrize(
    ("rotation_deg", "flip_y", "o"), [(200.0, True, 20e-6), (-75.0, False, -20e-6)]
)
def test_every_handedness_and_sign(rotation_deg: float, flip_y: bool, o: float) -> None:
    truth = _truth(rotation_deg, flip_y, o)
    _near(calibrate(_scan(truth)), truth, 0.1, 2e-3)


@pytest.mark.parametrize(
    "faults",
    [
        {"dead_quadrant": True},
        {"chip_gap_px": 4, "hot_pixels": 100, "gain_sd": 0.03},
        {"missing": 0.2, "edge_px": 5.0, "illumination": 0.2},
    ],
    ids=lambda one: ", ".join(one),
)
def test_faults_of_the_detector_do_no_harm(faults: dict[str, Any]) -> None:
    _near(calibrate(_scan(_truth(), **faults)), _truth(), 0.1, 3e-3)


def test_nan_pixels_and_frames(plain: Scan4D) -> None:
    frames = plain.frames.astype(np.float32)
    frames[:, :, 60, 70] = np.nan
    frames[3, 4] = np.nan
    frames[5, 6, 60, 60] = np.nan
    _near(calibrate(plain.with_(frames=frames)), _truth(), 0.1, 2e-3)


def test_a_curved_drift_is_fitted_and_a_steady_one_if_the_scan_is_square() -> None:
    time = np.arange(20) / 10 - 1
    curved = _scan(_truth(), drift_px=np.column_stack([1.5 * time**2, -(time**2)]))
    _near(calibrate(curved), _truth(), 0.1, 2e-3)
    assert calibrate(curved, OverfocusConfig(drift="none")).quality.predictive_residual_px > 0.05
    steady = calibrate(_scan(_truth(), drift_px=(0.03, -0.02)), OverfocusConfig(drift="all"))
    _near(steady, _truth(), 0.1, 2e-3)
    np.testing.assert_allclose(steady.drift_px, (0.03, -0.02), atol=4e-3)


@pytest.mark.parametrize(("px", "points"), [(0.6, 24), (1.0, 24), (20.0, 16)])
def test_slow_and_fast_shadows_are_measured(px: float, points: int) -> None:
    truth = _truth(o=60e-6 / px)
    _near(calibrate(_scan(truth, (points, points))), truth, 0.5, 0.01)


def test_a_movement_that_only_the_periodic_part_shares_is_none() -> None:
    truth = _truth(o=1e-6)  # 60 px per scan point, more than the disc's radius
    found = calibrate(_scan(truth, (24, 24)))
    if found.verdict == CALIBRATED:
        _near(found, truth, 0.5, 0.01)
    assert "does not move" in " ".join(found.reasons) or found.verdict == CALIBRATED


def test_a_shadow_that_hardly_moves_is_flagged() -> None:
    found = calibrate(_scan(_truth(o=600e-6), (24, 24)))  # 2.3 px over the whole scan
    assert found.verdict == NOT_CALIBRATED
    assert found.reasons


def test_a_slow_shadow_asks_for_less_binning() -> None:
    frames = np.broadcast_to(np.uint16(0), (32, 32, 256, 256))
    binned = Binner(scan_of(frames), 4).binned
    assert wanted_binning(binned, 31 * 3 / 4) == 4
    assert wanted_binning(binned, 31 / 4) == 2
    assert wanted_binning(binned, 31 * 0.2 / 4) == 1
    large = Binner(scan_of(np.broadcast_to(np.uint16(0), (96, 96, 256, 256))), 16).binned
    assert wanted_binning(large, 12 / 16) == 2  # 1 would take 2.4 GB


def test_the_result_is_the_same_in_any_number_of_threads(
    plain: Scan4D, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(gauss_newton, "THREADS", threads)
        found.append(calibrate(plain).scan_to_detector)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def _flicker(points: int) -> Scan4D:
    """In focus: the disc's brightness changes, nothing moves in it."""
    random = np.random.default_rng(0)
    y, x = np.indices((128, 128))
    disc = 10.0 * (np.hypot(y - 63.5, x - 63.5) < 50)
    brightness = random.uniform(0.3, 1, (points, points, 1, 1))
    return scan_of(random.poisson(disc * brightness).astype(np.uint16))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: _scan(_truth(), specimen="vacuum"), "no specimen"),
        (lambda: _flicker(16), "in focus"),
        (lambda: _scan(_truth(), points=(1, 48)), "at least 3 x 3"),
        (lambda: _scan(_truth(), points=(16, 16), saturation=6), "saturated"),
        (lambda: scan_of(np.zeros((4, 4, 64, 64), np.uint16)), "0 x 0 scan points"),
        (lambda: scan_of(np.full((4, 4, 64, 64), 5, np.uint16)), "no disc"),
    ],
    ids=["vacuum", "in focus", "one row", "saturated", "nothing", "no edge"],
)
def test_what_cannot_be_calibrated_says_why(make: Any, why: str) -> None:
    found = calibrate(make())
    assert found.verdict == NOT_CALIBRATED
    assert why in " ".join(found.reasons)


def test_frames_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="8 binned pixels"):
        calibrate(scan_of(np.ones((4, 4, 16, 16), np.uint16)), OverfocusConfig(binning=4))
    with pytest.raises(ValidationError):
        OverfocusConfig(binning=0)


GOOD = Quality(0.001, 80.0, 500.0, 0.001, 0.02)
SOUND = Evidence(90.0, 0.01, 50.0, 0.001, 0.0, 4, True, 0.001, 0.01)


@pytest.mark.parametrize(
    ("quality", "evidence", "why"),
    [
        ({"anisotropy": 0.05}, {}, "sheared"),
        ({"lag_snr": 4.0}, {}, "stands out"),
        ({"sharpness": 0.5}, {}, "nothing but noise"),
        ({"bootstrap_spread": 0.02}, {}, "scatter"),
        ({"bootstrap_spread": float("nan")}, {}, "scatter"),
        ({"predictive_residual_px": 3.0}, {}, "still move"),
        ({}, {"travel_px": 1.0}, "moves 1.0 px"),
        ({}, {"walk": 0.35}, "away from"),
        ({}, {"halves_snr": 3.0}, "one half"),
        ({}, {"disagreement": 0.1}, "two halves"),
        ({}, {"saturated": 0.2}, "saturated"),
        ({}, {"sectors_apart": 0.1}, "edge give descan"),
        ({}, {"unexplained": 0.4}, "does not move with the fit"),
    ],
)
def test_each_doubt_is_a_reason(
    quality: dict[str, float], evidence: dict[str, float], why: str
) -> None:
    assert judge(GOOD, SOUND, OverfocusConfig()) == (CALIBRATED, ())
    verdict, reasons = judge(
        Quality(**{**GOOD.__dict__, **quality}), Evidence(**{**SOUND.__dict__, **evidence}),
        OverfocusConfig(),
    )  # fmt: skip
    assert verdict == NOT_CALIBRATED
    assert len(reasons) == 1
    assert why in reasons[0]


def test_a_scan_in_progress_sharpens(plain: Scan4D, calibrated: ScanCalibration) -> None:
    live = LiveCalibration(plain)
    assert live.current().reasons == ("no frames yet",)
    spreads = []
    for row in range(20):
        live.add_row(row, plain.frames[row])
        if row in (1, 9):
            spreads.append(live.current())
    assert spreads[0].verdict == NOT_CALIBRATED
    half, whole = spreads[1], live.current()
    assert half.verdict == CALIBRATED
    assert "first answer" in half.reasons[0]
    assert whole.reasons == ()
    np.testing.assert_allclose(half.scan_to_detector, whole.scan_to_detector, atol=0.03)
    assert whole.quality.bootstrap_spread < half.quality.bootstrap_spread
    np.testing.assert_allclose(whole.scan_to_detector, calibrated.scan_to_detector, atol=1e-3)
    with pytest.raises(UserError, match="came before"):
        live.add_row(3, plain.frames[3])
    with pytest.raises(UserError, match="frames"):
        live.add_row(3, plain.frames[3, :4])


def test_an_old_calibration_is_checked(plain: Scan4D, calibrated: ScanCalibration) -> None:
    assert check(plain, calibrated).verdict == HOLDS
    turned = check(_scan(_truth(38.3), seed=6), calibrated)
    assert turned.verdict == HOLDS_NOT
    assert turned.rotation_deg == pytest.approx(1.0, abs=0.1)
    assert "rotated" in turned.reasons[0]
    assert check(_scan(_truth(), specimen="vacuum"), calibrated).verdict == CANNOT_TELL
    with pytest.raises(UserError, match="as calibrated"):
        check(scan_of(np.ones((4, 4, 64, 64), np.uint16)), calibrated)
    with pytest.raises(UserError, match="not calibrated"):
        check(plain, calibrate(_flicker(4)))
