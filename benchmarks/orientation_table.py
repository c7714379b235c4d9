"""Orientation of every frame: Tables 6 and 7 of the thesis, both methods, and the bound."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import numpy as np
from _orientation import (
    RESOLUTIONS_A,
    SCALE,
    START,
    STEPS_DEG,
    THESIS,
    THESIS_UNCORRECTED,
    amplitudes_deg,
    bound_of,
    common_sd_deg,
    error_of,
    half_set_sd_deg,
    in_halves,
    measure_cell,
    measure_published,
    off_deg,
    sd_deg,
    slopes,
    without_prior,
)
from _real import REAL, add_data_option, read_real, unpack
from _table import Table, options, say, work_folder

from ewaldflow.lib.orientation.from_reduction import from_reduction
from ewaldflow.lib.orientation.published import published_orientations
from ewaldflow.lib.orientation.refine import refine_orientations
from ewaldflow.lib.orientation.simulate import Diffraction, Rotation, simulate_orientation
from ewaldflow.lib.reduction.engine import reduce_series

CRYSTALS, SEEDS = (1, 2, 3), (1, 2, 3)
TOLERANCE = 0.3  # of the published method about the thesis
PART = 0.5  # of the thesis that the default must stay below
SHARP = {("sRED", 0.625, 0.1): 0.0006, ("sRED", 1.2, 0.5): 0.005}
QUICK_CELLS = {("sRED", 0.625, 0.1), ("sRED", 1.2, 0.5), ("cRED", 1.2, 0.5)}


def published_rows(table: Table) -> None:
    """The published method against the thesis, without noise, as the thesis measured."""
    for step, thesis in zip(STEPS_DEG, THESIS["sRED", 0.625], strict=True):
        error = measure_published("sRED", 0.625, step, CRYSTALS, correct=True)
        table.check(
            f"published method, sRED 0.625 Å, {step:g}°: mean error, degrees", error,
            at_least=(1 - TOLERANCE) * thesis, at_most=(1 + TOLERANCE) * thesis,
            peer=f"thesis {thesis:.3f}",
        )  # fmt: skip
    for kind, row in THESIS_UNCORRECTED.items():
        errors = [measure_published(kind, d, 0.1, CRYSTALS, correct=False) for d in RESOLUTIONS_A]
        table.tell(
            f"published without correction, {kind} 0.1°, 0.625 to 1.2 Å, degrees",
            ", ".join(f"{error:.3f}" for error in errors),
            "thesis (Table 7) " + ", ".join(f"{thesis:.3f}" for thesis in row),
        )  # fmt: skip


def cells(table: Table, quick: bool) -> None:
    """Every cell of Table 6: the default, with and without noise."""
    above = []
    for kind, d in THESIS:
        for step, thesis in zip(STEPS_DEG, THESIS[kind, d], strict=True):
            if quick and (kind, d, step) not in QUICK_CELLS:
                continue
            say(f"{kind} {d:g} A {step:g} deg")
            some = (CRYSTALS[:1], SEEDS[:1]) if quick else (CRYSTALS, SEEDS)
            cell = measure_cell(kind, d, step, *some)
            lost = f", {100 * cell.published_lost:.0f} % of frames lost"
            table.check(
                f"{kind} {d:g} Å, {step:g}°: mean error, degrees", max(cell.clean, cell.noisy),
                at_most=min(PART * thesis, SHARP.get((kind, d, step), np.inf)), form=".2g",
                peer=f"thesis {thesis:.3f}; published {cell.published:.4f}, noisy "
                f"{cell.published_noisy:.4f}{lost if cell.published_lost else ''}; default "
                f"{cell.clean:.5f}, noisy {cell.noisy:.5f}, bound {cell.bound:.5f}",
            )  # fmt: skip
            above.append(cell.noisy / cell.bound)
    table.check(
        "smooth rotation: error over the Cramér-Rao bound, mean of the cells",
        float(np.mean(above)), at_most=1.3,
        peer=f"{min(above):.2f} to {max(above):.2f}",
    )  # fmt: skip


def jitter(table: Table, seeds: tuple[int, ...]) -> None:
    """White jitter of 0.02 degrees: is it seen, or smoothed away?"""
    rows = []
    for seed in seeds:
        rotation = Rotation("cRED", 0.1, 30.0, scale=SCALE, jitter_deg=(0.02, 0.02))
        sim = simulate_orientation(rotation, seed=seed, **START)
        found, reference = refine_orientations(sim.data), published_orientations(sim.listed())
        free = without_prior(found)
        bound = bound_of(sim, Diffraction()).free_mean_deg
        spread = np.sqrt(np.mean(off_deg(found, sim) ** 2, axis=0) / np.mean(sd_deg(found) ** 2, 0))
        rows.append((
            error_of(found, sim), error_of(reference, sim), error_of(free, sim) / bound, bound,
            *slopes(found, sim), *slopes(reference, sim), *spread,
        ))  # fmt: skip
    error, theirs, above, bound, along, perp, their_along, their_perp, z0, z1 = np.mean(rows, 0)
    name = "jitter 0.02°, cRED 0.625 Å, 0.1°"
    table.check(
        f"{name}: mean error, degrees", error, at_most=0.003, form=".2g",
        peer=f"published {theirs:.3f}",
    )  # fmt: skip
    for which, slope, other in (("along", along, their_along), ("perp", perp, their_perp)):
        table.check(
            f"{name}: slope of recovered on true, {which}", slope, at_least=0.95, at_most=1.05,
            peer=f"published {other:.2f}",
        )  # fmt: skip
    table.check(
        f"{name}: error of free frames over the Cramér-Rao bound", above, at_most=1.2,
        peer=f"bound {bound:.5f}",
    )  # fmt: skip
    table.tell(f"{name}: actual over predicted sd, along, perp", f"{z0:.2f}, {z1:.2f}")


def model_errors(table: Table, quick: bool) -> None:
    """Curves, scales and intensities other than any model has them, with jitter of 0.03 degrees."""
    cases = [("cRED", 0.625, 0.1), ("cRED", 0.8, 0.2), ("cRED", 1.0, 0.2), ("cRED", 1.2, 0.1)]
    for kind, d, step in cases[:1] if quick else cases:
        rows = []
        for seed in SEEDS[:1] if quick else SEEDS:
            rotation = Rotation(kind, step, 30.0, scale=SCALE, jitter_deg=(0.03, 0.03))
            diffraction = Diffraction(
                d_min_A=d, curve="sinc2", mosaic_deg=0.05, asymmetry=0.4, frame_scale_sd=0.1,
                multiplicative_noise=0.2,
            )  # fmt: skip
            sim = simulate_orientation(rotation, diffraction, seed=seed, **START)
            found = refine_orientations(sim.data)
            error = off_deg(found, sim)
            actual = np.sqrt(np.mean(error**2))
            predicted = np.sqrt(np.mean(sd_deg(found) ** 2))
            reference = published_orientations(sim.data)
            rows.append((error_of(found, sim), error_of(reference, sim), actual / predicted))
        ours, theirs, ratio = np.mean(rows, axis=0)
        name = f"model errors and jitter 0.03°, {kind} {d:g} Å, {step:g}°"
        table.check(
            f"{name}: error over the published method's", ours / theirs, at_most=0.5,
            peer=f"{ours:.4f}° over {theirs:.4f}°",
        )  # fmt: skip
        table.check(f"{name}: actual over predicted sd", ratio, at_least=1 / 1.5, at_most=1.5)


def sinusoid(table: Table) -> None:
    """A smooth wobble of the goniometer."""
    truth = (0.050, 0.030)
    rotation = Rotation("cRED", 0.1, 30.0, scale=SCALE, sinusoid_deg=truth)
    sim = simulate_orientation(rotation, seed=1, **START)
    found = amplitudes_deg(refine_orientations(sim.data).small_deg, sim.data.angle_deg, 3.0)
    reference = published_orientations(sim.listed())
    theirs = amplitudes_deg(reference.small_deg, sim.data.angle_deg, 3.0)
    for k, which in enumerate(("along", "perp")):
        table.check(
            f"sinusoid {truth[k]:.3f}° of period 3°, {which}: amplitude off, %",
            100 * abs(found[k] / truth[k] - 1), at_most=5,
            peer=f"{found[k]:.4f}°; published {theirs[k]:.4f}°",
        )  # fmt: skip


def speed(table: Table) -> None:
    """CPU time of each stage per frame, 300 frames, everything compiled."""
    sim = simulate_orientation(Rotation("cRED", 0.1, 29.9, scale=SCALE), seed=1, **START)
    data = sim.data
    refine_orientations(data)

    def seconds(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(3):
            begin = time.process_time()
            work()
            taken.append(time.process_time() - begin)
        return min(taken)

    first = seconds(lambda: refine_orientations(data, stage_b=False))
    whole = seconds(lambda: refine_orientations(data))
    theirs = seconds(lambda: published_orientations(data))
    per = 1e3 / data.n_frames
    table.check("stage A, 300 frames: CPU per frame, ms", first * per, at_most=0.2, form=".2g")
    table.check(
        "stage B, 300 frames: CPU per frame, ms", (whole - first) * per, at_most=3, form=".2g",
        peer=f"published method as built {theirs * per:.2g}; its MATLAB code 600 to 4900",
    )  # fmt: skip


def garnet(table: Table, folder: Path) -> None:
    """The real series: what two halves of its reflections say of each method."""
    say("reducing garnet")
    series = read_real("garnet", folder)
    data = from_reduction(series, reduce_series(series))[0]
    say("orienting garnet")
    found = refine_orientations(data)
    ours = [refine_orientations(half) for half in in_halves(data)]
    theirs = [published_orientations(half) for half in in_halves(data)]
    raw = [published_orientations(half, correct=False) for half in in_halves(data)]
    precision, published = half_set_sd_deg(*ours), half_set_sd_deg(*theirs)
    uncorrected, free = half_set_sd_deg(*raw), half_set_sd_deg(*map(without_prior, ours))
    predicted = np.nanmedian(sd_deg(ours[0]), axis=0)
    free_predicted = np.nanmedian(sd_deg(without_prior(ours[0])), axis=0)
    for k, which in enumerate(("along", "perp")):
        table.check(
            f"garnet, {data.n_frames} frames: half-set sd of a frame, {which}, degrees",
            precision[k], at_most=published[k],
            peer=f"published {published[k]:.4f}, uncorrected {uncorrected[k]:.4f}",
        )  # fmt: skip
        table.check(
            f"garnet: half-set over predicted sd, {which}", precision[k] / predicted[k],
            at_least=1 / 1.5, at_most=1.5, peer=f"predicted {predicted[k]:.4f}°",
        )  # fmt: skip
        table.tell(
            f"garnet: half-set sd without prior, {which}, degrees",
            f"{free[k]:.4f}", f"predicted {free_predicted[k]:.4f}",
        )  # fmt: skip
    table.tell("garnet: rotation scale", f"{found.rotation_scale:.4f}",
               f"published {published_orientations(data).rotation_scale:.4f}")  # fmt: skip
    small = without_prior(found).small_deg
    curve = [np.nanmean(part) for part in np.array_split(small[:, 1], 12)]
    table.tell("garnet: out of plane, 12 parts of the scan, degrees",
               " ".join(f"{value:+.3f}" for value in curve))  # fmt: skip
    claimed = ", ".join(f"{np.nanstd(found.small_deg[:, k]):.4f}" for k in (0, 1))
    common = ", ".join(f"{sd:.4f}" for sd in common_sd_deg(*ours))
    table.tell("garnet: sd of small rotations, along, perp, degrees", claimed,
               f"common to both halves {common}")  # fmt: skip


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    args = parser.parse_args()
    table = Table("Orientation of every frame" + (" (quick)" if args.quick else ""))
    published_rows(table)
    cells(table, args.quick)
    say("jitter, model errors, sinusoid, speed")
    jitter(table, SEEDS[:1] if args.quick else SEEDS)
    model_errors(table, args.quick)
    sinusoid(table)
    speed(table)
    if not args.quick:
        with work_folder(args.work) as work:
            folder = unpack("garnet", args.data, work)
            if folder is None:
                table.fail("garnet", f"{REAL['garnet'].archive} not below {args.data}")
            else:
                garnet(table, folder)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
