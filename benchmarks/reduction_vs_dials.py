"""The built-in engine and DIALS on the same series, in one run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from _dials import DialsRun, Hints, installed, reduction_of, run_dials, version
from _real import (
    REAL,
    XDS_FILE,
    add_data_option,
    against_xds,
    read_real,
    to_setting,
    unpack,
    xds_observations,
)
from _reduce import Reduced, reduce_apart
from _table import Table, options, say, skip, work_folder
from numpy.typing import NDArray

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.formats import write_series
from ewaldflow.lib.reduction.result import Flag, Lattice, Reduction, Reflections
from ewaldflow.lib.reduction.statistics import cc_half, equivalents
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import STANDARD_RANGES_DEG, Truth, judge, standard_set

Floats = NDArray[np.float64]

HINTS = {
    "MFI": Hints((20.09, 19.738, 13.142, 90, 90, 90), "P222", 0.7),
    "MOR": Hints((18.256, 20.534, 7.542, 90, 90, 90), "C222", 0.7),
    "garnet": Hints((12.06, 12.06, 12.06, 90, 90, 90), "I23", 0.5),
    "lysozyme": Hints((79, 79, 38, 90, 90, 90), "P4", 2.2),
    "cinchonine": Hints((10.73, 7.28, 11.11, 90, 108.06, 90), "P2", 0.9),
}

# A lattice is the sample's if the edges of its reduced cell are no further off than this.
LARGEST_EDGE_ERROR = 0.05

# CC1/2 depends on how chance halves the data: the mean over this many.
HALVES = 20


@dataclass(frozen=True)
class Contest:
    """One series as each left it."""

    name: str
    series: RotationSeries
    ours: Reduced
    theirs: DialsRun

    def their_reduction(self, kind: str) -> Reduction:
        """What DIALS found, with its ``prf`` or ``sum`` intensities."""
        return reduction_of(self.theirs, kind, self.series.angle_mid_deg)


def run_both(name: str, series: RotationSeries, hints: Hints, work: Path, real: bool) -> Contest:
    """Write the series as SMV and reduce it with both programs, each in processes of its own."""
    folder = work / name.replace(" ", "_")
    for old in folder.glob("data/*.img"):
        old.unlink()
    write_series(series, folder)
    say(f"{name}: built-in engine")
    ours = reduce_apart(folder, folder)
    say(f"{name}: {ours.reduction.verdict if ours.reduction else ours.why}")
    say(f"{name}: DIALS")
    theirs = run_dials(folder, hints, scale=real)
    say(f"{name}: {theirs.why or 'DIALS integrated'}, {theirs.cpu_s:.0f} s of CPU")
    return Contest(name, series, ours, theirs)


# --- simulated series ---------------------------------------------------------------------


def simulated(table: Table, contest: Contest, truth: Truth) -> None:
    """Rows on a simulated series, both judged by its truth."""
    nothing = {"found": 0.0}
    ours = judge(contest.ours.reduction, truth) if contest.ours.reduction else nothing
    dials = {
        kind: nothing if contest.theirs.why else judge(contest.their_reduction(kind), truth)
        for kind in ("prf", "sum")
    }
    found = dials["prf"]["found"]
    indexed(table, contest, ours["found"], found)
    if ours["found"] and found:
        best = max(np.nan_to_num([one["cc_f2"] for one in dials.values()], nan=-1.0))
        table.check(
            f"{contest.name}: CC(I, F^2)", ours["cc_f2"], at_least=float(best), form=".5f",
            peer=f"DIALS prf {dials['prf']['cc_f2']:.5f}, sum {dials['sum']['cc_f2']:.5f}",
        )  # fmt: skip
        off = [
            f"{one['cell_edge_error_percent']:.2f} %, {one['orientation_error_deg']:.3f}°"
            for one in (ours, dials["prf"])
        ]
        table.tell(f"{contest.name}: cell edges, orientation off", off[0], f"DIALS {off[1]}")
    cost(table, contest)


# --- real series --------------------------------------------------------------------------


def measured(table: Table, contest: Contest, hints: Hints, xds_file: Path | None) -> None:
    """Rows on a real series, judged by equivalents, and by XDS where it has been."""
    reduction = contest.ours.reduction
    lattice = reduction.lattices[0] if reduction and reduction.lattices else None
    profile, summed = (
        None if contest.theirs.why else contest.their_reduction(kind) for kind in ("prf", "sum")
    )
    their_lattice = profile.lattices[0] if profile else None
    found = [one is not None and is_the_samples(one, hints) for one in (lattice, their_lattice)]
    indexed(table, contest, *found)
    if lattice is not None and profile is not None and summed is not None and all(found):
        halves(table, contest, lattice, profile, summed)
        if xds_file is not None:
            xds(table, contest, lattice, profile, summed, xds_file)
    cost(table, contest)


def is_the_samples(lattice: Lattice, hints: Hints) -> bool:
    """Whether the reduced cell is that of the sample."""
    own = reduced_edges(lattice.cell, lattice.bravais[1])
    known = reduced_edges(hints.cell, hints.lattice_group[0])
    return bool(np.abs(own / known - 1).max() < LARGEST_EDGE_ERROR)


def reduced_edges(cell: tuple[float, ...], centring: str) -> Floats:
    """Edges of the Niggli cell, ascending, in Å."""
    vector = gemmi.GruberVector(gemmi.UnitCell(*cell), centring)
    vector.niggli_reduce()
    return np.sort(vector.cell_parameters()[:3])


def halves(
    table: Table, contest: Contest, lattice: Lattice, profile: Reduction, summed: Reduction
) -> None:
    """CC1/2 under all rotations of our lattice, to the resolution that both have."""
    theirs = profile.lattices[0]
    to_ours = to_setting(lattice.orientation, theirs.orientation)
    r = lattice.reflections
    d_min = max(r.d_A.min(), theirs.reflections.d_A.min())
    mine = ~r.has(Flag.OVERLAP | Flag.BACKGROUND | Flag.OUTLIER) & (r.partiality > 0.7)
    ours = mean_cc_half(lattice, r.hkl, r.intensity, mine & (r.d_A >= d_min))
    if to_ours is None:
        table.fail(f"{contest.name}: CC1/2", "DIALS' orientation is another; cannot compare")
        return
    dials = {}
    for kind, other in (("prf", profile), ("sum", summed)):
        q: Reflections = other.lattices[0].reflections
        use = ~q.has(Flag.MASKED | Flag.PROFILE_FAILED) & (q.partiality > 0.7)
        dials[kind] = mean_cc_half(lattice, q.hkl @ to_ours.T, q.intensity, use & (q.d_A >= d_min))
    t = contest.theirs.tables
    if "scaled_hkl" in t:
        back = scaled_setting(contest.theirs, lattice)
        if back is not None:
            dials["scaled"] = mean_cc_half(
                lattice, t["scaled_hkl"] @ back.T, t["scaled_intensity"],
                t["scaled_d_A"] >= d_min,
            )  # fmt: skip
    table.check(
        f"{contest.name}: CC1/2 in {lattice.bravais} to {d_min:.2f} Å", ours,
        at_least=max(np.nan_to_num(list(dials.values()), nan=-1.0)), form=".4f",
        peer="DIALS " + ", ".join(f"{kind} {value:.4f}" for kind, value in dials.items()),
    )  # fmt: skip


def scaled_setting(run: DialsRun, lattice: Lattice) -> Floats | None:
    """To our indices from those of the scaled reflections, which dials.symmetry may change."""
    return to_setting(lattice.orientation, run.orientation("scaled.expt"))


def mean_cc_half(
    lattice: Lattice, hkl: Floats | NDArray[np.integer], intensity: Floats, use: NDArray[np.bool_]
) -> float:
    """Mean CC1/2 over many random halves."""
    use = use & np.isfinite(intensity)
    indices = np.rint(hkl[use]).astype(np.int64)
    group = equivalents(indices, candidate_operators(lattice.bravais))
    return float(np.mean([cc_half(group, intensity[use], seed=k) for k in range(HALVES)]))


def xds(
    table: Table, contest: Contest, lattice: Lattice, profile: Reduction, summed: Reduction,
    xds_file: Path,
) -> None:  # fmt: skip
    """CC of single observations with those of XDS."""
    observations, orientation = xds_observations(xds_file)
    number = contest.series.frame_number
    compared = []
    for one in (lattice, profile.lattices[0], summed.lattices[0]):
        r = one.reflections
        frame_number = np.interp(r.frame, np.arange(len(number)), number)
        compared.append(
            against_xds(
                one.orientation, r.hkl, frame_number, r.intensity, observations, orientation
            )
        )
    ours, prf, by_sum = compared
    table.check(
        f"{contest.name}: CC of I with XDS", ours.cc, at_least=max(prf.cc, by_sum.cc),
        form=".4f", peer=f"DIALS prf {prf.cc:.4f}, sum {by_sum.cc:.4f}",
    )  # fmt: skip
    table.tell(
        f"{contest.name}: observations common with XDS", str(ours.n_common),
        f"DIALS prf {prf.n_common}, sum {by_sum.n_common}",
    )  # fmt: skip


# --- both ---------------------------------------------------------------------------------


def indexed(table: Table, contest: Contest, ours: float, theirs: float) -> None:
    """Whether each found the lattice, and how many of its spots that explains."""
    part = [float("nan"), float("nan")]
    if contest.ours.reduction is not None:
        part[0] = contest.ours.reduction.statistics.get("indexed_fraction", np.nan)
    t = contest.theirs.tables
    if t:
        part[1] = float(t["n_indexed"] / t["n_spots"])
    hint = ", told the cell" if contest.theirs.retried else ""
    table.check(
        f"{contest.name}: lattice found (1: yes)", float(ours), at_least=float(theirs), form=".0f",
        peer=contest.theirs.why or f"DIALS {theirs:.0f}{hint}",
    )  # fmt: skip
    table.tell(
        f"{contest.name}: spots indexed, %", f"{100 * part[0]:.1f}", f"DIALS {100 * part[1]:.1f}"
    )


def cost(table: Table, contest: Contest) -> None:
    """CPU of fresh processes, imports included."""
    ours, theirs = contest.ours.ran.cpu_s, contest.theirs
    if theirs.why:
        table.tell(f"{contest.name}: CPU, s", f"{ours:.1f}", f"DIALS ended: {theirs.why}")
        return
    steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in theirs.seconds.items())
    table.check(
        f"{contest.name}: CPU over that of DIALS ({ours:.1f} s)", ours / theirs.cpu_s,
        at_most=0.1, form=".3f", peer=f"{theirs.cpu_s:.0f} s: {steps}",
    )  # fmt: skip


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    args = parser.parse_args()
    if not installed():
        return skip(
            "DIALS is not on the PATH; on Debian: apt-get install --no-install-recommends dials "
            "(1.6 GB), elsewhere see dials.github.io"
        )
    table = Table(f"Built-in engine and {version()}" + (" (quick)" if args.quick else ""))
    sets = [(code, degrees) for code in ("MFI", "MOR") for degrees in STANDARD_RANGES_DEG]
    absent = []
    with work_folder(args.work) as work:
        for k, (code, degrees) in enumerate(sets[5:6] if args.quick else sets):
            series, truth = standard_set(code, degrees, 1)
            name = f"{code} {degrees}"
            if k == 0:  # compiled code is cached from here on
                write_series(series, work / "warm")
                reduce_apart(work / "warm", work / "warm")
            simulated(table, run_both(name, series, HINTS[code], work, real=False), truth)
        for name in () if args.quick else REAL:
            folder = unpack(name, args.data, work)
            if folder is None:
                absent.append(REAL[name].archive)
                continue
            contest = run_both(
                f"{name} series", read_real(name, folder), HINTS[name], work, real=True
            )
            xds_file = work / name / XDS_FILE if name == "cinchonine" else None
            measured(table, contest, HINTS[name], xds_file)
    if absent:
        table.fail("real data", f"absent: {', '.join(absent)} not below {args.data}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
