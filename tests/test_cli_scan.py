"""Scans and series that `ewaldflow convert` keeps in the store."""

from pathlib import Path

import numpy as np
import pytest

from ewaldflow.cli import main
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.stem4d.storage import read_scan

FRAMES = np.arange(12 * 6 * 5, dtype=np.uint16).reshape(12, 6, 5)


def test_a_scan_is_kept_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "gold.npy", FRAMES)
    store = tmp_path / "runs"
    command = ["convert", str(tmp_path / "gold.npy"), "--to", "scan", "--store", str(store)]
    assert main(command) == 2
    assert "12 frames in a row" in capsys.readouterr().err
    command += ["--scan-shape", "3", "4", "--voltage", "200", "--scan-step", "2"]
    for _ in range(2):
        assert main(command) == 0
        assert "scan/gold@v0001 in" in capsys.readouterr().out
    artefact = ArtefactStore(store).get("scan/gold@v0001")
    scan = read_scan(artefact.arrays)
    np.testing.assert_array_equal(np.asarray(scan.frames[...]), FRAMES.reshape(3, 4, 6, 5))
    assert scan.scan_step_nm == (2.0, 2.0)
    assert [len(one.sha256) for one in scan.sources] == [64]
    assert artefact.manifest.inputs[0].digest == scan.sources[0].sha256


def test_another_scan_of_that_name_is_another(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "gold.npy", FRAMES.reshape(3, 4, 6, 5) + ord(folder))
        path = str(tmp_path / folder / "gold.npy")
        assert main(["convert", path, "--to", "scan", "--store", str(store)]) == 0
    names = {one.ref for one in ArtefactStore(store).list("scan")}
    assert names == {"scan/gold@v0001", "scan/gold-2@v0001"}


def test_out_is_for_other_programs_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "gold.npy", FRAMES)
    assert main(["convert", str(tmp_path / "gold.npy"), "out", "--to", "scan"]) == 2
    assert "OUT: found 'out', expected nothing" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "gold.npy"), "--to", "smv"]) == 2
    assert "OUT: found nothing, expected a new folder" in capsys.readouterr().err
