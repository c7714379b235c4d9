"""Simulated sessions, sorted and merged with nothing to configure: are they what was simulated?

A session is 40 series of 5 to 60 degrees: ZSM-5 and mordenite, a fifth of them junk (two crystals
in the beam, no crystal, a crystal that left after 3 degrees). A second session has mordenite with
caesium as well, in nearly the same cell.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import _session
import numpy as np
from _table import Table, options, work_folder

from ewaldflow.lib.merging.config import MergingConfig
from ewaldflow.lib.merging.merge_phase import MergedPhase, merge_group
from ewaldflow.lib.phases.sorting import (
    ReducedSeries,
    SortedSession,
    phases_of,
    reduced_series,
    reductions_wanted,
    sort_session,
)
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.simulation.session import PHASES, SeriesPlan
from ewaldflow.lib.simulation.structures import structure_factors_at

SEEDS = (1, 3, 5)
SIMILAR_SEEDS = (2, 6)


def sorted_and_merged(
    plans: Sequence[SeriesPlan], folder: Path
) -> tuple[SortedSession, list[MergedPhase], float]:
    """What `ewaldflow reduce` does, on series in memory; and its CPU time without reductions."""
    config = MergingConfig()
    made = {one.plan.name: one for one in _session.reduced_session(plans, folder)}
    start = time.process_time()
    first = [reduced_series(name, one.reduction) for name, one in made.items() if one.reduction]
    phases = phases_of(first, config)
    wanted = reductions_wanted(first, phases)
    cpu_s = time.process_time() - start
    again: dict[str, dict[str, ReducedSeries]] = {}
    for name, some in wanted.items():
        series = _session.series_of(made[name].plan)
        for phase in some:
            known = ReductionConfig(cell=phase.cell, bravais=phase.bravais)
            source = f"{name} as {phase.name}"
            again.setdefault(name, {})[phase.name] = reduced_series(
                name, reduce_series(series, known), source
            )
    start = time.process_time()
    done = sort_session(first, again, phases, config)
    by_source = {(one.name, one.source): one for one in first}
    by_source |= {(s.name, s.source): s for some in again.values() for s in some.values()}
    merged = []
    for structure in done.structures:
        data = []
        for member in structure.members:
            one = by_source[member.name, member.source].data
            assert one is not None
            data.append(one.reindexed(member.transform, member.bravais))
        merged.append(merge_group(structure.name, data, structure.rotations, config))
    return done, merged, cpu_s + time.process_time() - start


def correlation_with_truth(merged: MergedPhase, phase: str) -> float:
    """CC of merged intensities with the true |F|^2, in the better of the settings of the cell."""
    structure = PHASES[phase]()
    true = np.array([structure.cell.a, structure.cell.b, structure.cell.c])
    best = -1.0
    for order in itertools.permutations(range(3)):
        edges = np.array(merged.merged.cell[:3])[list(order)]
        if np.abs(edges / true - 1).max() > 0.03:
            continue
        f2 = np.abs(structure_factors_at(structure, merged.merged.hkl[:, list(order)])) ** 2
        best = max(best, float(np.corrcoef(f2, merged.merged.intensity)[0, 1]))
    return best


def judge(
    table: Table, what: str, plans: Sequence[SeriesPlan], wanted: Sequence[str], folder: Path
) -> None:
    """Rows of one session."""
    done, merged, cpu_s = sorted_and_merged(plans, folder)
    plan = {one.name: one for one in plans}
    main: dict[str, str] = {}  # phase -> the structure that holds most of it
    for structure in done.structures:
        count = Counter(plan[m.name].phase or "junk" for m in structure.members)
        most = count.most_common(1)[0][0]
        held = {s.name: sum(plan[m.name].phase == most for m in s.members)
                for s in done.structures}  # fmt: skip
        if max(held, key=lambda name: held[name]) == structure.name:
            main.setdefault(most, structure.name)
    found = [phase for phase in wanted if phase in main]
    table.check(f"{what}: phases found of {len(wanted)}", len(found), at_least=len(wanted))
    table.check(f"{what}: structures made", len(done.structures), at_most=len(wanted))
    wrong = [
        m.name for s in done.structures for m in s.members if main.get(plan[m.name].phase) != s.name
    ]
    table.check(f"{what}: series in a wrong phase", len(wrong), at_most=0)
    junk = [one for one in plans if one.kind != "good"]
    named = [one for one in junk if done.left.get(one.name)]
    table.check(f"{what}: junk named with its reason, of {len(junk)}", len(named),
                at_least=len(junk))  # fmt: skip
    good = [one for one in plans if one.kind == "good"]
    lost = [one.name for one in good if done.structure_of(one.name) is None]
    table.tell(f"{what}: good series left out, of {len(good)}",
               f"{len(lost)}" + (f": {done.left[lost[0]]}" if lost else ""))  # fmt: skip
    for phase in found:
        one = next(m for m in merged if m.name == main[phase])
        whole = one.statistics.overall
        table.check(
            f"{what}: {phase}, CC of merged I with true |F|^2",
            correlation_with_truth(one, phase),
            at_least=0.97,
            form=".4f",
        )
        table.tell(
            f"{what}: {phase}, completeness",
            f"{100 * whole.completeness:.1f} % from {whole.d_max_A:.1f} to {whole.d_min_A:.2f} Å, "
            f"{len(one.scaled.data)} crystals, {one.merged.space_group}",
        )
    table.tell(f"{what}: CPU for sorting and merging", f"{cpu_s:.0f} s")


def main() -> int:
    args = options(__doc__ or "").parse_args()
    table = Table("Sessions of 40 series, sorted and merged with nothing to configure")
    with work_folder(args.work) as folder:
        for seed in SEEDS[:1] if args.quick else SEEDS:
            plans = _session.session_plan(seed, 12 if args.quick else 40)
            judge(table, f"session {seed}", plans, ("MFI", "MOR"), folder / f"session-{seed}")
        for seed in () if args.quick else SIMILAR_SEEDS:
            plans = _session.similar_session(seed, 40)
            judge(table, f"similar cells {seed}", plans, ("MFI", "MOR", "Cs-MOR"),
                  folder / f"similar-{seed}")  # fmt: skip
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
