"""What a user may choose about calibration by rings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RingConfig(BaseModel):
    """Choices; the defaults are meant to be left alone. All of it is recorded in the manifest.

    The first four state what an image's file does not, or states wrongly; they win over it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wavelength_A: float | None = Field(None, gt=0, description="electron wavelength, Å")
    pixel_size_mm: float | None = Field(None, gt=0, description="edge of a pixel, mm")
    camera_length_mm: float | None = Field(None, gt=0, description="about; a start, and a check")
    saturation: float | None = Field(None, gt=0, description="counts from which a pixel is full")
    tolerance: float = Field(
        0.15, gt=0, lt=0.5,
        description="part by which a stated camera length may be wrong; beyond it: not calibrated",
    )  # fmt: skip
    use_stated_scale: bool = Field(True, description="start from and check with what files state")
    d_max_A: float | None = Field(None, gt=0, description="leave out rings of larger spacing")
    d_min_A: float | None = Field(None, gt=0, description="leave out rings of smaller spacing")
    ellipse: bool = Field(True, description="fit the ellipse of the projector lenses")
    known_distortion: tuple[float, float] | None = Field(
        None, description="(ratio, azimuth in degrees) of the ellipse, known from elsewhere, kept"
    )
    tilt: bool = Field(False, description="fit the detector's tilt")
    three_fold: Literal["fit", "none", "if seen"] = Field(
        "if seen", description="three-fold distortion of the lenses"
    )
    radial: bool = Field(False, description="fit the third-order radial distortion of the lenses")
    heights_um: tuple[float, ...] = Field(
        (),
        description="sample height of each image; with two or more heights their effect is fitted",
    )
    min_rings: int = Field(3, ge=2, description="fewest rings for a calibration")
    largest_centre_sd_px: float = Field(0.1, gt=0, description="beyond it: not calibrated")
    largest_scale_sd: float = Field(5e-3, gt=0, description="relative; beyond it: not calibrated")
