from __future__ import annotations

import os
from pathlib import Path

import pytest

from ewaldflow.flows.environment import prepare_prefect


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No Prefect settings, and a home folder without any."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_records_lie_in_the_store(bare: Path) -> None:
    prepare_prefect(bare / "runs")
    assert os.environ["PREFECT_HOME"] == str(bare / "runs" / ".prefect")
    assert os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] == "120"


@pytest.mark.parametrize("name", ["PREFECT_HOME", "PREFECT_API_URL"])
def test_what_the_user_set_stands(bare: Path, name: str) -> None:
    os.environ[name] = "mine"
    os.environ["PREFECT_LOGGING_LEVEL"] = "DEBUG"
    prepare_prefect(bare / "runs")
    assert os.environ[name] == "mine"
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert os.environ.get("PREFECT_HOME", "mine") == "mine"


def test_a_server_in_a_profile_stands(bare: Path) -> None:
    (bare / ".prefect").mkdir()
    profile = '[profiles.lab]\nPREFECT_API_URL = "http://lab:4200/api"\n'
    (bare / ".prefect" / "profiles.toml").write_text(profile)
    prepare_prefect(bare / "runs")
    assert "PREFECT_HOME" not in os.environ
