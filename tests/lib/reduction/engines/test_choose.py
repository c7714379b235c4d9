from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engines import choose
from ewaldflow.lib.reduction.engines.builtin import Builtin
from ewaldflow.lib.reduction.engines.choose import choose_engine, run_engine
from ewaldflow.lib.reduction.engines.protocol import Engine
from ewaldflow.lib.reduction.engines.xds import Xds
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

FakeXds = Callable[..., Path]
Simulated = tuple[RotationSeries, Truth]
CONFIG = ReductionConfig()


def test_auto_takes_xds_where_it_runs(fake_xds: FakeXds) -> None:
    engine, why = choose_engine("auto", xds_path=fake_xds())
    assert isinstance(engine, Xds)
    assert why.endswith("is licensed and runs")


def test_auto_takes_ours_where_xds_does_not_run(fake_xds: FakeXds) -> None:
    engine, why = choose_engine("auto", xds_path=fake_xds(banner="XDS license expired\n"))
    assert isinstance(engine, Builtin)
    assert why == (
        "engine auto: the built-in one, since XDS cannot be used "
        "(its licence has expired: XDS license expired)"
    )
    engine, why = choose_engine("auto", xds_path="no-such-xds")
    assert isinstance(engine, Builtin)
    assert "no-such-xds is not on the PATH" in why


def test_an_engine_asked_for_must_run() -> None:
    with pytest.raises(UserError, match="engine xds: found no-such-xds is not on the PATH"):
        choose_engine("xds", xds_path="no-such-xds")


def test_an_unknown_engine_is_a_user_error() -> None:
    with pytest.raises(UserError, match="one of auto, builtin, xds, dials"):
        choose_engine("refmac")


def test_dials_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"dials\.import is not on the PATH"):
        choose_engine("dials")


def test_all_are_engines() -> None:
    engines: list[Engine] = [Builtin(), Xds(), choose.Dials()]
    assert [engine.name for engine in engines] == ["builtin", "xds", "dials"]


def test_the_built_in_engine_is_one_of_them(simulated: Simulated, tmp_path: Path) -> None:
    steps: list[str] = []
    run = run_engine(
        simulated[0], CONFIG, "builtin", tmp_path, progress=lambda step, _: steps.append(step)
    )
    assert run.reduction.notes[0] == "engine builtin: as asked for"
    assert run.reduction.notes[1].startswith("gain ")
    assert [lattice.bravais for lattice in run.reduction.lattices] == ["oP"]
    assert [one.outcome for one in run.tries] == [run.reduction.verdict]
    assert run.version.startswith("ewaldflow ")
    assert "find spots" in steps


def test_each_run_has_a_folder_of_its_own(
    fake_xds: FakeXds, simulated: Simulated, tmp_path: Path
) -> None:
    series, scratch = simulated[0].select(slice(0, 10)), tmp_path / "scratch"
    scratch.mkdir()
    first = run_engine(series, CONFIG, "xds", scratch, xds_path=fake_xds())
    second = run_engine(series, CONFIG, Xds(fake_xds()), scratch)
    assert sorted(path.name for path in scratch.iterdir()) == ["xds", "xds_2"]
    assert first.tries == second.tries
    assert first.reduction.notes[0] == "engine xds: as asked for"
    assert first.reduction.notes[1].startswith("reduced by XDS Jun 30, 2024")
    assert first.reduction.notes[2] == "tried: IDXREF (as a rule): 90 % of 100 spots indexed"


def test_a_scratch_folder_that_is_not_there_is_a_user_error(
    simulated: Simulated, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="a folder to work in"):
        run_engine(simulated[0], CONFIG, "builtin", tmp_path / "none")
