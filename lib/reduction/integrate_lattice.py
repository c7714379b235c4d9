"""From a chosen lattice to its final model and intensities.

Plan the shoeboxes, cut them in one pass over the frames (all lattices together), integrate,
refine on the integrated positions, integrate again, and correct. Where the intensities do not
show the symmetry that the metric suggested, the lattice is refined again with less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.lattice_symmetry import candidate_operators, strain_basis
from ..series import RotationSeries
from .config import ReductionConfig
from .correction import Corrected, correct
from .find_lattices import indexed_by, strongest
from .integration import REACH, BoxCentres, Integrated, box_centres, integrate
from .model import Model
from .prediction import Predictions, at_frames, crossing_frames, predict
from .refinement import TRICLINIC_STRAINS, Refined, refine
from .result import Flag, Lattice, Reflections
from .rocking import RockingCurve
from .shoeboxes import ShoeboxCutter, Slices, place_slices, plan_slices
from .solve_lattice import ChosenLattice, assign_indices, choose_symmetry, refinable
from .spot_finding import Spots
from .survey import Survey, frame_blocks, to_electrons

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class LatticePlan:
    """What has to be integrated for one lattice.

    Attributes
    ----------
    chosen : the lattice and its model.
    offered : spots it was found in; `own` those it indexes.
    predictions, slices, centre : its reflections, their shoeboxes and where those are.
    rocking : first guess of the rocking width.
    core_px : radius of the summation area.
    shape : (rows, columns) of the detector.
    """

    chosen: ChosenLattice
    offered: Spots
    own: Spots
    predictions: Predictions
    slices: Slices
    centre: BoxCentres
    rocking: RockingCurve
    core_px: float
    shape: tuple[int, int]


@dataclass(frozen=True)
class IntegratedLattice:
    """Final model of a lattice with its corrected intensities."""

    plan: LatticePlan
    chosen: ChosenLattice
    refined: Refined
    integrated: Integrated
    corrected: Corrected
    notes: tuple[str, ...]

    @property
    def model(self) -> Model:
        """The refined model."""
        return self.refined.model


def plan_lattice(
    chosen: ChosenLattice,
    offered: Spots,
    series: RotationSeries,
    blank: NDArray[np.bool_],
    config: ReductionConfig,
) -> LatticePlan:
    """Predict the reflections and lay out their shoeboxes."""
    model = chosen.solution.model
    own = offered[indexed_by(model, chosen.bravais, offered)]
    rocking = rocking_from_spots(model, own)
    core = core_radius_px(own)
    d_min = config.d_min_A or _resolution(model, own, series.shape)
    # reflections that cross just outside the series leave part of themselves inside
    step = np.deg2rad(abs(model.angle_step_deg))
    widest = float(rocking.sigma(np.array([1 / d_min]))[0])
    margin = min(REACH * widest * config.d_max_A / step, 10.0)
    predictions = predict(
        model, chosen.bravais, d_min, series.shape, margin, d_max_A=config.d_max_A
    )
    # a reflection that grazes the sphere has no rocking curve to speak of
    predictions = predictions[np.abs(predictions.rate) > 0.05 * step * predictions.length]
    slices = plan_slices(
        model, predictions, rocking.sigma(predictions.length), ~blank,
        half=int(np.ceil(core)) + 3, reach=REACH,
    )  # fmt: skip
    centre = box_centres(slices)
    return LatticePlan(
        chosen, offered, own, predictions, slices, centre, rocking, core, series.shape
    )


def cut_shoeboxes(
    series: RotationSeries,
    seen: Survey,
    blank: NDArray[np.bool_],
    plans: list[LatticePlan],
    report: Progress,
) -> None:
    """The second pass over the frames: fill the shoeboxes of all lattices."""
    # by the same arithmetic as the pixels, or the last digit hides saturated ones
    ceiling = to_electrons(np.array([seen.saturation]), series.pedestal, seen.gain)[0]
    core = max(plan.core_px for plan in plans)
    cutter = ShoeboxCutter([plan.slices for plan in plans], series.shape, core, ceiling)
    n = len(series)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            if not blank[start + k]:
                electrons = to_electrons(raw, series.pedestal, seen.gain)
                cutter.add(electrons, seen.valid, start + k)
        report("integrate", 0.85 * (start + len(block)) / n)


def integrate_lattice(plan: LatticePlan) -> IntegratedLattice:
    """Integrate, refine, correct; again with a lower symmetry if the intensities ask for it."""
    done = _integrate(plan, plan.chosen, plan.predictions)
    notes: list[str] = []
    # the metric may be more symmetric than the crystal: then the cell was wrongly constrained
    while any(done.corrected.laue.contradicted) and not plan.chosen.imposed:
        laue, orientation = done.corrected.laue, done.model.orientation
        contradicted = [
            orientation @ c.operator @ np.linalg.inv(orientation)
            for c, no in zip(laue.correlations, laue.contradicted, strict=True)
            if no
        ]
        if _supported(done.chosen.bravais, orientation, contradicted):
            break
        lower = choose_symmetry(
            done.chosen.primitive, strongest(plan.offered, 1000),
            allowed=lambda c, a: _supported(c.bravais, a, contradicted),  # noqa: B023
        )  # fmt: skip
        if lower.bravais == done.chosen.bravais:
            break
        notes.append(
            f"the metric allows {done.chosen.bravais}, but the intensities contradict "
            f"{len(contradicted)} of its rotations: refined as {lower.bravais}"
        )
        change = np.linalg.inv(lower.solution.model.orientation) @ orientation
        hkl = np.round(plan.predictions.hkl @ change.T).astype(np.int32)
        done = _integrate(plan, lower, replace(plan.predictions, hkl=hkl))
        plan = replace(plan, predictions=replace(plan.predictions, hkl=hkl))
    return replace(done, notes=(*notes, done.corrected.note))


def _integrate(
    plan: LatticePlan, chosen: ChosenLattice, predictions: Predictions
) -> IntegratedLattice:
    """Integrate, refine on the integrated positions, integrate again, correct."""
    model = chosen.solution.model
    n_frames = len(model.beam_track_px)
    predictions = moved(model, predictions)
    place_slices(plan.slices, model, predictions)
    integrated = integrate(
        model, predictions, plan.slices, plan.centre, plan.rocking, plan.core_px, n_frames
    )
    refined = chosen.solution.refined
    if len(integrated.observations.frame) >= 50:
        free, priors = refinable(chosen.bravais, chosen.lens, chosen.cell_known)
        for n_knots in (1, _drift_knots(len(integrated.observations.frame), n_frames)):
            refined = refine(
                model.with_knots(n_knots),
                integrated.observations,
                free,
                strain_basis(chosen.bravais),
                priors=priors,
            )
            model = refined.model
        predictions = moved(model, predictions)
        place_slices(plan.slices, model, predictions)
        integrated = integrate(
            model,
            predictions,
            plan.slices,
            plan.centre,
            integrated.rocking,
            plan.core_px,
            n_frames,
        )
    range_deg = abs(model.angle_step_deg) * n_frames
    reflections = edges_flagged(integrated.reflections, plan.core_px, plan.shape)
    corrected = correct(reflections, chosen.bravais, n_frames, range_deg)
    return IntegratedLattice(plan, chosen, refined, integrated, corrected, ())


def edges_flagged(r: Reflections, core_px: float, shape: tuple[int, int]) -> Reflections:
    """The same reflections, those whose spot leaves the detector flagged."""
    rows, columns = shape
    inside = np.minimum.reduce([r.row, rows - 1 - r.row, r.column, columns - 1 - r.column])
    edge = np.where(inside < core_px - 0.5, np.uint32(Flag.EDGE), np.uint32(0))
    return replace(r, flags=r.flags | edge)


def _drift_knots(n_observations: int, n_frames: int) -> int:
    """Knots of the centre's drift that so many observations can hold."""
    return int(np.clip(min(n_observations // 150, n_frames // 20), 1, 8))


def _family(operators: NDArray[np.int64]) -> str:
    """Crystal family of the largest group among proper rotations, judged by their orders."""
    traces = [int(np.trace(op)) for op in operators]
    if traces.count(0) == 8:
        return "cubic"
    if traces.count(0) >= 2:
        return "hexagonal"
    if traces.count(1) >= 2:
        return "tetragonal"
    two_folds = traces.count(-1)
    if two_folds >= 3:
        return "orthorhombic"
    return "monoclinic" if two_folds else "triclinic"


def _supported(bravais: str, orientation: Floats, contradicted: list[Floats]) -> bool:
    """Whether a lattice needs none of the contradicted rotations (Cartesian, (3, 3) each).

    A lattice may have more rotations than its crystal (a tetragonal one of Laue class 4/m):
    what counts is that the others still make up its crystal family.
    """
    inverse = np.linalg.inv(orientation)
    own = candidate_operators(bravais)
    kept = [
        op
        for op in own
        if all(np.abs(orientation @ op @ inverse - no).max() > 0.15 for no in contradicted)
    ]
    return _family(np.array(kept)) == _family(own)


def moved(model: Model, predictions: Predictions) -> Predictions:
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
    guess = RockingCurve.fit(length, np.where(sure, spread * rate, np.nan), np.ones(len(spots)))
    if guess is not None:
        return guess
    usual = float(np.median(spread * rate)) if len(spots) else 2e-3
    return RockingCurve(float(np.clip(usual, 5e-4, 1e-2)), 1e-3)


def core_radius_px(spots: Spots) -> float:
    """Radius of the summation area, from the area of spots on a frame."""
    frames = np.maximum(spots.last - spots.first + 1, 1)
    area = np.quantile(spots.n_pixels / frames, 0.8) if len(spots) else 12.0
    return float(np.clip(1.25 * np.sqrt(area / np.pi) + 0.5, 2.5, 8.0))


def _resolution(model: Model, spots: Spots, shape: tuple[int, int]) -> float:
    """d a little beyond the last spots, at most that of the detector's edge by its axes."""
    rows, columns = shape
    edge_row = np.array([0, rows - 1, (rows - 1) / 2, (rows - 1) / 2])
    edge_column = np.array([(columns - 1) / 2, (columns - 1) / 2, 0, columns - 1])
    edge = np.linalg.norm(model.geometry.to_q(edge_row, edge_column), axis=1).max() * 1.2
    _, _, length = assign_indices(model, spots)
    last = np.quantile(length, 0.98) * 1.1 if len(spots) else edge
    return float(1 / min(edge, last))


def lattice_result(done: IntegratedLattice) -> Lattice:
    """The lattice as the reduction reports it."""
    model, refined = done.model, done.refined
    p1 = _without_constraints(done)
    indexed = indexed_by(model, done.chosen.bravais, done.plan.offered)
    frames = np.arange(len(model.beam_track_px), dtype=float)
    row, column = np.median(model.centre_px(frames), axis=0)
    return Lattice(
        bravais=done.chosen.bravais,
        orientation=model.orientation,
        cell=model.cell,
        cell_esd=refined.cell_esd,
        cell_p1=p1.model.cell,
        cell_p1_esd=p1.cell_esd,
        niggli=done.chosen.niggli,
        geometry=model.geometry.with_(beam_centre_px=(float(row), float(column))),
        esd=refined.esd,
        rotation_scale=model.rotation_scale,
        candidates=done.chosen.candidates,
        mosaicity_deg=float(np.rad2deg(done.integrated.rocking.eta_rad)),
        size_per_A=done.integrated.rocking.size_per_A,
        n_spots=len(done.plan.offered),
        n_indexed=int(indexed.sum()),
        rms_px=refined.rms_px,
        rms_deg=_rms_deg(done),
        reflections=done.corrected.reflections,
    )


def _without_constraints(done: IntegratedLattice) -> Refined:
    """Cell refined free of symmetry, with the geometry that the symmetry gave."""
    observations = done.integrated.observations
    if len(observations.frame) < 30:
        return done.refined
    return refine(
        done.model, observations, ("orientation", "strain", "centre"), TRICLINIC_STRAINS,
        priors={"centre": 1.5},
    )  # fmt: skip


def _rms_deg(done: IntegratedLattice) -> float:
    """Spread of observed minus predicted rotation angle (1.48 median |.|), degrees."""
    o = done.integrated.observations
    if len(o.frame) == 0:
        return float("nan")
    rate = at_frames(done.model, o.hkl, o.frame).rate
    g = done.model.geometry
    s = done.model.diffracted(o.hkl, o.frame) + g.s0
    excitation = np.linalg.norm(s, axis=1) - 1 / g.wavelength_A
    frames = excitation / np.where(np.abs(rate) > 0, rate, np.nan)
    return float(1.4826 * np.nanmedian(np.abs(frames)) * abs(done.model.angle_step_deg))
