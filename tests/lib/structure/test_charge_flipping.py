"""Charge flipping: what it solves, what it refuses, and that it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.merged_reflections import MergedReflections
from ewaldflow.lib.structure import cctbx_process
from ewaldflow.lib.structure.cctbx_process import cctbx_installed, run_job
from ewaldflow.lib.structure.charge_flipping import (
    charge_flip,
    charge_flip_in,
    compare_with,
    judge,
)
from ewaldflow.lib.structure.refinement import refine, refine_solution
from ewaldflow.lib.structure.solution import Atom, ChargeFlipping, Solution

needs_cctbx = pytest.mark.skipif(not cctbx_installed(), reason="cctbx-base is not installed")

Make = Callable[..., MergedReflections]
Atoms = Callable[[str], tuple[Atom, ...]]
CONTENTS = {"O": 96, "Si": 48}


@pytest.fixture(scope="module")
def mordenite(perfect: Make) -> MergedReflections:
    return perfect("MOR", 0.95, "oC")


@pytest.fixture(scope="module")
def solved(mordenite: MergedReflections) -> ChargeFlipping:
    return charge_flip(mordenite, CONTENTS, time_limit_s=60)


@needs_cctbx
def test_mordenite_is_solved(solved: ChargeFlipping, known_atoms: Atoms) -> None:
    assert solved.verdict == "solved"
    assert "atoms reproduce the amplitudes" in solved.sentence
    best = solved.best
    assert best is not None
    assert best.agrees_with
    assert best.seed not in best.agrees_with
    match = compare_with(best, known_atoms("MOR"), tolerance_A=0.3)
    assert len(match) == 14
    assert np.median(match.distance_A) < 0.08
    assert sum(a.multiplicity for a in best.atoms if a.element == "Si") == 48
    assert sum(a.multiplicity for a in best.atoms if a.element == "O") == 96
    # ranked by their atoms, which is not the order they were found in
    r1 = [one.r1 for one in solved.solutions]
    assert r1 == sorted(r1)


@needs_cctbx
def test_the_solution_refines(solved: ChargeFlipping, mordenite: MergedReflections) -> None:
    assert solved.best is not None
    refined = refine_solution(solved.best, mordenite)
    assert refined.r1 < 0.02
    assert refined.n_parameters < 14 * 4 + 1  # special positions have fewer
    u = {e: np.mean([a.u_iso_A2 for a in refined.atoms if a.element == e]) for e in ("Si", "O")}
    # what the structure was made with
    assert u["Si"] == pytest.approx(0.015, abs=0.002)
    assert u["O"] == pytest.approx(0.03, abs=0.003)


@needs_cctbx
def test_of_several_groups_the_one_that_solves_is_kept(mordenite: MergedReflections) -> None:
    # in C m m m, without the glide plane, atoms come to R 0.35
    result = charge_flip_in(
        mordenite, CONTENTS, ("C m m m", "C m c m"), n_attempts=4, time_limit_s=30
    )
    assert result.verdict == "solved"
    assert result.best is not None
    assert result.best.space_group == "C m c m"


@needs_cctbx
def test_intensities_of_nothing_are_not_solved(mordenite: MergedReflections) -> None:
    shuffled = np.random.default_rng(1).permutation(mordenite.intensity)
    result = charge_flip(
        replace(mordenite, intensity=shuffled), CONTENTS, n_attempts=3, time_limit_s=30
    )
    assert result.verdict == "not solved"
    assert result.n_attempts == 3


@needs_cctbx
def test_the_time_limit_ends_it(mordenite: MergedReflections) -> None:
    shuffled = np.random.default_rng(2).permutation(mordenite.intensity)
    began = time.monotonic()
    result = charge_flip(
        replace(mordenite, intensity=shuffled), CONTENTS, n_attempts=1000, time_limit_s=2.0
    )
    assert time.monotonic() - began < 20
    assert 1 <= result.n_attempts < 100
    killed = charge_flip(
        replace(mordenite, intensity=shuffled), CONTENTS, iterations=10**8, time_limit_s=0.5
    )
    assert killed.verdict == "not solved"
    assert "time limit" in killed.sentence


@needs_cctbx
@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"intensity": None}, {}, "positive intensity"),
        ({}, {"space_group": "C m c q"}, "C m c q"),
        ({}, {"d_min_A": 50.0}, "positive intensity"),
    ],
)
def test_what_cannot_be_solved_is_said(
    mordenite: MergedReflections, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    data = mordenite
    if "intensity" in changes:
        data = replace(data, intensity=np.zeros(len(data)))
    with pytest.raises(UserError, match=says):
        charge_flip(data, CONTENTS, **options)


def test_without_cctbx_it_says_what_to_install(
    mordenite: MergedReflections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cctbx_process, "cctbx_installed", lambda: False)
    with pytest.raises(UserError, match=r"ewaldflow\[solve\]"):
        charge_flip(mordenite, CONTENTS)


@needs_cctbx
def test_a_job_that_fails_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="KeyError"):
        run_job("refinement_job", {"cell": [1, 2]}, limit_s=60)


@needs_cctbx
def test_the_jobs_load_cctbx_before_gemmi_and_scipy() -> None:
    for job in ("charge_flipping_job", "refinement_job"):
        code = (
            f"import ewaldflow.lib.structure.{job}, sys, json;"
            "print(json.dumps([m for m in ('gemmi', 'scipy.optimize') if m in sys.modules]))"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert json.loads(told.stdout) == []


def _solution(**changes: object) -> Solution:
    values = {
        "cell": (10, 10, 10, 90, 90, 90), "space_group": "P 1", "position": np.zeros((1, 3)),
        "height": np.ones(1), "multiplicity": np.ones(1, np.int64),
        "atoms": (Atom("C1", "C", (0, 0, 0)),), "seed": 1, "symmetry_cc": 0.9, "peak_gap": 1.1,
        "r1": 0.2, "cc": 0.9, "agrees_with": (), **changes,
    }  # fmt: skip
    return Solution(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "uncertain"),  # it fits, but nothing confirms it
        ({"agrees_with": (2,)}, "solved"),
        ({"peak_gap": 4.0}, "solved"),
        ({"r1": 0.34, "agrees_with": (2,)}, "uncertain"),
        ({"r1": 0.40}, "uncertain"),
        ({"r1": 0.40, "peak_gap": 5.0, "agrees_with": (2,)}, "solved"),
        ({"r1": 0.40, "peak_gap": 1.0, "agrees_with": (2,)}, "uncertain"),
        ({"r1": 0.60, "peak_gap": 5.0, "agrees_with": (2, 3)}, "not solved"),
        ({"r1": float("nan")}, "uncertain"),
    ],
)
def test_verdicts(changes: dict[str, Any], verdict: str) -> None:
    assert judge((_solution(**changes),), 5)[0] == verdict


def test_no_solution_is_not_solved() -> None:
    assert judge((), 7) == ("not solved", ("none of 7 attempts came to a structure",))


@needs_cctbx
def test_refinement_brings_moved_atoms_home(
    mordenite: MergedReflections, known_atoms: Atoms
) -> None:
    rng = np.random.default_rng(1)
    atoms = known_atoms("MOR")
    moved = [
        replace(a, position=tuple(np.array(a.position) + rng.normal(0, 0.002, 3))) for a in atoms
    ]
    refined = refine(
        moved, mordenite.hkl, mordenite.intensity, mordenite.sigma, cell=mordenite.cell,
        space_group=mordenite.space_group,
    )  # fmt: skip
    assert refined.r1 < 0.01
    apart = [np.array(a.position) - b.position for a, b in zip(refined.atoms, atoms, strict=True)]
    assert np.abs((np.array(apart) + 0.5) % 1 - 0.5).max() < 1e-3


@pytest.mark.parametrize(("n_atoms", "n_data"), [(0, 500), (14, 30)])
def test_refinement_refuses_too_little(
    mordenite: MergedReflections, known_atoms: Atoms, n_atoms: int, n_data: int
) -> None:
    with pytest.raises(UserError, match="more reflections than parameters"):
        refine(
            known_atoms("MOR")[:n_atoms], mordenite.hkl[:n_data], mordenite.intensity[:n_data],
            mordenite.sigma[:n_data], cell=mordenite.cell, space_group=mordenite.space_group,
        )  # fmt: skip
