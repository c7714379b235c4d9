"""The built-in engine: a rotation series in, lattices with integrated intensities out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..series import RotationSeries
from . import statistics
from .config import ReductionConfig
from .correction import comparable
from .find_lattices import find_lattices, indexed_by
from .first_pass import FoundSpots, find_spots, select_spots, starting_model
from .integrate_lattice import (
    IntegratedLattice,
    cut_shoeboxes,
    integrate_lattice,
    lattice_result,
    plan_lattice,
)
from .model import Model
from .result import Flag, FrameTable, Lattice, Reduction, StrongSpots
from .spot_finding import Spots
from .survey import survey

__all__ = ["ReductionConfig", "reduce_series"]

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]

MIN_FRAMES = 4


class _Clock:
    """Wall time per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def reduce_series(
    series: RotationSeries,
    config: ReductionConfig | None = None,
    progress: Progress | None = None,
) -> Reduction:
    """Reduce one series: spots, beam track, lattices, refinement, integration.

    Parameters
    ----------
    series : the frames with their nominal geometry.
    config : choices; None for the defaults.
    progress : called with the step's name and the fraction done.

    Returns
    -------
    A `Reduction`; without lattices (and a verdict that says so) where none is significant.

    Raises
    ------
    UserError : if the series has too few frames, or none that holds a signal.
    """
    config = config or ReductionConfig()
    report = progress or (lambda step, fraction: None)
    if len(series) < MIN_FRAMES:
        raise UserError(
            series.name, f"{len(series)} frames", f"at least {MIN_FRAMES}",
            "collect a longer series; a lattice cannot be told from so few",
        )  # fmt: skip
    clock = _Clock()
    with clock.step("survey"):
        seen = survey(series)
    with clock.step("find spots"):
        found = find_spots(series, seen, config, report)
    notes = [*seen.notes, found.track.note]
    n_blank = int(found.blank.sum())
    if n_blank == len(series):
        raise UserError(
            series.name, "no frame with a signal", "diffraction frames",
            "check that the beam was on and that the pedestal is right",
        )  # fmt: skip
    if n_blank:
        notes.append(f"{n_blank} of {len(series)} frames are blank and were left out")
    with clock.step("index"):
        model = starting_model(series, found.track)
        spots = select_spots(found.spots, model, config)
        chosen = find_lattices(model, spots, config, notes, report)
    indexed = np.zeros(len(spots), np.int64)
    if not chosen:
        return Reduction(
            series.name, (), _frame_table(series, model, found, spots, indexed > 0, None),
            seen.gain, {"lattices": 0.0, "spots": float(len(spots))}, clock.seconds, tuple(notes),
            f"no lattice: {len(spots)} spots do not lie on one beyond what chance would do",
            _strong(spots, indexed),
        )  # fmt: skip
    with clock.step("integrate"):
        plans = [plan_lattice(c, s, series, found.blank, config) for c, s in chosen]
        cut_shoeboxes(series, seen, found.blank, plans, report)
        done = [integrate_lattice(plan) for plan in plans]
    with clock.step("statistics"):
        lattices = tuple(lattice_result(d) for d in done)
        for number, (d, lattice) in enumerate(zip(done, lattices, strict=True), 1):
            mine = indexed_by(d.model, d.chosen.bravais, spots)
            indexed[mine & (indexed == 0)] = number
            notes.extend(f"lattice {number}: {note}" for note in d.notes)
            notes.append(
                f"lattice {number}: {lattice.n_indexed} of {lattice.n_spots} spots indexed, "
                f"r.m.s. {lattice.rms_px:.2f} px and {lattice.rms_deg:.3f} degrees"
            )
        figures = _figures(lattices, done, indexed > 0, config)
        frames = _frame_table(series, done[0].model, found, spots, indexed > 0, done[0])
    report("done", 1.0)
    return Reduction(
        series.name, lattices, frames, seen.gain, figures, clock.seconds, tuple(notes),
        _verdict(lattices, figures), _strong(spots, indexed),
    )  # fmt: skip


def _strong(spots: Spots, lattice: NDArray[np.int64]) -> StrongSpots:
    return StrongSpots(spots.row, spots.column, spots.frame, spots.intensity / spots.sigma, lattice)


def _figures(
    lattices: tuple[Lattice, ...],
    done: list[IntegratedLattice],
    explained: NDArray[np.bool_],
    config: ReductionConfig,
) -> dict[str, float]:
    """Figures of merit of the reduction; intensities are those of the first lattice."""
    laue = done[0].corrected.laue
    r = lattices[0].reflections
    outliers = r.has(Flag.OUTLIER)
    r = r[comparable(r) & ~outliers]
    figures = {
        "lattices": float(len(lattices)),
        "spots": float(len(explained)),
        "indexed_fraction": float(explained.mean()),
        "rotations_tried": float(len(laue.seen)),
        "rotations_seen": float(laue.n_seen),
        "outliers": float(outliers.sum()),
        "reflections": float(len(r)),
        "d_min_A": float(r.d_A.min()) if len(r) else float("nan"),
        "i_over_sigma": float(np.mean(r.intensity / r.sigma)) if len(r) else float("nan"),
    }
    if len(r) > 20:
        group = statistics.equivalents(r.hkl, laue.operators)
        figures.update(
            r_merge=statistics.r_merge(group, r.intensity),
            cc_half=statistics.cc_half(group, r.intensity, seed=config.seed),
            chi_square=statistics.chi_square_of_equivalents(group, r.intensity, r.sigma),
        )
    return figures


def _frame_table(
    series: RotationSeries,
    model: Model,
    found: FoundSpots,
    spots: Spots,
    explained: NDArray[np.bool_],
    done: IntegratedLattice | None,
) -> FrameTable:
    n = len(series)
    frames = np.arange(n, dtype=float)
    centre = model.centre_px(frames)
    nearest = np.clip(np.round(spots.frame).astype(int), 0, n - 1)
    unknown = np.full(n, np.nan)
    return FrameTable(
        frame_number=series.frame_number,
        angle_deg=model.angle_deg(frames),
        beam_row=centre[:, 0],
        beam_column=centre[:, 1],
        scale=unknown if done is None else done.corrected.frame_scale,
        profile_ratio=unknown if done is None else done.integrated.profile_ratio,
        n_spots=np.bincount(nearest, minlength=n),
        n_indexed=np.bincount(nearest[explained], minlength=n),
        background=found.background,
        blank=found.blank,
    )


def _verdict(lattices: tuple[Lattice, ...], figures: dict[str, float]) -> str:
    a, b, c, alpha, beta, gamma = lattices[0].cell
    more = f" and {len(lattices) - 1} more" if len(lattices) > 1 else ""
    usable = "no usable reflection"
    if figures["reflections"]:
        usable = f"{figures['reflections']:.0f} reflections to {figures['d_min_A']:.2f} Å"
    return (
        f"{lattices[0].bravais} {a:.3f} {b:.3f} {c:.3f} Å {alpha:.2f} {beta:.2f} {gamma:.2f}°"
        f"{more}; {100 * figures['indexed_fraction']:.1f} % of "
        f"{figures['spots']:.0f} spots indexed, {usable}"
    )
