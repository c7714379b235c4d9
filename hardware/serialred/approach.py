"""From a place on the grid to a crystal in the beam, judged worth a series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...lib.reduction.beam_centre import find_beam
from ...lib.serialred.disc import find_disc
from ...lib.serialred.height import Done
from ...lib.serialred.particles import find_particles
from ...lib.serialred.quality import Snapshot, judge_snapshot
from ..errors import BeamLost
from ..protocols import Exposure
from .height import adjust_height
from .station import Station
from .survey import Candidate, stage_px_per_um

Floats = NDArray[np.float64]
# told (event, numbers) of each decision
Record = Callable[..., None]

# A particle may be found again so far from where it was seen, um.
FOUND_AGAIN_UM = 1.5
# Farther from the middle of the picture the stage is moved once more; nearer, the beam is.
RECENTRE_UM = 1.0
# The beam is on the crystal when it is as near as this, um; steps to get there.
ON_CRYSTAL_UM, BEAM_STEPS = 0.08, 4


class CrystalLost(Exception):
    """The crystal could not be brought into the beam; the reason is for the record."""


@dataclass(frozen=True)
class Approached:
    """A crystal in the beam, in diffraction.

    Attributes
    ----------
    height_um : by which z was changed; None if it was not touched.
    view : picture of the crystal.
    snapshot, pattern : the still and what it was judged to be.
    beam_centre_px : (row, column) of the direct beam in it.
    """

    height_um: float | None
    view: Exposure
    snapshot: Exposure
    pattern: Snapshot
    beam_centre_px: tuple[float, float]


def approach(station: Station, candidate: Candidate, *, adjust: bool, record: Record) -> Approached:
    """Bring a particle to eucentric height and into the small beam, and take its snapshot.

    Parameters
    ----------
    adjust : whether to adjust the height here.
    record : called as ``record(event, **numbers)``.

    Raises
    ------
    CrystalLost : not found again, or the beam cannot be brought onto it.
    InstrumentError : something on the instrument failed.
    """
    station.move(alpha_deg=0.0)
    station.imaging()
    place = candidate.place_um
    height_um: float | None = None
    if adjust and station.session.height.method != "none":
        station.arrive(*place)
        particle_px, _, _ = _find(station, candidate)
        outcome, _ = adjust_height(station, particle_px)
        height_um = outcome.moved_um
        if isinstance(outcome, Done):
            record("height", moved_um=height_um, left_um=outcome.left_um, esd_um=outcome.esd_um)
        else:
            record("height", moved_um=height_um, why=outcome.why)
        station.move(alpha_deg=0.0)
    view, particle_px = _centred(station, candidate, place)
    _beam_onto(station, particle_px, record)
    pattern, snapshot, centre = _snapshot(station, record)
    return Approached(height_um, view, snapshot, pattern, centre)


def _find(station: Station, candidate: Candidate) -> tuple[Floats, float, Exposure]:
    """(row, column) of the particle nearest to the middle, its distance in um, and the picture."""
    image = station.expose(station.session.imaging.exposure_s)
    station.refuse_dark(image)
    um_per_px = np.linalg.inv(stage_px_per_um(station))
    found = find_particles(image.counts, um_per_px, station.session.finding, valid=station.valid)
    p = found.particles
    off = (np.stack([p.row, p.column], 1) - station.centre_px) @ um_per_px.T
    away = np.hypot(*off.T)
    # among those near enough, the one that is as large as the one sought
    alike = np.abs(np.log(p.area_um2 / candidate.area_um2))
    near = np.flatnonzero((away < FOUND_AGAIN_UM) & (alike < np.log(2.0)))
    if not len(near):
        raise CrystalLost(
            f"not found again: {len(p)} particles in the picture, none of about "
            f"{candidate.area_um2:.2f} um^2 within {FOUND_AGAIN_UM:g} um of its middle"
        )
    best = near[np.argmin(away[near])]
    return np.array([p.row[best], p.column[best]]), float(away[best]), image


def _centred(station: Station, candidate: Candidate, place_um: Floats) -> tuple[Exposure, Floats]:
    """The picture and the particle in it, after the stage was set so that it is near the middle."""
    um_per_px = np.linalg.inv(stage_px_per_um(station))
    for attempt in range(3):
        station.arrive(*place_um)
        particle_px, away_um, image = _find(station, candidate)
        if away_um <= RECENTRE_UM or attempt == 2:
            break
        place_um = place_um + um_per_px @ (station.centre_px - particle_px)
    return image, particle_px


def _beam_onto(station: Station, particle_px: Floats, record: Record) -> None:
    """Shift the small beam onto a place of the picture, seen in imaging.

    The beam moves between brightnesses, so it is looked at with that of diffraction.
    """
    calibration = station.calibrations.get("beam_shift", "imaging")
    px_per_um = float(np.sqrt(abs(np.linalg.det(stage_px_per_um(station)))))
    station.imaging(small_beam=True)
    beam_shift = station.lab.microscope.deflectors["beam_shift"]
    for _ in range(BEAM_STEPS):
        counts = station.expose(station.session.rotation.tracking_exposure_s).counts
        disc = find_disc(counts, station.valid)
        if disc is None:
            raise BeamLost(
                "beam", "no disc of the small beam in the picture", "one",
                "check diffraction.brightness and the beam's alignment",
            )  # fmt: skip
        off = particle_px - disc.centre_px
        record("beam", off_px=off, beam_shift=beam_shift.get())
        if np.hypot(*off) <= ON_CRYSTAL_UM * px_per_um:
            return
        beam_shift.set(tuple((np.array(beam_shift.get()) + calibration.shift(off)).tolist()))
    raise CrystalLost(f"the beam could not be brought onto it: {np.hypot(*off):.1f} px are left")


def _snapshot(station: Station, record: Record) -> tuple[Snapshot, Exposure, tuple[float, float]]:
    station.diffraction()
    exposure = station.expose(station.session.diffraction.snapshot_s)
    mask = station.lab.instrument.detector.mask
    centre = find_beam(exposure.counts.astype(np.float32), ~mask)
    detector = station.lab.instrument.detector
    judged = judge_snapshot(
        exposure.counts,
        station.geometry(centre),
        mask,
        gain=detector.gain or 1.0,
        saturation=detector.saturation or np.inf,
    )
    record(
        "snapshot",
        n_spots=judged.n_spots,
        resolution_A=judged.resolution_A,
        lattice=judged.lattice,
        score=judged.score,
        beam_centre_px=centre,
    )
    return judged, exposure, centre
