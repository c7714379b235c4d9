"""What a user may choose about the calibration by an overfocused scan."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class OverfocusConfig(BaseModel):
    """Choices; the defaults are meant to be left alone. All of it is recorded in the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overfocused: bool = Field(
        True, description="the focus lay above the specimen; data cannot tell (-o is 180 degrees)"
    )
    binning: int | None = Field(
        None, ge=1, le=64, description="detector px binned; None: by the disc's radius"
    )
    drift: Literal["none", "curved", "all"] = Field(
        "curved",
        description="movement of the specimen from row to row that is fitted: none; what is not"
        " proportional to time (a steady drift looks like a scan distortion); all, taking the scan"
        " itself as free of shear",
    )
    max_anisotropy: float = Field(
        0.03, gt=0, description="difference of A's singular values over their sum that is believed"
    )
    min_lag_snr: float = Field(7.0, gt=0, description="signal to noise of the movement's peaks")
    max_spread: float = Field(
        0.0025,
        gt=0,
        description="standard error of the scale (relative) and of the rotation (radians) that is"
        " still a calibration",
    )
    max_disagreement: float = Field(
        0.02, gt=0, description="relative difference of G from two halves of the scan"
    )
    blocks: int = Field(6, ge=2, le=32, description="regions along each axis for the bootstrap")
    resamplings: int = Field(400, ge=50, description="of the regions, for the covariance")
    seed: int = Field(0, description="of the bootstrap")
