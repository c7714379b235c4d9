"""calibrate-overfocus through the command line: good scans, bad ones, and what is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from prefect.client.schemas.objects import Artifact

from ewaldflow.cli import main
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.artefacts.records import read_record
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.overfocus.result import OverfocusResult
from ewaldflow.lib.stem4d.scan import Scan4D
from ewaldflow.lib.stem4d.simulate import Imperfections, simulate_scan
from ewaldflow.lib.stem4d.storage import write_scan

Capture = pytest.CaptureFixture[str]

# the shadow moves 3 px per step: s = M d o / (o + l)
OVERFOCUS, LENGTH, PITCH = 20e-6, 0.5, 50e-6
STEP = 3 * PITCH * OVERFOCUS / (OVERFOCUS + LENGTH)
TRUTH = OverfocusParameters(
    OVERFOCUS, STEP, LENGTH, PITCH, 47.0, 48.5, -61.0, True, ((0.03, 0.01), (-0.02, 0.04))
)


def _scan(truth: OverfocusParameters = TRUTH, scan_shape: tuple[int, int] = (24, 24),
          specimen: str = "cross_grating", dose: float = 10.0,
          faults: Imperfections | None = None) -> Scan4D:  # fmt: skip
    return simulate_scan(
        truth, scan_shape, (96, 96), specimen, dose, disc_radius_px=36.0, imperfect=faults
    )


def _kept(scan: Scan4D, folder: Path, name: str) -> str:
    path = folder / f"{name}.zarr"
    write_scan(zarr.open_group(path, mode="w"), scan)
    return str(path)


def _turned(found: float, expected: float) -> float:
    return abs((found - expected + 180) % 360 - 180)


def test_from_files_to_reports(
    tmp_path: Path, capsys: Capture, artifacts_of: Callable[[str | None], dict[str, Artifact]]
) -> None:
    good = _kept(_scan(), tmp_path, "gold")
    np.save(tmp_path / "stack.npy", _scan().frames.reshape(-1, 96, 96))
    store = ArtefactStore(tmp_path / "runs")
    arguments = ["calibrate-overfocus", good, "--store", str(store.root), "--start-rotation=-57",
                 "--start-overfocus", "21", "--paper"]  # fmt: skip
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(r"overfocus/gold@v0001\s+calibrated", shown)

    artefact = store.get("overfocus/gold")
    result = read_record(artefact.arrays, OverfocusResult)
    assert result.parameters is not None
    assert _turned(result.parameters.scan_rotation_deg, -61.0) < 0.3
    assert result.parameters.flip_y
    assert result.parameters.overfocus_m == pytest.approx(OVERFOCUS, rel=0.01)
    np.testing.assert_allclose(result.calibration.descan, TRUTH.descan_px, atol=0.01)
    assert result.published is not None
    assert _turned(result.published.end.scan_rotation_deg, -61.0) < 3
    assert len(result.views.stages) == 4
    assert result.views.stages[-1].blur < min(one.blur for one in result.views.stages[:2])
    names = {path.name for path in artefact.files.iterdir()}
    assert {"report.html", "calibration.yaml", "superposition.tif", "ptyrad.yaml",
            "libertem_settings.py"} <= names  # fmt: skip
    page = (artefact.files / "report.html").read_text(encoding="utf-8")
    assert "The published method" in page
    assert "http://" not in page
    assert artefact.manifest.inputs[0].artefact == "scan/gold@v0001"
    pages = artifacts_of(artefact.manifest.flow_run_id)
    assert pages["progress-gold"].data == 100
    text = str(pages["overfocus-gold"].data)
    assert "**calibrated**" in text
    assert "![virtual bright field beside the superposition](data:image/png;base64,iVBOR" in text
    assert str(artefact.files / "report.html") in text
    live = (store.root / ".live" / "gold.html").read_text(encoding="utf-8")
    assert "../overfocus/gold/v0001/files/report.html" in live

    # again: nothing is made twice
    assert main(arguments) == 0
    assert store.versions("overfocus", "gold") == [1]
    # a stack that is not kept, with its shape and lengths stated
    assert main(["calibrate-overfocus", str(tmp_path / "stack.npy"), "--scan-shape", "24", "24",
                 "--pixel-size", "0.05", "--no-keep", "--store", str(store.root)]) == 0  # fmt: skip
    other = store.get("overfocus/stack")
    assert other.manifest.figures_of_merit["scale_px"] == pytest.approx(3, rel=0.01)
    assert "overfocus_um" not in other.manifest.figures_of_merit
    assert not store.versions("scan", "stack")
    text = (other.files / "report.html").read_text(encoding="utf-8")
    assert "nothing states the distance of scan points and the camera length" in text


@pytest.mark.usefixtures("prefect")
def test_an_old_calibration_on_new_scans(tmp_path: Path, capsys: Capture) -> None:
    good = _kept(_scan(), tmp_path, "gold")
    turned = _kept(_scan(TRUTH.with_(scan_rotation_deg=-58.0)), tmp_path, "turned")
    store = ArtefactStore(tmp_path / "runs")
    at = ["--store", str(store.root)]
    assert main(["calibrate-overfocus", good, *at]) == 0
    yaml_file = store.get("overfocus/gold").files / "calibration.yaml"
    capsys.readouterr()

    assert main(["check-overfocus", "overfocus/gold", good, *at]) == 0
    assert "holds" in capsys.readouterr().out
    assert main(["check-overfocus", str(yaml_file), turned, *at]) == 1
    shown = capsys.readouterr().out
    assert "does not hold" in shown
    assert "rotated by" in shown
    figures = store.list("overfocus-check")[-1].manifest.figures_of_merit
    assert figures["rotation_deg"] == pytest.approx(3.0, abs=0.3)
    for wrong in ("overfocus/lead", str(tmp_path / "none.yaml")):
        assert main(["check-overfocus", wrong, good, *at]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert sum(line.startswith("ewaldflow: ") for line in lines) == 1


@pytest.mark.usefixtures("prefect")
def test_bad_scans_give_a_verdict_and_no_wrong_number(tmp_path: Path, capsys: Capture) -> None:
    nan = float("nan")
    tells_not = {
        "in_focus": _scan(TRUTH.with_(overfocus_m=0.0), (12, 12)),
        "no_specimen": _scan(specimen="vacuum"),
        "saturated": _scan(faults=Imperfections(saturation=2)),
        "one_row": _scan(scan_shape=(1, 60)),
        "all_missing": _scan().with_(missing=np.ones((24, 24), bool)),
    }
    tells = {
        "missing_frames": _scan(faults=Imperfections(missing=0.2)),
        "dead_quadrant": _scan(faults=Imperfections(dead_quadrant=True, hot_pixels=9)),
        "nan_metadata": replace(_scan(), camera_length_mm=nan, scan_step_nm=(nan, nan)),
    }
    paths = [_kept(scan, tmp_path, name) for name, scan in (tells_not | tells).items()]
    store = ArtefactStore(tmp_path / "runs")
    assert main(["calibrate-overfocus", *paths, "--store", str(store.root)]) == 1
    shown = capsys.readouterr().out
    for name in tells_not:
        figures = store.get(f"overfocus/{name}").manifest.figures_of_merit
        assert figures["verdict"] == "not calibrated", name
        assert "scan_rotation_deg" not in figures
        assert re.search(rf"{name}\.zarr: not calibrated\. \S+", shown)
        page = store.get(f"overfocus/{name}").files / "report.html"
        assert "Not calibrated" in page.read_text(encoding="utf-8")
    for name in tells:
        figures = store.get(f"overfocus/{name}").manifest.figures_of_merit
        if name != "dead_quadrant":  # where half of the edge is gone, it may say that it is not
            assert figures["verdict"] == "calibrated", name
        if figures["verdict"] == "calibrated":
            assert _turned(figures["scan_rotation_deg"], -61.0) < 0.5, name
            assert figures["scale_px"] == pytest.approx(3, rel=0.01), name
    notes = {name: " ".join(store.get(f"overfocus/{name}").manifest.notes) for name in tells}
    assert "camera_length_mm nan" in notes["nan_metadata"]
    assert "scan points hold no frame" in notes["missing_frames"]


@pytest.mark.usefixtures("prefect")
def test_the_sign_of_the_overfocus_turns_all_by_180_degrees(tmp_path: Path) -> None:
    path = _kept(_scan(TRUTH.with_(overfocus_m=-OVERFOCUS)), tmp_path, "under")
    found = []
    for number, sign in enumerate(([], ["--underfocus"])):
        store = ArtefactStore(tmp_path / f"runs{number}")
        assert main(["calibrate-overfocus", path, "--store", str(store.root), *sign]) == 0
        found.append(store.get("overfocus/under").manifest.figures_of_merit)
    over, under = found
    assert under["overfocus_um"] == pytest.approx(-20, rel=0.01)
    assert _turned(under["scan_rotation_deg"], -61.0) < 0.5
    assert _turned(over["scan_rotation_deg"], -61.0 + 180) < 0.5


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "576 frames in a row"),
        (["--scan-shape", "24", "20"], "found 576 frames, expected 480"),
        (["--scan-shape", "24", "24", "--pixel-size", "50"], "pixel_size_mm"),
        (["--scan-shape", "24", "24", "--camera-length", "nan"], "camera_length_mm"),
        (["--scan-shape", "24", "24", "--paper"], "--scan-step"),
        (["--scan-shape", "24", "24", "--binning", "0"], "binning"),
        (["--scan-shape", "24", "24", "--start-overfocus", "-5"], "--underfocus"),
        # millimetres for micrometres: no overfocus gives the scale found with such lengths
        (["--scan-shape", "24", "24", "--pixel-size", "0.05", "--scan-step", "2000",
          "--camera-length", "100000"], "overfocus_m"),
    ],
)  # fmt: skip
def test_what_the_user_must_mend_is_one_line(
    options: list[str], told: str, tmp_path: Path, stack: Path, capsys: Capture
) -> None:
    arguments = ["calibrate-overfocus", str(stack), "--store", str(tmp_path / "runs"), *options]
    assert main(arguments) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("ewaldflow: ")]
    assert len(lines) == 1
    assert told in lines[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stack") / "stack.npy"
    np.save(path, _scan().frames.reshape(-1, 96, 96))
    return path
