"""What a user may choose about the preparation of patterns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PreprocessConfig(BaseModel):
    """What is done to patterns before anything is learnt from them; all of it is recorded.

    The weight of a pixel is 1 / (2 variance) with
    ``variance = excess_noise * electrons + read_noise_e²``. No minimum or maximum is taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gain: float | None = Field(None, gt=0, description="counts per electron; None: the scan's")
    pedestal: float | None = Field(None, description="counts at no electrons; None: the scan's")
    read_noise_e: float = Field(0.0, ge=0, description="r.m.s. electrons per raw pixel")
    excess_noise: float = Field(
        1.0,
        ge=1,
        description="variance per electron; 1 for counting cameras, more for scintillators",
    )
    pseudo_dose: float | None = Field(
        None, gt=0, description="for patterns without noise: electrons to take their mean for"
    )
    least_variance_e2: float = Field(
        0.01, gt=0, description="electrons squared, for prepared pixels that see next to nothing"
    )
    centre: Literal["disc", "calibration"] | tuple[float, float] = Field(
        "disc", description="fitted to the mean's disc, from the overfocus calibration, or stated"
    )
    distortion: Literal["rings", "none"] = Field(
        "none", description="ellipse to take out: that of the ring calibration"
    )
    shape: tuple[int, int] = Field((64, 64), description="(rows, columns) of prepared patterns")
    bin_px: float | None = Field(
        None, gt=0, description="raw pixels per edge; None: the least whole number that fits all"
    )
    subtract: Literal["mean", "none"] = Field(
        "mean", description="the mean pattern, and with it rings and spots all patterns share"
    )
    ring_px: tuple[float, float] | None = Field(
        None, description="(inner, outer) radius in prepared pixels to mask, where a ring varies"
    )
    outer_discs: float | None = Field(
        None, gt=0, description="mask beyond this many radii of the disc"
    )
    pca: int | Literal["noise"] | None = Field(
        None, description="components kept; noise: those that stand out of it; None: no denoising"
    )

    @model_validator(mode="after")
    def _consistent(self) -> PreprocessConfig:
        if min(self.shape) < 8:
            raise ValueError(f"shape: found {self.shape}, expected at least 8 x 8")
        if isinstance(self.pca, int) and self.pca < 1:
            raise ValueError(f"pca: found {self.pca}, expected at least 1")
        if self.ring_px and not 0 <= self.ring_px[0] < self.ring_px[1]:
            raise ValueError(f"ring_px: found {self.ring_px}, expected inner < outer")
        return self
