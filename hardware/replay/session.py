"""What microscope and camera of a replay share: the record, its clock, and what differed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import CameraFailed
from ..protocols import Mode
from .clock import ReplayClock
from .recording import Recording, ReplayOptions, Shot, read_recording


@dataclass(frozen=True)
class Difference:
    """Where the algorithm under trial did other than what is recorded.

    Attributes
    ----------
    t_s : when, in the clock of the record.
    what : the setting, move or exposure.
    asked, recorded : by the algorithm; at that moment of the record.
    """

    t_s: float
    what: str
    asked: Any
    recorded: Any


@dataclass
class Session:
    """A recording being played."""

    options: ReplayOptions
    recording: Recording
    clock: ReplayClock
    differences: list[Difference] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)
    _next: int = 0

    def get(self, name: str) -> Any:
        """What the algorithm set, or else what was in force; None if neither is known."""
        if name in self.own:
            return self.own[name]
        timeline = self.recording.settings.get(name)
        return None if timeline is None else timeline.in_force(self.clock.now())

    def set(self, name: str, value: Any) -> None:
        """Take a setting, and compare it with the next one recorded."""
        self.own[name] = value
        timeline = self.recording.settings.get(name)
        if timeline is not None:
            self.compare(name, value, timeline.coming(self.clock.now()))

    def compare(self, what: str, asked: Any, recorded: Any, tolerance: float = 1e-3) -> None:
        """Note a difference, if it is one."""
        if not _alike(asked, recorded, tolerance):
            self.differences.append(Difference(self.clock.now(), what, asked, recorded))

    def mode(self) -> Mode:
        """What the camera sees."""
        mode: Mode | None = self.get("mode")
        return mode or self.recording.shots[0].mode

    def expose(self, exposure_s: float) -> Shot:
        """The next recorded exposure of the kind that the settings make; time moves to its end.

        Raises
        ------
        CameraFailed : the record holds no more of them.
        """
        mode, focus_um = self.mode(), self.get("lenses.diffraction_focus")
        now = self.clock.now()
        shots = self.recording.shots
        for i in range(self._next, len(shots)):
            shot = shots[i]
            if shot.t_s < now - 1e-6 or shot.mode != mode or not self._focused(shot, focus_um):
                continue
            self._next = i + 1
            self.compare("exposure_s", exposure_s, shot.exposure_s, 1e-3 * exposure_s)
            self.clock.until(shot.t_s + shot.exposure_s)
            return shot
        kind = mode if focus_um is None or mode == "imaging" else f"{mode}, focus {focus_um:g} um"
        raise CameraFailed(
            self.options.folder,
            f"no more images ({kind}) after {now:.1f} s",
            "a record that goes on",
            "end here, or replay a longer record",
        )

    def _focused(self, shot: Shot, focus_um: float | None) -> bool:
        """Whether that focus is nearer to the shot's own than to those of the other kind."""
        if shot.mode == "imaging" or shot.focus_um is None or focus_um is None:
            return True
        known = {one.focus_um for one in self.recording.shots if one.mode == "diffraction"}
        nearest = min((one for one in known if one is not None), key=lambda f: abs(f - focus_um))
        return math.isclose(nearest, shot.focus_um, rel_tol=1e-9, abs_tol=1e-9)


def _alike(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return all(_alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool | str) or isinstance(b, bool | str):
        return bool(a == b)
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=tolerance)


def open_replay(options: ReplayOptions) -> tuple[Any, Any, ReplayClock]:
    """Microscope, camera and clock of a recorded session.

    Raises
    ------
    UserError : the folder holds no record that can be played.
    CameraFailed : its first image cannot be read.
    """
    from .camera import ReplayCamera
    from .microscope import ReplayMicroscope

    recording = read_recording(options.folder)
    clock = ReplayClock(recording.start_s)
    session = Session(options, recording, clock)
    return ReplayMicroscope(session), ReplayCamera(session), clock
