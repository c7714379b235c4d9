"""Rotating a crystal while the beam follows it and the pattern is held still.

One continuous rotation from where the stage is. Every so many exposures one is taken defocused,
for a few milliseconds: it shows where the crystal is in the beam. The tracker learns from it; the
beam is moved before an exposure whenever the prediction asks for it; descan follows every move.
Whatever happens, the stage is told to stop, and focus and deflectors are put back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...lib.serialred.abort import Abort, Watched, first_abort
from ...lib.serialred.alignment import pattern_centre
from ...lib.serialred.alpha_line import AlphaLine
from ...lib.serialred.calibration import USUAL_FITNESS, CalibrationSet, Fitness
from ...lib.serialred.settings import RotationSettings
from ...lib.serialred.shadow import Sighting
from ...lib.serialred.tracking import Pace, Verdict, new_tracker, search_places
from ..errors import Unsupported
from ..moves import wait_until_still
from ..protocols import Camera, Capability, Clock, Microscope
from .beam_follower import BeamFollower, SeriesStopped
from .lookout import Lookout, plain
from .rotation_record import FrameAngles, RotationRecord, Sink

__all__ = ["FrameAngles", "RotationRecord", "Sink", "collect_rotation"]

# The stage gets up to speed before it is first read.
RAMP_S = 0.3
# The first read-outs of a rotation tell its speed; until then the line is not known so well.
FIRST_READ_S, OFF_LINE_SIGMAS = 1.0, 3.0
# An end of the range is reached when it is as near as this; read-outs on the way there.
AT_THE_END_DEG, POSITIONING_READ_S = 0.5, 2.0
# Images at rest, before the rotation, that bring the beam onto the crystal.
CENTRINGS = 3


def collect_rotation(
    microscope: Microscope,
    camera: Camera,
    clock: Clock,
    settings: RotationSettings,
    calibrations: CalibrationSet,
    sink: Sink,
    *,
    valid: NDArray[np.bool_] | None = None,
    fitness: Fitness = USUAL_FITNESS,
) -> RotationRecord:
    """Collect one rotation series of the crystal in the beam.

    Parameters
    ----------
    microscope : in focused diffraction, beam on, its stage where the series begins.
    calibrations : stage and beam shift in imaging; beam shift and the descan pair, focused and
        defocused.
    valid : (rows, columns) False on pixels that tell nothing.

    Returns
    -------
    The record; also when a rule ended the series.

    Raises
    ------
    UserError : a calibration is missing or unfit.
    Unsupported : the instrument lacks a part that is needed.
    InstrumentError : anything else that fails; the stage was told to stop.
    """
    _refuse_incapable(microscope, settings)
    run = _Rotation(microscope, camera, clock, settings, calibrations, sink, valid, fitness)
    with run.put_back():
        return run.collect()


def _refuse_incapable(microscope: Microscope, settings: RotationSettings) -> None:
    needed = [Capability.STAGE_STOP]
    if settings.image_interval:
        needed.append(Capability.DIFFRACTION_FOCUS)
    if settings.tracking != "none":
        needed.append(Capability.BEAM_SHIFT)
        if settings.descan:
            needed += [Capability(name) for name in settings.descan_pair]
    if settings.speed_deg_per_s is not None:
        needed.append(Capability.ROTATION_SPEED)
    lacking = [one.value for one in needed if one not in microscope.capabilities]
    if lacking:
        raise Unsupported(
            f"microscope {microscope.name}",
            f"no {', no '.join(lacking)}",
            "what this rotation needs",
            "change the rotation's settings, or use another instrument",
        )


class _Rotation:
    """One rotation under way."""

    def __init__(
        self,
        microscope: Microscope,
        camera: Camera,
        clock: Clock,
        settings: RotationSettings,
        calibrations: CalibrationSet,
        sink: Sink,
        valid: NDArray[np.bool_] | None,
        fitness: Fitness,
    ) -> None:
        self.scope, self.camera, self.clock = microscope, camera, clock
        self.settings, self.sink = settings, sink
        self.beam: BeamFollower | None = None
        if settings.tracking != "none":
            self.beam = BeamFollower(microscope, settings, calibrations, fitness)
        self.lookout: Lookout | None = None
        if settings.image_interval:
            valid = np.ones(camera.shape, bool) if valid is None else valid
            self.lookout = Lookout(microscope, camera, clock, settings, sink, self.beam, valid)
        self.pace: Pace | None = None
        self.line = AlphaLine()
        self.turning_since = self.read_at = clock.now()
        self.watched = Watched(math.nan)
        self.exposures: list[tuple[int, float, float]] = []

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Stop the stage and restore focus and deflectors, whatever happens."""
        try:
            yield
        finally:
            try:
                self.scope.stage.stop()
            finally:
                if self.lookout is not None:
                    self.lookout.put_back()
                if self.beam is not None:
                    self.beam.put_back()

    # --- the series -----------------------------------------------------------------------

    def collect(self) -> RotationRecord:
        """The whole series."""
        s, stage = self.settings, self.scope.stage
        start = stage.position().alpha_deg
        target = s.target_deg(start)
        if self.beam is not None:
            self.beam.tracker = new_tracker(s, start)
        abort, ended = None, ""
        try:
            if self.lookout is not None:
                self.lookout.record_flat(start)
            self._centre(start)
            if s.widest:
                start = self._go_to_an_end(start)
                target = s.target_deg(start)
                self._centre(start)
            ended = f"the end of the range, {target:g} deg"
            sign = 1.0 if target > start else -1.0
            began = self.clock.now()
            self._turn(target, sign, s.speed_deg_per_s)
            self._rotate(target, sign, began)
        except SeriesStopped as stopped:
            abort, ended = stopped.abort, f"{stopped.abort.rule}: {stopped.abort.reason}"
            self.decide("abort", rule=abort.rule, reason=abort.reason, **abort.numbers)
        finally:
            stage.stop()
        known = bool(self.line.times_s)
        frames = tuple(
            FrameAngles(number, self.line.at(begin), self.line.at(end))
            for number, begin, end in self.exposures
        )
        record = RotationRecord(
            complete=abort is None,
            reason=ended,
            abort=abort,
            alpha_start_deg=frames[0].alpha_start_deg if frames else start,
            alpha_end_deg=frames[-1].alpha_end_deg if frames else start,
            alpha_target_deg=target,
            frames=frames,
            n_tracking=self.lookout.n_images if self.lookout else 0,
            speed_deg_per_s=self.line.speed_deg_per_s if known else math.nan,
            alpha_rms_deg=self.line.rms_deg,
        )
        self.decide(
            "rotation ended",
            reason=ended,
            range_deg=record.range_deg,
            speed_deg_per_s=record.speed_deg_per_s,
            alpha_rms_deg=record.alpha_rms_deg,
        )
        return record

    def _turn(self, target: float, sign: float, speed: float | None) -> None:
        """Begin to rotate, and know the line of the tilt."""
        self.line = AlphaLine(asked_deg_per_s=None if speed is None else sign * speed)
        self.turning_since = self.clock.now()
        self.scope.stage.start_move(alpha_deg=target, speed_deg_per_s=speed)
        self.clock.sleep(RAMP_S)
        self._read_stage()
        if speed is None:  # two read-outs make a line
            self.clock.sleep(1.0)
            self._read_stage()

    def _go_to_an_end(self, start: float) -> float:
        """To the nearer end of the range without frames, the beam following; where it ends.

        What the tracker learns of the swing on the way it knows for the series.
        """
        s, stage = self.settings, self.scope.stage
        end = s.nearer_end_deg(start)
        if abs(end - start) < AT_THE_END_DEG:
            return start
        sign = 1.0 if end > start else -1.0
        self._turn(end, sign, s.positioning_deg_per_s)
        try:
            while sign * (self.line.at(self.clock.now()) - end) < 0:
                if self.pace is None:
                    self.clock.sleep(POSITIONING_READ_S)
                else:
                    self._track(0)
                if self._read_is_due(POSITIONING_READ_S):
                    self._read_stage()
            arrived = wait_until_still(stage, self.clock, timeout_s=30.0)
        finally:
            stage.stop()
        return arrived.alpha_deg

    def _rotate(self, target: float, sign: float, began: float) -> None:
        s, number, since = self.settings, 0, 0
        while True:
            end = self.clock.now() + s.exposure_s
            if sign * (self.line.at(end) - target) > 0:
                return
            number, since = number + 1, since + 1
            self.watched = replace(self.watched, elapsed_s=self.clock.now() - began)
            self._stop_if(first_abort(s.abort, self.watched))
            if self._image_is_due(since):
                since = 0
                self._track(number)
                if self._read_is_due(s.stage_read_s):
                    self._read_stage()
            else:
                self._aim(self.line.at(self.clock.now() + s.exposure_s / 2))
                self._frame(number)
                if self.pace is None and self._read_is_due(s.stage_read_s):
                    self._read_stage()

    def _image_is_due(self, since: int) -> bool:
        """Whether the next exposure is to be a defocused one; `since` the last, it included."""
        if self.pace is None or not self.pace.every:
            return False
        if since >= self.pace.every:
            return True
        if since < self.settings.robust.interval or self.beam is None:
            return False
        after = self.line.at(self.clock.now() + self.settings.exposure_s)
        largest = self.settings.robust.largest_sigma * self.beam.radius_um
        return self.beam.tracker.sigma_um(after) > largest

    def _frame(self, number: int) -> None:
        exposure = self.camera.expose(self.settings.exposure_s)
        self.exposures.append((number, exposure.started_s, exposure.ended_s))
        self.sink.frame(
            number, exposure, self.line.at(exposure.started_s), self.line.at(exposure.ended_s)
        )
        if self.beam is not None and self.beam.descan is not None:
            at = pattern_centre(exposure.counts, self.beam.descan.pattern_px)
            if at is not None:
                self.beam.pattern_seen(at)

    def _centre(self, alpha: float) -> None:
        """Bring the beam onto the crystal before the rotation, and set the references."""
        if self.lookout is None:
            return
        for attempt in range(CENTRINGS):
            sighting, _ = self.lookout.look(0, lambda _: alpha)
            if sighting.disc is None:
                raise SeriesStopped(Abort("beam lost", "no disc in the image at rest"))
            if not sighting.found and self.beam is not None:
                raise SeriesStopped(Abort("crystal lost", "not seen in the image at rest"))
            self.watched = replace(self.watched, variance=sighting.variance)
            self.pace = Pace(
                self.settings.image_interval,
                self.settings.robust,
                sighting.variance,
                sighting.mean,
            )
            if not self._aim(alpha) or attempt == CENTRINGS - 1:
                return

    def _track(self, number: int) -> None:
        assert self.lookout is not None  # there are both where images are taken
        assert self.pace is not None
        self._aim(self.line.at(self.clock.now() + self.settings.tracking_exposure_s))
        sighting, verdict = self.lookout.look(number, self.line.at)
        searches = self.settings.robust.search and self.settings.tracking == "predictive"
        if self.beam is not None and searches and sighting.disc and not sighting.found:
            sighting, verdict = self._search(number, self.lookout, self.beam, sighting)
        w = self.watched
        dark = sighting.disc is None
        # uneven light of the beam passes for a pale crystal, but never convincingly
        seen = sighting.found and sighting.confidence >= self.settings.robust.least_confidence
        self.watched = replace(
            w,
            dark=w.dark + 1 if dark else 0,
            lost=0 if dark or seen else w.lost + 1,
        )
        pace = self.pace.after(sighting, verdict)
        if pace.every != self.pace.every or pace.why != self.pace.why:
            self.decide("image interval", interval=pace.every, robust=pace.robust, why=pace.why)
        self.pace = pace
        self._stop_if(first_abort(self.settings.abort, self.watched, sighting))

    def _search(
        self, number: int, lookout: Lookout, beam: BeamFollower, missed: Sighting
    ) -> tuple[Sighting, Verdict | None]:
        """Look for the crystal around the prediction; what the last image told, found or not."""
        sighting, verdict = missed, None
        for place in search_places(beam.radius_um, beam.last_offset_um):
            alpha = self.line.at(self.clock.now() + self.settings.tracking_exposure_s)
            beam.point(beam.tracker.beam_um(alpha) + place)
            sighting, verdict = lookout.look(number, self.line.at)
            if sighting.found:
                break
        self.decide("search", number=number, found=sighting.found)
        self._aim(self.line.at(self.clock.now()))
        return sighting, verdict

    # --- beam and stage -------------------------------------------------------------------

    def _aim(self, alpha: float) -> bool:
        """Move the beam to where the crystal is expected, if that is worth it; whether it was."""
        beam = self.beam
        if beam is None or (way := beam.way_um(alpha)) <= self.settings.deadband_um:
            return False
        beam.point(beam.tracker.beam_um(alpha))
        self.decide(
            "beam moved",
            alpha_deg=alpha,
            by_um=way,
            to_um=plain(beam.beam_um),
            sigma_um=beam.tracker.sigma_um(alpha),
            tracker=beam.tracker.name,
        )
        return True

    def _read_is_due(self, every_s: float) -> bool:
        """Whether to read the stage; at first at 1, 2, 4, ... s, for its speed is not known."""
        since_start = self.read_at - self.turning_since
        return self.clock.now() - self.read_at >= min(every_s, max(since_start, FIRST_READ_S))

    def _read_stage(self) -> None:
        """One read-out; it counts for the middle of the call."""
        before = self.clock.now()
        alpha = self.scope.stage.position().alpha_deg
        at = 0.5 * (before + self.clock.now())
        self.read_at = self.clock.now()
        off = beyond = 0.0
        if len(self.line.times_s) >= (1 if self.line.asked_deg_per_s else 2):
            off = alpha - self.line.at(at)
            # off by no more than the line may be does not count
            slack = OFF_LINE_SIGMAS * self.line.sigma_deg(at)
            beyond = math.copysign(max(0.0, abs(off) - slack), off)
        self.watched = replace(self.watched, off_line_deg=beyond)
        if abs(beyond) <= self.settings.abort.off_line_deg:
            self.line = self.line.read(at, alpha)
        self.decide("stage read", t_s=at, alpha_deg=alpha, off_line_deg=off)

    def _stop_if(self, abort: Abort | None) -> None:
        if abort is not None:
            raise SeriesStopped(abort)

    def decide(self, what: str, **numbers: Any) -> None:
        """Tell the sink."""
        self.sink.decision({"decision": what, "t_s": self.clock.now(), **numbers})
