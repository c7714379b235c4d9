"""The built-in engine on simulated series: the 30 standard sets, the stresses, sigmas, speed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import dask.array as da
import numpy as np
from _table import Table, options, say
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import Flag, Reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import (
    STANDARD_RANGES_DEG,
    STRESSES,
    Truth,
    judge,
    standard_set,
    stress_set,
)
from ewaldflow.lib.simulation.judge import LARGEST_ANGLE_DEG, match_lattice, match_reflections
from ewaldflow.lib.simulation.truth import TrueReflections

SEEDS = (1, 2, 3)

# Two lattices' reflections with centres this near to each other share pixels: px, frames.
NEAR_PX, NEAR_FRAMES = 2.5, 1.0

# Each stress with what must hold: (figure of `judge`, words, smallest, largest).
STRESS_BARS: dict[str, tuple[tuple[str, str, float | None, float | None], ...]] = {
    "drift 5 px": (("cc_f2", "CC(I, F^2)", 0.99, None),),
    "axis 6 deg off": (("cc_f2", "CC(I, F^2)", 0.99, None),),
    "dose / 33": (("cc_f2", "CC(I, F^2)", 0.97, None),),
    "5 deg only": (("found", "indexed (1: yes)", 1, None),),
    "ellipse 3 %": (("cell_edge_error_percent", "cell edges off, %", None, 0.6),),
    "detector x16": (("found", "indexed (1: yes)", 1, None),),
    "detector / 16": (("found", "indexed (1: yes)", 1, None),),
    "noise only": (("lattices_claimed", "lattices claimed", None, 0),),
    "a third alien": (("found", "indexed (1: yes)", 1, None),),
    "two lattices 60:40": (),  # judged by `two_lattices`
}
STRESS_PEERS = {
    "drift 5 px": "DIALS cell 8.9 % off, CC1/2 .00",
    "axis 6 deg off": "DIALS at 3 degrees .95",
    "dose / 33": "DIALS a halved cell, prototype .98",
    "ellipse 3 %": "DIALS and prototype 1.4 %",
    "two lattices 60:40": "DIALS and prototype find one",
}
STANDARD_BARS = (
    ("cell_edge_error_percent", "cell edges off, worst set, %", None, 0.5),
    ("cell_angle_error_deg", "cell angles off, worst set, degrees", None, 0.5),
    ("orientation_error_deg", "orientation off, worst set, degrees", None, 0.07),
    ("cc_f2", "CC(I, F^2) without flagged saturated, worst set", 0.99, None),
    ("saturated_missed", "saturated but not flagged, worst set", None, 0),
)
STANDARD_PEERS = {
    "cell_edge_error_percent": "DIALS 2.5, prototype .53",
    "orientation_error_deg": "DIALS .07 to 1.3, prototype .07",
    "cc_f2": "DIALS .93 to .99, prototype .997",
}


@dataclass(frozen=True)
class Overlaps:
    """Passages of the first true lattice that share pixels with one of the second.

    Attributes
    ----------
    n : how many there are, to the resolution of the reflection list.
    n_flagged, n_unflagged : in the list with the flag, and without; the others are not in it.
    """

    n: int = 0
    n_flagged: int = 0
    n_unflagged: int = 0


@dataclass(frozen=True)
class Judged:
    """One set: figures per true lattice, what two lattices share; only a verdict if it failed."""

    name: str
    figures: tuple[dict[str, float], ...]
    overlaps: Overlaps = Overlaps()
    verdict: str = ""


def judge_set(make: Callable[[], tuple[RotationSeries, Truth]], name: str) -> Judged:
    """Simulate, reduce and judge one set."""
    series, truth = make()
    try:
        reduction = reduce_series(series)
    except UserError as error:
        return Judged(name, (), verdict=str(error))
    figures = tuple(judge(reduction, truth, i) for i in range(max(len(truth.lattices), 1)))
    return Judged(name, figures, count_overlaps(reduction, truth), reduction.verdict)


def count_overlaps(reduction: Reduction, truth: Truth) -> Overlaps:
    """What became of the reflections that two true lattices send to the same pixels."""
    if len(truth.lattices) < 2:
        return Overlaps()
    first, second = truth.lattices[:2]
    found = [(one, match_lattice(one, first)) for one in reduction.lattices]
    matched = [(one.reflections, match) for one, match in found if match is not None]
    if not matched:
        return Overlaps()
    ours, match = matched[0]
    true = first.reflections
    shared = sharing_pixels(true, second.reflections)
    shared &= d_spacing_A(true.hkl, first.cell) >= ours.d_A.min()
    largest_frames = LARGEST_ANGLE_DEG / float(truth.angle_width_deg.mean())
    row = match_reflections(match.to_true_hkl(ours.hkl), ours.frame, first, largest_frames)
    flagged = ours.has(Flag.OVERLAP)[(row >= 0) & shared[row]]
    return Overlaps(int(shared.sum()), int(flagged.sum()), int((~flagged).sum()))


def sharing_pixels(first: TrueReflections, second: TrueReflections) -> NDArray[np.bool_]:
    """(n,) which of the first lie on one of the second, on the detector and in time."""
    places = [
        np.stack([r.row, r.column, r.frame * NEAR_PX / NEAR_FRAMES], axis=1)
        for r in (first, second)
    ]
    distance, _ = cKDTree(places[1]).query(places[0], distance_upper_bound=NEAR_PX)
    return np.isfinite(distance)


def run_sets(
    jobs: Sequence[tuple[str, Callable[[], tuple[RotationSeries, Truth]]]],
) -> Iterator[Judged]:
    """Judge all sets, two at a time, in the order given."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        waiting = [pool.submit(judge_set, make, name) for name, make in jobs]
        for one in waiting:
            judged = one.result()
            say(f"{judged.name}: {judged.verdict}")
            yield judged


def standard(table: Table, sets: Sequence[Judged]) -> None:
    """Rows on the standard sets, each with the worst of them."""
    found = [one for one in sets if one.figures and one.figures[0]["found"]]
    table.check(
        "standard sets: indexed", len(found), at_least=len(sets), form="d",
        peer="DIALS and prototype: all of 10",
    )  # fmt: skip
    for one in sets:
        if one not in found:
            table.tell(f"{one.name}: not the true lattice", one.verdict)
    for figure, words, smallest, largest in STANDARD_BARS:
        by_set = {one.name: one.figures[0][figure] for one in found}
        wrong = [
            (value, name)
            for name, value in by_set.items()
            if not (smallest is None or value >= smallest)
            or not (largest is None or value <= largest)
        ]
        values = list(by_set.values()) or [float("nan")]
        worst = float(np.min(values) if smallest is not None else np.max(values))
        table.check(
            f"standard sets: {words}", worst, at_least=smallest, at_most=largest, form=".4g",
            peer=STANDARD_PEERS.get(figure, ""),
        )  # fmt: skip
        for value, name in sorted(wrong):
            table.tell(f"    beyond the bar: {name}", f"{value:.4g}")
    chi2 = np.array([one.figures[0]["chi2_equivalents"] for one in found])
    seen = chi2[np.isfinite(chi2)]
    table.check(
        "standard sets: chi-square of equivalents, median", float(np.median(seen)),
        at_least=0.8, at_most=1.3,
    )  # fmt: skip
    table.check(
        "standard sets: chi-square of equivalents, smallest", float(seen.min()), at_least=0.8
    )
    table.check("standard sets: chi-square of equivalents, largest", float(seen.max()), at_most=1.3)


def stressed(table: Table, one: Judged, stress: str) -> None:
    """Rows on one stress."""
    if not one.figures:
        table.fail(stress, one.verdict)
    elif stress == "two lattices 60:40":
        two_lattices(table, one)
    elif not STRESS_BARS.get(stress):
        figures = one.figures[0]
        table.tell(
            f"{stress}: found, cell off (%), CC(I, F^2)",
            f"{figures['found']:.0f}, {figures['cell_edge_error_percent']:.2f}, "
            f"{figures['cc_f2']:.4f}",
        )
    for figure, words, smallest, largest in STRESS_BARS.get(stress, ()):
        table.check(
            f"{stress}: {words}", one.figures[0][figure] if one.figures else float("nan"),
            at_least=smallest, at_most=largest, form=".4g", peer=STRESS_PEERS.get(stress, ""),
        )  # fmt: skip


def two_lattices(table: Table, one: Judged) -> None:
    """Both crystals found, their intensities right, and shared pixels flagged."""
    stress = "two lattices 60:40"
    found = sum(figures["found"] for figures in one.figures)
    table.check(
        f"{stress}: lattices indexed", found, at_least=2, form=".0f", peer=STRESS_PEERS[stress]
    )
    for i, figures in enumerate(one.figures, 1):
        table.check(
            f"{stress}: CC(I, F^2) of lattice {i}, overlaps left out", figures["cc_f2"],
            at_least=0.97, form=".4f",
        )  # fmt: skip
    overlaps = one.overlaps
    table.check(
        f"{stress}: of {overlaps.n} reflections on the same pixels, flagged, %",
        100 * overlaps.n_flagged / overlaps.n if overlaps.n else float("nan"),
        at_least=90, form=".1f",
    )  # fmt: skip
    table.tell(
        f"{stress}: of these listed without a flag, not listed",
        f"{overlaps.n_unflagged}, {overlaps.n - overlaps.n_flagged - overlaps.n_unflagged}",
    )


@dataclass(frozen=True)
class Speed:
    """CPU of the second reduction in a process, its steps, and of one pass over the frames."""

    n_frames: int
    n_bytes: int
    cpu_s: float
    steps: dict[str, float]
    pass_s: float


def measure_speed() -> Speed:
    """Time a series held in memory."""
    series, _ = standard_set("MFI", 30, 1)
    frames = series.frames.compute()
    series = series.with_(frames=da.from_array(frames, chunks=(32, -1, -1)))
    reduce_series(series)
    start = time.process_time()
    reduction = reduce_series(series)
    cpu_s = time.process_time() - start
    passes = []
    for _ in range(9):
        start = time.process_time()
        frames.max()
        passes.append(time.process_time() - start)
    return Speed(
        len(frames), frames.nbytes, cpu_s, dict(reduction.seconds), float(np.median(passes))
    )


def speed(table: Table) -> None:
    """CPU of the engine when warm, and what memory alone would take."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        measured = pool.submit(measure_speed).result()
    table.check(
        f"speed: {measured.n_frames} frames of 516 x 516, warm, s of one core", measured.cpu_s,
        at_most=4, form=".2f", peer="prototype 1.1 to 3.0",
    )  # fmt: skip
    steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in measured.steps.items())
    table.tell("speed: seconds per step", steps)
    table.tell(
        "speed: times one pass over the frames in memory",
        f"{measured.cpu_s / measured.pass_s:.0f}",
        f"{1000 * measured.pass_s:.1f} ms, {measured.n_bytes / measured.pass_s / 1e9:.0f} GB/s",
    )


def main() -> int:
    args = options(__doc__ or "", work=False).parse_args()
    # Before the processes start: two sets run side by side, and the speed is that of one core.
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")})
    table = Table("Built-in engine on simulated series" + (" (quick)" if args.quick else ""))
    chosen = [(code, deg, seed) for code in ("MFI", "MOR") for deg in STANDARD_RANGES_DEG
              for seed in SEEDS]  # fmt: skip
    stresses = list(STRESSES)
    if args.quick:
        chosen = [("MFI", 10, 1), ("MOR", 20, 2)]
        stresses = ["drift 5 px", "5 deg only", "noise only"]
    jobs = [
        (f"{code} {deg} degrees, seed {seed}", partial(standard_set, code, deg, seed))
        for code, deg, seed in chosen
    ]
    jobs += [(stress, partial(stress_set, stress)) for stress in stresses]
    judged = list(run_sets(jobs))
    standard(table, judged[: len(chosen)])
    for one, stress in zip(judged[len(chosen) :], stresses, strict=True):
        stressed(table, one, stress)
    speed(table)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
