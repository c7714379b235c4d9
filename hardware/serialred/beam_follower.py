"""The beam on the crystal and the pattern held still: the deflectors of one rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ...lib.serialred.abort import Abort, near_limit
from ...lib.serialred.calibration import CalibrationSet, Fitness, refuse_if_unfit
from ...lib.serialred.descan import Descan, DescanSolve
from ...lib.serialred.disc import Disc
from ...lib.serialred.settings import RotationSettings
from ...lib.serialred.shadow import Sighting
from ...lib.serialred.tracking import (
    Observation,
    Tracker,
    Verdict,
    new_tracker,
    specimen_um_per_unit,
)
from ..errors import LimitExceeded
from ..protocols import DeflectorName, Microscope

Floats = NDArray[np.float64]

# A displacement of the pattern below the first is noise, beyond the second a reflection taken for
# the beam: neither is followed.
STILL_PX, BLUNDER_PX = 0.4, 3.0
# Where it is to stay is the median of so many frames, for one may show a reflection there.
FIRST_PATTERNS = 5


@dataclass(frozen=True)
class SeriesStopped(Exception):
    """A rule ended the series."""

    abort: Abort


class BeamFollower:
    """Moves the beam where a tracker says, and the descan pair with it.

    Attributes
    ----------
    tracker : see `lib.serialred.tracking`.
    beam_um : (2,) where the beam is, um of the specimen from where it was at the start.
    last_offset_um : (2,) of the crystal from the beam when it was last seen.
    radius_um : of the beam; NaN until its disc was seen.

    Parameters
    ----------
    microscope : as it is at the start of the rotation.
    calibrations : see `hardware.serialred.rotation.collect_rotation`.

    Raises
    ------
    UserError : a calibration is missing or unfit, or the pair cannot descan.
    """

    def __init__(
        self,
        microscope: Microscope,
        settings: RotationSettings,
        calibrations: CalibrationSet,
        fitness: Fitness,
    ) -> None:
        self.scope, self.settings = microscope, settings
        self.tracker: Tracker = new_tracker(settings, 0.0)
        self.beam_um, self.last_offset_um, self.radius_um = np.zeros(2), np.zeros(2), math.nan
        pair = settings.descan_pair if settings.descan else ()
        names: tuple[DeflectorName, ...] = ("beam_shift", *pair)
        stage = calibrations.get("stage", "imaging")
        imaging = calibrations.get("beam_shift", "imaging")
        defocused = [calibrations.get(name, "defocused") for name in names]
        focused = [calibrations.get(name, "focused") for name in names]
        camera_length, now = microscope.camera_length_mm(), datetime.now(UTC)
        for one in (stage, imaging, *defocused, *focused):
            refuse_if_unfit(
                one,
                instrument=microscope.name,
                now=now,
                camera_length_mm=camera_length,
                defocus_um=settings.tracking_defocus_um,
                fitness=fitness,
            )
        self.um_per_unit = specimen_um_per_unit(stage.px_per_unit, imaging.px_per_unit)
        self.um_per_px = self.um_per_unit @ np.linalg.inv(defocused[0].px_per_unit)
        self.found = {name: microscope.deflectors[name].get() for name in names}
        self.descan: Descan | None = None
        self._first_patterns: list[Floats] = []
        if pair:
            self.descan = Descan(
                DescanSolve.from_calibrations(calibrations, pair),
                np.array(self.found["beam_shift"]),
                (np.array(self.found[pair[0]]), np.array(self.found[pair[1]])),
                settings.descan_gain,
            )

    def way_um(self, alpha_deg: float) -> float:
        """How far the beam is from where the tracker wants it at that angle."""
        return float(np.hypot(*(self.tracker.beam_um(alpha_deg) - self.beam_um)))

    def point(self, beam_um: Floats) -> None:
        """Move the beam there. Raises `SeriesStopped` near the end of a deflector's range."""
        self.beam_um = beam_um
        self._set("beam_shift", self._beam_shift())
        self._set_pair()

    def crystal_seen(self, alpha_deg: float, sighting: Sighting) -> Verdict:
        """Let the tracker learn."""
        offset = self.um_per_px @ sighting.offset_px
        sigma = sighting.sigma_px * float(np.linalg.norm(self.um_per_px, 2))
        self.tracker, verdict = self.tracker.observed(
            Observation(alpha_deg, self.beam_um, offset, sigma)
        )
        self.last_offset_um = offset
        return verdict

    def disc_seen(self, disc: Disc) -> Floats | None:
        """Feedback of the defocused condition; the displacement (2,) px, None without descan."""
        self.radius_um = disc.radius_px * math.sqrt(abs(float(np.linalg.det(self.um_per_px))))
        if self.descan is None:
            return None
        self.descan, displaced = self.descan.disc_seen(disc.centre_px)
        self._set_pair()
        return displaced

    def pattern_seen(self, at_px: Floats) -> None:
        """Feedback of the focused condition."""
        if self.descan is None:
            return
        if self.descan.pattern_px is None:
            self._first_patterns.append(at_px)
            if len(self._first_patterns) == FIRST_PATTERNS:
                self.descan, _ = self.descan.pattern_seen(np.median(self._first_patterns, axis=0))
            return
        descan, off = self.descan.pattern_seen(at_px)
        if STILL_PX < np.hypot(*off) < BLUNDER_PX:
            self.descan = descan
            self._set_pair()

    def put_back(self) -> None:
        """All deflectors as they were at the start."""
        for name, xy in self.found.items():
            self.scope.deflectors[name].set(xy)

    def _beam_shift(self) -> Floats:
        shift = np.linalg.solve(self.um_per_unit, self.beam_um)
        return np.asarray(self.found["beam_shift"] + shift, float)

    def _set_pair(self) -> None:
        if self.descan is not None:
            pair = self.descan.settings(self._beam_shift())
            for name, xy in zip(self.settings.descan_pair, pair, strict=True):
                self._set(name, xy)

    def _set(self, name: DeflectorName, xy: Floats) -> None:
        deflector = self.scope.deflectors[name]
        abort = near_limit(name, xy, deflector.limits, self.settings.abort.deflector_margin)
        if abort is not None:
            raise SeriesStopped(abort)
        try:
            deflector.set((float(xy[0]), float(xy[1])))
        except LimitExceeded as error:
            raise SeriesStopped(Abort("deflector limit", str(error))) from None
