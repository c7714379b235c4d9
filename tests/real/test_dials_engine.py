"""DIALS itself, on a small simulated series: about a minute of one core."""

from __future__ import annotations

import pytest

from ewaldflow.lib.merging.data_set import data_set_from_lattice
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engines.choose import run_engine
from ewaldflow.lib.reduction.engines.dials import Dials
from ewaldflow.lib.reduction.engines.protocol import EngineRun
from ewaldflow.lib.simulation import Truth, judge, standard_set

WHY = Dials().available()
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"DIALS cannot be used: {WHY}")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineRun, Truth]:
    """Mordenite over 20 degrees in 80 frames, every tenth of them blank."""
    series, truth = standard_set("MOR", 20, 1)
    scratch = tmp_path_factory.mktemp("dials")
    return run_engine(series, ReductionConfig(d_min_A=0.7), "dials", scratch), truth


def test_it_finds_the_lattice(done: tuple[EngineRun, Truth]) -> None:
    run, truth = done
    found = judge(run.reduction, truth)
    assert found["found"] == 1
    assert found["orientation_error_deg"] < 1.5
    assert found["cell_edge_error_percent"] < 5
    assert found["position_rms_px"] < 1.5
    assert found["frame_rms"] < 1


def test_its_intensities_are_those_of_the_structure(done: tuple[EngineRun, Truth]) -> None:
    run, truth = done
    assert judge(run.reduction, truth)["cc_f2"] > 0.95


def test_blank_frames_are_left_out(done: tuple[EngineRun, Truth]) -> None:
    run, truth = done
    assert run.reduction.frames.blank.tolist() == truth.blank.tolist()
    assert truth.blank.sum() >= 4


def test_its_lattice_can_be_merged(done: tuple[EngineRun, Truth]) -> None:
    run, _ = done
    lattice = run.reduction.lattices[0]
    data = data_set_from_lattice("dials", lattice, range_deg=20, n_frames=80)
    assert len(data) > 300


def test_it_says_what_it_did(done: tuple[EngineRun, Truth]) -> None:
    run, _ = done
    assert run.version.startswith("DIALS ")
    assert run.reduction.notes[0] == "engine dials: as asked for"
    assert "% of the spots indexed" in run.tries[0].outcome
    names = [path.name for path in run.logs]
    assert [name.split("_", 2)[2] for name in names][:4] == [
        "version.log", "import.log", "find_spots.log", "index.log",
    ]  # fmt: skip
