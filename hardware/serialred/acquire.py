"""A SerialRED session: look at a block of views, take its best crystals, look further.

After Bin Wang's thesis, 4.2; new are the ranking over a block of views, the snapshot that decides,
and that every particle ends with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...lib.errors import UserError
from ...lib.instrument import SeriesMetadata
from ...lib.serialred.acquisition import Acquisition, CrystalOutcome, Status, ViewRecord
from ...lib.serialred.calibration import CalibrationSet, refuse_if_unfit
from ...lib.serialred.quality import quality, rank
from ...lib.serialred.raster import RasterPosition
from ...lib.serialred.record import VIEWS, SeriesFolder
from ...lib.serialred.session import SessionConfig
from ..errors import ConnectionLost, InstrumentError, LimitExceeded
from ..lab import Lab
from .approach import Approached, CrystalLost, approach
from .rotate import rotate
from .station import Station, prepare, refuse_incapable
from .survey import Candidate, look, merged, positions

# told (what, done so far, of how many)
Progress = Callable[[str, int, int], None]


# Of the least counts: a view beside a bar, lit by its edge alone, is no place to look for the beam.
_SURELY_LIT = 4.0


@dataclass
class Session:
    """What has happened so far; `acquisition` at any time.

    Attributes
    ----------
    raster : where to look, in order.
    failures, last_failure : crystals and views in a row on which the instrument failed; how.
    lost : the instrument is; nothing more can be done.
    light_at : stage (x, y) where there was light last.
    adjusted_at : where the height was adjusted last.
    """

    station: Station
    folder: Path
    began_s: float
    raster: list[RasterPosition]
    views: list[ViewRecord] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    outcomes: dict[int, CrystalOutcome] = field(default_factory=dict)
    ended: str = ""
    failures: int = 0
    last_failure: str = ""
    lost: ConnectionLost | None = None
    light_at: tuple[float, float] | None = None
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

    def part_done(self) -> float:
        """How much of the session is over, 0..1, by the stop rule that is nearest."""
        if self.ended:
            return 1.0
        stop, crystals = self.station.session.stop, list(self.outcomes.values())
        parts = [
            len(self.views) / max(len(self.raster), 1)
            * (len(crystals) / max(len(self.candidates), 1) if self.candidates else 1.0)
        ]  # fmt: skip
        if stop.crystals is not None:
            parts.append(sum(one.status == "taken" for one in crystals) / stop.crystals)
        if stop.hours is not None:
            parts.append((self.station.now - self.began_s) / (3600 * stop.hours))
        if stop.beam_hours is not None:
            parts.append(self.station.beam_s / (3600 * stop.beam_hours))
        return min(1.0, max(parts))


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


def refuse_unfit_calibrations(
    lab: Lab, session: SessionConfig, calibrations: CalibrationSet
) -> None:
    """Raise `UserError`, naming it, for a calibration that a session needs and cannot use."""
    rotation = session.rotation
    wanted = [calibrations.get("stage", "imaging"), calibrations.get("beam_shift", "imaging")]
    if rotation.tracking != "none":
        names = ("beam_shift", *(rotation.descan_pair if rotation.descan else ()))
        wanted += [calibrations.get(name, "defocused") for name in names]
        wanted += [calibrations.get(name, "focused") for name in names]
    for one in wanted:
        refuse_if_unfit(
            one,
            instrument=lab.microscope.name,
            now=datetime.now(UTC),
            magnification=session.imaging.magnification,
            camera_length_mm=session.diffraction.camera_length_mm,
            defocus_um=rotation.tracking_defocus_um,
        )


def begin(lab: Lab, session: SessionConfig, calibrations: CalibrationSet, folder: Path) -> Session:
    """A session on a guarded instrument; `folder` receives one folder per series.

    Raises
    ------
    UserError : the session is impossible, a calibration is missing or unfit, or the scan area
        leaves the limits; nothing was moved.
    BeamLost : no electrons arrive.
    """
    refuse_impossible(lab, session)
    refuse_unfit_calibrations(lab, session, calibrations)
    views = positions(lab, session, calibrations)
    began_s = lab.clock.now()
    station = prepare(lab, session, calibrations)
    here = lab.microscope.stage.position()
    return Session(station, folder, began_s, views, light_at=(here.x_um, here.y_um))


def crystals(session: Session, progress: Progress = lambda *_: None) -> Iterator[CrystalOutcome]:
    """Take crystals until a stop rule or the end of the area; yields each series as it ends.

    Raises
    ------
    InstrumentError : the instrument failed in a way that a next crystal cannot mend.
    UserError : nothing suitable was found in the scan area.
    """
    config = session.station.session
    views, dark = session.raster, 0
    for first in range(0, len(views), config.views_per_block):
        for k, position in enumerate(views[first : first + config.views_per_block], first):
            progress("views", k, len(views))
            if _stopped(session):
                return
            try:
                view, new = look(session.station, position, len(session.candidates) + 1)
            except ConnectionLost:
                raise
            except InstrumentError as error:
                _failed(session, error)
                continue
            session.views.append(view)
            dark = dark + 1 if view.dark else 0
            if view.mean_counts > _SURELY_LIT * config.imaging.least_counts:
                session.light_at = (view.x_um, view.y_um)
            known = {one.number for one in session.candidates}
            session.candidates = _renumbered(merged(session.candidates, new), known)
        at_the_end = first + config.views_per_block >= len(views)
        if dark >= config.views_per_block or (dark and at_the_end):
            _refuse_no_beam(session)
        for candidate in _ranked(session):
            if _stopped(session):
                return
            outcome = _take(session, candidate, progress)
            session.outcomes[candidate.number] = outcome
            if outcome.folder:
                yield outcome
            if session.lost is not None:
                raise session.lost
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
        times = f"The instrument failed {session.failures} times in a row"
        session.ended = f"{times}, at last: {session.last_failure}"
    return bool(session.ended)


def _failed(session: Session, error: InstrumentError) -> str:
    """Count it; its line."""
    if isinstance(error, ConnectionLost):
        session.lost = error
    session.failures += 1
    session.last_failure = str(error)
    return str(error)


def _take(session: Session, candidate: Candidate, progress: Progress) -> CrystalOutcome:
    """One crystal, all the way. What goes wrong with it stays with it.

    A series that the instrument breaks off is kept as far as it came.
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
            outcome = replace(outcome, status="refused", reason=why)
        else:
            progress(f"{name}: rotate", len(session.outcomes), len(session.candidates))
            outcome = _collected(session, outcome, name, here, decisions)
    except CrystalLost as error:
        outcome = replace(outcome, status="lost", reason=str(error))
    except InstrumentError as error:
        outcome = replace(outcome, status="failed", reason=_failed(session, error))
    finally:
        _blank(session)
    return replace(outcome, **_beam(session, beam_before_s))


def _collected(
    session: Session,
    outcome: CrystalOutcome,
    name: str,
    here: Approached,
    decisions: list[dict[str, Any]],
) -> CrystalOutcome:
    """The series of a crystal in the beam, as far as it comes."""
    station = session.station
    series = SeriesFolder(
        session.folder / name,
        station.geometry(here.beam_centre_px),
        _metadata(station),
        station.lab.instrument.detector.saturation,
        {"session": station.session.name, "particle": outcome.number, "x_um": outcome.x_um,
         "y_um": outcome.y_um, "area_um2": outcome.area_um2},
    )  # fmt: skip
    record, broken = None, ""
    try:
        for line in decisions:
            series.line("decision", **line)
        _keep_views(series, here)
        record = rotate(station, series)
    except InstrumentError as error:
        broken = _failed(session, error)
    finally:
        series.close(**({"broken": broken} if broken else {}))
    reason = record.reason if record else broken
    if series.ends_deg is None:
        return replace(outcome, status="lost" if record else "failed", reason=reason)
    if record:
        session.failures = 0
    start, end = (record.alpha_start_deg, record.alpha_end_deg) if record else series.ends_deg
    return replace(
        outcome,
        status="taken" if record and record.complete else "short",
        reason=reason,
        name=name,
        folder=str(series.folder),
        alpha_start_deg=start,
        alpha_end_deg=end,
        n_frames=series.n_frames,
    )


def _blank(session: Session) -> None:
    """No dose between series; the guard blanks what cannot be blanked here."""
    try:
        session.station.lab.microscope.blank()
    except InstrumentError as error:
        _failed(session, error)


def _refuse_no_beam(session: Session) -> None:
    """After views without light: see that there still is some where it was last.

    Raises
    ------
    BeamLost : there is none.
    """
    station = session.station
    if session.light_at is not None:
        station.move(x_um=session.light_at[0], y_um=session.light_at[1])
    station.imaging()
    station.refuse_dark(station.expose(station.session.imaging.exposure_s))


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
