"""What a user may choose about orientation refinement."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OrientationConfig(BaseModel):
    """Choices; the defaults are meant to be left alone. All of it is recorded in the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    published: bool = Field(True, description="also the published method, to compare with")
    window_per_A: float | None = Field(
        None, gt=0, description="excitation errors looked at, 1/Å; None: by the rocking curves"
    )
    iterate: int = Field(
        0, ge=0, le=5, description="times to integrate again with the refined orientations"
    )
    seed: int = Field(0, description="of the half-sets and permutations")
