"""The XDS engine on what XDS itself made of cinchonine, replayed by a stand-in."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.formats import SeriesOverrides, load_instrument, read_series
from ewaldflow.lib.geometry import rotated
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engines.choose import run_engine
from ewaldflow.lib.reduction.engines.protocol import EngineRun
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.series import RotationSeries

DATA = Path(
    os.environ.get(
        "EWALDFLOW_REAL_DATA", Path(ewaldflow.__file__).resolve().parents[1] / "shared" / "data"
    )
)
ARCHIVE = DATA / "cred" / "cinchonine_with_xds.tar.xz"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not ARCHIVE.exists(), reason=f"real data absent: {ARCHIVE}"),
]

REPLAY = """#!/bin/sh
from={folder}/DemoData/Cinchonine/xds
head -6 $from/XDS.LP | sed s/2025/2999/
[ -e XDS.INP ] || exit 0
for step in $(grep '^JOB=' XDS.INP | tail -1 | sed 's/JOB= *//'); do
  cp $from/$step.LP . && cat $step.LP
  case $step in
  COLSPOT) cp $from/SPOT.XDS . ;;
  IDXREF) cp $from/XPARM.XDS $from/SPOT.XDS . ;;
  INTEGRATE) cp $from/INTEGRATE.HKL . ;;
  CORRECT) cp $from/XDS_ASCII.HKL $from/GXPARM.XDS . ;;
  esac
done
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineRun, RotationSeries, Path]:
    folder = tmp_path_factory.mktemp("cinchonine")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    program = folder / "xds_par"
    program.write_text(REPLAY.format(folder=folder))
    program.chmod(0o755)
    series = read_series(
        folder / "DemoData" / "Cinchonine",
        instrument=load_instrument("timepix512"),
        overrides=SeriesOverrides(distance_mm=443.0),
        name="cinchonine",
    )
    run = run_engine(series, ReductionConfig(), "auto", folder, xds_path=program)
    return run, series, folder


def test_auto_takes_it(done: tuple[EngineRun, RotationSeries, Path]) -> None:
    run, _, _ = done
    assert run.engine == "xds"
    assert run.version == "XDS Jun 30, 2024  BUILT=20241002"
    assert [one.outcome for one in run.tries] == ["51 % of 791 spots indexed", "done"]


def test_the_figures_are_those_of_its_logs(done: tuple[EngineRun, RotationSeries, Path]) -> None:
    reduction = done[0].reduction
    lattice = reduction.lattices[0]
    assert lattice.bravais == "mP"
    assert lattice.cell == pytest.approx((10.732, 7.283, 11.107, 90, 108.060, 90), abs=5e-3)
    assert lattice.cell_esd == (0.22, 0.14, 0.22, 0.0, 0.12, 0.0)
    assert (lattice.rms_px, lattice.rms_deg, lattice.mosaicity_deg) == (0.93, 0.11, 0.21)
    assert (lattice.n_spots, lattice.n_indexed) == (791, 403)
    assert lattice.geometry.distance_mm == 436.1
    assert reduction.gain == 15.92
    assert len(lattice.reflections) == 2012
    assert lattice.reflections.has(Flag.OUTLIER).sum() == 54
    assert reduction.frames.scale[:3].tolist() == [0.714, 0.715, 0.716]
    assert "CORRECT: ISa 7.86" in reduction.notes


def test_positions_follow_from_the_orientation(
    done: tuple[EngineRun, RotationSeries, Path],
) -> None:
    lattice, frames = done[0].reduction.lattices[0], done[0].reduction.frames
    r, g = lattice.reflections, lattice.geometry
    q = rotated(r.hkl @ lattice.orientation.T, g.axis, r.angle_deg)
    # the beam drifts by 2.4 px: positions are those on the frames as taken
    at = np.clip(np.rint(r.frame).astype(int), 0, len(frames.beam_row) - 1)
    seen = g.to_pixel(q, np.stack([frames.beam_row, frames.beam_column], axis=1)[at])
    assert np.ptp(frames.beam_row) == 2
    # XDS_ASCII holds positions to 0.1 px and 0.1 frames
    assert np.sqrt(np.mean((seen - np.stack([r.row, r.column], axis=1)) ** 2)) < 0.25
    excitation = np.linalg.norm(q + g.s0, axis=1) - 1 / g.wavelength_A
    assert np.sqrt(np.mean(excitation**2)) < 5e-4


def test_our_lorentz_factor_is_its_rlp(done: tuple[EngineRun, RotationSeries, Path]) -> None:
    run, _, folder = done
    rows = np.loadtxt(folder / "xds" / "XDS_ASCII.HKL", comments="!")
    order = np.argsort(rows[:, 7], kind="stable")
    lattice = run.reduction.lattices[0]
    ratio = lattice.reflections.lorentz * rows[order, 8] / lattice.geometry.wavelength_A
    # INTEGRATE worked with a distance of 443 mm, CORRECT refined it to 436.1
    assert np.median(ratio) == pytest.approx(436.1 / 443.0, abs=0.002)
    assert np.ptp(ratio) < 0.02
