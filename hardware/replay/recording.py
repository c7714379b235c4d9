"""Reading a recorded session: its images in order of time, the stage, the settings."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from ...lib.errors import UserError
from ...lib.formats.registry import HEAD_BYTES, reader_of_content
from ...lib.formats.series_record import NAME as RECORD
from ...lib.formats.series_record import read_record
from ...lib.instrument import first_problem
from ..config import AXES
from ..errors import CameraFailed
from ..protocols import DeflectorName, LensName, Mode, StagePosition

# Slower than this, between two read-outs, the stage counts as resting.
REST_PER_S = {"alpha_deg": 0.01, "beta_deg": 0.01, "x_um": 0.02, "y_um": 0.02, "z_um": 0.02}


# Other events (decisions, ends) hold numbers of their own under names of their own.
PLAYED = ("exposure", "position", "set")


class ReplayOptions(BaseModel):
    """What to play back.

    Attributes
    ----------
    folder : of one series (with its `tracking.jsonl`), or of a session of such folders.
    pixel_size_mm, dynamic_range, dead_time_s : of the camera that took the images; the record
        does not hold them.
    magnification, camera_length_mm : used where the record states none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folder: Path
    pixel_size_mm: PositiveFloat = 0.055
    dynamic_range: PositiveInt = 65535
    dead_time_s: NonNegativeFloat = 0.0
    magnification: PositiveInt | None = None
    camera_length_mm: PositiveFloat | None = None


class Line(BaseModel):
    """One line of the record, as far as it is played back; further fields are passed over.

    Attributes
    ----------
    t_s : clock of the session; for an exposure, of its start.
    event : ``exposure``, ``position`` or ``set``; others are not played.
    role : what an exposure was for.
    number : of the exposure.
    file : of its image, relative to the record; None if none was kept.
    exposure_s : how long.
    stage : read-out at `t_s`, any of x_um, y_um, z_um, alpha_deg, beta_deg.
    alpha_end_deg : alpha at the end of the exposure.
    deflectors, lenses, mode, magnification, camera_length_mm, blanked : in force from `t_s`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    t_s: float
    event: str
    role: str | None = None
    number: int | None = None
    file: str | None = None
    exposure_s: NonNegativeFloat | None = None
    stage: dict[str, float] = Field(default_factory=dict)
    alpha_start_deg: float | None = None
    alpha_end_deg: float | None = None
    deflectors: dict[DeflectorName, tuple[float, float]] = Field(default_factory=dict)
    lenses: dict[LensName, float] = Field(default_factory=dict)
    mode: Mode | None = None
    magnification: PositiveInt | None = None
    camera_length_mm: PositiveFloat | None = None
    blanked: bool | None = None


@dataclass(frozen=True)
class Shot:
    """One recorded exposure. `focus_um` is the diffraction focus in force, if recorded."""

    t_s: float
    role: str
    mode: Mode
    number: int | None
    path: Path
    exposure_s: float
    focus_um: float | None


@dataclass
class Timeline:
    """Values with the times they were recorded at, in order."""

    times_s: list[float] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, t_s: float, value: Any) -> None:
        """Add one that is not before the last."""
        self.times_s.append(t_s)
        self.values.append(value)

    def in_force(self, t_s: float) -> Any:
        """The last one recorded by then; the first, before that."""
        return self.values[max(bisect_right(self.times_s, t_s) - 1, 0)]

    def coming(self, t_s: float) -> Any:
        """The first one recorded from then on; the last, after that."""
        return self.values[min(bisect_left(self.times_s, t_s), len(self.values) - 1)]


@dataclass(frozen=True)
class Recording:
    """A session, in order of time.

    Attributes
    ----------
    shots : exposures whose image was kept.
    settings : by name (``mode``, ``deflectors.beam_shift``, ...).
    axes : (times, values) of the read-outs of each stage axis.
    start_s, end_s : of the record.
    """

    shots: tuple[Shot, ...]
    settings: Mapping[str, Timeline]
    axes: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    start_s: float
    end_s: float

    def position(self, t_s: float) -> StagePosition:
        """The read-outs around `t_s`, interpolated."""
        at = {axis: float(np.interp(t_s, *known)) for axis, known in self.axes.items()}
        return StagePosition(**{axis: at.get(axis, 0.0) for axis in AXES})

    def moves_at(self, t_s: float) -> bool:
        """Whether an axis differs between the read-outs around `t_s`."""
        for axis, (times, values) in self.axes.items():
            i = int(np.searchsorted(times, t_s, side="right"))
            if 0 < i < len(times):
                seconds = max(times[i] - times[i - 1], 1e-9)
                if abs(values[i] - values[i - 1]) / seconds > REST_PER_S[axis]:
                    return True
        return False

    def arrival_from(self, t_s: float) -> StagePosition:
        """Where the next recorded motion ended; where the stage is, if none follows."""
        read_outs = {float(time) for times, _ in self.axes.values() for time in times if time > t_s}
        moved = False
        for time in (t_s, *sorted(read_outs)):
            moving = self.moves_at(time)
            if moved and not moving:
                return self.position(time)
            moved = moved or moving
        return self.position(self.end_s if moved else t_s)


def read_recording(folder: Path) -> Recording:
    """Read the record of a series, or those of all series below a folder.

    Raises
    ------
    UserError : no record, a broken one, or one without exposures.
    """
    own = folder / RECORD
    records = [own] if own.is_file() else sorted(folder.glob(f"**/{RECORD}"))
    if not records:
        raise UserError(folder, f"no {RECORD}", "a recorded session", "give its folder")
    lines = [(line, record.parent) for record in records for line in _lines(record)]
    lines.sort(key=lambda one: one[0].t_s)
    if not any(line.event == "exposure" and line.file for line, _ in lines):
        raise UserError(folder, "no exposure with an image", "recorded images", "give another")
    return _played(lines)


def _lines(record: Path) -> list[Line]:
    """Those that are played, with a time; views kept of the crystal may have none."""
    found = []
    for content in read_record(record):
        if content.get("event") in PLAYED and "t_s" in content:
            try:
                found.append(Line.model_validate(content))
            except ValidationError as error:
                where = f"{record}: {content.get('event')} at {content['t_s']}"
                raise first_problem(where, error) from None
    return found


def _played(lines: list[tuple[Line, Path]]) -> Recording:
    settings: dict[str, Timeline] = {}
    axes: dict[str, list[tuple[float, float]]] = {}
    shots = []
    for line, folder in lines:
        for name, value in _settings(line).items():
            settings.setdefault(name, Timeline()).add(line.t_s, value)
        for axis, value in _read_outs(line):
            axes.setdefault(axis, []).append((value[0], value[1]))
        if line.event == "exposure" and line.file is not None:
            shots.append(_shot(line, folder, settings))
    known = {}
    for axis, pairs in axes.items():
        table = np.array(sorted(pairs), float)
        known[axis] = (table[:, 0], table[:, 1])
    last = lines[-1][0]
    ends = [shot.t_s + shot.exposure_s for shot in shots]
    return Recording(tuple(shots), settings, known, lines[0][0].t_s, max(last.t_s, *ends))


def _settings(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {f"deflectors.{name}": xy for name, xy in line.deflectors.items()}
    found |= {f"lenses.{name}": value for name, value in line.lenses.items()}
    for name in ("mode", "magnification", "camera_length_mm", "blanked"):
        value = getattr(line, name)
        if value is not None:
            found[name] = value
    return found


def _read_outs(line: Line) -> list[tuple[str, tuple[float, float]]]:
    found = [(axis, (line.t_s, line.stage[axis])) for axis in AXES if axis in line.stage]
    if line.alpha_start_deg is not None and "alpha_deg" not in line.stage:
        found.append(("alpha_deg", (line.t_s, line.alpha_start_deg)))
    if line.alpha_end_deg is not None and line.exposure_s:
        found.append(("alpha_deg", (line.t_s + line.exposure_s, line.alpha_end_deg)))
    return found


def _shot(line: Line, folder: Path, settings: Mapping[str, Timeline]) -> Shot:
    role = line.role or "diffraction"
    mode = line.mode
    if mode is None and "mode" in settings:
        mode = settings["mode"].in_force(line.t_s)
    if mode is None:
        mode = "imaging" if role == "imaging" else "diffraction"
    focus = settings.get("lenses.diffraction_focus")
    return Shot(
        line.t_s,
        role,
        mode,
        line.number,
        folder / str(line.file),
        line.exposure_s or 0.0,
        None if focus is None else focus.in_force(line.t_s),
    )


def read_image(path: Path) -> NDArray[np.unsignedinteger[Any]]:
    """A recorded image, (rows, columns), unsigned.

    Raises
    ------
    CameraFailed : the file is missing, damaged, or holds no counts.
    """
    try:
        with path.open("rb") as file:
            reader = reader_of_content(file.read(HEAD_BYTES))
        if reader is None:
            raise ValueError("a file of no known format")
        pixels: NDArray[Any] = reader.pixels(path, reader.header(path), 0, 1)[0]
        if pixels.dtype.kind == "i" and pixels.min(initial=0) >= 0:
            pixels = pixels.astype(f"u{pixels.dtype.itemsize}")
        if pixels.dtype.kind != "u":
            raise ValueError(f"pixels of {pixels.dtype}, some below zero or no whole numbers")
    except (OSError, ValueError) as error:
        raise CameraFailed(
            path, str(error), "a recorded image", "look at the record; the next one can be played"
        ) from None
    return pixels
