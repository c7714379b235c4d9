from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import write_series as write_files
from ewaldflow.lib.instrument import SeriesOverrides
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest, read_series
from ewaldflow.lib.simulation.truth import Truth
from ewaldflow.tasks.convert import convert_series, label, series_names


@pytest.fixture(scope="module")
def folder(
    simulated: tuple[RotationSeries, Truth], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Twelve simulated frames as SMV files."""
    made = tmp_path_factory.mktemp("frames") / "crystal"
    write_files(simulated[0].select(np.arange(12)), made, "SMV")
    return made


def test_pixels_and_digests_reach_the_store(
    folder: Path, simulated: tuple[RotationSeries, Truth], tmp_path: Path
) -> None:
    ref = convert_series("crystal", folder, tmp_path / "runs", "twin", None)
    assert ref == "series/crystal@v0001"
    artefact = ArtefactStore(tmp_path / "runs").get(ref)
    series = read_series(artefact.arrays)
    assert pixel_digest(series) == pixel_digest(simulated[0].select(np.arange(12)))
    assert [item.digest for item in artefact.manifest.inputs] == [
        file.sha256 for file in series.sources
    ]
    assert artefact.manifest.configuration["instrument"]["name"] == "twin"


def test_the_same_files_and_settings_are_kept_once(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    first = convert_series("crystal", folder, store, "twin", None)
    assert convert_series("crystal", folder, store, "twin", None) == first
    other = SeriesOverrides(distance_mm=500.0)
    assert convert_series("crystal", folder, store, "twin", other) == "series/crystal@v0002"


def test_one_name_from_two_places_is_two_series(folder: Path, tmp_path: Path) -> None:
    store, elsewhere = tmp_path / "runs", tmp_path / "tuesday" / "crystal"
    shutil.copytree(folder, elsewhere)
    first = convert_series("crystal", folder, store, "twin", None)
    # the same bytes are the same series, wherever they lie
    assert convert_series("crystal", elsewhere, store, "twin", None) == first
    stated = SeriesOverrides(distance_mm=500.0)
    assert convert_series("crystal", elsewhere, store, "twin", stated) == "series/crystal-2@v0001"
    # and is found there again
    assert convert_series("crystal", elsewhere, store, "twin", stated) == "series/crystal-2@v0001"


def test_an_empty_folder_leaves_no_artefact(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        convert_series("empty", tmp_path / "empty", tmp_path / "runs", None, None)
    assert not (tmp_path / "runs" / "series").exists()


def test_names_are_as_long_as_needed(tmp_path: Path) -> None:
    a, b = tmp_path / "monday" / "exp_1" / "SMV" / "data", tmp_path / "tuesday" / "exp_1" / "SMV"
    for one in (a, b):
        one.mkdir(parents=True)
    assert series_names([a]) == ["exp_1"]
    assert series_names([a, b]) == ["monday-exp_1", "tuesday-exp_1"]
    assert len(set(series_names([a, a]))) == 1
    version = tmp_path / "simulation" / "demo" / "v0003" / "files" / "frames"
    version.mkdir(parents=True)
    assert series_names([version]) == ["demo"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("garnet experiment 1", "garnet-experiment-1"),
        ("Müller (2)/x", "Muller-2-x"),
        ("..hidden", "hidden"),
        ("数据", "series"),
        ("x" * 200, "x" * 80),
    ],
)
def test_labels_fit_a_store(text: str, expected: str) -> None:
    assert label(text) == expected
