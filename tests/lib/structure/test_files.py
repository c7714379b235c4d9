"""MTZ, mmCIF, XSCALE.INP and SHELXT: written files read back by others."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.merged_reflections import MergedReflections
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.lib.structure.reflection_files import (
    merged_mtz,
    unmerged_mtz,
    write_mmcif,
    write_mtz,
)
from ewaldflow.lib.structure.shelxt import read_res, run_shelxt
from ewaldflow.lib.structure.xscale_inp import XscaleInput, write_xscale_inp

CELL = (18.256, 20.534, 7.542, 90.0, 90.0, 90.0)


@pytest.fixture(scope="module")
def merged(perfect: Callable[..., MergedReflections]) -> MergedReflections:
    return perfect("MOR", 1.5, "oC")


def data_set(name: str, seed: int, n: int = 60, n_frames: int = 40) -> DataSet:
    rng = np.random.default_rng(seed)
    hkl = rng.integers(-9, 10, (n, 3))
    hkl = hkl[np.any(hkl != 0, axis=1)]
    hkl[:, 0] += (hkl[:, 0] + hkl[:, 1]) % 2  # h + k even
    m = len(hkl)
    return DataSet(
        name=name, cell=CELL, bravais="oC", hkl=hkl.astype(np.int32),
        intensity=rng.normal(100, 80, m), sigma=rng.uniform(1, 5, m),
        frame=rng.uniform(0, n_frames - 1, m),
        d_A=d_spacing_A(hkl, CELL),
        flags=np.where(rng.random(m) < 0.2, np.uint32(Flag.SATURATED), np.uint32(0)),
        wavelength_A=0.0250793, range_deg=20.0, n_frames=n_frames,
    )  # fmt: skip


# --- MTZ and mmCIF ---------------------------------------------------------------------------


def test_merged_mtz_comes_back(merged: MergedReflections, tmp_path: Path) -> None:
    write_mtz(tmp_path / "a.mtz", merged_mtz(merged, title="mordenite"))
    back = gemmi.read_mtz_file(str(tmp_path / "a.mtz"))
    assert back.title == "mordenite"
    assert back.spacegroup.xhm() == "C m c m"
    assert back.dataset(1).wavelength == pytest.approx(0.0250793, abs=5e-6)
    assert back.cell.parameters == pytest.approx(CELL, abs=1e-3)
    table = np.array(back.array)
    # d and intensity tell a reflection whatever asymmetric unit it is written in
    ours = sorted(zip(np.abs(merged.hkl).tolist(), merged.intensity, merged.sigma, strict=True))
    theirs = sorted(
        zip(np.abs(table[:, :3]).astype(int).tolist(), table[:, 3], table[:, 4], strict=True)
    )
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    assert np.allclose([row[1] for row in ours], [row[1] for row in theirs], rtol=1e-5)
    assert np.allclose([row[2] for row in ours], [row[2] for row in theirs], rtol=1e-5)
    assert np.all(table[:, 5] == 3)


def test_unmerged_mtz_keeps_every_observation(tmp_path: Path) -> None:
    sets = [data_set("first crystal", 1), data_set("second", 2, n_frames=1500)]
    scales = [np.full(len(sets[0]), 2.0), np.full(len(sets[1]), 0.5)]
    write_mtz(tmp_path / "a.mtz", unmerged_mtz(sets, "C m c m", scales=scales))
    back = gemmi.read_mtz_file(str(tmp_path / "a.mtz"))
    assert len(back.batches) == 40 + 1500
    assert back.nreflections == len(sets[0]) + len(sets[1])
    back.switch_to_original_hkl()
    table = np.array(back.array)
    first = table[table[:, back.column_labels().index("BATCH")] <= 1000]
    assert len(first) == len(sets[0])
    column = {name: i for i, name in enumerate(back.column_labels())}
    mine = sorted(zip(sets[0].hkl.tolist(), (2 * sets[0].intensity).round(2), strict=True))
    theirs = sorted(
        zip(first[:, :3].astype(int).tolist(), first[:, column["I"]].round(2), strict=True)
    )
    assert [row[0] for row in mine] == [row[0] for row in theirs]
    assert np.allclose([r[1] for r in mine], [r[1] for r in theirs], atol=0.02)
    batch = first[:, column["BATCH"]]
    assert batch.min() >= 1
    assert batch.max() <= 40
    assert first[:, column["FLAG"]].sum() == sets[0].has(Flag.SATURATED).sum()


def test_mmcif_reads_as_the_same(merged: MergedReflections, tmp_path: Path) -> None:
    write_mmcif(tmp_path / "a.cif", merged_mtz(merged))
    blocks = gemmi.as_refln_blocks(gemmi.cif.read(str(tmp_path / "a.cif")))
    assert blocks[0].spacegroup.xhm() == "C m c m"
    values = blocks[0].make_float_array("intensity_meas")
    assert sorted(values) == pytest.approx(sorted(merged.intensity), rel=1e-4)
    redundancy = blocks[0].make_int_array("pdbx_redundancy", -1)
    assert set(redundancy.tolist()) == {3}


def test_unmerged_mmcif_has_every_observation(tmp_path: Path) -> None:
    one = data_set("x", 4)
    write_mmcif(tmp_path / "a.cif", unmerged_mtz([one], "C m c m"))
    block = gemmi.cif.read(str(tmp_path / "a.cif")).sole_block()
    found = [float(v) for v in block.find_loop("_diffrn_refln.intensity_net")]
    assert sorted(found) == pytest.approx(sorted(one.intensity), rel=2e-3, abs=0.02)


def test_nothing_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data_sets"):
        unmerged_mtz([], "P 1")
    with pytest.raises(UserError, match="can be written"):
        write_mtz(tmp_path / "absent" / "a.mtz", unmerged_mtz([data_set("x", 1)], "C m c m"))


READ_BACK = """
import json, sys
from iotbx.reflection_file_reader import any_reflection_file
found = []
for name in sys.argv[1:]:
    arrays = any_reflection_file(name).as_miller_arrays(merge_equivalents=False)
    array = [a for a in arrays if a.is_xray_intensity_array()][0]
    found.append([array.size(), str(array.space_group_info()), sum(array.data()),
                  sum(array.sigmas()), array.is_unique_set_under_symmetry()])
print(json.dumps(found))
"""


@pytest.mark.skipif(not cctbx_installed(), reason="cctbx-base is not installed")
def test_cctbx_reads_the_same(merged: MergedReflections, tmp_path: Path) -> None:
    one = data_set("x", 5)
    write_mtz(tmp_path / "merged.mtz", merged_mtz(merged))
    write_mtz(tmp_path / "unmerged.mtz", unmerged_mtz([one, one], "C m c m"))
    told = subprocess.run(
        [sys.executable, "-c", READ_BACK, str(tmp_path / "merged.mtz"),
         str(tmp_path / "unmerged.mtz")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second = json.loads(told.stdout.strip().splitlines()[-1])
    assert first[:2] == [len(merged), "C m c m"]
    assert first[2] == pytest.approx(merged.intensity.sum(), rel=1e-5)
    assert first[4]
    assert second[0] == 2 * len(one)
    assert second[2] == pytest.approx(2 * one.intensity.sum(), rel=1e-4)
    assert second[3] == pytest.approx(2 * one.sigma.sum(), rel=1e-4)


# --- XSCALE.INP ------------------------------------------------------------------------------


def test_xscale_inp_links_to_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "a crystal with blanks and a very long name of more than fifty characters"
    odd.mkdir()
    files = [odd / "XDS_ASCII.HKL", tmp_path / "two.HKL"]
    for file in files:
        file.write_text(f"!{file.parent.name}\n")
    path = write_xscale_inp(
        tmp_path / "xscale",
        [XscaleInput(files[0], (20.0, 0.8), reference=True), XscaleInput(files[1])],
        space_group="C m c m", cell=CELL,
    )  # fmt: skip
    lines = path.read_text().splitlines()
    assert "SPACE_GROUP_NUMBER= 63" in lines
    assert "INPUT_FILE= *0001.HKL" in lines
    assert "INPUT_FILE= 0002.HKL" in lines
    assert lines[lines.index("INPUT_FILE= *0001.HKL") + 1] == (
        "INCLUDE_RESOLUTION_RANGE= 20.000 0.800"
    )
    assert (path.parent / "0001.HKL").read_text() == files[0].read_text()
    active = [line.split("!")[0] for line in lines]
    assert all(" " not in line.split("=")[1].strip() for line in active if "INPUT_FILE" in line)


@pytest.mark.parametrize("case", ["none", "absent", "resolution"])
def test_xscale_inp_refuses(tmp_path: Path, case: str) -> None:
    there = tmp_path / "a.HKL"
    there.write_text("!\n")
    inputs = {
        "none": [],
        "absent": [XscaleInput(tmp_path / "no.HKL")],
        "resolution": [XscaleInput(there, (0.8, 20.0))],
    }[case]
    with pytest.raises(UserError):
        write_xscale_inp(tmp_path / "x", inputs, space_group="P 1", cell=CELL)


# --- SHELXT ----------------------------------------------------------------------------------

RES = """TITL x_a.res in P2(1)/c
CELL 0.0250793 10.0 11.0 12.0 90 100 90
ZERR 4 0 0 0 0 0 0
LATT 1
SYMM -X, Y+1/2, -Z+1/2
SFAC C  0.1 1 0.2 2 0.3 3 =
   0.4 4 0 0 0 0 0.77 12.0
SFAC H O
UNIT 40 40 8
FVAR 1.0
C1 1 0.1 0.2 0.3 11.0 0.04
O1 3 0.25 10.5 -0.1 10.5 0.03 0.04 =
  0.05 0.0 0.0 0.0
HKLF 4
REM the end
Q1 1 0.5 0.5 0.5 11.0 0.05
END
"""
LXT = """ R1  Rweak Alpha  Orientation      Space group  Flack_x  File  Formula
 0.112  0.009  0.040   as input        P2(1)/c            x_a   C10 O2
 0.213  0.109  0.140   a'=c, b'=b, c'=a  P2(1)   0.45     x_b   C9 N O2
"""


def stand_in(folder: Path, body: str) -> Path:
    program = folder / "shelxt"
    program.write_text(f"#!/bin/sh\n{body}\n")
    os.chmod(program, program.stat().st_mode | stat.S_IXUSR)
    return program


def test_shelxt_is_run_and_read(tmp_path: Path) -> None:
    (tmp_path / "given").write_text(RES)
    (tmp_path / "table").write_text(LXT)
    program = stand_in(tmp_path, 'cp table "$1.lxt"; cp given "$1_a.res"; cp given "$1_b.res"')
    first, second = run_shelxt(tmp_path, "x", program=program)
    assert (first.r1, first.r_weak, first.alpha) == (0.112, 0.009, 0.040)
    assert first.space_group == "P2(1)/c"
    assert first.orientation == "as input"
    assert first.formula == "C10 O2"
    assert second.space_group == "P2(1)"
    assert second.orientation == "a'=c, b'=b, c'=a"
    assert first.cell == (10, 11, 12, 90, 100, 90)
    carbon, oxygen = first.atoms
    assert (carbon.element, carbon.position, carbon.u_iso_A2) == ("C", (0.1, 0.2, 0.3), 0.04)
    # 10 is added to what is not refined; U is the mean of three
    assert oxygen.element == "O"
    assert oxygen.position == pytest.approx((0.25, 0.5, -0.1))
    assert oxygen.occupancy == pytest.approx(0.5)
    assert oxygen.u_iso_A2 == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo ' ** no hkl file **'; exit 1", "no hkl file"),
        ("exit 0", "no .lxt file"),
        ("echo nothing > x.lxt", "no solution"),
        ("sleep 60", "time limit"),
    ],
)
def test_shelxt_that_fails_is_quoted(tmp_path: Path, body: str, says: str) -> None:
    program = stand_in(tmp_path, body)
    with pytest.raises(UserError, match=says):
        run_shelxt(tmp_path, "x", program=program, time_limit_s=1.0)


def test_shelxt_that_is_absent_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="install it"):
        run_shelxt(tmp_path, "x", program="shelxt-that-is-not-there")


def test_a_res_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.res").write_text("TITL only\n")
    with pytest.raises(UserError, match="CELL"):
        read_res(tmp_path / "a.res")


def test_merged_data_of_another_name_are_refused(merged: MergedReflections) -> None:
    with pytest.raises(UserError, match="space_group"):
        merged_mtz(replace(merged, space_group="Q 1"))
