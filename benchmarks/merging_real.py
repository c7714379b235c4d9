"""Real electron data through merging: symmetry, statistics, structures.

LTA as XDS integrated it, from P1 on; garnet and cinchonine from their frames, by the built-in
engine, cinchonine beside XDS's own data in the same refinement of the published model.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
from _random_crystals import to_p1
from _real import add_data_option, archive_of, read_real, to_setting, unpack, xds_observations
from _table import Table, options, say, skip, work_folder
from merging_structure import judge_atoms, merged_of

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.data_set import (
    DataSet,
    data_set_from_lattice,
    data_set_from_xds_ascii,
)
from ewaldflow.lib.merging.shell_statistics import shell_statistics
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.space_group.ranked import determine_space_group
from ewaldflow.lib.space_group.verdict import SpaceGroupVerdict
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.lib.structure.charge_flipping import charge_flip
from ewaldflow.lib.structure.refinement import atoms_of_cif, refine
from ewaldflow.lib.structure.solution import Atom

LTA_FILE = Path("xds", "bstrb+BKinD", "XDS_ASCII.HKL")
WEIGHT_A = 0.2  # of the published refinement of cinchonine
GARNET_CONTENTS = {"Ca": 24, "Fe": 16, "Si": 24, "O": 96}


def in_p1(data: DataSet) -> DataSet:
    """As nothing were known of the lattice but a primitive cell."""
    return to_p1([data])[0][0]


def _first(verdict: SpaceGroupVerdict) -> str:
    best = verdict.ranked[0]
    return f"{best.symbol} p {best.probability:.2f}, absences {best.absence_probability:.3f}"


def lta_symmetry(table: Table, data: DataSet) -> SpaceGroupVerdict:
    """LTA, treated as P1: m-3m and Pm-3m."""
    verdict = determine_space_group(replace(data, bravais="aP"))
    right = verdict.laue.laue_class == "m-3m" and verdict.laue.decided
    table.check("LTA from P1: Laue class m-3m (1: yes)", right, at_least=1, form="d")
    table.check(
        "LTA: rotations of m-3m seen", sum(r.seen for r in verdict.laue.rotations), at_least=23,
        form="d", peer="cctbx 23 at CC .80-.89; DIALS Pm-3m 1.000",
    )  # fmt: skip
    named = verdict.ranked[0].symbol == "P m -3 m" and verdict.decided
    table.check("LTA: Pm-3m first, no absences (1: yes)", named, at_least=1, form="d")
    table.tell("LTA: first", _first(verdict))
    return verdict


def cinchonine_symmetry(table: Table, data: DataSet) -> SpaceGroupVerdict:
    """Cinchonine, from P1: P2(1)."""
    verdict = determine_space_group(in_p1(data))
    right = verdict.laue.laue_class == "2/m" and verdict.laue.decided
    table.check("cinchonine from P1: Laue class 2/m (1: yes)", right, at_least=1, form="d")
    first = verdict.ranked[0].symbol == "P 1 21 1"
    table.check("cinchonine: P2(1) first (1: yes)", first, at_least=1, form="d", peer="DIALS P21")
    screw = next(e for e in verdict.absences if e.name == "2_1 along b")
    table.tell("cinchonine: 0k0, k odd", f"{screw.n} at {screw.ratio:.3f} of the mean")
    table.tell("cinchonine: first", _first(verdict))
    return verdict


def garnet_symmetry(table: Table, data: DataSet) -> SpaceGroupVerdict:
    """Garnet, from P1: m-3m, I, Ia-3d in spite of filled absences."""
    verdict = determine_space_group(in_p1(data))
    right = verdict.laue.laue_class == "m-3m" and verdict.laue.decided
    table.check("garnet from P1: Laue class m-3m (1: yes)", right, at_least=1, form="d")
    table.check("garnet: I-centred (1: yes)", verdict.bravais == "cI", at_least=1, form="d")
    named = verdict.space_group == "I a -3 d" and verdict.ranked[0].symbol == "I a -3 d"
    table.check("garnet: Ia-3d first and named (1: yes)", named, at_least=1, form="d",
                peer="DIALS Im-3m")  # fmt: skip
    for element in verdict.absences:
        table.tell(
            f"garnet: {element.name}, {element.condition}",
            f"{element.n} at {element.ratio:.2f} of the mean, {element.ratio_neighbours:.2f} "
            f"beside, p {element.probability:.3f}",
        )
    table.tell("garnet: first", _first(verdict))
    return verdict


def lta_statistics(table: Table, data: DataSet, path: Path) -> None:
    """The statistics of LTA's observations, beside gemmi's of the same."""
    reference = gemmi.Intensities()
    reference.import_xds(gemmi.read_xds_ascii(str(path)))
    reference.sort()
    kept = data.select(~data.has(Flag.OUTLIER))
    arguments = (kept.hkl, kept.intensity, kept.sigma, kept.cell, "cP", candidate_operators("cP"))
    worst = 0.0
    for weights, letter in (("unweighted", "U"), ("xds", "X"), ("aimless", "Y")):
        theirs = reference.calculate_merging_stats(None, letter)[0]
        ours = shell_statistics(*arguments, n_shells=1, weights=weights)[0]
        for mine, other in (
            (ours.r_merge, theirs.r_merge()), (ours.r_meas, theirs.r_meas()),
            (ours.r_pim, theirs.r_pim()), (ours.cc_half_sigma_tau, theirs.cc_half()),
            (ours.n_unique, theirs.unique_refl),
        ):  # fmt: skip
            worst = max(worst, abs(mine / other - 1))
    table.check("LTA: statistics from gemmi's, relative", worst, at_most=1e-6, form=".1e")


def lta_structure(table: Table, one: DataSet) -> None:
    """Rows on the real LTA data."""
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


def reduced(name: str, folder: Path) -> DataSet:
    """A real series by the built-in engine."""
    series = read_real(name, folder)
    reduction = reduce_series(series)
    say(f"{name}: {reduction.verdict}")
    range_deg = float(np.ptp(series.angle_start_deg))
    return data_set_from_lattice(
        name, reduction.lattices[0], range_deg=range_deg, n_frames=len(series)
    )


def garnet_structure(table: Table, one: DataSet) -> None:
    """Rows on the real garnet."""
    merged = merged_of([one], "I a -3 d", 0.7)
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


def cinchonine_refined(table: Table, ours: DataSet, folder: Path) -> None:
    """Rows on the real cinchonine: our data and those of XDS in the same refinement."""
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
    table = Table("Real electron data, merged" + (" (quick)" if args.quick else ""))
    solving = cctbx_installed()
    if not solving:
        table.tell("structures", "skipped: cctbx-base is not installed (the extra 'solve')")
    path = Path(args.data) / LTA_FILE
    if path.exists():
        lta = data_set_from_xds_ascii(path)
        lta_symmetry(table, lta)
        lta_statistics(table, lta, path)
        if solving:
            lta_structure(table, lta)
    else:
        table.tell("real LTA", "skipped: no file")
    with work_folder(args.work) as work:
        for name in ("cinchonine",) if args.quick else ("cinchonine", "garnet"):
            if archive_of(name, args.data) is None:
                table.tell(f"real {name}", "skipped: no archive")
                continue
            folder = unpack(name, args.data, work)
            assert folder is not None
            data = reduced(name, folder)
            if name == "garnet":
                garnet_symmetry(table, data)
                if solving:
                    garnet_structure(table, data)
            else:
                cinchonine_symmetry(table, data)
                if solving:
                    cinchonine_refined(table, data, folder)
    return table.show() if any(row[4] for row in table.rows) else skip("no real data")


if __name__ == "__main__":
    sys.exit(main())
