"""ewaldflow rrvae on the command line: simulate, train, apply, sweep, and what must be mended."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from prefect.artifacts import Artifact

from ewaldflow.cli import main
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.rrvae.preprocess import prepare
from ewaldflow.lib.stem4d.scan import Scan4D

Capture = pytest.CaptureFixture[str]

FAST = """
prepare: {shape: [32, 32]}
model: {model: harmonic, seeds: [0, 1], epochs: 8, hidden: 16}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(FAST, encoding="utf-8")
    return str(path)


def _simulate(folder: Path, name: str, *more: str) -> str:
    path = folder / f"{name}.zarr"
    assert main(["rrvae", "simulate", str(path), "--scan-shape", "12", "15", "--shape", "32", "32",
                 *more]) == 0  # fmt: skip
    return str(path)


@pytest.mark.usefixtures("prefect")
def test_from_a_scan_to_maps_of_another(tmp_path: Path, config: str, capsys: Capture) -> None:
    one = _simulate(tmp_path, "one", "--electrons", "1e6")
    other = _simulate(tmp_path, "other", "--electrons", "1e6", "--seed", "7")
    store = ArtefactStore(tmp_path / "runs")
    at = ["--store", str(store.root)]
    # a scan that fails does not stop the other
    few = tmp_path / "few.npy"
    np.save(few, np.ones((2, 5, 32, 32), np.uint16))
    assert main(["rrvae", "train", one, str(few), "--config", config, "--gain", "1", *at]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"rrvae/one@v0001\s+trusted", shown)
    assert re.search(r"\sfailed\s+few, mean pattern: found", shown)
    artefact = store.get("rrvae/one")
    assert artefact.manifest.inputs[0].artefact == "scan/one@v0001"
    assert artefact.manifest.flow_run_id
    assert artefact.manifest.configuration["model"]["epochs"] == 8
    live = (store.root / ".live" / "one.html").read_text(encoding="utf-8")
    assert "../rrvae/one/v0001/files/report.html" in live

    for key, words in (("rrvae-one-curves", "training curves"), ("rrvae-one", "**trusted**")):
        told = str(getattr(Artifact.get(key), "data", ""))
        assert words in told
        assert "data:image/png" in told

    assert main(["rrvae", "apply", "rrvae/one", other, *at]) == 0
    assert re.search(r"rrvae-map/other@v0001\s+in distribution", capsys.readouterr().out)
    assert main(["rrvae", "apply", "rrvae/one", other, "--camera-length", "20", *at]) == 2
    (line,) = _lines(capsys)
    assert "pixel_mrad" in line
    # a ninth of the electrons: told
    assert main(["rrvae", "apply", "rrvae/one", other, "--gain", "9", *at]) == 1
    assert "out of distribution" in capsys.readouterr().out


@pytest.mark.usefixtures("prefect")
def test_a_sweep_over_workers(tmp_path: Path, config: str, capsys: Capture) -> None:
    scan = _simulate(tmp_path, "scan", "--electrons", "1e6")
    store = ArtefactStore(tmp_path / "runs")
    assert main(["rrvae", "sweep", scan, "--try", "latents=1,2", "--config", config,
                 "--workers", "2", "--store", str(store.root)]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert re.search(r"latents 1\s+trusted", shown)
    assert "rrvae-sweep/scan@v0001" in shown
    tried = {
        one.manifest.name: one.manifest.configuration["model"]["latents"]
        for one in store.list("rrvae")
    }
    assert tried == {"scan-1": 1, "scan-2": 2}
    page = store.get("rrvae-sweep/scan").files / "report.html"
    assert "2 of 2 trainings are trusted" in page.read_text(encoding="utf-8")


def test_simulated_scans_are_what_was_asked_for(tmp_path: Path, capsys: Capture) -> None:
    from ewaldflow.lib.formats.scan4d import read_scan
    from ewaldflow.lib.rrvae.preprocess_config import PreprocessConfig

    scan: Scan4D = read_scan(_simulate(tmp_path, "clean", "--voltage", "80", "--scan-step", "0.2"))
    assert "--pseudo-dose" in capsys.readouterr().out
    assert scan.scan_shape == (12, 15)
    assert scan.scan_step_nm == pytest.approx((0.02, 0.02))
    assert scan.wavelength_A == pytest.approx(0.0417572, rel=1e-5)  # 80 kV
    patterns = prepare(scan, PreprocessConfig(shape=(32, 32), pseudo_dose=1e5))
    assert patterns.disc_radius_px == pytest.approx(31.0 / patterns.pixel_mrad, rel=0.05)  # type: ignore[operator]
    assert main(["rrvae", "simulate", str(tmp_path / "clean.zarr")]) == 2
    assert "there already" in capsys.readouterr().err


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "none.h5"], "no such file"),
        (["train", "SCAN"], "gain"),  # no noise, and no pseudo-dose
        (["train", "SCAN", "--pseudo-dose", "-1"], "pseudo_dose"),
        (["train", "SCAN", "--latents", "7"], "latents"),
        (["train", "SCAN", "--device", "tpu"], "device"),
        (["train", "SCAN", "--pca", "many"], "pca"),
        (["train", "SCAN", "--overfocus", "overfocus/none"], "overfocus/none"),
        (["train", "SCAN", "--rings", "rings/none"], "rings/none"),
        (["train", "SCAN", "--pseudo-dose", "1e5", "--dose-curve", "1e6"], "dose_curve"),
        (["apply", "rrvae/none", "SCAN"], "rrvae/none"),
        (["apply", "scan/SCAN", "SCAN"], "scan/SCAN"),
        (["sweep", "SCAN"], "1 trainings"),
        (["sweep", "SCAN", "--try", "latents"], "--try latents"),
        (["sweep", "SCAN", "--try", "depth=1,2"], "no such choice"),
        (["simulate", "graphene.npy"], "*.zarr"),
        (["simulate", "g.zarr", "--electrons", "0"], "electrons"),
    ],
)
def test_what_the_user_must_mend_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, config: str, clean: str, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    more = ["--store", str(tmp_path / "runs")] if arguments[0] != "simulate" else []
    more += ["--config", config] if arguments[0] in ("train", "sweep") else []
    given = [clean if one == "SCAN" else one for one in arguments]
    assert main(["rrvae", *given, *more]) == 2
    (line,) = _lines(capsys)
    assert told in line


def _lines(capsys: Capture) -> list[str]:
    shown = capsys.readouterr().err.splitlines()
    return [line for line in shown if line.startswith("ewaldflow: ")]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _simulate(tmp_path_factory.mktemp("scan"), "clean")
