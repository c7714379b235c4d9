"""POINTLESS by a stand-in: what it is told, what is read, how it fails."""

import stat
from pathlib import Path

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.space_group.pointless import run_pointless

LOG = """
 ### CCP4: POINTLESS         version 1.12.1 : 09/10/20##
Best Solution:    space group P 1 21 1

   Reindex operator:                     [h,k,l]
   Laue group probability:               0.995
   Systematic absence probability:       0.968
   Total probability:                    0.963
   Space group confidence:               0.948
   Laue group confidence  0.994
"""


def stand_in(folder: Path, body: str) -> Path:
    path = folder / "pointless"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_it_is_told_what_it_needs_and_its_log_is_read(tmp_path):
    (tmp_path / "log").write_text(LOG)
    program = stand_in(tmp_path, f'cat > told; echo "$1 $2" >> told; cat "{tmp_path}/log"')
    found = run_pointless("x/XDS_ASCII.HKL", tmp_path / "run", program=program)
    assert found is not None
    assert found.best == "P 1 21 1"
    assert found.version == "1.12.1"
    told = (tmp_path / "run" / "told").read_text().splitlines()
    assert told[:3] == ["SETTING SYMMETRY-BASED", "CHIRALITY NONCHIRAL", "END"]
    assert told[3] == f"XDSIN {Path('x/XDS_ASCII.HKL').absolute()}"


def test_a_chiral_sample_and_an_mtz(tmp_path):
    (tmp_path / "log").write_text(LOG)
    program = stand_in(tmp_path, f'cat > told; echo "$1" >> told; cat "{tmp_path}/log"')
    run_pointless("a.mtz", tmp_path / "run", program=program, chiral=True)
    told = (tmp_path / "run" / "told").read_text()
    assert told == "SETTING SYMMETRY-BASED\nEND\nHKLIN\n"


def test_none_where_it_is_not_installed(tmp_path):
    assert run_pointless("a.HKL", tmp_path, program="no-such-pointless") is None


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("echo cannot open file; exit 1", "ended with exit code 1: cannot open file"),
        ("sleep 60", "stopped at the time limit"),
        ("echo hello", "hello"),
    ],
)
def test_failures_are_one_line(tmp_path, body, found):
    program = stand_in(tmp_path, body)
    with pytest.raises(UserError) as error:
        run_pointless("a.HKL", tmp_path / "run", program=program, limit_s=1.0)
    assert "\n" not in str(error.value)
    if "hello" not in body:
        assert found in str(error.value)
