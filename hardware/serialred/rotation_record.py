"""What a rotation hands on as it comes, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ...lib.serialred.abort import Abort
from ..protocols import Exposure


class Sink(Protocol):
    """Takes everything as it comes."""

    def frame(
        self, number: int, exposure: Exposure, alpha_start_deg: float, alpha_end_deg: float
    ) -> None:
        """A diffraction frame; the angles are those of the line known by then."""
        ...

    def tracking(
        self, number: int, exposure: Exposure, alpha_start_deg: float, alpha_end_deg: float
    ) -> None:
        """A defocused image."""
        ...

    def flat(self, exposure: Exposure, alpha_deg: float) -> None:
        """A defocused image of the bare beam around the crystal, before the rotation."""
        ...

    def decision(self, what: dict[str, Any]) -> None:
        """What was decided, with its numbers; plain types, ``decision`` names it."""
        ...


@dataclass(frozen=True)
class FrameAngles:
    """A diffraction frame's angles by the line through all read-outs."""

    number: int
    alpha_start_deg: float
    alpha_end_deg: float


@dataclass(frozen=True)
class RotationRecord:
    """How a rotation ended.

    Attributes
    ----------
    complete : whether it came to the end of its range.
    reason : why it ended, one line.
    abort : the rule that was broken, if one was.
    alpha_start_deg, alpha_end_deg : collected; of the first and the last frame.
    alpha_target_deg : where it was to go.
    frames : of all diffraction frames.
    n_tracking : defocused images.
    speed_deg_per_s, alpha_rms_deg : of the line through the read-outs, and of those about it.
    """

    complete: bool
    reason: str
    abort: Abort | None
    alpha_start_deg: float
    alpha_end_deg: float
    alpha_target_deg: float
    frames: tuple[FrameAngles, ...]
    n_tracking: int
    speed_deg_per_s: float
    alpha_rms_deg: float

    @property
    def range_deg(self) -> float:
        """Angle collected."""
        return abs(self.alpha_end_deg - self.alpha_start_deg)
