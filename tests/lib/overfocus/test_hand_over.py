"""The file of a calibration, and what other programs are told."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus.calibration import NOT_CALIBRATED, Quality, ScanCalibration
from ewaldflow.lib.overfocus.hand_over import hand_over, read_yaml, snippets, write_yaml
from ewaldflow.lib.overfocus.model import flip, matrices_of, rotation
from ewaldflow.lib.overfocus.parameters import OverfocusParameters

PARAMETERS = OverfocusParameters(
    overfocus_m=2e-5,
    scan_pixel_size_m=1e-8,
    camera_length_m=0.99998,
    detector_pixel_size_m=1e-4,
    cy=31.5,
    cx=30.0,
    scan_rotation_deg=40.0,
    flip_y=True,
    descan_px=((0.3, -0.1), (0.05, 0.2)),
)
D = np.array(PARAMETERS.descan_px)


@pytest.fixture
def calibration() -> ScanCalibration:
    found = matrices_of(PARAMETERS)
    return ScanCalibration(
        name="scan 7",
        scan_shape=(9, 11),
        shape=(64, 60),
        scan_to_detector=found.scan_to_detector,
        descan=found.descan,
        centre_px=(31.5, 30.0),
        disc_radius_px=20.0,
        covariance=np.diag(np.arange(1.0, 9.0)) * 1e-6,
        quality=Quality(anisotropy=0.001, lag_snr=12.0),
    )


@pytest.fixture
def failed(calibration: ScanCalibration) -> ScanCalibration:
    return replace(
        calibration, verdict=NOT_CALIBRATED, reasons=("The scan is in focus.",),
        scan_to_detector=np.full((2, 2), np.nan),
    )  # fmt: skip


def test_what_is_written_comes_back(calibration: ScanCalibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    write_yaml(path, calibration, PARAMETERS)
    back = read_yaml(path)
    for name in ("scan_to_detector", "descan", "covariance"):
        np.testing.assert_array_equal(getattr(back, name), getattr(calibration, name))
    for name in ("name", "scan_shape", "shape", "centre_px", "verdict", "reasons", "overfocused"):
        assert getattr(back, name) == getattr(calibration, name)
    assert back.quality.lag_snr == 12.0
    assert np.isnan(back.quality.sharpness)


def test_the_numbers_people_ask_for(calibration: ScanCalibration) -> None:
    told = hand_over(calibration, PARAMETERS)
    assert told["scale_px_per_px"] == pytest.approx(5.0)
    assert told["angles"]["libertem"] == {
        "scan_rotation_deg": pytest.approx(40.0), "flip_y": True
    }  # fmt: skip
    assert told["angles"]["py4dstem"] == {"rotation_deg": pytest.approx(50.0), "transpose": True}
    assert told["parameters"]["overfocus_m"] == 2e-5
    assert told["quality"]["sharpness"] is None
    assert told["descan_sd"][1][1] == pytest.approx(8e-6**0.5)
    assert "parameters" not in hand_over(calibration)
    # plain types throughout, so that any YAML reader takes it
    assert yaml.safe_load(yaml.safe_dump(told)) == told


def test_a_failed_calibration_hands_over_no_angle(failed: ScanCalibration, tmp_path: Path) -> None:
    told = hand_over(failed)
    assert told["verdict"] == NOT_CALIBRATED
    assert told["reasons"] == ["The scan is in focus."]
    assert "angles" not in told
    assert told["scan_to_detector"] == [[None, None], [None, None]]
    write_yaml(tmp_path / "failed.yaml", failed)
    assert np.isnan(read_yaml(tmp_path / "failed.yaml").scan_to_detector).all()
    with pytest.raises(UserError, match="The scan is in focus"):
        snippets(failed)


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "kind: something else", "kind: ewaldflow overfocus calibration\nversion: 1"],
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"other\.yaml"):
        read_yaml(path)
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


def beam_at(row: int, column: int) -> np.ndarray:
    """Where the disc is at a scan point, from the definition."""
    return np.array([31.5, 30.0]) + D @ (np.array([row, column]) - [4, 5])


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(code, names)
    return names


def test_libertem_takes_descan_off(
    calibration: ScanCalibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CoMUDF turns and flips the shifts first, and then takes off (1, row, column) @ regression
    (seen in LiberTEM 0.16 with discs that move)."""
    com = types.ModuleType("libertem.udf.com")
    com.CoMUDF = types.SimpleNamespace(with_params=dict)  # type: ignore[attr-defined]
    for name in ("libertem", "libertem.udf"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "libertem.udf.com", com)
    told = run(snippets(calibration)["libertem"])["udf"]
    assert told["scan_rotation"] == pytest.approx(40.0)
    assert told["flip_y"] is True
    for point in ((0, 0), (8, 3), (2, 10)):
        shift = beam_at(*point) - (told["cy"], told["cx"])
        turned = rotation(40.0) @ flip(True) @ shift
        np.testing.assert_allclose(np.array([1, *point]) @ told["regression"], turned, atol=1e-6)
        assert np.linalg.norm(shift) + 20.0 <= told["r"] + 1e-4


def test_py4dstem_knows_the_origin_of_every_pattern(calibration: ScanCalibration) -> None:
    told: dict[str, Any] = {}
    setters = types.SimpleNamespace(
        set_origin=lambda origin: told.update(origin=origin),
        set_QR_rotation_degrees=lambda angle: told.update(angle=angle),
        set_QR_flip=lambda transpose: told.update(transpose=transpose),
    )
    names = run(
        snippets(calibration)["py4dstem"], datacube=types.SimpleNamespace(calibration=setters)
    )
    assert (told["angle"], told["transpose"]) == (pytest.approx(50.0), True)
    assert names["com"] == {"force_com_rotation": told["angle"], "force_com_transpose": True}
    np.testing.assert_allclose([plane[8, 3] for plane in told["origin"]], beam_at(8, 3), atol=1e-6)


def test_pyxem_centres_every_pattern(
    calibration: ScanCalibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyxem = types.ModuleType("pyxem")
    pyxem.signals = types.SimpleNamespace(BeamShift=np.asarray)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyxem", pyxem)
    told: dict[str, Any] = {}
    signal = types.SimpleNamespace(
        axes_manager=types.SimpleNamespace(signal_shape=(60, 64)),
        center_direct_beam=lambda shifts: told.update(shifts=shifts),
    )
    code = snippets(calibration)["pyxem"]
    run(code, signal=signal)
    # shifts are (x, y) and bring the beam to half the frame's size (pyxem 0.21)
    np.testing.assert_allclose(told["shifts"][8, 3][::-1] + beam_at(8, 3), (32, 30), atol=1e-6)
    assert "rotate_beam_shifts(40)" in code


def test_ptyrad_takes_the_affine(calibration: ScanCalibration) -> None:
    told = yaml.safe_load(snippets(calibration)["ptyrad"])
    assert told["meas_flipT"] == [1, 0, 0]
    np.testing.assert_allclose(told["pos_scan_affine"], [1.0, 0.0, 40.0, 0.0], atol=1e-5)
