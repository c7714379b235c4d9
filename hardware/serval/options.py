"""What the YAML of a camera behind Serval says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)

Port = Annotated[int, Field(ge=0, lt=65536)]


class Options(BaseModel):
    """How to reach a Serval server, and its detector.

    Attributes
    ----------
    host, port : of the server.
    frames : how images come. ``tcp``: Serval connects to us and sends each with its number and
        time. ``http``: we ask for TIFFs one by one; a lost one is told by Serval's counters.
    receive_host, receive_port : where Serval, as seen from its computer, connects to for
        ``tcp``; port 0 takes any free one (a firewall will want a fixed one).
    shape : (rows, columns) of its images, as rotated by its layout.
    pixel_size_mm, dynamic_range : of the detector.
    dead_time_s : between two exposures; 0 asks for Serval's gapless mode, CONTINUOUS.
    pixel_mode : what a pixel counts.
    detector : settings of /detector/config to send at the start, such as BiasVoltage.
    timeout_s : for an answer, and for an image beyond its exposure.
    tries : for a lost connection, with back-off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = "localhost"
    port: Port = 8080
    frames: Literal["tcp", "http"] = "tcp"
    receive_host: str = "localhost"
    receive_port: Port = 0
    shape: tuple[PositiveInt, PositiveInt] = (512, 512)
    pixel_size_mm: PositiveFloat = 0.055
    dynamic_range: PositiveInt = 11_800
    dead_time_s: NonNegativeFloat = 0.002
    pixel_mode: Literal["count", "tot"] = "count"
    detector: dict[str, Any] = Field(default_factory=dict)
    timeout_s: PositiveFloat = 5.0
    tries: PositiveInt = 3
