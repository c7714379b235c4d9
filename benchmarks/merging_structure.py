"""Structures of simulated zeolites from merged intensities, by charge flipping.

MFI and MOR series of 10 to 60 degrees by the built-in engine, every range in another orientation,
scaled and merged to 0.85 Å. Needs cctbx-base.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from _table import Table, options, say, skip

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.data_set import DataSet, data_set_from_lattice
from ewaldflow.lib.merging.merge import merge_scaled
from ewaldflow.lib.merging.merged_reflections import MergedReflections
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.statistics import unique_reflections
from ewaldflow.lib.simulation.sets import standard_set
from ewaldflow.lib.simulation.structures import MFI, MOR, Framework
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.lib.structure.charge_flipping import charge_flip, compare_with
from ewaldflow.lib.structure.solution import Atom, ChargeFlipping

D_MIN_A = 0.85
# Range of rotation and the seed of its orientation: five crystals, lying differently.
SERIES = ((60, 1), (45, 2), (30, 3), (20, 4), (10, 5))


@dataclass(frozen=True)
class Zeolite:
    """A framework to be solved, in the setting in which the engine lists its cell."""

    framework: Framework
    space_group: str
    contents: dict[str, float]
    reversed_axes: bool

    @property
    def known(self) -> tuple[Atom, ...]:
        """The atoms that are there."""
        atoms = []
        for i, (element, x, y, z) in enumerate(self.framework.atoms):
            place = (z, y, x) if self.reversed_axes else (x, y, z)
            atoms.append(Atom(f"{element}{i}", element, place))
        return tuple(atoms)


# the engine sorts the edges of primitive orthorhombic cells
ZEOLITES = (
    Zeolite(MFI, "P c m n", {"Si": 96, "O": 192}, True),
    Zeolite(MOR, "C m c m", {"Si": 48, "O": 96}, False),
)


def merged_of(sets: Sequence[DataSet], space_group: str, d_min_A: float) -> MergedReflections:
    """Scaled and merged in the full symmetry of the lattice."""
    scaled = scale_data_sets(sets, candidate_operators(sets[0].bravais))
    return merge_scaled(scaled, space_group=space_group, d_min_A=d_min_A)


def simulated_sets(code: str) -> list[DataSet]:
    """The five series of a zeolite, reduced."""
    sets = []
    for degrees, seed in SERIES:
        series, _ = standard_set(code, degrees, seed)
        reduction = reduce_series(series)
        say(f"{code} {degrees} degrees: {reduction.verdict}")
        name = f"{code} {degrees} degrees"
        lattice = reduction.lattices[0]
        sets.append(data_set_from_lattice(name, lattice, range_deg=degrees, n_frames=len(series)))
    return sets


def solve_zeolite(table: Table, one: Zeolite, sets: Sequence[DataSet], what: str) -> None:
    """Rows on one merge of simulated series."""
    merged = merged_of(sets, one.space_group, D_MIN_A)
    possible = len(unique_reflections(merged.cell, sets[0].bravais, D_MIN_A))
    result = charge_flip(merged, one.contents)
    name = f"{one.framework.code}, {what}, {100 * len(merged) / possible:.0f} % complete"
    say(f"{name}: {result.sentence}")
    judge_atoms(table, name, result, one.known)
    table.check(f"{name}: seconds", result.seconds, at_most=20, form=".1f")
    table.tell(
        f"{name}: verdict, attempts, kept with the saturated",
        f"{result.verdict}, {result.n_attempts}, {result.best and result.best.with_saturated}",
        f"{int((merged.n_saturated > 0).sum())} saturated of {len(merged)}",
    )


def judge_atoms(
    table: Table, name: str, result: ChargeFlipping, known: Sequence[Atom], far_A: float = 0.3
) -> None:
    """Rows on the atoms of the best solution: each element's, and how far off they are."""
    for element in dict.fromkeys(one.element for one in sorted(known, key=lambda a: a.label)):
        wanted = sum(one.element == element for one in known)
        found = 0
        if result.best is not None:
            match = compare_with(result.best, tuple(known), tolerance_A=far_A)
            found = sum(known[i].element == element for i in match.pairs[:, 0])
        table.check(
            f"{name}: {element} found within {far_A} Å", found, at_least=wanted, form="d",
            peer="prototype: some merges, others wrong",
        )  # fmt: skip
    table.check(f"{name}: solved, by its own verdict", int(result.verdict == "solved"), at_least=1)


def main() -> int:
    args = options(__doc__ or "", work=False).parse_args()
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")})
    if not cctbx_installed():
        return skip("cctbx-base is not installed (pip install 'ewaldflow[solve]')")
    table = Table("Structures from merged intensities" + (" (quick)" if args.quick else ""))
    for one in ZEOLITES[1:] if args.quick else ZEOLITES:
        sets = simulated_sets(one.framework.code)
        solve_zeolite(table, one, sets, "all five")
        if not args.quick:
            solve_zeolite(table, one, sets[:3], "60 + 45 + 30 degrees")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
