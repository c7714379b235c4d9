"""Calibration on the command line: exit codes, what is printed, and calibrations for convert."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.cli import main
from ewaldflow.flows import calibrate_rings as flows
from ewaldflow.lib.artefacts import ArtefactStore, Recipe
from ewaldflow.lib.formats import write_series
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.rings.calibrate import RingFit, RingPoints
from ewaldflow.lib.rings.calibration import NOT_CALIBRATED, RingCalibration
from ewaldflow.lib.rings.storage import write_fit
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

Capture = pytest.CaptureFixture[str]
GOLD = RingCalibration(
    "gold", (516, 516), "gold", electron_wavelength_A(200), 0.055, 460.0, (255.5, 258.5),
    EllipticalDistortion(1.024, 83), parameters=("distance_mm",), covariance=np.array([[0.01]]),
)  # fmt: skip


def keep(store: Path, calibration: RingCalibration) -> str:
    whole, part = np.zeros(0, np.int64), np.zeros(0)
    points = RingPoints(whole, whole, part, part, part, part, part, np.zeros(0, bool))
    fit = RingFit((calibration,), points, (), (), ())
    recipe = Recipe(kind="rings", name="gold", configuration={"of": calibration.verdict})
    with ArtefactStore(store).draft(recipe) as draft:
        write_fit(draft.arrays, fit)
        return draft.publish().ref


@pytest.mark.parametrize("command", ["calibrate-rings", "recenter", "check-drift",
                                     "calibrate-axis"])  # fmt: skip
def test_commands_explain_themselves(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: ewaldflow {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("warnings", "code", "calibration"),
    [
        ((), 0, GOLD),
        (("the beam moved by 30.0 px since rings/gold@v0001",), 0, GOLD),
        ((), 1, replace(GOLD, verdict=NOT_CALIBRATED, reasons=("one ring only",))),
    ],
)
def test_what_calibrate_rings_says(
    warnings: tuple[str, ...],
    code: int,
    calibration: RingCalibration,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "runs"
    seen = {}

    def flow(
        images: list[Path], where: Path, calibrant: str, name: str, config: object,
        start: str | None, limits: object, displayed: list[float],
    ) -> flows.Calibrated:  # fmt: skip
        assert displayed == [800]
        seen["config"] = config
        return flows.Calibrated(keep(where, calibration), "", warnings)

    monkeypatch.setattr(flows, "calibrate_rings", flow)
    told = ["calibrate-rings", "gold.tif", "--store", str(store), "--voltage", "200",
            "--pixel-size", "0.055", "--displayed", "800"]  # fmt: skip
    assert main(told) == code
    out, err = capsys.readouterr()
    assert "460.00(10)" in out
    assert calibration.verdict in out
    for text in (*warnings, *calibration.reasons):
        assert text in err
    assert seen["config"].wavelength_A == electron_wavelength_A(200)  # type: ignore[attr-defined]


def test_a_drift_check_ends_with_1_where_something_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "gold.tif").write_bytes(b"x")
    store = tmp_path / "runs"
    monkeypatch.setattr(
        flows, "calibrate_rings",
        lambda *given: flows.Calibrated(keep(store, GOLD), "", ("it moved",)),
    )  # fmt: skip
    assert main(["check-drift", str(tmp_path), "--store", str(store)]) == 1
    assert "warning: it moved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calibrate-rings", "x.tif", "--voltage", "-3"], "greater than 0"),
        (["calibrate-rings", "x.tif", "--config", "none.yaml"], "none.yaml"),
        (["recenter", "x.tif"], "--calibration"),
        (["reduce", "x", "--calibration", "rings/none"], "no such artefact"),
        (["convert", "x", "out", "--to", "smv", "--calibration", "rings/none"], "no such artefact"),
    ],
)
def test_what_the_user_must_mend_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "runs", GOLD)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_convert_takes_a_calibration(
    simulated: tuple[RotationSeries, Truth], tmp_path: Path, capsys: Capture
) -> None:
    series = simulated[0].select(np.arange(4))
    write_series(series, tmp_path / "in", "SMV")
    store = tmp_path / "runs"
    ref = keep(store, GOLD)
    told = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "xds",
            "--calibration", ref, "--store", str(store)]  # fmt: skip
    assert main(told) == 0
    text = (tmp_path / "out" / "XDS.INP").read_text()
    assert "X-GEO_CORR= XCORR.cbf" in text
    (line,) = [one for one in text.splitlines() if one.startswith("DETECTOR_DISTANCE=")]
    # 460 mm, for the pixel size and wavelength of the frames
    scale = series.geometry.pixel_size_mm / series.geometry.wavelength_A
    assert float(line.split()[1]) == pytest.approx(
        460 * scale / (GOLD.pixel_size_mm / GOLD.wavelength_A), abs=0.01
    )
    assert "of the calibration gold was used" in capsys.readouterr().out
