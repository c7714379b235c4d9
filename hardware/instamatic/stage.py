"""The goniometer: moves are started, then polled, for a blocking one freezes every other call."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from ..errors import LimitExceeded, Unsupported
from ..protocols import Capability, Clock, StagePosition
from .connection import Connection, anything, flag, nothing, numbers
from .options import Options

# Ours, the server's, and how many of the server's units (nm, degrees) one of ours is.
AXES = {
    "x_um": ("x", 1000.0),
    "y_um": ("y", 1000.0),
    "z_um": ("z", 1000.0),
    "alpha_deg": ("a", 1.0),
    "beta_deg": ("b", 1.0),
}


class Stage:
    """A goniometer behind instamatic (`protocols.Stage`).

    Parameters
    ----------
    capabilities : of the microscope.
    """

    def __init__(
        self,
        connection: Connection,
        options: Options,
        clock: Clock,
        capabilities: frozenset[Capability],
    ) -> None:
        self._connection, self._options, self._clock = connection, options, clock
        self._capabilities = capabilities
        self._started_s = -math.inf
        self._setting: float | None = None  # of the rotation speed, as we left it

    def position(self) -> StagePosition:
        """The read-out."""
        x, y, z, a, b = self._connection.call("getStagePosition", read=numbers(5))
        return StagePosition(x / 1000, y / 1000, z / 1000, float(a), float(b))

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
        """As `protocols.Stage`; an FEI answers on arrival only, and this waits for it."""
        asked = {
            "x_um": x_um,
            "y_um": y_um,
            "z_um": z_um,
            "alpha_deg": alpha_deg,
            "beta_deg": beta_deg,
        }
        target: dict[str, Any] = {}
        for name, value in asked.items():
            if value is not None:
                axis, scale = AXES[name]
                target[axis] = _in_units(name, value, scale)
        if beta_deg is not None and Capability.BETA not in self._capabilities:
            raise Unsupported("stage beta_deg", "no beta", "a double-tilt holder", "leave it out")
        setting = self._speed_setting(speed_deg_per_s)
        if not target:
            return
        fei = self._options.interface == "fei"
        if setting is not None and "a" in target:
            if fei:
                target["speed"] = setting
            else:
                self._set_speed(setting)
        self._connection.call(
            "setStagePosition",
            **target,
            wait=False,
            read=nothing,
            timeout_s=self._options.move_timeout_s if fei else None,
        )
        self._started_s = self._clock.now()

    def is_moving(self) -> bool:
        """Whether a move is under way, or has only just begun."""
        if self._clock.now() - self._started_s < self._options.first_status_s:
            return True
        return self._connection.call("isStageMoving", read=flag)

    def stop(self) -> None:
        """Stop all axes now."""
        if Capability.STAGE_STOP not in self._capabilities:
            raise Unsupported(
                "stage", "no stop behind this server", "one", "press the joystick's stop"
            )
        self._connection.call("stopStage", read=anything)
        self._started_s = -math.inf

    def leave(self) -> None:
        """Set the rotation back to full speed, if it is not."""
        if self._setting is not None:
            self._set_speed(max(self._options.rotation_speeds, key=self._rate))

    def _rate(self, setting: float) -> float:
        return self._options.rotation_speeds[setting]

    def _set_speed(self, setting: float) -> None:
        """GonioTool takes long to set one: only where it is not set already."""
        if setting != self._setting:
            self._setting = None
            whole = int(setting) if setting == int(setting) else setting
            self._connection.call("setRotationSpeed", whole, read=nothing)
            self._setting = setting

    def _speed_setting(self, speed_deg_per_s: float | None) -> float | None:
        """The server's number for a speed; None: leave it alone."""
        table = self._options.rotation_speeds
        if Capability.ROTATION_SPEED not in self._capabilities:
            if speed_deg_per_s is None:
                return None
            raise Unsupported(
                "stage speed",
                f"{speed_deg_per_s:g} deg/s",
                "a goniometer whose speed can be set and was measured",
                "start GonioTool's server and give rotation_speeds in the instrument's YAML",
            )
        if speed_deg_per_s is None:
            return max(table, key=self._rate)
        speeds = sorted((rate, setting) for setting, rate in table.items())
        lowest, highest = speeds[0][0], speeds[-1][0]
        if self._options.any_speed and lowest <= speed_deg_per_s <= highest:
            for (r0, s0), (r1, s1) in pairwise(speeds):
                if r0 <= speed_deg_per_s <= r1:
                    return s0 + (s1 - s0) * (speed_deg_per_s - r0) / (r1 - r0)
        rate, setting = min(speeds, key=lambda one: abs(one[0] - speed_deg_per_s))
        off = abs(rate - speed_deg_per_s)
        if not off <= self._options.speed_tolerance * rate or speed_deg_per_s <= 0:
            known = ", ".join(f"{one:g}" for one, _ in speeds)
            raise LimitExceeded(
                "stage speed",
                f"{speed_deg_per_s:g} deg/s",
                f"{lowest:g} to {highest:g} deg/s"
                if self._options.any_speed
                else f"one of {known}",
                "choose such a one; nothing was moved",
            )
        return setting


def _in_units(name: str, value: float, scale: float) -> float:
    if not math.isfinite(value):
        raise LimitExceeded(f"stage {name}", f"{value}", "a number", "nothing was moved")
    return round(value * scale) if scale != 1 else float(value)
