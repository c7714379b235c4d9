"""Looking at the grid: each view's particles, judged, in stage coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...lib.serialred.acquisition import ViewRecord
from ...lib.serialred.calibration import CalibrationSet
from ...lib.serialred.isolation import judge_particles
from ...lib.serialred.particles import find_particles
from ...lib.serialred.raster import RasterPosition, raster
from ...lib.serialred.session import SessionConfig
from ..lab import Lab
from .station import Station

Floats = NDArray[np.float64]

# A particle seen in two views is one, if its places agree so well, or to within its radius: one
# that an edge cuts seems to be elsewhere.
SAME_UM = 0.6


@dataclass(frozen=True)
class Candidate:
    """A particle of the grid.

    Attributes
    ----------
    number : in the session, from 1.
    x_um, y_um : stage position that brings it to the middle of the picture at zero tilt.
    area_um2, contrast, solidity : see `lib.serialred.particles`.
    nearest_um : from outline to outline of the next one.
    edge_um : to the edge of the view it is best seen in.
    verdict : "" if it is suitable, else why not.
    """

    number: int
    x_um: float
    y_um: float
    area_um2: float
    contrast: float
    solidity: float
    nearest_um: float
    edge_um: float
    verdict: str

    @property
    def place_um(self) -> Floats:
        """(2,) (x, y)."""
        return np.array([self.x_um, self.y_um])


def positions(
    lab: Lab, session: SessionConfig, calibrations: CalibrationSet
) -> list[RasterPosition]:
    """The views of the session, in order. Raises `UserError` where the area leaves the limits."""
    limits = lab.control.limits
    return raster(
        session.area,
        shape=lab.camera.shape,
        px_per_um=calibrations.get("stage", "imaging").px_per_unit,
        overlap_um=session.imaging.overlap_um,
        backlash_um=session.approach_um,
        x_limits_um=limits.x_um,
        y_limits_um=limits.y_um,
    )


def stage_px_per_um(station: Station) -> Floats:
    """(2, 2) how the picture moves with the stage's x and y at zero tilt."""
    return station.calibrations.get("stage", "imaging").px_per_unit


def look(
    station: Station, position: RasterPosition, first: int
) -> tuple[ViewRecord, list[Candidate]]:
    """Go to a position and find its particles; they are numbered from `first`.

    Raises
    ------
    InstrumentError : the stage or the camera failed.
    UserError : no light in the picture.
    """
    if position.approach_um is not None:
        station.move(x_um=position.approach_um[0], y_um=position.approach_um[1])
    here = station.move(x_um=position.x_um, y_um=position.y_um)
    station.imaging()
    image = station.expose(station.session.imaging.exposure_s).counts
    um_per_px = np.linalg.inv(stage_px_per_um(station))
    found = find_particles(image, um_per_px, station.session.finding, valid=station.valid)
    verdicts = judge_particles(found, station.session.selection)
    at = np.array([here.x_um, here.y_um])
    p = found.particles
    candidates = []
    for i, verdict in enumerate(verdicts):
        place = at + um_per_px @ (station.centre_px - np.array([p.row[i], p.column[i]]))
        candidates.append(
            Candidate(
                number=first + i,
                x_um=float(place[0]),
                y_um=float(place[1]),
                area_um2=float(p.area_um2[i]),
                contrast=float(p.contrast[i]),
                solidity=float(p.solidity[i]),
                nearest_um=verdict.nearest_um,
                edge_um=float(p.edge_um[i]),
                verdict="" if verdict.suitable else str(verdict),
            )
        )
    rows, columns = image.shape
    corners = np.array([(0, 0), (0, columns - 1), (rows - 1, columns - 1), (rows - 1, 0)])
    seen = at + (station.centre_px - corners) @ um_per_px.T
    view = ViewRecord(
        here.x_um,
        here.y_um,
        tuple((float(x), float(y)) for x, y in seen),
        len(candidates),
        found.dark,
        float(image[station.valid].mean()),
    )
    return view, candidates


def merged(known: Sequence[Candidate], new: Sequence[Candidate]) -> list[Candidate]:
    """`known` and `new` together, each particle once: as seen farthest from the edge of a view.

    Numbers of known ones stay.
    """
    result = list(known)
    for one in new:
        near = [
            k
            for k, other in enumerate(result)
            if np.hypot(*(one.place_um - other.place_um))
            < max(SAME_UM, np.sqrt(max(one.area_um2, other.area_um2) / np.pi))
        ]
        if not near:
            result.append(one)
            continue
        nearest = min(near, key=lambda k: float(np.hypot(*(one.place_um - result[k].place_um))))
        if one.edge_um > result[nearest].edge_um:
            result[nearest] = replace(one, number=result[nearest].number)
    return result
