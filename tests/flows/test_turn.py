"""Who has a microscope: one name for it, however it is given. tests/chaos lets two flows meet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, VariableCreate

from ewaldflow.flows.turn import _holder, microscope_limit
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.instrument import INSTRUMENTS, available_instruments


def renamed(folder: Path, name: str) -> Path:
    content = yaml.safe_load((INSTRUMENTS / "twin.yaml").read_text(encoding="utf-8"))
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**content, "name": name}), encoding="utf-8")
    return file


def test_a_name_and_its_yaml_are_the_same_instrument() -> None:
    assert microscope_limit("twin") == "microscope-twin"
    assert microscope_limit(str(INSTRUMENTS / "twin.yaml")) == "microscope-twin"
    names = [microscope_limit(one) for one in available_instruments()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["JEOL 2100 (LaB6)", "f20/2", "Titan & Co. 100 %", "Ångström"])
def test_prefect_takes_the_names_of_any_instrument(tmp_path: Path, name: str) -> None:
    limit = microscope_limit(str(renamed(tmp_path, name)))
    assert re.fullmatch(r"microscope-[a-z0-9]+(-[a-z0-9]+)*", limit)
    GlobalConcurrencyLimitCreate(name=limit, limit=1)
    VariableCreate(name=_holder(limit), value="a session")


def test_an_unknown_instrument_is_one_line() -> None:
    with pytest.raises(UserError, match="no-such"):
        microscope_limit("no-such")
