"""Bringing a crystal to eucentric height: the step functions of `lib.serialred.height`, driven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from ...lib.serialred.height import (
    Action,
    Done,
    EmpiricalHeight,
    FittedHeight,
    GaveUp,
    MoveZ,
    Seen,
    Tilt,
    across_um,
)
from ...lib.serialred.particles import find_particles
from ...lib.serialred.registration import shift_between
from .station import Station
from .survey import stage_px_per_um

Floats = NDArray[np.float64]

# A shift of less quality than this is not one.
LEAST_QUALITY = 0.4
# What of a particle's surroundings is followed with it, um.
MARGIN_UM = 0.15
# How far from where it is expected a particle is looked for, um.
REACH_UM = 1.5


@dataclass(frozen=True)
class Reference:
    """The picture from which shifts are counted."""

    counts: NDArray[Any]
    mask: NDArray[np.bool_]
    particle_px: Floats


def adjust_height(station: Station, particle_px: Floats) -> tuple[Done | GaveUp, Floats]:
    """Adjust z for the particle at `particle_px` (row, column) of the picture.

    The stage ends where the method leaves alpha; z stays adjusted also if it gave up.

    Returns
    -------
    The outcome, and where the particle was seen last, px.
    """
    settings = station.session.height
    alpha = station.lab.microscope.stage.position().alpha_deg
    way: EmpiricalHeight | FittedHeight = (
        FittedHeight(most_um=settings.limit_um)
        if settings.method == "swing"
        else EmpiricalHeight(most_moves=int(settings.limit_um))
    )
    state: Any
    action: Action
    state, action = way.begin(alpha)
    reference: Reference | None = None
    moved_um = 0.0
    while not isinstance(action, Done | GaveUp):
        if isinstance(action, MoveZ):
            moved_um += action.by_um
            if abs(moved_um) > settings.limit_um:
                why = f"height: z would move by {moved_um:.1f} um, {settings.limit_um:g} allowed"
                return GaveUp(why, moved_um - action.by_um), particle_px
            z_um = station.lab.microscope.stage.position().z_um
            station.move(z_um=z_um + action.by_um)
            seen = None
        else:
            seen, reference, particle_px = _look(station, action, reference, particle_px)
            if seen is None:
                why = f"height: particle not recognised at {action.alpha_deg:.1f} degrees"
                return GaveUp(why, moved_um), particle_px
        state, action = way.step(state, seen)
    return action, particle_px


def _look(
    station: Station, tilt: Tilt, reference: Reference | None, particle_px: Floats
) -> tuple[Seen | None, Reference | None, Floats]:
    """Tilt and look; None instead of what was seen if a reference shows no particle."""
    alpha = station.move(alpha_deg=tilt.alpha_deg).alpha_deg
    counts = station.expose(station.session.height.exposure_s).counts
    px_per_um = stage_px_per_um(station)
    if tilt.reference or reference is None:
        reference = _reference(station, counts, particle_px)
        if reference is None:
            return None, None, particle_px
        return Seen(alpha, 0.0), reference, reference.particle_px
    reach_px = REACH_UM * float(np.sqrt(abs(np.linalg.det(px_per_um)))) * 2
    shift = shift_between(
        reference.counts, counts, mask=reference.mask, valid=station.valid, max_shift_px=reach_px
    )
    if not shift.quality > LEAST_QUALITY:
        return Seen(alpha, None), reference, particle_px
    across = float(across_um(shift.vector, px_per_um))
    um_per_px = 1 / float(np.sqrt(abs(np.linalg.det(px_per_um))))
    sigma = max(0.01, shift.esd_px * um_per_px)
    return Seen(alpha, across, sigma), reference, reference.particle_px + shift.vector


def _reference(station: Station, counts: NDArray[Any], near_px: Floats) -> Reference | None:
    """The particle nearest to a place, marked with its surroundings."""
    px_per_um = stage_px_per_um(station)
    scale = float(np.sqrt(abs(np.linalg.det(px_per_um))))
    found = find_particles(
        counts, np.linalg.inv(px_per_um), station.session.finding, valid=station.valid
    )
    p = found.particles
    away = np.hypot(p.row - near_px[0], p.column - near_px[1])
    if not len(p) or away.min() > REACH_UM * scale:
        return None
    nearest = int(np.argmin(away))
    mask = binary_dilation(found.labels == nearest + 1, iterations=max(2, round(MARGIN_UM * scale)))
    return Reference(counts, mask, np.array([p.row[nearest], p.column[nearest]]))
