"""From merged intensities to structures: charge flipping and refinement, simulated and real.

Simulated: MFI and MOR series of 10 to 60 degrees by the built-in engine, every range in another
orientation, scaled and merged to 0.85 Å. Real: LTA electron data of XDS; garnet and cinchonine
frames by the built-in engine, cinchonine beside XDS's own data in the same refinement of the
published model. Without cctbx-base, or without the real data, what needs them is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _real import add_data_option, archive_of, read_real, to_setting, unpack, xds_observations
from _table import Table, options, say, skip, work_folder

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.data_set import DataSet, data_set_from_lattice, data_set_from_xds_ascii
from ewaldflow.lib.merging.merge import merge_scaled
from ewaldflow.lib.merging.merged_reflections import MergedReflections
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.statistics import unique_reflections
from ewaldflow.lib.simulation.sets import standard_set
from ewaldflow.lib.simulation.structures import MFI, MOR, Framework
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.lib.structure.charge_flipping import charge_flip, compare_with
from ewaldflow.lib.structure.refinement import atoms_of_cif, refine
from ewaldflow.lib.structure.solution import Atom, ChargeFlipping

D_MIN_A = 0.85
# Range of rotation and the seed of its orientation: five crystals, lying differently.
SERIES = ((60, 1), (45, 2), (30, 3), (20, 4), (10, 5))
LTA_FILE = Path("xds", "bstrb+BKinD", "XDS_ASCII.HKL")
WEIGHT_A = 0.2  # of the published refinement of cinchonine


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
GARNET_CONTENTS = {"Ca": 24, "Fe": 16, "Si": 24, "O": 96}


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


def lta(table: Table, data: Path) -> None:
    """Rows on the real LTA data."""
    one = data_set_from_xds_ascii(data / LTA_FILE)
    merged = merged_of([one], "P m -3 m", 0.7)
    result = charge_flip(merged, {"Si": 24, "O": 48})
    say(f"LTA: {result.sentence}")
    # T on (0, y, z); O on (0, y, 1/2), (0, y, y), (x, x, z) of the framework
    known = (
        Atom("Si1", "Si", (0.0, 0.183, 0.370)),
        Atom("O1", "O", (0.0, 0.219, 0.5)),
        Atom("O2", "O", (0.0, 0.296, 0.296)),
        Atom("O3", "O", (0.111, 0.111, 0.343)),
    )
    judge_atoms(table, "real LTA", result, known)
    best = result.best
    gap = float("nan") if best is None else float(best.height[3] / best.height[4])
    table.check(
        "real LTA: fourth peak over the fifth", gap, at_least=3, form=".1f", peer="prototype: 7.8"
    )
    table.check("real LTA: seconds", result.seconds, at_most=60, peer="prototype: 58 to 89")
    if best is not None:
        refined = refine(
            best.atoms, merged.hkl, merged.intensity, merged.sigma, cell=merged.cell,
            space_group=best.space_group,
        )  # fmt: skip
        table.check(
            "real LTA: R1 refined, isotropic", refined.r1, at_most=0.26, form=".3f",
            peer="prototype: 0.240 (568 reflections)",
        )  # fmt: skip


def reduced(name: str, data: Path, work: Path) -> DataSet:
    """A real series by the built-in engine."""
    folder = unpack(name, data, work)
    assert folder is not None
    series = read_real(name, folder)
    reduction = reduce_series(series)
    say(f"{name}: {reduction.verdict}")
    range_deg = float(np.ptp(series.angle_start_deg))
    return data_set_from_lattice(
        name, reduction.lattices[0], range_deg=range_deg, n_frames=len(series)
    )


def garnet(table: Table, data: Path, work: Path) -> None:
    """Rows on the real garnet."""
    merged = merged_of([reduced("garnet", data, work)], "I a -3 d", 0.7)
    result = charge_flip(merged, GARNET_CONTENTS)
    say(f"garnet: {result.sentence}")
    # G. A. Novak and G. V. Gibbs, Am. Mineral. 56 (1971) 791
    known = (
        Atom("Ca1", "Ca", (0.125, 0.0, 0.25)),
        Atom("Fe1", "Fe", (0.0, 0.0, 0.0)),
        Atom("Si1", "Si", (0.375, 0.0, 0.25)),
        Atom("O1", "O", (0.0395, 0.0488, 0.6555)),
    )
    judge_atoms(table, "real garnet", result, known)


def cinchonine(table: Table, data: Path, work: Path) -> None:
    """Rows on the real cinchonine: our data and those of XDS in the same refinement."""
    ours = reduced("cinchonine", data, work)
    folder = unpack("cinchonine", data, work)
    assert folder is not None
    xds_file = folder / "xds" / "XDS_ASCII.HKL"
    atoms, cell, group = atoms_of_cif(folder / "shelxl" / "shelxl.cif")
    theirs, xds_orientation = xds_observations(xds_file)
    good = ~theirs.misfit
    assert ours.orientation is not None
    transform = to_setting(xds_orientation, ours.orientation)
    if transform is None:
        table.fail("cinchonine", "another lattice than that of XDS")
        return
    ours = ours.reindexed(transform.T)
    finest = float(ours.d_A.min())
    merged = merged_of([ours], group, finest)
    by_xds = refine(
        atoms, theirs.hkl[good], theirs.intensity[good], theirs.sigma[good], cell=cell,
        space_group=group, weight_a=WEIGHT_A, d_min_A=finest,
    )  # fmt: skip
    by_us = refine(
        atoms, merged.hkl, merged.intensity, merged.sigma, cell=cell, space_group=group,
        weight_a=WEIGHT_A, d_min_A=finest,
    )  # fmt: skip
    for who, one in (("XDS", by_xds), ("ours", by_us)):
        table.tell(
            f"cinchonine, {who}: R1 (I > 2 sigma), R1 of all, wR2",
            f"{one.r1:.4f}, {one.r1_all:.4f}, {one.wr2:.4f}",
            f"{one.n_strong} of {one.n_reflections} reflections; SHELXL: 0.1765",
        )
    table.check(
        "cinchonine: R1 of our data over that of XDS's", by_us.r1 - by_xds.r1, at_most=0.02,
        form=".4f",
    )  # fmt: skip


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    args = parser.parse_args()
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")})
    if not cctbx_installed():
        return skip("cctbx-base is not installed (pip install 'ewaldflow[solve]')")
    table = Table("Structures from merged intensities" + (" (quick)" if args.quick else ""))
    with work_folder(args.work) as work:
        for one in ZEOLITES[1:] if args.quick else ZEOLITES:
            sets = simulated_sets(one.framework.code)
            solve_zeolite(table, one, sets, "all five")
            if not args.quick:
                solve_zeolite(table, one, sets[:3], "60 + 45 + 30 degrees")
        if (args.data / LTA_FILE).exists():
            lta(table, args.data)
        else:
            table.tell("real LTA", "skipped: no file")
        if not args.quick:
            for name, judge in (("garnet", garnet), ("cinchonine", cinchonine)):
                if archive_of(name, args.data) is None:
                    table.tell(f"real {name}", "skipped: no archive")
                else:
                    judge(table, args.data, work)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
