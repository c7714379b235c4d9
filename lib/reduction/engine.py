"""The built-in engine: a rotation series in, lattices with integrated intensities out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.lattice_symmetry import candidate_operators, reindex_absences, strain_basis
from ..errors import UserError
from ..series import RotationSeries
from . import statistics
from .beam_centre import BeamTrack, brightest_block, centroid_above, track_beam
from .config import ReductionConfig
from .indexing import BasisSearch
from .integration import REACH, Integrated, RockingCurve, integrate
from .laue_symmetry import LaueVerdict, laue_verdict
from .prediction import Predictions, at_frames, crossing_frames, predict
from .refinement import TRICLINIC_STRAINS, Model, Refined, refine
from .result import Flag, FrameTable, Lattice, Reduction, Reflections
from .scaling import deviations, find_outliers, fit_error_model, smooth_scale
from .shoeboxes import ShoeboxCutter, Slices, place_slices, plan_slices
from .solve_lattice import (
    HKL_TOLERANCE,
    ChosenLattice,
    Solution,
    assign_indices,
    choose_symmetry,
    refinable,
    refine_in_stages,
    search_lattice,
    significant,
)
from .spot_finding import SpotFinder, Spots
from .survey import Survey, frame_blocks, survey

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


@dataclass(frozen=True)
class FoundSpots:
    """What the first pass over the frames leaves."""

    spots: Spots
    track: BeamTrack
    background: Floats
    blank: NDArray[np.bool_]


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
        found = _find_spots(series, seen, config, report)
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
        model = _starting_model(series, found.track)
        spots = _select_spots(found.spots, model, config)
        chosen = _find_lattices(model, spots, config, notes, report)
    if not chosen:
        frames = _frame_table(series, model, found, spots, np.zeros(len(spots), bool))
        verdict = f"no lattice: {len(spots)} spots do not lie on one beyond what chance would do"
        return Reduction(
            series.name, (), frames, seen.gain, {"spots": float(len(spots))},
            clock.seconds, tuple(notes), verdict,
        )  # fmt: skip
    with clock.step("integrate"):
        jobs = [_Job.plan(c, spots, series, found.blank, config) for c in chosen]
        _cut_shoeboxes(series, seen, found.blank, jobs, report)
        report("integrate", 0.9)
        for job in jobs:
            job.integrate_and_refine(notes)
    with clock.step("statistics"):
        scaled = [_scaled(job) for job in jobs]
        notes.extend(s.note for s in scaled)
        lattices = tuple(_lattice(job, s.reflections) for job, s in zip(jobs, scaled, strict=True))
        for lattice in lattices:
            notes.append(
                f"{lattice.bravais}: {lattice.n_indexed} of {lattice.n_spots} spots indexed, "
                f"r.m.s. {lattice.rms_px:.2f} px and {lattice.rms_deg:.3f} degrees"
            )
        figures = _figures(lattices, spots, jobs, scaled[0].laue, config)
    first = jobs[0]
    explained = np.zeros(len(spots), bool)
    for job in jobs:
        explained |= _indexed(job.model, job.chosen.bravais, spots)
    frames = _frame_table(series, first.model, found, spots, explained, scaled[0], first)
    report("done", 1.0)
    return Reduction(
        series.name, lattices, frames, seen.gain, figures, clock.seconds, tuple(notes),
        _verdict(lattices, figures),
    )  # fmt: skip


# --- pass 1: spots and the direct beam ----------------------------------------------------


def _find_spots(
    series: RotationSeries, seen: Survey, config: ReductionConfig, report: Progress
) -> FoundSpots:
    n = len(series)
    finder = SpotFinder(series.shape, config.spot_threshold)
    centres = np.full((n, 2), np.nan)
    background = np.zeros(n)
    totals = np.zeros(n)
    everywhere = np.ones(series.shape, bool)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            i = start + k
            electrons = ((raw - series.pedestal) / seen.gain).astype(np.float32)
            totals[i] = float(electrons.sum(dtype=np.float64))
            if totals[i] <= 0 or raw.max() == raw.min():
                continue
            # the beam may sit on the detector's cross: masked pixels still show where it is
            row, column = brightest_block(electrons, seen.valid, 4)
            centres[i] = centroid_above(electrons, everywhere, row, column, 10, 0.35)[:2]
            local = finder.add(electrons, seen.valid, raw >= seen.saturation, i)
            background[i] = float(np.nanmedian(local[::7, ::7]))
        report("find spots", (start + len(block)) / n)
    lit = totals[totals > 0]
    blank = totals <= 0.02 * (np.median(lit) if len(lit) else 0.0)
    centres[blank] = np.nan
    track = track_beam(centres, series.geometry.beam_centre_px)
    if series.beam_centres_px is not None and not track.seen.any():
        track = BeamTrack(series.beam_centres_px, track.seen, "beam centres taken from the series")
    spots = finder.spots(min_pixels=config.min_spot_pixels)
    return FoundSpots(spots, track, background, blank)


def _starting_model(series: RotationSeries, track: BeamTrack) -> Model:
    step = float(np.median(series.angle_width_deg))
    if len(series) > 1:
        step = float(
            np.median(np.diff(series.angle_mid_deg) / np.diff(series.frame_number.astype(float)))
        )
    return Model(
        orientation=np.eye(3) * 0.1,
        geometry=series.geometry,
        beam_track_px=track.centres_px,
        angle_mid_deg=series.angle_mid_deg,
        angle_step_deg=step,
    )


def _select_spots(spots: Spots, model: Model, config: ReductionConfig) -> Spots:
    """Spots worth indexing, decided before anything is known of the lattice."""
    r = model.to_reciprocal(spots.row, spots.column, spots.frame)
    keep = np.linalg.norm(r, axis=1) > 1 / config.d_max_A
    keep &= spots.intensity > config.min_spot_significance * spots.sigma
    keep &= ~spots.edge
    return spots[keep]


# --- lattices -----------------------------------------------------------------------------


def _find_lattices(
    model: Model, spots: Spots, config: ReductionConfig, notes: list[str], report: Progress
) -> list[ChosenLattice]:
    search = BasisSearch(min_axis_A=config.min_axis_A, max_axis_A=config.max_axis_A)
    chosen: list[ChosenLattice] = []
    rest = spots
    current = model
    for number in range(config.max_lattices):
        report("index", number / config.max_lattices)
        if len(rest) < 12:
            break
        solution = search_lattice(current, rest, search)
        if number == 0 and config.try_reversed_axis:
            solution, reversed_axis = _better_sense(current, rest, search, solution)
            if reversed_axis:
                notes.append(
                    "the spots fit a rotation in the opposite sense: axis "
                    f"{_axis_text(model)} reversed; check the instrument's rotation_axis"
                )
        if solution is None or not significant(solution):
            break
        if number > 0 and solution.indexed.sum() < max(0.08 * len(spots), 25):
            break
        best = choose_symmetry(solution, _strongest(rest, 1500))
        final = _refine_on(best, rest)
        notes.extend(f"lattice {number + 1}: {note}" for note in best.notes)
        chosen.append(final)
        current = replace(
            final.solution.model, orientation=model.orientation, knots=np.zeros(1),
            centre_offset_px=final.solution.model.centre_offset_px.mean(axis=0)[None],
        )  # fmt: skip
        rest = rest[~_indexed(final.solution.model, final.bravais, rest)]
    return chosen


def _better_sense(
    model: Model, spots: Spots, search: BasisSearch, solution: Solution | None
) -> tuple[Solution | None, bool]:
    """The solution with the axis as given or reversed, whichever explains the spots better."""
    axis = np.asarray(model.geometry.axis)
    flipped = replace(model, geometry=model.geometry.with_(axis=tuple(-axis)))
    other = search_lattice(flipped, spots, search)
    if other is not None and (solution is None or other.score < 0.8 * solution.score):
        return other, True
    return solution, False


def _strongest(spots: Spots, n: int) -> Spots:
    order = np.argsort(-(spots.intensity / spots.sigma), kind="stable")[:n]
    return spots[np.sort(order)]


def _refine_on(chosen: ChosenLattice, spots: Spots) -> ChosenLattice:
    """The chosen lattice refined once more, now on all its spots (at most 6000)."""
    free, priors = refinable(chosen.bravais, chosen.lens)
    solution = refine_in_stages(
        chosen.solution.model, _strongest(spots, 6000), free, strain_basis(chosen.bravais),
        quantiles=(0.7, 1.0, 1.0), priors=priors,
    )  # fmt: skip
    return chosen if solution is None else replace(chosen, solution=solution)


def _indexed(model: Model, bravais: str, spots: Spots) -> NDArray[np.bool_]:
    """Spots with an index within the tolerance that the lattice's centring allows."""

    hkl, deviation, _ = assign_indices(model, spots)
    indexed: NDArray[np.bool_] = (deviation < HKL_TOLERANCE) & ~reindex_absences(bravais, hkl)
    return indexed


def _axis_text(model: Model) -> str:
    return "(" + ", ".join(f"{v:.4f}" for v in model.geometry.axis) + ")"


# --- pass 2: integration ------------------------------------------------------------------


@dataclass
class _Job:
    """The integration of one lattice."""

    chosen: ChosenLattice
    spots: Spots
    model: Model
    predictions: Predictions
    slices: Slices
    rocking: RockingCurve
    core_px: float
    refined: Refined
    integrated: Integrated | None = None

    @classmethod
    def plan(
        cls,
        chosen: ChosenLattice,
        spots: Spots,
        series: RotationSeries,
        blank: NDArray[np.bool_],
        config: ReductionConfig,
    ) -> _Job:
        model = chosen.solution.model
        own = spots[_indexed(model, chosen.bravais, spots)]
        rocking = rocking_from_spots(model, own)
        core = core_radius_px(own)
        half = int(np.ceil(core)) + 3
        d_min = config.d_min_A or _resolution(model, own, series.shape)
        sigma_top = float(rocking.sigma(np.array([1 / d_min]))[0])
        slowest = np.deg2rad(abs(model.angle_step_deg)) / config.d_max_A
        margin = min(REACH * sigma_top / slowest, 10.0)
        predictions = predict(
            model, chosen.bravais, d_min, series.shape, margin, d_max_A=config.d_max_A
        )
        # a reflection that grazes the sphere has no rocking curve to speak of
        speed = np.abs(predictions.rate) / np.maximum(predictions.length, 1e-9)
        predictions = predictions[speed > 0.05 * np.deg2rad(abs(model.angle_step_deg))]
        slices = plan_slices(
            model, predictions, rocking.sigma(predictions.length), ~blank, half, REACH
        )
        return cls(chosen, own, model, predictions, slices, rocking, core, chosen.solution.refined)

    def integrate_and_refine(self, notes: list[str]) -> None:
        """Integrate, refine on the integrated positions, and integrate again."""
        n_frames = len(self.model.beam_track_px)
        first = integrate(
            self.model, self.predictions, self.slices, self.rocking, self.core_px, n_frames
        )
        self.rocking = first.rocking
        observations = first.observations
        if len(observations.frame) >= 50:
            free, priors = refinable(self.chosen.bravais, self.chosen.lens)
            start = self.model
            for _ in range(2):
                self.refined = refine(
                    start, observations, free, strain_basis(self.chosen.bravais), priors=priors
                )
                start = self.refined.model
            self.model = self.refined.model
            self.predictions = _moved(self.model, self.predictions)
            place_slices(self.slices, self.model, self.predictions)
        self.integrated = integrate(
            self.model, self.predictions, self.slices, self.rocking, self.core_px, n_frames
        )
        self.rocking = self.integrated.rocking


def _moved(model: Model, predictions: Predictions) -> Predictions:
    """The same crossings under a slightly different model."""
    first, second = crossing_frames(model, predictions.hkl)
    nearer = np.where(
        np.abs(np.nan_to_num(first, nan=1e9) - predictions.frame)
        < np.abs(np.nan_to_num(second, nan=1e9) - predictions.frame),
        first,
        second,
    )
    frame = np.where(np.isfinite(nearer), nearer, predictions.frame)
    return at_frames(model, predictions.hkl, frame)


def rocking_from_spots(model: Model, spots: Spots) -> RockingCurve:
    """First guess of the rocking width from how long the spots last."""
    hkl, _, length = assign_indices(model, spots)
    rate = np.abs(at_frames(model, hkl, spots.frame).rate)
    # a spot found on f frames has the frame's own width in its spread
    spread = np.sqrt(np.maximum(spots.frame_spread**2 - 1 / 12, 0.04)) * 1.15
    sure = (spots.intensity > 15 * spots.sigma) & ~spots.saturated & (rate > 0)
    sigma = np.where(sure, spread * rate, np.nan)
    guess = RockingCurve.fit(length, sigma, np.ones(len(spots)))
    if guess is None:
        usual = np.nanmedian(spread * rate) if len(spots) else 2e-3
        guess = RockingCurve(float(np.clip(usual, 5e-4, 1e-2)), 1e-3)
    return guess


def core_radius_px(spots: Spots) -> float:
    """Radius of the summation area, from the area of spots on a frame."""
    frames = np.maximum(spots.last - spots.first + 1, 1)
    area = np.quantile(spots.n_pixels / frames, 0.8) if len(spots) else 12.0
    return float(np.clip(1.25 * np.sqrt(area / np.pi) + 0.5, 2.5, 8.0))


def _resolution(model: Model, spots: Spots, shape: tuple[int, int]) -> float:
    """d of the detector's edge, or a little beyond the last spots, whichever is larger."""
    rows, columns = shape
    edge_row = np.array([0, rows - 1, (rows - 1) / 2, (rows - 1) / 2])
    edge_column = np.array([(columns - 1) / 2, (columns - 1) / 2, 0, columns - 1])
    corner = np.linalg.norm(model.geometry.to_q(edge_row, edge_column), axis=1).max() * 1.2
    _, _, length = assign_indices(model, spots)
    last = np.quantile(length, 0.98) * 1.1 if len(spots) else corner
    return float(1 / min(corner, last))


def _cut_shoeboxes(
    series: RotationSeries,
    seen: Survey,
    blank: NDArray[np.bool_],
    jobs: list[_Job],
    report: Progress,
) -> None:
    ceiling = (seen.saturation - series.pedestal) / seen.gain
    core = max(job.core_px for job in jobs)
    cutter = ShoeboxCutter([job.slices for job in jobs], series.shape, core, ceiling)
    n = len(series)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            if not blank[start + k]:
                electrons = ((raw - series.pedestal) / seen.gain).astype(np.float32)
                cutter.add(electrons, seen.valid, start + k)
        report("integrate", 0.85 * (start + len(block)) / n)


# --- results ------------------------------------------------------------------------------


def _lattice(job: _Job, reflections: Reflections) -> Lattice:
    refined, model = job.refined, job.model
    p1 = _without_constraints(job)
    indexed = _indexed(model, job.chosen.bravais, job.spots)
    rms_deg = _rms_deg(job)
    return Lattice(
        bravais=job.chosen.bravais,
        orientation=model.orientation,
        cell=model.cell,
        cell_esd=refined.cell_esd,
        cell_p1=p1.model.cell,
        cell_p1_esd=p1.cell_esd,
        niggli=job.chosen.niggli,
        geometry=model.geometry,
        esd=refined.esd,
        rotation_scale=model.rotation_scale,
        candidates=job.chosen.candidates,
        mosaicity_deg=float(np.rad2deg(job.rocking.eta_rad)),
        size_per_A=job.rocking.size_per_A,
        n_spots=len(job.spots),
        n_indexed=int(indexed.sum()),
        rms_px=refined.rms_px,
        rms_deg=rms_deg,
        reflections=reflections,
    )


def _without_constraints(job: _Job) -> Refined:
    """Cell refined free of symmetry, with the geometry that the symmetry gave."""
    assert job.integrated is not None
    observations = job.integrated.observations
    if len(observations.frame) < 30:
        return job.refined
    return refine(
        job.model, observations, ("orientation", "strain", "centre"), TRICLINIC_STRAINS,
        priors={"centre": 1.5},
    )  # fmt: skip


def _rms_deg(job: _Job) -> float:
    """R.m.s. of observed minus predicted rotation angle, robust, degrees."""
    assert job.integrated is not None
    o = job.integrated.observations
    if len(o.frame) == 0:
        return float("nan")
    p = at_frames(job.model, o.hkl, o.frame)
    q = job.model.diffracted(o.hkl, o.frame)
    g = job.model.geometry
    excitation = np.linalg.norm(q + g.s0, axis=1) - 1 / g.wavelength_A
    frames = excitation / np.where(np.abs(p.rate) > 0, p.rate, np.nan)
    degrees = frames * abs(job.model.angle_step_deg)
    return float(1.4826 * np.nanmedian(np.abs(degrees)))


@dataclass(frozen=True)
class _Scaled:
    """A lattice's reflections after scaling, and the scale of each frame."""

    reflections: Reflections
    frame_scale: Floats
    laue: LaueVerdict
    note: str


def _scaled(job: _Job) -> _Scaled:
    """Scale, find outliers and correct the sigmas by the symmetry the intensities show."""
    assert job.integrated is not None
    r = job.integrated.reflections
    n_frames = len(job.model.beam_track_px)
    clean = _for_scaling(r)
    lattice_operators = candidate_operators(job.chosen.bravais)
    verdict = laue_verdict(
        r.hkl[clean], r.intensity[clean], r.sigma[clean], r.d_A[clean], lattice_operators
    )
    group = statistics.equivalents(r.hkl, verdict.operators)
    range_deg = abs(job.model.angle_step_deg) * n_frames
    scale = smooth_scale(
        group[clean], r.frame[clean], r.intensity[clean], r.sigma[clean], n_frames, range_deg
    )
    note = (
        f"intensities obey Laue class {verdict.laue_class}: {verdict.n_seen} of "
        f"{len(verdict.seen)} rotations of the lattice seen"
    )
    if scale is None:
        scale = np.ones(n_frames)
        note += "; too few equivalents to scale the frames"
    else:
        at = np.interp(r.frame, np.arange(n_frames), scale)
        names = ("intensity", "sigma", "intensity_sum", "sigma_sum")
        r = replace(r, **{name: getattr(r, name) / at for name in names})
        note += f"; frames scaled between {scale.min():.2f} and {scale.max():.2f}"
    flags = r.flags.copy()
    for _ in range(2):
        usable = clean & ((flags & np.uint32(Flag.OUTLIER)) == 0)
        if usable.sum() < 100:
            break
        model = fit_error_model(group[usable], r.intensity[usable], r.sigma[usable])
        if model is None:
            break
        mean = deviations(group, r.intensity, r.sigma)[1]
        corrected = model.sigma(r.sigma, mean)
        inside = np.flatnonzero(clean)
        outlier = find_outliers(group[inside], r.intensity[inside], corrected[inside])
        flags[inside] = np.where(
            outlier, flags[inside] | Flag.OUTLIER, flags[inside] & ~np.uint32(Flag.OUTLIER)
        ).astype(np.uint32)
    else:
        r = replace(r, sigma=corrected, sigma_sum=model.sigma(r.sigma_sum, mean))
        note += f"; sigma^2 = {model.a:.2f}^2 (sigma^2 + ({model.b:.3f} I)^2)"
        note += f"; {int(outlier.sum())} outliers"
    return _Scaled(replace(r, flags=flags), scale, verdict, note)


def _for_scaling(r: Reflections) -> NDArray[np.bool_]:
    """Reflections whose intensity can be compared with their equivalents'."""
    spoiled = Flag.OVERLAP | Flag.MASKED | Flag.SATURATED | Flag.BACKGROUND
    clean: NDArray[np.bool_] = (
        ~r.has(spoiled) & np.isfinite(r.intensity) & (r.sigma > 0) & (r.partiality > 0.5)
    )
    return clean


def _figures(
    lattices: tuple[Lattice, ...],
    spots: Spots,
    jobs: list[_Job],
    laue: LaueVerdict,
    config: ReductionConfig,
) -> dict[str, float]:
    indexed = np.zeros(len(spots), bool)
    for job in jobs:
        indexed |= _indexed(job.model, job.chosen.bravais, spots)
    figures = {
        "lattices": float(len(lattices)),
        "spots": float(len(spots)),
        "indexed_fraction": float(indexed.mean()),
    }
    figures["rotations_tried"] = float(len(laue.seen))
    figures["rotations_seen"] = float(laue.n_seen)
    r = lattices[0].reflections
    figures["outliers"] = float(r.has(Flag.OUTLIER).sum())
    r = r[_for_scaling(r) & ~r.has(Flag.OUTLIER)]
    group = statistics.equivalents(r.hkl, laue.operators)
    figures.update(
        reflections=float(len(r)),
        d_min_A=float(r.d_A.min()) if len(r) else float("nan"),
        i_over_sigma=float(np.mean(r.intensity / r.sigma)) if len(r) else float("nan"),
    )
    if len(r) > 20:
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
    indexed: NDArray[np.bool_],
    scaled: _Scaled | None = None,
    job: _Job | None = None,
) -> FrameTable:
    n = len(series)
    unknown = np.full(n, np.nan)
    frames = np.arange(n, dtype=float)
    centre = model.centre_px(frames)
    nearest = np.clip(np.round(spots.frame).astype(int), 0, n - 1)
    return FrameTable(
        frame_number=series.frame_number,
        angle_deg=model.angle_deg(frames),
        beam_row=centre[:, 0],
        beam_column=centre[:, 1],
        scale=unknown if scaled is None else scaled.frame_scale,
        profile_ratio=(
            unknown if job is None or job.integrated is None else job.integrated.profile_ratio
        ),
        n_spots=np.bincount(nearest, minlength=n),
        n_indexed=np.bincount(nearest[indexed], minlength=n),
        background=found.background,
        blank=found.blank,
    )


def _verdict(lattices: tuple[Lattice, ...], figures: dict[str, float]) -> str:
    a, b, c, alpha, beta, gamma = lattices[0].cell
    more = f" and {len(lattices) - 1} more" if len(lattices) > 1 else ""
    return (
        f"{lattices[0].bravais} {a:.3f} {b:.3f} {c:.3f} Å {alpha:.2f} {beta:.2f} {gamma:.2f}°"
        f"{more}; {100 * figures['indexed_fraction']:.1f} % of "
        f"{figures['spots']:.0f} spots indexed, {figures['reflections']:.0f} reflections to "
        f"{figures['d_min_A']:.2f} Å"
    )
