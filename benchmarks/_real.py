"""The real series: where their archives are, how they are read, and how XDS saw cinchonine."""

from __future__ import annotations

import argparse
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ewaldflow
from ewaldflow.lib.crystal.cell import Cell, cell_from_reciprocal_basis
from ewaldflow.lib.formats import SeriesOverrides, load_instrument, read_series
from ewaldflow.lib.reduction.statistics import correlation
from ewaldflow.lib.reduction.xds_ascii import XdsObservations, read_xds_ascii
from ewaldflow.lib.series import RotationSeries

Floats = NDArray[np.float64]

XDS_FILE = "DemoData/Cinchonine/xds/XDS_ASCII.HKL"

# Two observations of a reflection are the same if no more frames apart than this.
LARGEST_FRAMES = 6.0


@dataclass(frozen=True)
class RealSeries:
    """An archive, the folder in it to read, and what its files do not say."""

    archive: str
    folder: str
    instrument: str
    distance_mm: float | None = None


REAL = {
    "garnet": RealSeries("garnet_experiment_1.tar.xz", "experiment_1", "jeol2100-timepix516"),
    "lysozyme": RealSeries("lysozyme_experiment_14.tar.xz", "experiment_14", "jeol2100-timepix516"),
    # XDS.INP says 443; XDS refined it, and its cell is the one to compare with
    "cinchonine": RealSeries(
        "cinchonine_with_xds.tar.xz", "DemoData/Cinchonine", "timepix512", 436.10
    ),
}


def add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=default_data(), help="folder of the real data [%(default)s]"
    )


def default_data() -> Path:
    """$EWALDFLOW_REAL_DATA, or ``shared/data`` beside the checkout."""
    beside = Path(ewaldflow.__file__).resolve().parents[1] / "shared" / "data"
    return Path(os.environ.get("EWALDFLOW_REAL_DATA", beside))


def archive_of(name: str, data: Path) -> Path | None:
    """The archive of a series, in `data` or its ``cred``; None if absent."""
    for folder in (data / "cred", data):
        path = folder / REAL[name].archive
        if path.exists():
            return path
    return None


def unpack(name: str, data: Path, work: Path) -> Path | None:
    """The folder of a series' frames, unpacked below `work`; None if the archive is absent."""
    folder = work / name
    done = folder / "unpacked"
    if not done.exists():
        archive = archive_of(name, data)
        if archive is None:
            return None
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        done.touch()
    return folder / REAL[name].folder


def read_real(name: str, folder: Path) -> RotationSeries:
    """A real series with what its files do not say."""
    real = REAL[name]
    return read_series(
        folder,
        instrument=load_instrument(real.instrument),
        overrides=SeriesOverrides(distance_mm=real.distance_mm),
        name=name,
    )


@dataclass(frozen=True)
class AgainstXds:
    """How a reduction compares with that of XDS.

    Attributes
    ----------
    n_common : observations that both have.
    cc : correlation of their intensities.
    ours : (n_common,) rows of our list.
    cell : our lattice in the setting of XDS.
    """

    n_common: int
    cc: float
    ours: NDArray[np.int64]
    cell: Cell


def xds_observations(path: Path) -> tuple[XdsObservations, Floats]:
    """What XDS accepted, and its ``A`` (columns a*, b*, c* in 1/Å at angle zero)."""
    lines = re.findall(r"!UNIT_CELL_[ABC]-AXIS=(.*)", path.read_text())
    axes = np.array([[float(v) for v in line.split()] for line in lines])
    return read_xds_ascii(path), np.linalg.inv(axes)


def against_xds(
    orientation: Floats, hkl: NDArray[np.integer], frame_number: Floats, intensity: Floats,
    theirs: XdsObservations, xds_orientation: Floats,
) -> AgainstXds:  # fmt: skip
    """Compare observations one by one with those that XDS accepted.

    Parameters
    ----------
    orientation : (3, 3) ``A`` at angle zero, for our indices.
    hkl, frame_number, intensity : (n, 3), (n,), (n,) our observations; NaN is not compared.
    theirs, xds_orientation : of `xds_observations`.
    """
    transform = to_setting(xds_orientation, orientation)
    if transform is None:
        return AgainstXds(0, float("nan"), np.zeros(0, np.int64), (float("nan"),) * 6)
    finite, accepted = np.flatnonzero(np.isfinite(intensity)), np.flatnonzero(~theirs.misfit)
    i, j = pair_observations(
        hkl[finite] @ transform.T, frame_number[finite],
        theirs.hkl[accepted], theirs.frame_number[accepted],
    )  # fmt: skip
    i, j = finite[i], accepted[j]
    cell = cell_from_reciprocal_basis(orientation @ np.linalg.inv(transform))
    return AgainstXds(len(i), correlation(theirs.intensity[j], intensity[i]), i, cell)


def pair_observations(
    hkl: NDArray[np.number], frame: Floats, other_hkl: NDArray[np.number], other_frame: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (k,), (k,) of the observations that two lists, indexed alike, have in common.

    Each of the second list is paired with the nearest in time of the first.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, indices in enumerate(np.rint(hkl).astype(int).tolist()):
        rows.setdefault(tuple(indices), []).append(i)
    pairs = []
    for j, indices in enumerate(np.rint(other_hkl).astype(int).tolist()):
        same = rows.get(tuple(indices), [])
        distance = [abs(frame[i] - other_frame[j]) for i in same]
        if distance and min(distance) < LARGEST_FRAMES:
            pairs.append((same[int(np.argmin(distance))], j))
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return first, second


def to_setting(wanted: Floats, given: Floats) -> Floats | None:
    """(3, 3) M with ``h_wanted = M h_given`` for the same points in space; None if there is none.

    Entries may be halves, as between a cell centred on A, B, C, I or F and its primitive one.
    """
    exact = np.linalg.solve(wanted, given)
    rounded: Floats = np.rint(exact * 2) / 2
    good = np.abs(exact - rounded).max() < 0.15 and abs(np.linalg.det(rounded)) > 0.2
    return rounded if good else None
