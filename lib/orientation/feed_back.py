"""Integration once more, with the orientation of every frame.

An engine's model turns smoothly. Where single frames are off it, parts of rocking curves are laid
where they were not recorded, and partial reflections get the wrong share. Here the same engine
integrates with the small rotation of each frame in its model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..crystal.cell import Floats, reciprocal_basis
from ..reduction import statistics
from ..reduction.correction import comparable, correct
from ..reduction.integrate_lattice import edges_flagged
from ..reduction.integration import Integrated, box_centres, integrate
from ..reduction.laue_symmetry import LaueVerdict
from ..reduction.model import Model
from ..reduction.result import Flag, Lattice, Reduction, Reflections
from ..reduction.rocking import RockingCurve
from ..reduction.shoeboxes import place_slices
from ..reduction.survey import survey
from ..series import RotationSeries
from .from_reduction import (
    USUAL_SIZE_PER_A,
    check_match,
    core_radius_px,
    cut_slices,
    model_of,
    plan,
)
from .observations import FrameOrientations

Progress = Callable[[str, float], None]


def frame_turns(model: Model, lattice: Lattice, found: FrameOrientations) -> Floats:
    """(frames, 3, 3) rotations of the laboratory that take the model's frames to those found.

    ``R_f B = W_f R(axis, angle_f) A``, the nearest rotation; none where a frame is unknown.
    """
    n = len(model.angle_mid_deg)
    smooth = model.diffracted(
        np.tile(np.eye(3, dtype=np.int32), (n, 1)), np.repeat(np.arange(n, dtype=float), 3)
    )
    # columns of R A, as rows of three reflections 100, 010, 001 on each frame
    modelled = smooth.reshape(n, 3, 3).transpose(0, 2, 1)
    refined = found.rotation @ reciprocal_basis(lattice.cell)
    turns = np.tile(np.eye(3), (n, 1, 1))
    known = np.isfinite(refined).all(axis=(1, 2))
    ratio = refined[known] @ np.linalg.inv(modelled[known])
    left, _, right = np.linalg.svd(ratio)
    turns[known] = left @ right
    return turns


def reintegrate(
    series: RotationSeries,
    reduction: Reduction,
    found: Sequence[FrameOrientations],
    progress: Progress | None = None,
) -> Reduction:
    """The reduction with its reflections integrated anew; lattices and cells stay.

    Parameters
    ----------
    found : orientations for each lattice of the reduction.
    progress : called with the step's name and the fraction done.

    Raises
    ------
    UserError : the reduction holds no lattice, or is of other frames.
    """
    check_match(series, reduction)
    seen = survey(series)
    seen = replace(seen, gain=reduction.gain if reduction.gain > 0 else seen.gain)
    core = core_radius_px(series, seen, reduction)
    planned = []
    for lattice, one in zip(reduction.lattices, found, strict=True):
        model = model_of(series, reduction, lattice)
        predictions, slices = plan(model, lattice, reduction, series, core, None)
        model = replace(model, frame_turn=frame_turns(model, lattice, one))
        place_slices(slices, model, predictions)
        planned.append((model, predictions, slices, box_centres(slices)))
    cut_slices(series, seen, reduction, [p[2] for p in planned], core, "integrate again", progress)
    lattices, frames, figures = [], reduction.frames, dict(reduction.statistics)
    for number, (lattice, (model, predictions, slices, centre)) in enumerate(
        zip(reduction.lattices, planned, strict=True)
    ):
        done = integrate(model, predictions, slices, centre, _rocking(lattice), core, len(series))
        range_deg = abs(model.angle_step_deg) * len(series)
        reflections = edges_flagged(done.reflections, core, series.shape)
        corrected = correct(reflections, lattice.bravais, len(series), range_deg)
        lattices.append(_lattice(lattice, done, corrected.reflections))
        if number == 0:
            frames = replace(frames, scale=corrected.frame_scale, profile_ratio=done.profile_ratio)
            figures |= _figures(corrected.reflections, corrected.laue)
    note = "integrated again with the refined orientation of every frame"
    return replace(
        reduction, lattices=tuple(lattices), frames=frames, statistics=figures,
        notes=(*reduction.notes, note),
    )  # fmt: skip


def _rocking(lattice: Lattice) -> RockingCurve:
    size, eta = lattice.size_per_A, np.deg2rad(lattice.mosaicity_deg)
    return RockingCurve(
        float(size) if np.isfinite(size) else USUAL_SIZE_PER_A,
        float(eta) if np.isfinite(eta) else 0.0,
    )


def _lattice(lattice: Lattice, done: Integrated, reflections: Reflections) -> Lattice:
    return replace(
        lattice,
        reflections=reflections,
        mosaicity_deg=float(np.rad2deg(done.rocking.eta_rad)),
        size_per_A=done.rocking.size_per_A,
    )


def _figures(reflections: Reflections, laue: LaueVerdict) -> dict[str, float]:
    """Figures of merit that integration changes."""
    outliers = reflections.has(Flag.OUTLIER)
    r = reflections[comparable(reflections) & ~outliers]
    figures = {
        "outliers": float(outliers.sum()),
        "reflections": float(len(r)),
        "rotations_seen": float(laue.n_seen),
    }
    if len(r) > 20:
        group = statistics.equivalents(r.hkl, laue.operators)
        figures |= {
            "d_min_A": float(r.d_A.min()),
            "i_over_sigma": float(np.mean(r.intensity / r.sigma)),
            "r_merge": statistics.r_merge(group, r.intensity),
            "cc_half": statistics.cc_half(group, r.intensity),
            "chi_square": statistics.chi_square_of_equivalents(group, r.intensity, r.sigma),
        }
    return figures
