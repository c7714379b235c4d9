"""The built-in engine and DIALS on the same series, in one run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _dials import DialsRun, Hints, installed, reduction_of, run_dials, version
from _real import (
    REAL,
    XDS_FILE,
    add_data_option,
    against_xds,
    pair_observations,
    read_real,
    to_setting,
    unpack,
    xds_observations,
)
from _reduce import Reduced, reduce_apart
from _table import Table, options, say, skip, work_folder
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, uniform_filter

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.formats import write_series
from ewaldflow.lib.reduction.result import Flag, Lattice, Reduction
from ewaldflow.lib.reduction.statistics import cc_half, equivalents
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import STANDARD_RANGES_DEG, Truth, judge, standard_set

Floats = NDArray[np.float64]

HINTS = {
    "MFI": Hints((20.09, 19.738, 13.142, 90, 90, 90), "P222", 0.7),
    "MOR": Hints((18.256, 20.534, 7.542, 90, 90, 90), "C222", 0.7),
    "garnet": Hints((12.0, 12.0, 12.0, 90, 90, 90), "I23", 0.9),
    "lysozyme": Hints((79, 79, 38, 90, 90, 90), "P4", 2.2),
    "cinchonine": Hints((10.73, 7.28, 11.11, 90, 108.06, 90), "P2", 0.9),
}

# Both are told this axis, within 1.5 degrees of the true one. No file states it, and that of the
# instrument is 11 degrees off for this series, which the engine refines and DIALS does not.
AXES = {"garnet": (-0.787, 0.617, 0.0)}

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
    folder = write_afresh(series, work / name.replace(" ", "_"))
    say(f"{name}: built-in engine")
    ours = reduce_apart(folder, folder)
    say(f"{name}: {ours.reduction.verdict if ours.reduction else ours.why}")
    say(f"{name}: DIALS")
    theirs = run_dials(folder, hints, scale=real)
    say(f"{name}: {theirs.why or 'DIALS integrated'}, {theirs.cpu_s:.0f} s of CPU")
    return Contest(name, series, ours, theirs)


def write_afresh(series: RotationSeries, folder: Path) -> Path:
    """The folder with the series as SMV, whatever frames an earlier run left there."""
    for old in folder.glob("data/*.img"):
        old.unlink()
    write_series(series, folder)
    return folder


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


def as_seen(name: str, series: RotationSeries) -> RotationSeries:
    """A real series with what anyone would tell both programs: where the direct beam is."""
    bright = uniform_filter(series.frames.mean(axis=0).compute().astype(float), 7)
    bright[bright < 0.5 * bright.max()] = 0.0
    geometry = series.geometry.with_(beam_centre_px=center_of_mass(bright))
    return series.with_(geometry=geometry.with_(axis=AXES.get(name, geometry.axis)))


def measured(table: Table, contest: Contest, hints: Hints, xds_file: Path | None) -> None:
    """Rows on a real series, judged by equivalents, and by XDS where it has been."""
    reduction = contest.ours.reduction
    lattice = reduction.lattices[0] if reduction and reduction.lattices else None
    profile, summed = (
        None if contest.theirs.why else contest.their_reduction(kind) for kind in ("prf", "sum")
    )
    their_lattice = profile.lattices[0] if profile else None
    found = [
        one is not None and hints.fit(one.cell, one.bravais[1]) for one in (lattice, their_lattice)
    ]
    indexed(table, contest, *found)
    if lattice is not None and profile is not None and summed is not None and all(found):
        halves(table, contest, lattice, profile, summed)
        if xds_file is not None:
            xds(table, contest, lattice, profile, summed, xds_file)
    cost(table, contest)


def halves(
    table: Table, contest: Contest, lattice: Lattice, profile: Reduction, summed: Reduction
) -> None:
    """CC1/2 of the observations that both have, under all rotations of our lattice."""
    run, r = contest.theirs, lattice.reflections
    theirs = [
        (kind, other.lattices[0].orientation, q.hkl, q.frame, q.intensity, q.partiality > 0.7)
        for kind, other in (("prf", profile), ("sum", summed))
        for q in (other.lattices[0].reflections,)
    ]
    if "scaled_hkl" in run.tables:
        t = run.tables
        frame = t["scaled_z_px"] - 0.5 - (run.first_image() - 1)
        everything = np.ones(len(frame), bool)
        theirs.append(
            ("scaled", run.orientation("scaled.expt"), t["scaled_hkl"], frame,
             t["scaled_intensity"], everything)
        )  # fmt: skip
    trusted = ~r.has(Flag.OVERLAP | Flag.BACKGROUND | Flag.OUTLIER) & (r.partiality > 0.7)
    mine = np.flatnonzero(trusted & np.isfinite(r.intensity))
    for kind, orientation, hkl, frame, intensity, use in theirs:
        figure = f"{contest.name}: CC1/2 in {lattice.bravais}, common with {kind}"
        transform = to_setting(lattice.orientation, orientation)
        if transform is None:
            table.tell(figure, "", "DIALS' lattice is turned against ours")
            continue
        use = np.flatnonzero(use & np.isfinite(intensity))
        i, j = pair_observations(r.hkl[mine], r.frame[mine], hkl[use] @ transform.T, frame[use])
        i, j = mine[i], use[j]
        group = equivalents(r.hkl[i], candidate_operators(lattice.bravais))
        ours, dials = (
            float(np.mean([cc_half(group, one, seed=k) for k in range(HALVES)]))
            for one in (r.intensity[i], intensity[j])
        )
        table.check(
            f"{figure} ({len(i)})", ours, at_least=dials, form=".4f", peer=f"DIALS {dials:.4f}"
        )


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
    hint = f", {contest.theirs.help}" if contest.theirs.help else ""
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
    sets = {
        f"{code} {degrees}": (code, degrees)
        for code in ("MFI", "MOR")
        for degrees in STANDARD_RANGES_DEG
    }
    parser.add_argument(
        "--series", nargs="+", choices=[*sets, *REAL], metavar="NAME",
        help=f"only these: {', '.join(map(repr, sets))}, {', '.join(REAL)}",
    )  # fmt: skip
    args = parser.parse_args()
    chosen = args.series or (["MOR 10"] if args.quick else [*sets, *REAL])
    if not installed():
        return skip(
            "DIALS is not on the PATH; on Debian: apt-get install --no-install-recommends dials "
            "(1.6 GB), elsewhere see dials.github.io"
        )
    table = Table(f"Built-in engine and {version()}" + (" (quick)" if args.quick else ""))
    absent = []
    with work_folder(args.work) as work:
        # compiled code is cached from here on
        warm = write_afresh(standard_set("MFI", 10, 2)[0], work / "warm")
        reduce_apart(warm, warm)
        for name in (one for one in sets if one in chosen):
            code, degrees = sets[name]
            series, truth = standard_set(code, degrees, 1)
            simulated(table, run_both(name, series, HINTS[code], work, real=False), truth)
        for name in (one for one in REAL if one in chosen):
            folder = unpack(name, args.data, work)
            if folder is None:
                absent.append(REAL[name].archive)
                continue
            series = as_seen(name, read_real(name, folder))
            contest = run_both(f"{name} series", series, HINTS[name], work, real=True)
            xds_file = work / name / XDS_FILE if name == "cinchonine" else None
            measured(table, contest, HINTS[name], xds_file)
    if absent:
        table.fail("real data", f"absent: {', '.join(absent)} not below {args.data}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
