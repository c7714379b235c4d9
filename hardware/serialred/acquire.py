"""A SerialRED session: look at a block of views, take its best crystals, look further.

After Bin Wang's thesis, 4.2; new are the ranking over a block of views, the snapshot that decides,
and that every particle ends with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...lib.errors import UserError
from ...lib.instrument import SeriesMetadata
from ...lib.serialred.acquisition import Acquisition, CrystalOutcome, Status, ViewRecord
from ...lib.serialred.calibration import CalibrationSet
from ...lib.serialred.quality import quality, rank
from ...lib.serialred.record import VIEWS, SeriesFolder
from ...lib.serialred.session import SessionConfig
from ..errors import ConnectionLost, InstrumentError, LimitExceeded, StageHung
from ..lab import Lab
from .approach import Approached, CrystalLost, approach
from .rotate import rotate
from .station import Station, prepare, refuse_incapable
from .survey import Candidate, look, merged, positions

# told (what, done so far, of how many)
Progress = Callable[[str, int, int], None]


@dataclass
class Session:
    """What has happened so far; `acquisition` at any time."""

    station: Station
    folder: Path
    began_s: float
    views: list[ViewRecord] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    outcomes: dict[int, CrystalOutcome] = field(default_factory=dict)
    ended: str = ""
    failures: int = 0
    adjusted_at: tuple[float, float] | None = None

    def acquisition(self) -> Acquisition:
        """All of it, with a reason for every particle that was not taken."""
        config = self.station.session
        crystals = [self.outcomes.get(one.number) or _untaken(one) for one in self.candidates]
        return Acquisition(
            session=config.name,
            instrument=self.station.lab.instrument.name,
            duration_s=self.station.now - self.began_s,
            ended=self.ended,
            views=tuple(self.views),
            crystals=tuple(crystals),
        )


def refuse_impossible(lab: Lab, session: SessionConfig) -> None:
    """Raise, in one line and before anything moves, what makes a session impossible.

    Raises
    ------
    Unsupported : the instrument lacks a part.
    LimitExceeded : the tilt range leaves the stage limits.
    """
    refuse_incapable(lab, session)
    for alpha in session.rotation.range_deg:
        try:
            lab.control.limits.check(alpha_deg=alpha)
        except LimitExceeded:
            low, high = lab.control.limits.alpha_deg
            raise LimitExceeded(
                "session: rotation.range_deg",
                f"{session.rotation.range_deg}",
                f"within {low:g} to {high:g} degrees (stage limits)",
                "choose a smaller range; nothing was moved",
            ) from None


def begin(lab: Lab, session: SessionConfig, calibrations: CalibrationSet, folder: Path) -> Session:
    """A session on a guarded instrument; `folder` receives one folder per series."""
    refuse_impossible(lab, session)
    began_s = lab.clock.now()
    return Session(prepare(lab, session, calibrations), folder, began_s)


def crystals(session: Session, progress: Progress = lambda *_: None) -> Iterator[CrystalOutcome]:
    """Take crystals until a stop rule or the end of the area; yields each series as it ends.

    Raises
    ------
    InstrumentError : the instrument failed in a way that a next crystal cannot mend.
    UserError : the scan area leaves the limits, or nothing suitable was found in it.
    """
    config = session.station.session
    views = positions(session.station)
    for first in range(0, len(views), config.views_per_block):
        for k, position in enumerate(views[first : first + config.views_per_block], first):
            progress("views", k, len(views))
            if session.ended or _stopped(session):
                return
            try:
                view, new = look(session.station, position, len(session.candidates) + 1)
            except StageHung as error:
                _failed(session, str(error))
                continue
            session.views.append(view)
            known = {one.number for one in session.candidates}
            session.candidates = _renumbered(merged(session.candidates, new), known)
        for candidate in _ranked(session):
            if _stopped(session):
                return
            outcome = _take(session, candidate, progress)
            session.outcomes[candidate.number] = outcome
            if outcome.folder:
                yield outcome
    session.ended = f"The scan area was looked at in {len(session.views)} views."
    if not any(one.folder for one in session.outcomes.values()) and not any(
        not one.verdict for one in session.candidates
    ):
        raise nothing_suitable(session)


def nothing_suitable(session: Session) -> UserError:
    """What to say when no particle could be taken: the reasons counted."""
    kinds = [one.verdict.partition(":")[0] for one in session.candidates]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return UserError(
        f"session {session.station.session.name}: scan area",
        f"no suitable crystal among {len(kinds)} particles" + (f" ({counted})" if kinds else ""),
        "isolated crystals of the wanted size",
        "choose another area, or widen `selection`",
    )


def _renumbered(candidates: list[Candidate], known: set[int]) -> list[Candidate]:
    """New candidates numbered on from the known ones, without gaps."""
    following = len(known)
    result = []
    for one in candidates:
        if one.number not in known:
            following += 1
            one = replace(one, number=following)
        result.append(one)
    return result


def _ranked(session: Session) -> list[Candidate]:
    """Those still to be tried, the most promising first."""
    open_ones = [
        one for one in session.candidates if not one.verdict and one.number not in session.outcomes
    ]
    best = rank([quality(one.nearest_um, one.area_um2) for one in open_ones])
    return [open_ones[k] for k in best]


def _stopped(session: Session) -> bool:
    """Whether a stop rule holds; `ended` then says which."""
    station, stop = session.station, session.station.session.stop
    whole = sum(one.status == "taken" for one in session.outcomes.values())
    hours = (station.now - session.began_s) / 3600
    if stop.crystals is not None and whole >= stop.crystals:
        session.ended = f"The {stop.crystals} crystals wanted were taken."
    elif stop.hours is not None and hours >= stop.hours:
        session.ended = f"The time of {stop.hours:g} h was over."
    elif stop.beam_hours is not None and station.beam_s >= 3600 * stop.beam_hours:
        session.ended = f"The beam was on for {stop.beam_hours:g} h."
    elif session.failures >= stop.failures:
        session.ended = f"The instrument failed {session.failures} times in a row."
    return bool(session.ended)


def _failed(session: Session, why: str) -> None:
    session.failures += 1
    session.ended = "" if session.failures < session.station.session.stop.failures else why


def _take(session: Session, candidate: Candidate, progress: Progress) -> CrystalOutcome:
    """One crystal, all the way. What goes wrong with it stays with it, but a lost instrument.

    Raises
    ------
    ConnectionLost : that is not the crystal's.
    """
    station, config = session.station, session.station.session
    name = f"crystal-{candidate.number:04d}"
    outcome = CrystalOutcome(
        candidate.number, candidate.x_um, candidate.y_um, candidate.area_um2, "lost", "", name=""
    )
    beam_before_s = station.beam_s
    decisions: list[dict[str, Any]] = []

    def record(event: str, **numbers: Any) -> None:
        decisions.append({"decision": event, "t_s": station.now, **numbers})

    try:
        progress(f"{name}: approach", len(session.outcomes), len(session.candidates))
        here = approach(station, candidate, adjust=_far(session, candidate), record=record)
        if here.height_um is not None:
            session.adjusted_at = (candidate.x_um, candidate.y_um)
        outcome = replace(outcome, height_um=here.height_um, quality=here.pattern.score)
        if here.pattern.score < config.diffraction.least_quality:
            why = (
                f"no lattice: score {here.pattern.score:.2f} of {here.pattern.n_spots} spots, "
                f"{config.diffraction.least_quality:g} wanted"
            )
            return replace(outcome, status="refused", reason=why, **_beam(session, beam_before_s))
        progress(f"{name}: rotate", len(session.outcomes), len(session.candidates))
        folder = session.folder / name
        series = SeriesFolder(
            folder,
            station.geometry(here.beam_centre_px),
            _metadata(station),
            station.lab.instrument.detector.saturation,
            {"session": config.name, "particle": candidate.number, "x_um": candidate.x_um,
             "y_um": candidate.y_um, "area_um2": candidate.area_um2},
        )  # fmt: skip
        for line in decisions:
            series.line("decision", **line)
        _keep_views(series, here)
        try:
            rotated = rotate(station, series)
        finally:
            series.close()
        session.failures = 0
        frames = rotated.frames
        status: Status = "taken" if rotated.complete else "short"
        outcome = replace(
            outcome,
            status=status if frames else "lost",
            reason=rotated.reason,
            name=name if frames else "",
            folder=str(folder) if frames else "",
            alpha_start_deg=frames[0].alpha_start_deg if frames else None,
            alpha_end_deg=frames[-1].alpha_end_deg if frames else None,
            n_frames=len(frames),
        )
    except CrystalLost as error:
        outcome = replace(outcome, status="lost", reason=str(error))
    except ConnectionLost:
        raise
    except InstrumentError as error:
        _failed(session, str(error))
        outcome = replace(outcome, status="failed", reason=str(error))
    finally:
        station.lab.microscope.blank()
    return replace(outcome, **_beam(session, beam_before_s))


def _keep_views(series: SeriesFolder, here: Approached) -> None:
    """The pictures on which it was decided."""
    for name, role, mode, one in (
        ("crystal", "imaging", "imaging", here.view),
        ("snapshot", "snapshot", "diffraction", here.snapshot),
    ):
        series.image(
            VIEWS,
            name,
            one.counts,
            role=role,
            mode=mode,
            number=0,
            t_s=one.started_s,
            exposure_s=one.exposure_s,
        )


def _far(session: Session, candidate: Candidate) -> bool:
    if session.adjusted_at is None:
        return True
    away = np.hypot(*(candidate.place_um - np.array(session.adjusted_at)))
    return bool(away > session.station.session.height.every_um)


def _beam(session: Session, before_s: float) -> dict[str, Any]:
    """Time of the beam on the specimen since, and the dose that it is."""
    seconds = session.station.beam_s - before_s
    rate = session.station.session.dose_rate_e_per_A2_s
    return {"beam_s": seconds, "dose_e_per_A2": None if rate is None else rate * seconds}


def _metadata(station: Station) -> SeriesMetadata:
    one = station.lab.instrument
    geometry = station.geometry()
    return SeriesMetadata(
        voltage_kV=one.voltage_kV,
        pixel_size_mm=one.detector.pixel_size_mm,
        distance_mm=geometry.distance_mm,
        rotation_axis=geometry.axis,
        exposure_s=station.session.rotation.exposure_s,
    )


def _untaken(one: Candidate) -> CrystalOutcome:
    status: Status = "refused" if one.verdict else "left"
    reason = one.verdict or "suitable, its turn never came"
    return CrystalOutcome(one.number, one.x_um, one.y_um, one.area_um2, status, reason)
