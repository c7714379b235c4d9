"""The built-in engine on three real series, against its bars, XDS, DIALS and the prototype."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from _real import REAL, XDS_FILE, add_data_option, against_xds, unpack, xds_observations
from _reduce import reduce_apart
from _table import Ran, Table, options, say, skip, work_folder

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.reduction.result import Flag, Reduction
from ewaldflow.lib.reduction.statistics import equivalents, r_merge

# Refined by XDS (CORRECT.LP), at 436.10 mm.
XDS_CELL = (10.7316, 7.2826, 11.1071, 90.0, 108.060, 90.0)
LYSOZYME_EDGES_A = np.array([38.0, 79.0, 79.0])


def garnet(table: Table, reduction: Reduction) -> None:
    """A cubic lattice, found and refined without being told so."""
    lattice, figures = reduction.lattices[0], reduction.statistics
    edges, angles = np.array(lattice.cell_p1[:3]), np.array(lattice.cell_p1[3:])
    table.check("garnet: I-centred cubic (1: yes)", lattice.bravais == "cI", at_least=1, form="d")
    table.check("garnet: edges apart when free, %", 100 * np.ptp(edges) / edges.mean(), at_most=0.5)
    table.check(
        "garnet: largest angle off 90 when free, degrees", np.abs(angles - 90).max(), at_most=0.3
    )
    table.check(
        "garnet: indexed, %", 100 * figures["indexed_fraction"], at_least=92, form=".1f",
        peer="DIALS 91, prototype 82",
    )  # fmt: skip
    table.check(
        "garnet: rotations of m-3m seen", figures.get("rotations_seen", 0), at_least=23, form=".0f",
        peer="prototype 23",
    )  # fmt: skip
    table.check(
        "garnet: CC1/2", figures.get("cc_half", np.nan), at_least=0.99, form=".4f",
        peer="DIALS scaled .995",
    )  # fmt: skip
    table.tell("garnet: R_merge, %", f"{100 * figures.get('r_merge', np.nan):.1f}", "DIALS 14")


def cinchonine(table: Table, reduction: Reduction, xds_file: Path) -> None:
    """Against the run of XDS on the same frames."""
    lattice, figures = reduction.lattices[0], reduction.statistics
    xds, xds_orientation = xds_observations(xds_file)
    r = lattice.reflections
    frame_number = np.interp(
        r.frame, np.arange(len(reduction.frames.frame_number)), reduction.frames.frame_number
    )
    compared = against_xds(
        lattice.orientation, r.hkl, frame_number, r.intensity, xds, xds_orientation
    )
    table.check(
        "cinchonine: observations common with XDS", compared.n_common, at_least=1900, form="d",
        peer=f"XDS {len(xds.hkl)}, DIALS 1958",
    )  # fmt: skip
    table.check(
        "cinchonine: CC of I with XDS_ASCII", compared.cc, at_least=0.986, form=".4f",
        peer="DIALS .986, prototype .986",
    )  # fmt: skip
    cell, theirs = np.array(compared.cell), np.array(XDS_CELL)
    table.check(
        "cinchonine: edges off those of XDS, %",
        100 * np.abs(cell[:3] / theirs[:3] - 1).max(), at_most=0.3, form=".2f",
        peer="XDS 10.732 7.283 11.107",
    )  # fmt: skip
    table.check(
        "cinchonine: beta off that of XDS, %", 100 * abs(cell[4] / theirs[4] - 1), at_most=0.3,
        form=".2f", peer="XDS 108.06",
    )  # fmt: skip
    table.check("cinchonine: monoclinic P (1: yes)", lattice.bravais == "mP", at_least=1, form="d")
    operators = candidate_operators("mP")
    accepted = xds.hkl[~xds.misfit], xds.intensity[~xds.misfit]
    xds_r, xds_r_apart = (
        r_merge(equivalents(accepted[0], operators, friedel=friedel), accepted[1])
        for friedel in (True, False)
    )
    same = compared.ours
    with_xds = r_merge(equivalents(r.hkl[same], operators), r.intensity[same])
    merged = np.isfinite(r.intensity) & (r.partiality > 0.7)
    merged &= ~r.has(Flag.OVERLAP | Flag.BACKGROUND | Flag.OUTLIER)
    ours = r_merge(equivalents(r.hkl[merged], operators), r.intensity[merged])
    table.check(
        "cinchonine: R_merge in 2/m, %", 100 * ours, at_most=12, form=".1f",
        peer=f"XDS_ASCII, same function: {100 * xds_r:.1f} ({100 * xds_r_apart:.1f} with Friedel "
        "pairs apart); prototype 14.2",
    )  # fmt: skip
    table.tell(
        "cinchonine: R_merge on the observations common with XDS, %", f"{100 * with_xds:.1f}",
        f"XDS_ASCII {100 * xds_r:.1f}",
    )  # fmt: skip
    table.check(
        "cinchonine: indexed, %", 100 * figures["indexed_fraction"], at_least=90, form=".1f",
        peer="DIALS 88, prototype 77, XDS 51",
    )  # fmt: skip


def lysozyme(table: Table, reduction: Reduction) -> None:
    """A weak crystal, few frames."""
    lattice, figures = reduction.lattices[0], reduction.statistics
    off = 100 * np.abs(np.sort(lattice.cell[:3]) / LYSOZYME_EDGES_A - 1).max()
    table.check(
        "lysozyme: indexed, %", 100 * figures["indexed_fraction"], at_least=95, form=".1f",
        peer="DIALS 91, prototype 97",
    )  # fmt: skip
    table.check(
        "lysozyme: edges off 79, 79, 38 Å, %", off, at_most=3, form=".2f",
        peer="prototype 38.2 77.4 78.9",
    )  # fmt: skip


def judge_real(table: Table, name: str, reduction: Reduction, unpacked: Path) -> None:
    """Rows on one of the series; `unpacked` is where its archive was unpacked."""
    if not reduction.lattices:
        table.fail(f"{name}: a lattice", reduction.verdict)
    elif name == "garnet":
        garnet(table, reduction)
    elif name == "cinchonine":
        cinchonine(table, reduction, unpacked / XDS_FILE)
    else:
        lysozyme(table, reduction)


def cost(table: Table, name: str, reduction: Reduction, ran: Ran) -> None:
    """What the process that made the reduction needed."""
    table.tell(f"{name}: found", reduction.verdict)
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in reduction.seconds.items())
    table.tell(f"{name}: seconds per step", steps)
    n = len(reduction.frames.frame_number)
    table.tell(f"{name}: CPU of the whole process, s", f"{ran.cpu_s:.1f} ({n} frames)")
    memory = f"{name}: peak memory, MB"
    if name == "garnet":
        table.check(memory, ran.memory_MB, at_most=1200, form=".0f")
    else:
        table.tell(memory, f"{ran.memory_MB:.0f}")


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    args = parser.parse_args()
    table = Table("Built-in engine on real series" + (" (quick)" if args.quick else ""))
    absent = []
    with work_folder(args.work) as work:
        for name in ("lysozyme", "cinchonine") if args.quick else REAL:
            folder = unpack(name, args.data, work)
            if folder is None:
                absent.append(REAL[name].archive)
                continue
            say(f"reducing {name}")
            real = REAL[name]
            reduced = reduce_apart(
                folder, work / name, instrument=real.instrument, distance_mm=real.distance_mm
            )
            if reduced.reduction is None:
                table.fail(f"{name}: a reduction", reduced.why)
                continue
            judge_real(table, name, reduced.reduction, work / name)
            cost(table, name, reduced.reduction, reduced.ran)
    if absent:
        why = f"{', '.join(absent)} not below {args.data}; give --data, or set EWALDFLOW_REAL_DATA"
        if not table.rows:
            return skip(why)
        table.fail("real data", f"absent: {why}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
