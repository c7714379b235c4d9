"""A server of its own, for tests that kill it."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "service"


def _laboratory() -> None:
    """Let tests import `laboratory`, which lies in a folder that is no package."""
    spec = spec_from_file_location("laboratory", HERE / "laboratory.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


_laboratory()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--trials`: how many kills; `--away`: how long the server is away."""
    parser.addoption("--trials", type=int, metavar="N", help="kills of tests/chaos (60)")
    parser.addoption("--away", type=float, metavar="S", help="seconds without a server (300)")


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest) -> int:
    """How many kills: `--trials`, or EWALDFLOW_TRIALS, or 60."""
    given = request.config.getoption("--trials", default=None)  # known only where asked for by path
    return int(given or os.environ.get("EWALDFLOW_TRIALS", "60"))


@pytest.fixture(scope="session")
def away_s(request: pytest.FixtureRequest) -> float:
    """How long the server is away: `--away`, or EWALDFLOW_AWAY, or five minutes."""
    given = request.config.getoption("--away", default=None)
    return float(given or os.environ.get("EWALDFLOW_AWAY", "300"))
