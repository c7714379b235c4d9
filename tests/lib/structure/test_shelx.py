"""SHELX files: what is written can be read, by us and by cctbx, and means the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.lib.structure.scattering import electron_factor, four_gaussians
from ewaldflow.lib.structure.shelx import (
    instructions,
    lattice_lines,
    read_hkl,
    write_hkl,
    write_ins,
)

GROUPS = (
    "P 1", "P -1", "P 1 21 1", "P 1 21/c 1", "P 1 21/n 1", "B 1 1 b", "C m c m", "P n m a",
    "P c m n", "F d d 2", "I 41 c d", "P 42/n:1", "P 42/n:2", "R -3 c:H", "R 3:R", "P 63/m m c",
    "P m -3 m", "I a -3 d", "F d -3 m:1", "F d -3 m:2", "A b a 2",
)  # fmt: skip

needs_cctbx = pytest.mark.skipif(not cctbx_installed(), reason="cctbx-base is not installed")


def ins_of(group: str) -> str:
    return instructions(
        title=f"a test in {group}",
        cell=CELLS[group],
        cell_esd=(0.01, 0.01, 0.02, 0.0, 0.0, 0.0),
        wavelength_A=0.0250793,
        space_group=group,
        formula={"Si": 1, "O": 2},
        formula_units=4,
    )


def _cell_for(group: str) -> tuple[float, float, float, float, float, float]:
    g = gemmi.find_spacegroup_by_name(group)
    system = g.crystal_system_str()
    if g.ext == "R":
        return (9.0, 9.0, 9.0, 80.0, 80.0, 80.0)
    cells: dict[str, tuple[float, float, float, float, float, float]] = {
        "triclinic": (7, 8, 9, 81, 95, 103),
        "monoclinic": (7, 8, 9, 90, 90, 103) if group == "B 1 1 b" else (7, 8, 9, 90, 103, 90),
        "orthorhombic": (7, 8, 9, 90, 90, 90),
        "tetragonal": (7, 7, 9, 90, 90, 90),
        "trigonal": (7, 7, 9, 90, 90, 120),
        "hexagonal": (7, 7, 9, 90, 90, 120),
        "cubic": (9, 9, 9, 90, 90, 90),
    }
    return cells[system]


CELLS = {group: _cell_for(group) for group in GROUPS}


# --- .hkl ------------------------------------------------------------------------------------


def test_hkl_columns_are_those_of_the_format(tmp_path: Path) -> None:
    # scale 9999 / 4999.5 = 2
    scale = write_hkl(
        tmp_path / "a.hkl",
        [[1, -12, 123], [-999, 0, 5]],
        [4999.5, -60.25],
        [12.5, 0.25],
    )
    assert scale == 2.0
    assert (tmp_path / "a.hkl").read_text() == (
        "   1 -12 123 9999.00   25.00\n-999   0   5 -120.50 0.50000\n   0   0   0    0.00    0.00\n"
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 99),
            st.floats(-1e3, 1e6), st.floats(0.5, 1e4),
        ),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_hkl_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, ...]]
) -> None:
    path = tmp_path_factory.mktemp("hkl") / "a.hkl"
    table = np.array(rows, float)
    scale = write_hkl(path, table[:, :3], table[:, 3], table[:, 4])
    back = read_hkl(path)
    assert np.array_equal(back.hkl, table[:, :3])
    assert np.allclose(back.intensity / scale, table[:, 3], rtol=5e-3, atol=0.006 / scale)
    assert np.all(back.sigma > 0)
    assert np.allclose(back.sigma / scale, table[:, 4], rtol=5e-3)
    assert max(len(line) for line in path.read_text().splitlines()) == 28


@pytest.mark.parametrize(
    ("hkl", "intensity", "sigma", "says"),
    [
        (np.zeros((0, 3)), [], [], "no reflections"),
        ([[1000, 0, 0]], [1.0], [1.0], "1000"),
        ([[1, 0, 0]], [np.nan], [1.0], "finite"),
        ([[1, 0, 0]], [1.0], [0.0], "positive sigma"),
        ([[1, 0, 0], [2, 0, 0]], [1e9, 1.0], [1.0, 1e-7], "range"),
    ],
)
def test_hkl_refuses_what_it_cannot_hold(
    tmp_path: Path, hkl: list[list[int]], intensity: list[float], sigma: list[float], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        write_hkl(tmp_path / "a.hkl", hkl, intensity, sigma)
    assert not (tmp_path / "a.hkl").exists()


def test_hkl_that_is_none_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.hkl").write_text("   1   0   0    1.00    1.00\nsome words\n")
    with pytest.raises(UserError, match="line 2"):
        read_hkl(tmp_path / "a.hkl")


# --- .ins ------------------------------------------------------------------------------------


def test_instructions_of_pnma(tmp_path: Path) -> None:
    text = ins_of("P n m a")
    lines = text.splitlines()
    assert lines[0] == "TITL a test in P n m a in P n m a"
    assert "CELL 0.0250793 7.0000 8.0000 9.0000 90.000 90.000 90.000" in lines
    assert "ZERR 4.00 0.0100 0.0100 0.0200 0.0000 0.0000 0.0000" in lines
    assert "UNIT 8 4" in lines  # O8 Si4
    assert lines[-3:] == ["TREF", "HKLF 4", "END"]
    assert max(len(line) for line in lines) <= 80
    write_ins(tmp_path / "a.ins", text)
    assert (tmp_path / "a.ins").read_text() == text


@pytest.mark.parametrize("name", GROUPS)
def test_latt_and_symm_give_the_whole_group(name: str) -> None:
    group = gemmi.find_spacegroup_by_name(name)
    assert _expanded(lattice_lines(group)) == {
        (str(op.rot), str([t % 24 for t in op.tran])) for op in group.operations()
    }


def test_every_setting_that_gemmi_knows() -> None:
    wrong = [
        group.xhm()
        for group in gemmi.spacegroup_table()
        if len(_expanded(lattice_lines(group))) != len(list(group.operations()))
    ]
    assert wrong == []


def _expanded(lines: list[str]) -> set[tuple[str, str]]:
    """All operations, by the rules of the SHELX manual."""
    number = int(lines[0].split()[1])
    centrings = {
        1: [], 2: [[12, 12, 12]], 3: [[16, 8, 8], [8, 16, 16]],
        4: [[0, 12, 12], [12, 0, 12], [12, 12, 0]], 5: [[0, 12, 12]], 6: [[12, 0, 12]],
        7: [[12, 12, 0]],
    }[abs(number)]  # fmt: skip
    operations = [gemmi.Op("x,y,z")]
    operations += [gemmi.Op(line[4:].strip().lower().replace(" ", "")) for line in lines[1:]]
    found = set()
    for op in operations:
        for sign in (1, -1) if number > 0 else (1,):
            for shift in [[0, 0, 0], *centrings]:
                rotation = [[sign * x for x in row] for row in op.rot]
                move = [(sign * t + c) % 24 for t, c in zip(op.tran, shift, strict=True)]
                found.add((str(rotation), str(move)))
    return found


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space_group": "P 7"}, "P 7"),
        ({"formula": {}}, "composition"),
        ({"formula": {"Qq": 1}}, "Qq"),
    ],
)
def test_instructions_refuse(changes: dict[str, Any], says: str) -> None:
    values = {
        "title": "x", "cell": (7, 8, 9, 90, 90, 90), "cell_esd": (0,) * 6, "wavelength_A": 0.025,
        "space_group": "P n m a", "formula": {"Si": 1}, "formula_units": 4, **changes,
    }  # fmt: skip
    with pytest.raises(UserError, match=says):
        instructions(**values)


@pytest.mark.parametrize("element", ["H", "C", "O", "Al", "Si", "Fe", "Cs", "U"])
def test_four_gaussians_are_the_factor(element: str) -> None:
    a, b, c = four_gaussians(element)
    s = np.linspace(0, 1.25, 60)
    fitted = np.exp(-np.multiply.outer(s**2, b)) @ np.array(a) + c
    assert np.allclose(fitted, electron_factor(element, s), rtol=6e-3)


def test_the_factor_of_carbon_forwards() -> None:
    # Peng et al. (1996) give 2.51 Å for carbon at s = 0
    assert electron_factor("C", [0.0])[0] == pytest.approx(2.51, abs=0.02)


READ_BACK = """
import json, sys
from iotbx import shelx
from iotbx.reflection_file_reader import any_reflection_file
from iotbx.shelx import crystal_symmetry_from_ins
found = {}
for name in json.loads(sys.argv[1]):
    symmetry = crystal_symmetry_from_ins.extract_from(file_name=name)
    found[name] = [str(symmetry.space_group_info().type().hall_symbol()).strip(),
                   symmetry.space_group().order_z(), list(symmetry.unit_cell().parameters())]
reflections = any_reflection_file(sys.argv[2] + "=hklf4").as_miller_arrays()
array = reflections[0]
found["hkl"] = [list(array.indices())[:], list(array.data()), list(array.sigmas())]
print(json.dumps(found))
"""


@needs_cctbx
def test_cctbx_reads_the_same(tmp_path: Path) -> None:
    names = []
    for i, group in enumerate(GROUPS):
        write_ins(tmp_path / f"{i}.ins", ins_of(group))
        names.append(str(tmp_path / f"{i}.ins"))
    write_hkl(tmp_path / "a.hkl", [[1, 0, 0], [2, -1, 3]], [50.0, -9999.0], [10.0, 2.0])
    told = subprocess.run(
        [sys.executable, "-c", READ_BACK, json.dumps(names), str(tmp_path / "a.hkl")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(told.stdout.strip().splitlines()[-1])
    for name, group in zip(names, GROUPS, strict=True):
        hall, order, cell = found[name]
        known = gemmi.find_spacegroup_by_name(group)
        assert order == len(list(known.operations())), group
        ours = {op.triplet() for op in gemmi.symops_from_hall(hall)}
        assert ours == {op.triplet() for op in known.operations()}, group
        assert cell == pytest.approx(CELLS[group], abs=1e-3)
    indices, data, sigmas = found["hkl"]
    assert indices == [[1, 0, 0], [2, -1, 3]]
    assert data == [50.0, -9999.0]
    assert sigmas == [10.0, 2.0]
