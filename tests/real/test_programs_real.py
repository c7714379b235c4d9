"""Real series followed and written for other programs; the words of a real project of PETS2."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.formats import load_instrument, read_series, write_series
from ewaldflow.lib.orientation.from_pets import read_pts
from ewaldflow.lib.reduction.align import align
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest

pytestmark = pytest.mark.real
ROOT = Path(ewaldflow.__file__).resolve().parent
DATA = Path(os.environ.get("EWALDFLOW_REAL_DATA", ROOT.parent / "shared" / "data")) / "cred"


@pytest.fixture(scope="module")
def lysozyme(tmp_path_factory: pytest.TempPathFactory) -> RotationSeries:
    path = DATA / "lysozyme_experiment_14.tar.xz"
    if not path.exists():
        pytest.skip(f"real data absent: {path.name} not in {DATA}")
    folder = tmp_path_factory.mktemp("lysozyme")
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return read_series(folder / "experiment_14", instrument=load_instrument("jeol2100-timepix516"))


def test_the_beam_of_lysozyme(lysozyme: RotationSeries) -> None:
    found = align(lysozyme)
    assert found.seen.all()
    # as measured by hand on the frames
    np.testing.assert_allclose(np.median(found.centres_px, axis=0), (227.25, 243.38), atol=0.05)
    assert np.abs(found.measured_px - found.centres_px).max() < 0.1
    # Friedel pairs say the same, without regard to the beam's shape
    pairs = align(lysozyme, "friedel")
    off = np.median(pairs.centres_px - found.centres_px, axis=0)
    assert np.abs(off).max() < 0.25


def test_lysozyme_as_nxmx(lysozyme: RotationSeries, tmp_path: Path) -> None:
    assert write_series(lysozyme, tmp_path, "NXmx").lossless
    read = read_series(tmp_path)
    assert pixel_digest(read) == pixel_digest(lysozyme)
    np.testing.assert_allclose(read.angle_start_deg, lysozyme.angle_start_deg, atol=1e-9)
    np.testing.assert_allclose(read.geometry.axis, lysozyme.geometry.axis, atol=1e-12)
    np.testing.assert_array_equal(read.mask, lysozyme.mask)


def test_a_project_has_the_words_of_a_real_one(lysozyme: RotationSeries, tmp_path: Path) -> None:
    real = DATA / "glycine_pets" / "glycine.pts"
    if not real.exists():
        pytest.skip(f"real data absent: {real}")
    write_series(lysozyme.select(np.arange(5)), tmp_path, "PETS")

    def words(path: Path) -> tuple[set[str], list[int]]:
        lines = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
        lines = [line for line in lines if line and not line[0].startswith("#")]
        return {line[0].lower() for line in lines if "tiff" not in line[0]}, [
            len(line) for line in lines if "tiff" in line[0]
        ]

    ours, real_words = words(next(tmp_path.glob("*.pts"))), words(real)
    assert ours[0] <= real_words[0]
    assert set(ours[1]) == set(real_words[1])  # columns of the list of images
    assert read_pts(real).half_exposure_deg == 0.18
    cenloc = np.loadtxt(next(tmp_path.glob("*.cenloc")))
    assert cenloc.shape[1] == np.loadtxt(real.with_suffix(".cenloc")).shape[1]
