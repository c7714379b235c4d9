"""What may go wrong with the twin, on demand: now, at a time, at a call, or at an exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FaultKind = Literal[
    "connection_lost",
    "microscope_lost",
    "camera_lost",
    "stage_hung",
    "stage_hung_for_good",
    "camera_timeout",
    "beam_lost",
    "beam_drift",
    "stage_drift",
    "specimen_jump",
    "corrupt_shape",
    "corrupt_zeros",
    "corrupt_noise",
]
HUNG: tuple[FaultKind, ...] = ("stage_hung", "stage_hung_for_good")


class Fault(BaseModel):
    """Something that goes wrong.

    Attributes
    ----------
    kind : ``connection_lost`` (both servers), ``microscope_lost``, ``camera_lost``: every call
        raises `ConnectionLost`. ``stage_hung``: the stage stands still, says that it moves, and
        goes on afterwards (a short one is a stall); a stop works. ``stage_hung_for_good``: nor
        does the stop. ``camera_timeout``: no image. ``beam_lost``: no electrons.
        ``beam_drift``, ``stage_drift``: by (x_um, y_um) per second. ``specimen_jump``: by (x_um,
        y_um) at once. ``corrupt_shape``: an image of another shape; ``corrupt_zeros``;
        ``corrupt_noise``: random numbers instead of an image.
    at_s, at_call, at_exposure : when: at a time of the clock; at the call of any device or the
        exposure of that number, counted from 0 in the twin's life; none of them: now.
    duration_s : after which it is as before; None: when it is cleared.
    x_um, y_um : lab frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: FaultKind
    at_s: float | None = None
    at_call: int | None = Field(default=None, ge=0)
    at_exposure: int | None = Field(default=None, ge=0)
    duration_s: float | None = Field(default=None, gt=0)
    x_um: float = 0.0
    y_um: float = 0.0

    @model_validator(mode="after")
    def _one_moment(self) -> Fault:
        if sum(at is not None for at in (self.at_s, self.at_call, self.at_exposure)) > 1:
            raise ValueError("expected one of at_s, at_call and at_exposure, or none")
        return self


@dataclass
class Window:
    """A fault that has its times."""

    fault: Fault
    begin_s: float
    end_s: float


class Faults:
    """Those planned and those that happened."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.calls = 0
        self._waiting: list[Fault] = []

    def add(self, fault: Fault, now_s: float) -> None:
        """Plan a fault; one without a moment begins now."""
        if fault.at_call is None and fault.at_exposure is None:
            self._begin(fault, now_s if fault.at_s is None else fault.at_s)
        else:
            self._waiting.append(fault)

    def clear(self, now_s: float, kind: FaultKind | None = None) -> None:
        """End those of one kind, or all, and forget those planned; what moved stays moved."""
        self._waiting = [one for one in self._waiting if kind not in (None, one.kind)]
        for window in self.windows:
            if kind in (None, window.fault.kind):
                window.end_s = min(window.end_s, max(now_s, window.begin_s))

    def called(self, now_s: float) -> None:
        """A device was called."""
        number, self.calls = self.calls, self.calls + 1
        if self._waiting:
            self._release([one for one in self._waiting if one.at_call == number], now_s)

    def exposed(self, number: int, now_s: float) -> None:
        """An exposure begins."""
        if self._waiting:
            self._release([one for one in self._waiting if one.at_exposure == number], now_s)

    def active(self, kinds: tuple[FaultKind, ...], t_s: float) -> Window | None:
        """One that is under way at that time, if any."""
        for window in self.windows:
            if window.begin_s <= t_s < window.end_s and window.fault.kind in kinds:
                return window
        return None

    def hung_s(self, t_s: float) -> float:
        """For how long the stage had been hung until then."""
        total, counted = 0.0, -math.inf
        hung = (w for w in self.windows if w.fault.kind in HUNG and w.begin_s < t_s)
        for window in sorted(hung, key=lambda one: one.begin_s):  # they may overlap
            begin, end = max(window.begin_s, counted), min(window.end_s, t_s)
            total, counted = total + max(end - begin, 0.0), max(counted, end)
        return total

    def moved_um(self, kind: FaultKind, t_s: float) -> tuple[float, float]:
        """How far a drift or jumps had moved things until then, lab (x, y)."""
        x = y = 0.0
        for window in self.windows:
            fault = window.fault
            if fault.kind == kind and window.begin_s <= t_s:
                by = 1.0 if kind == "specimen_jump" else min(t_s, window.end_s) - window.begin_s
                x, y = x + by * fault.x_um, y + by * fault.y_um
        return x, y

    def edges(self, begin_s: float, end_s: float) -> list[float]:
        """When something begins or ends between two times."""
        return [
            edge
            for window in self.windows
            for edge in (window.begin_s, window.end_s)
            if begin_s < edge < end_s
        ]

    def _release(self, due: list[Fault], now_s: float) -> None:
        for fault in due:
            self._waiting.remove(fault)
            self._begin(fault, now_s)

    def _begin(self, fault: Fault, begin_s: float) -> None:
        end = math.inf if fault.duration_s is None else begin_s + fault.duration_s
        self.windows.append(Window(fault, begin_s, end))
