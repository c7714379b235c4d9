"""Clusters by intensity and by cell, beside those of edtools 1.1.1 and AutoLEI 1.0.7.

Sessions whose truth is known are written as both read them, XSCALE.LP and cells.yaml. XSCALE is no
free program: its log is written here, with the CCs of our own merged intensities in it and the
columns of a real one; crystals differ in scale but not in fall-off, as after its scaling. The
peers cut their dendrograms where they propose to, as an unattended run would. Each peer lives in
an environment of its own, made on the first run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from _table import Table, options, run_measured, say, skip, work_folder
from numpy.typing import NDArray

from ewaldflow.lib.crystal.cell import cell_from_real_basis, orthogonalisation
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.crystal.niggli import niggli_reduce
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.ambiguity import resolve_ambiguity
from ewaldflow.lib.merging.ambiguity_operators import ambiguity_operators
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.hca import cluster
from ewaldflow.lib.merging.isomorphism import isomorphous_groups
from ewaldflow.lib.merging.pairwise import Pairwise, pairwise_correlations
from ewaldflow.lib.merging.pairwise_of_xscale import pairwise_of_xscale
from ewaldflow.lib.phases.cell_record import CellRecord, primitive_transform
from ewaldflow.lib.phases.phases import find_phases
from ewaldflow.lib.simulation.data_sets import crystal, filled, framework
from ewaldflow.lib.xds.xscale import read_xscale

ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".benchmarks-env"
PEERS = {"edtools": "edtools==1.1.1", "autolei": "autolei==1.0.7.260918"}
OPERATORS = candidate_operators("oP")
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One input: what it is about, its file, the true labels (each junk its own), our data."""

    about: str
    kind: str
    path: Path
    truth: Labels
    data: tuple[DataSet, ...] = ()


def adjusted_rand(found: Labels, truth: Labels) -> float:
    """Hubert & Arabie (1985), J. Classif. 2, 193: 1 for the same partition, 0 by chance."""
    if len(found) == 1:
        return 1.0
    table = np.zeros((int(found.max()) + 1, int(truth.max()) + 1))
    np.add.at(table, (found, truth), 1)

    def pairs(n: NDArray[np.float64]) -> float:
        return float(np.sum(n * (n - 1) / 2))

    both, a, b = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = a * b / pairs(np.array([float(len(found))]))
    top = (a + b) / 2
    return 1.0 if top == expected else (both - expected) / (top - expected)


def labels_of(clusters: Iterable[Sequence[int]], n: int) -> Labels:
    """(n,) labels; those in no cluster are each alone."""
    labels = np.arange(n) + n
    for number, members in enumerate(clusters):
        labels[list(members)] = number
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


# --- inputs ----------------------------------------------------------------------------------


def write_xscale(path: Path, pairwise: Pairwise, names: Sequence[str] | None = None) -> None:
    """The parts of an XSCALE.LP that hold inputs and correlations, in its columns."""
    names = names or [f"{name}/XDS_ASCII.HKL" for name in pairwise.names]
    cell = " UNIT_CELL_CONSTANTS=    20.09    19.74    13.14  90.000  90.000  90.000"
    stars = " " + "*" * 78
    lines = [
        " ***** XSCALE ***** (VERSION Jan 10, 2022  BUILT=20220220)   1-Aug-2022", "",
        stars, "                              CONTROL CARDS", stars, "",
        " SPACE_GROUP_NUMBER= 16", cell, " OUTPUT_FILE= MERGED.HKL", "",
        *(line for name in names for line in
          (f"     INPUT_FILE= {name}", f"     CRYSTAL_NAME= a{name}", "")),
        " THE DATA COLLECTION STATISTICS REPORTED BELOW ASSUMES:",
        " SPACE_GROUP_NUMBER=   16", cell, "",
        stars, "                    READING INPUT REFLECTION DATA FILES", stars, "",
        " DATA    MEAN       REFLECTIONS        INPUT FILE NAME",
        " SET# INTENSITY  ACCEPTED REJECTED",
        *(f"{i:4d}  0.3010E+02{pairwise.n_common[i - 1, i - 1]:9d}      0  {name}"
          for i, name in enumerate(names, 1)),
        "", "", stars, "               OVERALL SCALING AND CRYSTAL DISORDER CORRECTION", stars, "",
    ]  # fmt: skip
    if len(names) > 1:
        lines += [
            "      CORRELATIONS BETWEEN INPUT DATA SETS AFTER CORRECTIONS", "",
            " DATA SETS  NUMBER OF COMMON  CORRELATION   RATIO OF COMMON   B-FACTOR",
            "  #i   #j     REFLECTIONS     BETWEEN i,j  INTENSITIES (i/j)  BETWEEN i,j", "",
            *(f" {i + 1:4d} {j + 1:4d} {pairwise.n_common[i, j]:11d} {pairwise.cc[i, j]:15.3f}"
              f"{1:18.4f}{0:15.4f}"
              for j in range(len(names)) for i in range(j) if np.isfinite(pairwise.cc[i, j])),
            "",
        ]  # fmt: skip
    lines += [" K*EXP(B*SS) = Factor applied to intensities", "", " cpu time used by XSCALE 1 sec"]
    path.write_text("\n".join(lines) + "\n")


def junk(one: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two crystals in the beam, indexed on one."""
    return one + rng.permutation(one)


def session(about: str, seed: int) -> tuple[list[DataSet], list[int]]:
    """Data sets with one cell, and their labels (junk -1)."""
    rng = np.random.default_rng([seed, len(about)])
    truth = (framework("MFI"), filled("MFI"))
    sizes = {"one structure": (16, 0), "three more": (16, 3)}.get(about, (14, 8))
    noise = {"noisy": 0.7}.get(about, 0.15)
    low, high = {"5 to 15 degrees": (5, 15)}.get(about, (8, 60))
    sets, labels = [], []
    for label, (structure, n) in enumerate(zip(truth, sizes, strict=True)):
        for _ in range(n):
            sets.append(crystal(structure, int(rng.integers(1e9)), range_deg=rng.uniform(low, high),
                                noise=noise, systematic=0.25, fall_off_A2=0))  # fmt: skip
            labels.append(label)
    if about == "20 % junk":
        for _ in range(5):
            sets.append(crystal(truth[0], int(rng.integers(1e9)), noise=noise, fall_off_A2=0,
                                change=junk))  # fmt: skip
            labels.append(-1)
    if about == "settings mixed":
        turns = ambiguity_operators(truth[0].cell, "oP", OPERATORS)
        given = rng.integers(0, 2, len(sets))
        sets = [one.reindexed(turns[g]) if g else one for one, g in zip(sets, given, strict=True)]
    order = rng.permutation(len(sets))
    return (
        [replace(sets[i], name=f"series_{k:03d}") for k, i in enumerate(order)],
        [labels[i] for i in order],
    )


ABOUT = (
    "two structures", "noisy", "5 to 15 degrees", "three more", "one structure", "20 % junk",
    "settings mixed",
)  # fmt: skip


# What XSCALE would print if it compared as we do: shows what is owed to the CCs, what to the cut.
NORMALISED = ", normalised CCs in the log"


def intensity_cases(folder: Path, seeds: int) -> list[Case]:
    cases = []
    for about in ABOUT:
        for seed in range(seeds):
            sets, labels = session(about, seed)
            truth = np.where(np.array(labels) < 0, np.arange(len(sets)) + 2, labels)
            truth = np.unique(truth, return_inverse=True)[1].reshape(-1)
            for normalise in (False, True):
                name = about + NORMALISED * normalise
                path = folder / f"{name.replace(' ', '_')}_{seed}" / "XSCALE.LP"
                path.parent.mkdir(parents=True)
                # as XSCALE: intensities as they are, every pair that shares a few reflections
                correlations = pairwise_correlations(
                    sets, OPERATORS, normalise=normalise, min_common=4
                )
                write_xscale(path, correlations)
                data = () if normalise else tuple(sets)
                cases.append(Case(name, "intensities", path, truth, data))
    return cases


def odd_cases(folder: Path) -> list[Case]:
    """Logs such as XSCALE writes now and then."""
    sets, labels = session("two structures", 99)
    whole = pairwise_correlations(sets, OPERATORS, normalise=False, min_common=4)
    n = len(sets)
    paths = {}

    def write(about: str, pairwise: Pairwise, names: Sequence[str] | None = None) -> Path:
        path = folder / about.replace(" ", "_") / "XSCALE.LP"
        path.parent.mkdir(parents=True)
        write_xscale(path, pairwise, names)
        paths[about] = path
        return path

    write("blanks in names", whole, [f"my data/{name}/XDS_ASCII.HKL" for name in whole.names])
    path = write("a field of asterisks", whole)
    text = path.read_text().split("\n")
    row = next(i for i, line in enumerate(text) if "#i   #j" in line) + 2
    text[row] = text[row][:46] + "*" * 10 + text[row][56:]
    path.write_text("\n".join(text))
    cc = whole.cc.copy()
    cc[-1], cc[:, -1] = np.nan, np.nan
    write("the last shares nothing", replace(whole, cc=cc))
    write("a single input", whole.select([0]))
    path = write("cut in the middle", whole)
    text = path.read_text().split("\n")
    path.write_text("\n".join(text[: row + n * (n - 1) // 3])[:-20])
    truth = np.array(labels)
    alone = truth.copy()
    alone[-1] = 2
    return [
        Case(about, "intensities",
             path, truth[:1] if about == "a single input"
             else alone if about == "the last shares nothing" else truth)
        for about, path in paths.items()
    ]  # fmt: skip


def cell_cases(folder: Path, seeds: int) -> list[Case]:
    """Reduced primitive cells as indexing gives them, with errors, of three zeolites and junk."""
    cases = []
    phases = (("MFI", "oP"), ("MOR", "oC"), ("CHA", "hR"))
    for about, edge, angle in (("cells", 0.005, 0.3), ("cells, poor", 0.01, 0.8)):
        for seed in range(seeds):
            rng = np.random.default_rng([seed, len(about)])
            records, labels = [], []
            for label, (code, bravais) in enumerate(phases):
                for _ in range(int(rng.integers(4, 12))):
                    cell = np.array(framework(code, bravais, 3.0).cell)
                    basis = orthogonalisation(cell) @ primitive_transform(bravais, tuple(cell))
                    raw = np.array(cell_from_real_basis(niggli_reduce(basis)[0]))
                    raw = raw * np.r_[1 + edge * rng.normal(size=3), 1, 1, 1]
                    raw += np.r_[0, 0, 0, angle * rng.normal(size=3)]
                    # as measured it is another reduced cell: angles may change sides of 90
                    measured = cell_from_real_basis(niggli_reduce(orthogonalisation(raw))[0])
                    records.append([float(x) for x in measured])
                    labels.append(label)
            for _ in range(3):
                records.append([float(x) for x in np.r_[rng.uniform(6, 30, 3), 90, 90, 90]])
                labels.append(len(phases) + len(labels))
            path = folder / f"{about.replace(', ', '_')}_{seed}" / "cells.yaml"
            path.parent.mkdir(parents=True)
            path.write_text(yaml.safe_dump([
                {"directory": f"series_{i:03d}", "number": i, "unit_cell": cell,
                 "raw_unit_cell": cell, "space_group": "P1", "weight": 1000}
                for i, cell in enumerate(records)
            ]))  # fmt: skip
            path.with_suffix(".json").write_text(json.dumps(records))
            truth = np.unique(labels, return_inverse=True)[1].reshape(-1)
            cases.append(Case(about, "cells", path, truth))
    return cases


# --- who clusters ----------------------------------------------------------------------------


def ours_from_table(case: Case) -> Iterable[Sequence[int]]:
    pairwise = pairwise_of_xscale(read_xscale(case.path))
    return isomorphous_groups(pairwise).groups


def ours_hca_from_table(case: Case) -> Iterable[Sequence[int]]:
    return cluster(pairwise_of_xscale(read_xscale(case.path))).members


def ours_from_reflections(case: Case) -> Iterable[Sequence[int]]:
    data = resolve_ambiguity(case.data, OPERATORS).apply(case.data)
    return isomorphous_groups(pairwise_correlations(data, OPERATORS)).groups


def ours_from_cells(case: Case) -> Iterable[Sequence[int]]:
    cells = [one["raw_unit_cell"] for one in yaml.safe_load(case.path.read_text())]
    phases = find_phases([CellRecord(str(i), tuple(c), "aP") for i, c in enumerate(cells)])
    return [[int(name) for name in phase.names] for phase in phases.phases]


@dataclass(frozen=True)
class Outcome:
    """What one way made of one case: adjusted Rand index (NaN: crashed), CPU seconds, error."""

    case: Case
    rand: float
    cpu_s: float
    error: str


def judged(case: Case, clusters: Iterable[Sequence[int]], cpu_s: float) -> Outcome:
    rand = adjusted_rand(labels_of(clusters, len(case.truth)), case.truth)
    return Outcome(case, rand, cpu_s, "")


def run_ours(
    work: Callable[[Case], Iterable[Sequence[int]]], cases: Sequence[Case]
) -> list[Outcome]:
    outcomes = []
    for case in cases:
        start = time.process_time()
        try:
            clusters = list(work(case))
        except (UserError, ValueError) as error:
            outcomes.append(Outcome(case, float("nan"), 0.0, str(error)))
            continue
        outcomes.append(judged(case, clusters, time.process_time() - start))
    return outcomes


def environment(peer: str) -> Path:
    """The python of a peer's environment; made if it is not there (a minute or two)."""
    folder = ENVIRONMENTS / peer
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"installing {PEERS[peer]}")
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, PEERS[peer]], check=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # half of one would pass for a whole one
            raise
    return python


def run_peer(peer: str, cases: Sequence[Case], work: Path) -> dict[str, list[Outcome]]:
    """Outcomes by the peer's ways of clustering."""
    jobs, out = work / f"{peer}.jobs.json", work / f"{peer}.out.json"
    jobs.write_text(json.dumps([(case.kind, str(case.path)) for case in cases]))
    script = Path(__file__).with_name("_cluster_peers.py").absolute()
    ran = run_measured((environment(peer), script, peer, jobs, out), work, work / f"{peer}.log")
    if ran.code:
        raise RuntimeError(f"{peer}: {ran.output.splitlines()[-1:]}")
    by_path = {str(case.path): case for case in cases}
    outcomes: dict[str, list[Outcome]] = {}
    for one in json.loads(out.read_text()):
        case, cpu_s = by_path[one["path"]], float(one["cpu_s"])
        if one["error"]:
            outcome = Outcome(case, float("nan"), cpu_s, one["error"])
        else:
            outcome = judged(case, one["clusters"], cpu_s)
        outcomes.setdefault(one["way"], []).append(outcome)
    return outcomes


# --- the table -------------------------------------------------------------------------------


def crashed(outcome: Outcome) -> bool:
    """Ended by an error that is not told as one."""
    return bool(outcome.error) and not outcome.error.startswith("refused")


def summary(outcomes: Sequence[Outcome]) -> str:
    crashes = sum(crashed(one) for one in outcomes)
    good = [one.rand for one in outcomes if not one.error]
    said = f"{np.mean(good):.2f}" if good else "none"
    if any(one.error.startswith("refused") for one in outcomes):
        said += ", refused"
    return said + (f", {crashes} of {len(outcomes)} crashed" if crashes else "")


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    seeds = 2 if arguments.quick else 5
    with work_folder(arguments.work) as work:
        folder = work / "inputs"
        shutil.rmtree(folder, ignore_errors=True)
        say("making sessions")
        sessions, odd = intensity_cases(folder, seeds), odd_cases(folder)
        cells = cell_cases(folder, seeds)
        try:
            for peer in PEERS:
                environment(peer)
        except subprocess.CalledProcessError as error:
            return skip(f"a peer cannot be installed: {error}")
        say("clustering")
        peers = {peer: run_peer(peer, [*sessions, *odd, *cells], work) for peer in PEERS}
        data = run_ours(ours_from_reflections, [case for case in sessions if case.data])
        groups = run_ours(ours_from_table, [*sessions, *odd])
        trees = run_ours(ours_hca_from_table, [*sessions, *odd])
        phases = run_ours(ours_from_cells, cells)
    return tabulated(peers, data, groups, trees, phases, odd).show()


def tabulated(
    peers: dict[str, dict[str, list[Outcome]]],
    data: list[Outcome],
    groups: list[Outcome],
    trees: list[Outcome],
    phases: list[Outcome],
    odd: Sequence[Case],
) -> Table:
    table = Table("clusters recovered: mean adjusted Rand index, nothing configured")

    def told(about: str, kind: str = "intensities") -> str:
        return "; ".join(
            f"{peer}{way.removeprefix(kind)} "
            + summary([one for one in outcomes if one.case.about == about])
            for peer, ways in peers.items()
            for way, outcomes in ways.items()
            if way.startswith(kind)
        )

    def mean(outcomes: list[Outcome], about: str) -> float:
        return float(np.mean([one.rand for one in outcomes if one.case.about == about]))

    for about in ABOUT:
        bar = 0.9 if about in ("noisy", "5 to 15 degrees", "20 % junk") else 0.97
        table.check(f"{about}: from reflections", mean(data, about), at_least=bar,
                    peer=told(about))  # fmt: skip
        table.tell(
            f"{about}: from the same CC table",
            f"{mean(groups, about):.2f}, by our dendrogram {mean(trees, about):.2f}",
        )
        name = about + NORMALISED
        table.tell(
            name,
            f"{mean(groups, name):.2f}, by our dendrogram {mean(trees, name):.2f}",
            told(name),
        )
    for case in odd:
        (mine,) = (one for one in groups if one.case is case)
        if case.about == "cut in the middle":  # the pairs that are left do not decide
            table.tell(f"log with {case.about}", f"{mine.rand:.2f}", told(case.about))
        else:
            table.check(f"log with {case.about}", mine.rand, at_least=0.9, peer=told(case.about))
    for about in ("cells", "cells, poor"):
        table.check(about, mean(phases, about), at_least=0.95, peer=told(about, "cells"))
    crashes = {
        peer: sum(crashed(one) for outcomes in ways.values() for one in outcomes)
        for peer, ways in peers.items()
    }
    table.check(
        "crashes", sum(bool(one.error) for one in [*data, *groups, *trees, *phases]), at_most=0,
        form="d", peer="; ".join(f"{peer} {n}" for peer, n in crashes.items()),
    )  # fmt: skip
    seconds = {
        peer: np.sum([one.cpu_s for one in ways["intensities"]]) for peer, ways in peers.items()
    }
    table.tell(
        "CPU of all clusters by intensity / s",
        f"{sum(one.cpu_s for one in groups):.1f}; with correlations and settings "
        f"{sum(one.cpu_s for one in data):.1f}",
        "; ".join(f"{peer} {s:.1f}" for peer, s in seconds.items()) + " (its tree alone)",
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
