"""The goniometer: temscript's stage commands end only on arrival, so they have a line of their own.

The scripting interface has no stop. Where moves are cut into steps (`Options.stage_steps`), a
stop leaves out the steps still to come: the stage rests when the one under way has ended.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from math import ceil, degrees, radians
from typing import Any

from ..errors import InstrumentError, LimitExceeded, StageHung, Unsupported
from ..protocols import StagePosition
from .line import Line
from .options import Options

# Ours, temscript's, and how many of temscript's units (m, rad) one of ours is.
AXES = {
    "x_um": ("x", 1e-6),
    "y_um": ("y", 1e-6),
    "z_um": ("z", 1e-6),
    "alpha_deg": ("a", radians(1.0)),
    "beta_deg": ("b", radians(1.0)),
}
_MOVING = ("GOING", "MOVING")


@dataclass(frozen=True)
class _Go:
    """One stage command; the position in metres and radians."""

    position: dict[str, float]
    speed: float | None = None


class Stage:
    """A goniometer driven through temscript.

    Parameters
    ----------
    ask : for everything but moves; may be the same server as that of `mover`, if `shared`.
    mover : for moves alone.
    limits : of each of temscript's axes, metres and radians.
    """

    def __init__(
        self,
        ask: Line,
        mover: Line,
        limits: dict[str, tuple[float, float]],
        options: Options,
        *,
        shared: bool,
        has_beta: bool,
    ) -> None:
        self._ask, self._mover, self._limits = ask, mover, limits
        self._options, self._shared, self._has_beta = options, shared, has_beta
        self._lock = threading.Lock()
        self._pending: deque[_Go] = deque()
        self._rests = threading.Event()
        self._rests.set()
        self._failed: InstrumentError | None = None

    def wait_for_turn(self) -> None:
        """Where one server does it all, wait until it is free. Raises `StageHung`."""
        whole = self._options.stage_steps is None
        if self._shared and whole and not self._rests.wait(self._options.move_timeout_s):
            raise StageHung(
                "stage",
                f"still moving after {self._options.move_timeout_s:g} s",
                "arrival",
                "look for an obstacle or a hung goniometer before going on",
            )

    def position(self) -> StagePosition:
        """The read-out."""
        self.wait_for_turn()
        found = self._ask.call("get_stage_position", tries=self._options.tries)
        x, y, z = (found[axis] * 1e6 for axis in "xyz")
        return StagePosition(x, y, z, degrees(found["a"]), degrees(found.get("b", 0.0)))

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
        """As `protocols.Stage`; a command under way ends before this move begins."""
        asked = {
            "x_um": x_um,
            "y_um": y_um,
            "z_um": z_um,
            "alpha_deg": alpha_deg,
            "beta_deg": beta_deg,
        }
        target = {}
        for name, value in asked.items():
            if value is not None:
                axis, unit = AXES[name]
                self._check(name, axis, value, unit)
                target[axis] = value * unit
        speed = self._speed(speed_deg_per_s)
        self._raise_failure()
        if not target:
            return
        moves = self._steps(target, speed)
        with self._lock:
            self._pending = deque(moves)
            if self._rests.is_set():
                self._rests.clear()
                self._mover.start(self._drive).add_done_callback(self._driven)

    def is_moving(self) -> bool:
        """Whether a move is under way. Raises what went wrong with the last one."""
        if not self._rests.is_set():
            return True
        self._raise_failure()
        return self._ask.call("get_stage_status", tries=self._options.tries) in _MOVING

    def stop(self) -> None:
        """Leave out the steps to come. Raises `Unsupported` where moves are not cut into steps."""
        self.abandon()
        if self._options.stage_steps is None:
            raise Unsupported(
                "stage",
                "no stop in the scripting interface",
                "moves cut into steps",
                "set stage_steps in the instrument's YAML, or press the joystick's stop",
            )

    def abandon(self) -> None:
        """Leave out the moves that have not begun."""
        with self._lock:
            self._pending.clear()

    def _drive(self, microscope: Any) -> None:
        """In the mover's thread: one command after the other, until none is left."""
        while True:
            with self._lock:
                if not self._pending:
                    self._rests.set()
                    return
                go = self._pending.popleft()
            microscope.set_stage_position(go.position, method="GO", speed=go.speed)

    def _driven(self, done: Any) -> None:
        error = done.exception()
        if error is not None:
            with self._lock:
                self._failed = error
                self._pending.clear()
                self._rests.set()

    def _raise_failure(self) -> None:
        with self._lock:
            failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _check(self, name: str, axis: str, value: float, unit: float) -> None:
        if axis == "b" and not self._has_beta:
            raise Unsupported("stage beta_deg", "a single-tilt holder", "beta", "leave it out")
        # temscript's dummy goes to the nearest limit instead, and says nothing
        low, high = (limit / unit for limit in self._limits[axis])
        if not low - 1e-9 <= value <= high + 1e-9:
            raise LimitExceeded(
                f"stage {name}",
                f"{value:g}",
                f"{low:g} to {high:g} (limits of the microscope)",
                "choose a position within; nothing was moved",
            )

    def _speed(self, speed_deg_per_s: float | None) -> float | None:
        full = self._options.full_speed_deg_per_s
        if speed_deg_per_s is None:
            return None
        if full is None:
            raise Unsupported(
                "stage speed",
                f"{speed_deg_per_s:g} deg/s",
                "a microscope whose speed was measured",
                "set full_speed_deg_per_s in the instrument's YAML",
            )
        if not 0 < speed_deg_per_s <= full:
            raise LimitExceeded(
                "stage speed",
                f"{speed_deg_per_s:g} deg/s",
                f"more than 0, at most {full:g} deg/s",
                "choose one within; nothing was moved",
            )
        return speed_deg_per_s / full

    def _steps(self, target: dict[str, float], speed: float | None) -> list[_Go]:
        """The commands of a move: whole or cut; with a speed, alpha by itself and last."""
        with_speed = {"a": target["a"]} if speed is not None and "a" in target else {}
        rest = {axis: value for axis, value in target.items() if axis not in with_speed}
        moves = [(rest, None), (with_speed, speed)]
        if self._options.stage_steps is None:
            return [_Go(position, speed) for position, speed in moves if position]
        here = self._ask.call("get_stage_position", tries=self._options.tries)
        return [_Go(one, speed) for position, speed in moves for one in self._cut(here, position)]

    def _cut(self, here: dict[str, float], target: dict[str, float]) -> list[dict[str, float]]:
        steps = self._options.stage_steps
        assert steps is not None
        largest = dict.fromkeys("xyz", steps.xyz_um * 1e-06) | {
            axis: radians(steps.tilt_deg) for axis in "ab"
        }
        ways = [abs(target[axis] - here[axis]) / largest[axis] for axis in target]
        n = max((ceil(way - 1e-9) for way in ways), default=0)
        n = max(n, 1) if target else 0
        return [
            {axis: here[axis] + (target[axis] - here[axis]) * i / n for axis in target}
            for i in range(1, n + 1)
        ]
