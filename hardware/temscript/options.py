"""What the YAML of a Thermo Fisher microscope says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError("expected [lowest, highest]")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Port = Annotated[int, Field(gt=0, lt=65536)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StageSteps(_Strict):
    """Largest way of one stage command, where moves are cut so that they can be stopped."""

    xyz_um: PositiveFloat = 5.0
    tilt_deg: PositiveFloat = 1.0


class Options(_Strict):
    """How to reach the microscope, and its nominal ranges.

    Attributes
    ----------
    connection : ``remote``, a temscript-server; ``local``, the scripting interface of the
        computer this runs on; ``null``, temscript's dummy, for trying.
    host, port : of the server.
    stage_port : of a second server on the same computer, for stage moves alone. Without it
        every other call waits until a move has ended: the server does one thing at a time.
    timeout_s, tries : of one exchange; a lost connection is tried again with back-off.
    move_timeout_s : of one stage command.
    stage_steps : cut moves into steps, so that the stage can be stopped between two of them;
        None sends each move as one command, and the stage cannot be stopped.
    full_speed_deg_per_s : tilt speed at temscript's speed 1, measured; None if not known.
    voltage_kV : if given, a microscope at another one is refused.
    beam_shift_nm, image_shift_nm, beam_tilt_mrad, diffraction_shift_mrad : ranges.
    shift_step_nm, tilt_step_mrad : smallest changes.
    brightness : which setting is the brightness: ``intensity`` is a fraction by itself,
        ``illuminated_area`` (Titan family, parallel mode) is one of `illuminated_area_um`.
    brightness_limits : lowest and highest fraction.
    focus_um : range of the diffraction focus; `focus_um_per_unit` is what one of
        temscript's units is: 1e6 where the microscope counts in metres.
    magnifications, camera_lengths_mm : by value, the index that selects it.
    """

    connection: Literal["remote", "local", "null"]
    host: str = "localhost"
    port: Port = 8080
    stage_port: Port | None = None
    timeout_s: PositiveFloat = 5.0
    tries: PositiveInt = 3
    move_timeout_s: PositiveFloat = 300.0
    stage_steps: StageSteps | None = None
    full_speed_deg_per_s: PositiveFloat | None = None
    voltage_kV: PositiveFloat | None = None
    beam_shift_nm: Range = (-10_000.0, 10_000.0)
    image_shift_nm: Range = (-10_000.0, 10_000.0)
    shift_step_nm: PositiveFloat = 0.1
    beam_tilt_mrad: Range = (-50.0, 50.0)
    diffraction_shift_mrad: Range = (-100.0, 100.0)
    tilt_step_mrad: PositiveFloat = 0.001
    brightness: Literal["intensity", "illuminated_area"] = "intensity"
    illuminated_area_um: PositiveFloat = 100.0
    brightness_limits: Range = (0.0, 1.0)
    focus_um: Range = (-1000.0, 1000.0)
    focus_um_per_unit: PositiveFloat = 1e6
    magnifications: dict[PositiveInt, PositiveInt] = Field(default_factory=dict)
    camera_lengths_mm: dict[PositiveFloat, PositiveInt] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _two_servers(self) -> Options:
        if self.stage_port is not None and self.connection != "remote":
            raise ValueError("stage_port: expected only with connection: remote")
        if self.stage_port == self.port:
            raise ValueError("stage_port: expected another server than that of port")
        return self
