"""What a user may choose about rotationally invariant autoencoders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Training(BaseModel):
    """What both models share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latents: int = Field(2, ge=1, le=5, description="content variables beside the angle")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, max_length=32, description="runs trained side by side"
    )
    hidden: int = Field(128, ge=4, le=1024, description="neurons of a hidden layer")
    held_out: float = Field(0.15, gt=0, lt=0.5, description="share of patterns never trained on")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to compute")
    look_every: int = Field(
        1, ge=1, description="epochs between looks at the held-out patterns, the stopping rule's"
    )
    patience: int = Field(
        20, ge=1, description="looks without a better held-out ELBO in any run, then it ends"
    )


class HarmonicConfig(_Training):
    """The default model: circular harmonics, rotation an exact phase, an affine decoder."""

    model: Literal["harmonic"] = "harmonic"
    epochs: int = Field(60, ge=1)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(5e-3, gt=0, description="of Adam")
    falls: bool = Field(True, description="whether the learning rate falls to 0 by the last epoch")
    highest_order: int = Field(8, ge=1, le=32, description="of the circular harmonics")
    ring_px: float = Field(2.0, gt=0.5, description="distance of the radial functions")
    most_components: int = Field(48, ge=1, description="steerable principal components kept")


class CoordinateConfig(_Training):
    """The paper's rrVAE: Gaussian latents, a decoder of turned coordinates."""

    model: Literal["coordinate"] = "coordinate"
    epochs: int = Field(600, ge=1)
    batch: int = Field(20, ge=1)
    learning_rate: float = Field(1e-4, gt=0, description="of Adam")
    falls: bool = Field(False, description="whether the learning rate falls to 0")
    look_every: int = Field(10, ge=1)
    angle: Literal["gaussian", "circular"] = Field(
        "gaussian",
        description="the paper's angle, or atan2 of two outputs with a uniform prior",
    )
    angle_prior_sd: float = Field(0.1, gt=0, description="radians, of the Gaussian angle")
    pixels: int = Field(256, ge=16, description="drawn anew in each step; all if fewer")
    half_precision: bool = Field(
        True, description="decoder products in bfloat16 where the machine computes them fast"
    )


RrvaeConfig = Annotated[HarmonicConfig | CoordinateConfig, Field(discriminator="model")]
