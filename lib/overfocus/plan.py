"""All that is chosen about the calibration of a scan; light to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .config import OverfocusConfig


class PublishedStart(BaseModel):
    """Where the published search begins; what is not stated is taken from the default method.

    Attributes
    ----------
    scan_rotation_deg, overfocus_um, flip_y : as in the paper; it finds them within 10 degrees and
        25 %, and the flip not at all.
    spread : also start at every 15 degrees, with both flips.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scan_rotation_deg: float | None = Field(None, ge=-360, le=360)
    overfocus_um: float | None = Field(None, ge=-1e3, le=1e3)
    flip_y: bool | None = None
    spread: bool = False


class Plan(BaseModel):
    """How a scan is calibrated.

    Attributes
    ----------
    config : choices of the default method.
    published : also run the published method, from there; None: do not.
    verify_twin : compare the matrices with rays traced by TemGym Basic, and draw these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: OverfocusConfig = OverfocusConfig()
    published: PublishedStart | None = None
    verify_twin: bool = False
