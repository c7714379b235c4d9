"""The sign of the maps of distortion: those beside real frames, and the frames themselves."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import fabio
import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.formats import load_instrument, read_series
from ewaldflow.lib.formats.geo_corr import distortion_maps
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.reduction.engine import reduce_series

DATA = Path(
    os.environ.get(
        "EWALDFLOW_REAL_DATA", Path(ewaldflow.__file__).resolve().parents[1] / "shared" / "data"
    )
)
ARCHIVE = DATA / "cred" / "lysozyme_experiment_14.tar.xz"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not ARCHIVE.exists(), reason=f"real data absent: {ARCHIVE}"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lysozyme")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder / "experiment_14"


def instamatic_maps(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for name in ("XCORR.cbf", "YCORR.cbf"):
        with fabio.open(str(folder / "SMV" / name)) as image:
            found.append(image.data.astype(float))
    return found[0], found[1]


def ellipse_of(x: np.ndarray, y: np.ndarray) -> EllipticalDistortion:
    """The distortion that maps undo: observed = D ideal, ideal = observed + map / 100."""
    (xy, xx), (yy, yx) = (
        [np.mean(np.diff(table, axis=axis)) / 100 for axis in (0, 1)] for table in (x, y)
    )
    return EllipticalDistortion.from_matrix(np.linalg.inv([[1 + xx, xy], [yx, 1 + yy]]))


def test_the_maps_beside_the_frames_are_of_the_sign_that_the_frames_ask_for(folder: Path) -> None:
    told = ellipse_of(*instamatic_maps(folder))
    series = read_series(folder, instrument=load_instrument("jeol2100-timepix516"))
    seen = reduce_series(series).lattices[0].geometry.distortion
    # of the opposite sign the long axes would be 90 degrees apart
    apart = (told.azimuth_deg - seen.azimuth_deg + 90) % 180 - 90
    assert abs(apart) < 15
    assert told.ratio == pytest.approx(seen.ratio, abs=0.006)


def test_our_maps_are_theirs(folder: Path) -> None:
    x, y = instamatic_maps(folder)
    series = read_series(folder, instrument=load_instrument("jeol2100-timepix516"))
    # theirs vanish at their centre, and scale by 1 +- e, ours by sqrt(ratio) and its inverse
    here = (np.abs(x) < 1) & (np.abs(y) < 1)
    centre = np.argwhere(here).mean(axis=0)
    geometry = series.geometry.with_(
        distortion=ellipse_of(x, y), beam_centre_px=(float(centre[0]), float(centre[1]))
    )
    ours = distortion_maps(geometry, series.shape)
    assert np.abs(ours[0] - x).max() <= 8
    assert np.abs(ours[1] - y).max() <= 8
