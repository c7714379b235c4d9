"""ewaldflow convert: what it makes for each program, and a beam that is followed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.cli import main
from ewaldflow.lib.formats import read_series, write_series
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest
from ewaldflow.lib.simulation import Truth

Capture = pytest.CaptureFixture[str]
Simulated = tuple[RotationSeries, Truth]


@pytest.fixture
def few(simulated: Simulated, tmp_path: Path) -> tuple[RotationSeries, list[str]]:
    """Twelve frames, and the command that converts them."""
    series = simulated[0].select(np.arange(12))
    write_series(series, tmp_path / "in", "SMV")
    out = str(tmp_path / "out")
    return series, ["convert", str(tmp_path / "in"), out, "--instrument", "twin", "--to"]


@pytest.mark.parametrize("to", ["nxmx", "cbf"])
def test_formats_that_read_back(
    to: str, few: tuple[RotationSeries, list[str]], tmp_path: Path, capsys: Capture
) -> None:
    series, command = few
    assert main([*command, to]) == 0
    shown = capsys.readouterr().out
    assert "12 frames in" in shown
    assert ("dials.import *.nxs" in shown) == (to == "nxmx")
    read = read_series(tmp_path / "out")
    assert pixel_digest(read) == pixel_digest(series)
    np.testing.assert_allclose(read.angle_start_deg, series.angle_start_deg, atol=1e-5)
    np.testing.assert_allclose(read.geometry.axis, series.geometry.axis, atol=1e-6)
    np.testing.assert_array_equal(read.mask, series.mask)


@pytest.mark.parametrize(
    ("to", "made"), [("pets", "*.pts"), ("redp", "RED/1.ed3d"), ("crysalis", "*.run")]
)
def test_projects_of_other_programs(
    to: str, made: str, few: tuple[RotationSeries, list[str]], tmp_path: Path
) -> None:
    assert main([*few[1], to]) == 0
    assert len(list((tmp_path / "out").glob(made))) == 1
    frames = [one for one in (tmp_path / "out").rglob("*") if one.suffix in {
        ".tiff", ".mrc", ".esperanto"}]  # fmt: skip
    assert len(frames) == 12


def test_the_beam_that_is_followed_is_the_simulated_one(
    few: tuple[RotationSeries, list[str]], simulated: Simulated, tmp_path: Path, capsys: Capture
) -> None:
    assert main([*few[1], "pets", "--align", "auto"]) == 0
    assert "the beam was followed by the direct beam on" in capsys.readouterr().out
    truth = simulated[1].beam_centres_px[:12]
    (pts,) = (tmp_path / "out").glob("*.pts")
    angles = re.findall(r"^tiff\\\S+ +(\S+)", pts.read_text(), re.MULTILINE)
    np.testing.assert_allclose(np.array(angles, float), few[0].angle_mid_deg, atol=1e-4)
    listed = np.loadtxt(pts.with_suffix(".cenloc"))[:, 1::-1] - 1
    assert np.abs(listed - truth).max() < 0.1
    table = np.genfromtxt(tmp_path / "out" / "beam_centres.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["row_px"], listed[:, 0], atol=1e-3)
    assert not table["shifted_rows_px"].any()


def test_frames_for_one_centre_are_moved(
    few: tuple[RotationSeries, list[str]], simulated: Simulated, tmp_path: Path
) -> None:
    assert main([*few[1], "nxmx", "--align", "beam"]) == 0
    table = np.genfromtxt(tmp_path / "out" / "beam_centres.csv", delimiter=",", names=True)
    shift = np.stack([table["shifted_rows_px"], table["shifted_columns_px"]], axis=1)
    told = read_series(tmp_path / "out").geometry.beam_centre_px
    left = simulated[1].beam_centres_px[:12] - shift - told
    assert np.abs(left).max() < 0.8
