import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus.calibration import NOT_CALIBRATED, ScanCalibration
from ewaldflow.lib.overfocus.model import matrices_of, similarity_of
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.overfocus.result import errors_of, named_parameters
from ewaldflow.lib.stem4d.scan import scan_of

TRUTH = OverfocusParameters(20e-6, 6e-9, 0.5, 55e-6, 12.0, 13.0, 37.3, True)


def _calibration(truth=TRUTH, **fields):
    matrices = matrices_of(truth)
    return ScanCalibration(
        "x", (4, 4), (24, 24), matrices.scan_to_detector, matrices.descan, (12.0, 13.0), 9.0,
        **fields,
    )  # fmt: skip


def _scan(**fields):
    known = {"pixel_size_mm": 0.055, "camera_length_mm": 500.0, "scan_step_nm": (6.0, 6.0)}
    return scan_of(np.zeros((4, 4, 24, 24), np.uint8), **{**known, **fields})


@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("overfocused", [False, True])
def test_errors_are_those_of_many_draws(flip_y, overfocused):
    random = np.random.default_rng(5)
    root = random.normal(0, 0.002, (8, 8))
    calibration = _calibration(
        TRUTH.with_(flip_y=flip_y), covariance=root @ root.T, overfocused=overfocused
    )
    drawn = random.multivariate_normal(
        calibration.scan_to_detector.ravel(), calibration.covariance[:4, :4], 4000
    ).reshape(-1, 2, 2)
    found = [similarity_of(one, overfocused) for one in drawn]
    turns = np.array([one.rotation_deg for one in found])
    spread = np.rad2deg(np.angle(np.exp(1j * np.deg2rad(turns - turns[0])))).std()
    scales = np.array([one.scale for one in found])
    errors = errors_of(calibration)
    assert errors.rotation_deg == pytest.approx(spread, rel=0.05)
    assert errors.scale == pytest.approx(scales.std() / abs(scales.mean()), rel=0.05)
    np.testing.assert_allclose(
        errors.descan_px.ravel() ** 2, np.diag(calibration.covariance)[4:], rtol=1e-12
    )


def test_errors_of_no_calibration_are_not_known():
    nan = np.full((2, 2), np.nan)
    calibration = ScanCalibration("x", (4, 4), (24, 24), nan, nan, (np.nan, np.nan), np.nan)
    assert np.isnan(errors_of(calibration).rotation_deg)
    assert np.isnan(errors_of(calibration).scale)


def test_parameters_come_back_from_the_matrices():
    found, lacking = named_parameters(_scan(), _calibration())
    assert lacking == ()
    assert found.overfocus_m == pytest.approx(20e-6, rel=1e-9)
    assert found.scan_rotation_deg == pytest.approx(37.3)
    assert found.flip_y


def test_lengths_that_are_unknown_are_named():
    found, lacking = named_parameters(_scan(camera_length_mm=None), _calibration())
    assert found is None
    assert lacking == ("the camera length",)
    found, lacking = named_parameters(_scan(), _calibration(verdict=NOT_CALIBRATED))
    assert (found, lacking) == (None, ())


def test_a_length_in_a_wrong_unit_is_one_line():
    # millimetres for micrometres: the overfocus would be 0.55 m
    with pytest.raises(UserError, match="overfocus_m"):
        named_parameters(_scan(pixel_size_mm=0.055e-3, camera_length_mm=2000.0), _calibration())
