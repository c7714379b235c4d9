"""All that is chosen about learning from a scan; light to import."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from .config import HarmonicConfig, RrvaeConfig
from .preprocess_config import PreprocessConfig


class Plan(BaseModel):
    """How a scan is learned from.

    Attributes
    ----------
    prepare : from raw patterns to those that are learned from.
    model : the network and its training.
    com_reference : the undeflected beam of the centre of mass, see `centre_of_mass`.
    dose_curve : electrons in a pattern, fewer than recorded, at which to train again.
    seed : of the noise by which the ensemble is judged, and by which patterns are thinned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prepare: PreprocessConfig = PreprocessConfig()
    model: RrvaeConfig = HarmonicConfig()
    com_reference: Literal["mean", "plane", "calibration"] = "mean"
    dose_curve: tuple[PositiveFloat, ...] = ()
    seed: int = Field(0, ge=0)
