"""The line to the simulated microscope, and the stage at its other end (`protocols.Stage`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from ..errors import ConnectionLost, LimitExceeded, Unsupported
from ..protocols import Capability, StagePosition
from .column import Column
from .faults import HUNG, FaultKind

T = TypeVar("T")
LOST: tuple[FaultKind, ...] = ("connection_lost", "microscope_lost")


class Latencies(BaseModel):
    """What a call costs in seconds, as instamatic's sources note them for a JEOL.

    Attributes
    ----------
    deflector, lens, status : read or set one; `status` is anything only asked for.
    stage_read, stage_command : the goniometer's read-out; any command to it.
    mode, magnification : switching, with all lenses.
    blank, screen : the beam blanker; the screen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    deflector: NonNegativeFloat = 0.05
    lens: NonNegativeFloat = 0.05
    status: NonNegativeFloat = 0.04
    stage_read: NonNegativeFloat = 0.27
    stage_command: NonNegativeFloat = 0.05
    mode: NonNegativeFloat = 0.5
    magnification: NonNegativeFloat = 0.5
    blank: NonNegativeFloat = 0.05
    screen: NonNegativeFloat = 1.0


class StageRange(BaseModel):
    """Where the goniometer itself refuses to go: [lowest, highest]."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    x_um: tuple[float, float] = (-1000.0, 1000.0)
    y_um: tuple[float, float] = (-1000.0, 1000.0)
    z_um: tuple[float, float] = (-200.0, 200.0)
    alpha_deg: tuple[float, float] = (-75.0, 75.0)
    beta_deg: tuple[float, float] = (-30.0, 30.0)


class Line:
    """The connection to the microscope: every call takes time, and fails when it is lost.

    What a call reads or sets happens half way through it.
    """

    def __init__(
        self, column: Column, latencies: Latencies, lacking: frozenset[Capability]
    ) -> None:
        self.column, self.latencies, self.lacking = column, latencies, lacking
        self.released = False

    def need(self, part: Capability) -> None:
        """Raise `Unsupported` for a part that this twin is told to lack."""
        if part in self.lacking:
            raise Unsupported(
                "simulated microscope", f"no {part.value}", "one", "leave it out of `lacking`"
            )

    def call(self, seconds: float, action: Callable[[], T]) -> T:
        """Do it and let the call's time pass. Raises `ConnectionLost`."""
        column = self.column
        clock, faults = column.clock, column.faults
        clock.sleep(seconds / 2)
        now = clock.now()
        faults.called(now)
        if self.released:
            raise ConnectionLost(
                "simulated microscope", "a released one", "an open one", "connect again"
            )
        if faults.windows and faults.active(LOST, now):
            raise ConnectionLost(
                "simulated microscope",
                "no answer",
                "one",
                "the fault is on purpose; wait for it to end, or clear it",
            )
        with column.lock:
            result = action()
        clock.sleep(seconds / 2)
        return result


class SimulatedStage:
    """The goniometer (`protocols.Stage`)."""

    def __init__(self, line: Line, limits: StageRange) -> None:
        self._line, self._limits = line, limits
        self._goniometer = line.column.goniometer

    def position(self) -> StagePosition:
        """The read-out."""
        line = self._line
        return line.call(line.latencies.stage_read, lambda: self._goniometer.position(self._time()))

    def start_move(
        self,
        *,
        x_um: float | None = None,
        y_um: float | None = None,
        z_um: float | None = None,
        alpha_deg: float | None = None,
        beta_deg: float | None = None,
        speed_deg_per_s: float | None = None,
    ) -> None:
        """Start towards a position and return at once; a speed holds for alpha."""
        target = {
            name: float(value)
            for name, value in (
                ("x_um", x_um), ("y_um", y_um), ("z_um", z_um),
                ("alpha_deg", alpha_deg), ("beta_deg", beta_deg),
            )
            if value is not None
        }  # fmt: skip
        for name, value in target.items():
            low, high = getattr(self._limits, name)
            if not low <= value <= high:
                raise LimitExceeded(
                    f"stage {name}", f"{value:g}", f"{low:g} to {high:g}", "nothing was moved"
                )
        if speed_deg_per_s is not None:
            self._line.need(Capability.ROTATION_SPEED)
        if beta_deg is not None:
            self._line.need(Capability.BETA)
        top = self._goniometer.options.max_speed_deg_per_s
        if speed_deg_per_s is not None and not 0 < speed_deg_per_s <= top:
            raise LimitExceeded(
                "stage speed_deg_per_s", f"{speed_deg_per_s:g}", f"above 0, to {top:g}",
                "nothing was moved",
            )  # fmt: skip
        line = self._line
        line.call(
            line.latencies.stage_command,
            lambda: self._goniometer.command(self._time(), target, speed_deg_per_s),
        )

    def is_moving(self) -> bool:
        """Whether a move is under way."""
        line = self._line
        return line.call(line.latencies.status, lambda: self._goniometer.is_moving(self._time()))

    def stop(self) -> None:
        """Stop all axes now."""
        line = self._line
        line.need(Capability.STAGE_STOP)
        line.call(line.latencies.stage_command, self._stop)

    def _stop(self) -> None:
        faults, now = self._line.column.faults, self._line.column.clock.now()
        if faults.active(("stage_hung_for_good",), now):
            return
        self._goniometer.stop(self._time(), frozen=faults.active(HUNG, now) is not None)

    def _time(self) -> float:
        column = self._line.column
        return column.stage_time(column.clock.now())
