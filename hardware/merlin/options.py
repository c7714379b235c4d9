"""What the YAML of a Merlin says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Port = Annotated[int, Field(gt=0, lt=65536)]


class Options(BaseModel):
    """How to reach the Merlin software, and its detector.

    Attributes
    ----------
    host, command_port, data_port : of the Merlin software, which takes one client on each.
    shape : (rows, columns) of its images.
    pixel_size_mm : of the detector.
    counter_depth : bits of a pixel's counter; its highest count is the dynamic range.
    continuous : count into one counter while reading the other (CONTINUOUSRW): no dead time,
        at most 12 bits.
    dead_time_s : between two exposures where not continuous, depends on the depth; measure it.
    settings : others to send at the start, such as THRESHOLD0 or HVBIAS.
    timeout_s : for an answer, and for an image beyond its exposure.
    tries : for a lost connection, with back-off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = "localhost"
    command_port: Port = 6341
    data_port: Port = 6342
    shape: tuple[PositiveInt, PositiveInt] = (512, 512)
    pixel_size_mm: PositiveFloat = 0.055
    counter_depth: Literal[1, 6, 12, 24] = 12
    continuous: bool = True
    dead_time_s: NonNegativeFloat = 0.0
    settings: dict[str, str | int | float] = Field(default_factory=dict)
    timeout_s: PositiveFloat = 5.0
    tries: PositiveInt = 3

    @model_validator(mode="after")
    def _possible(self) -> Options:
        if self.continuous and self.counter_depth == 24:
            raise ValueError("continuous: expected false with a counter_depth of 24")
        if self.continuous != (self.dead_time_s == 0):
            raise ValueError("dead_time_s: expected 0 if continuous, more than 0 if not")
        return self
