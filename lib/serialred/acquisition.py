"""What an acquisition session did: every view, every particle, and why it was taken or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Status = Literal["taken", "short", "refused", "lost", "failed", "left"]

# What each status means, for people.
STATUS: dict[Status, str] = {
    "taken": "the whole range was collected",
    "short": "collected, but not the whole range",
    "refused": "not suitable, or its snapshot was not a lattice",
    "lost": "not found again, or lost before its range began",
    "failed": "something on the instrument failed",
    "left": "suitable, but the session ended before its turn",
}


@dataclass(frozen=True)
class ViewRecord:
    """One low-magnification view of the grid.

    Attributes
    ----------
    x_um, y_um : of the stage.
    corners_um : (4, 2) what it saw, in stage coordinates, in order.
    n_particles : found in it.
    dark : hardly an electron came through: a bar of the grid, say.
    mean_counts : per pixel.
    """

    x_um: float
    y_um: float
    corners_um: tuple[tuple[float, float], ...]
    n_particles: int
    dark: bool = False
    mean_counts: float = 0.0


@dataclass(frozen=True)
class CrystalOutcome:
    """What became of one particle.

    Attributes
    ----------
    number : counts the particles of the session from 1.
    x_um, y_um : stage position that brings it to the middle of the picture at zero tilt.
    area_um2, quality : of the particle; quality 0..1 once a snapshot was taken, else NaN -> None.
    status, reason : and why, one line with its numbers.
    name, folder : of the series; "" where none was taken.
    alpha_start_deg, alpha_end_deg : collected range; None where none was.
    n_frames : of the series.
    height_um : by which the stage's z was changed for it, None if it was not measured.
    beam_s : time that the beam was on it.
    dose_e_per_A2 : the same as a dose, None where the dose rate is not known.
    """

    number: int
    x_um: float
    y_um: float
    area_um2: float
    status: Status
    reason: str
    quality: float | None = None
    name: str = ""
    folder: str = ""
    alpha_start_deg: float | None = None
    alpha_end_deg: float | None = None
    n_frames: int = 0
    height_um: float | None = None
    beam_s: float = 0.0
    dose_e_per_A2: float | None = None

    @property
    def range_deg(self) -> float:
        """Angle collected."""
        if self.alpha_start_deg is None or self.alpha_end_deg is None:
            return 0.0
        return abs(self.alpha_end_deg - self.alpha_start_deg)


@dataclass(frozen=True)
class Acquisition:
    """A session.

    Attributes
    ----------
    session, instrument : their names.
    duration_s : in the instrument's clock.
    ended : why it ended, one line.
    views, crystals : see there.
    """

    session: str
    instrument: str
    duration_s: float
    ended: str
    views: tuple[ViewRecord, ...]
    crystals: tuple[CrystalOutcome, ...]

    @property
    def taken(self) -> tuple[CrystalOutcome, ...]:
        """Those of which there is a series."""
        return tuple(one for one in self.crystals if one.folder)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Acquisition:
        """The reverse of `as_dict`."""
        views = tuple(
            ViewRecord(**{**one, "corners_um": tuple((x, y) for x, y in one["corners_um"])})
            for one in content["views"]
        )
        crystals = tuple(CrystalOutcome(**one) for one in content["crystals"])
        rest = {
            one.name: content[one.name]
            for one in fields(cls)
            if one.name not in ("views", "crystals")
        }
        return cls(**rest, views=views, crystals=crystals)
