"""Finding a place to calibrate at: one where the picture shows particles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...lib.serialred.calibration import CalibrationSet
from ...lib.serialred.particles import find_particles
from ...lib.serialred.session import SessionConfig
from ..lab import Lab
from ..protocols import StagePosition
from .station import prepare

# A registration needs so many particles that are whole in the view, of at least this area.
FEWEST, LEAST_UM2 = 2, 0.05
# Places looked at before giving up, a view apart, in a spiral.
MOST_PLACES = 49


def go_where_there_is_contrast(lab: Lab, session: SessionConfig) -> StagePosition | None:
    """Move the stage to the nearest view that shows particles; where it then is.

    None, with the stage where it was, if no view nearby shows any, or the nominal scale of
    pictures is not known (`control.um_per_px`): then the operator chose the place.
    """
    scale = lab.control.um_per_px.get(session.imaging.magnification)
    here = lab.microscope.stage.position()
    if scale is None:
        return None
    station = prepare(lab, session, CalibrationSet())
    step_um = scale * min(lab.camera.shape)
    best: tuple[int, StagePosition] = (0, here)
    for i, j in _spiral(MOST_PLACES):
        x_um, y_um = here.x_um + i * step_um, here.y_um + j * step_um
        place = StagePosition(x_um, y_um, here.z_um, here.alpha_deg, here.beta_deg)
        if not lab.control.limits.holds(place):
            continue
        station.move(x_um=x_um, y_um=y_um)
        counts = station.expose(session.imaging.exposure_s).counts
        p = find_particles(counts, scale, session.finding, valid=station.valid).particles
        whole = (p.edge_um > 0.3) & (p.area_um2 > LEAST_UM2) & (p.contrast < 0.9)
        n = int(np.count_nonzero(whole))
        if n > best[0]:
            best = (n, place)
        if n >= FEWEST:
            break
    number, place = best
    station.move(x_um=place.x_um, y_um=place.y_um)
    return place if number else None


def _spiral(n: int) -> Iterator[tuple[int, int]]:
    """Places (i, j) of a square grid, from the middle outwards."""
    i = j = 0
    di, dj = 1, 0
    for _ in range(n):
        yield i, j
        if i == j or (i < 0 and i == -j) or (i > 0 and i == 1 - j):
            di, dj = -dj, di
        i, j = i + di, j + dj
