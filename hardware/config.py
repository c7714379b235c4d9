"""How an instrument is driven: the `control` part of its YAML in configs/instruments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from ..lib.errors import UserError
from ..lib.instrument import Instrument, first_problem, load_instrument
from .errors import LimitExceeded
from .protocols import StagePosition

AXES = ("x_um", "y_um", "z_um", "alpha_deg", "beta_deg")


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError("expected [lowest, highest]")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StageLimits(_Strict):
    """Where the stage may go; [lowest, highest] of each axis, checked before each move.

    There are no defaults: what is safe depends on the pole piece and the holder.
    """

    x_um: Range
    y_um: Range
    z_um: Range
    alpha_deg: Range
    beta_deg: Range = (-0.5, 0.5)

    def check(self, **target: float | None) -> None:
        """Raise `LimitExceeded` if an axis of `target` lies outside; None means: stays."""
        for axis in AXES:
            value = target.get(axis)
            low, high = getattr(self, axis)
            if value is not None and not low <= value <= high:
                raise LimitExceeded(
                    f"stage {axis}",
                    f"{value:g}",
                    f"{low:g} to {high:g} (limits of the instrument's YAML)",
                    "choose a position within; nothing was moved",
                )

    def holds(self, position: StagePosition) -> bool:
        """Whether a position lies within."""
        return all(
            getattr(self, axis)[0] <= getattr(position, axis) <= getattr(self, axis)[1]
            for axis in AXES
        )


class Adapter(BaseModel):
    """Which adapter, and its own options beside it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    adapter: str

    @property
    def options(self) -> dict[str, Any]:
        """What the adapter itself is told."""
        return dict(self.model_extra or {})


class Control(_Strict):
    """The `control` part of an instrument.

    Attributes
    ----------
    microscope, camera : adapters with their options.
    limits : of the stage.
    dead_man_s : the guard takes over when the driving program gave no sign of life so long.
    um_per_px : nominal, of a picture, by magnification; only to recognise particles before the
        stage is calibrated.
    clock_speed : seconds of the instrument's time in one of the wall's. Another than 1 is for the
        twin behind servers (docs/twin.md), which were started with the same.
    """

    microscope: Adapter
    camera: Adapter
    limits: StageLimits
    dead_man_s: PositiveFloat = 30.0
    um_per_px: dict[PositiveInt, PositiveFloat] = Field(default_factory=dict)
    clock_speed: PositiveFloat = 1.0


def load_control(name_or_path: str | Path) -> tuple[Instrument, Control]:
    """An instrument and how to drive it.

    Raises
    ------
    UserError : as `load_instrument`; or the instrument has no `control` part, or a wrong one.
    """
    instrument = load_instrument(name_or_path)
    if instrument.control is None:
        raise UserError(
            f"instrument {instrument.name}: control",
            "nothing",
            "adapters and stage limits",
            "add a control part to its YAML (docs/adapters.md), or use the instrument twin",
        )
    try:
        return instrument, Control.model_validate(instrument.control)
    except ValidationError as error:
        raise first_problem(f"instrument {instrument.name}: control", error) from None
