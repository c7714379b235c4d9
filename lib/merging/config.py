"""What a user may choose about phases, clusters and merging."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MergingConfig(BaseModel):
    """Choices of sorting and merging; the defaults are meant to be left alone.

    All of it is recorded in the artefact's manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Literal["lattice", "thesis"] = Field(
        "lattice", description="of cells: relative strain, or Å and degrees as in the thesis"
    )
    cell_linkage: Literal["average", "single", "complete", "ward"] = Field("average")
    cell_cut: float | None = Field(
        None, gt=0, description="height in the tree of cells, in the metric's unit; None: chosen"
    )
    linkage: Literal["average", "single", "complete"] = Field("average")
    cut: float | None = Field(
        None, gt=0, le=1, description="height in the tree of intensities; None: by isomorphism"
    )
    min_common: int = Field(20, ge=4, description="reflections two series must share to compare")
    rereduce: bool = Field(True, description="reduce again, with the phases' cells")
    d_min_A: float | None = Field(None, gt=0, description="merge to here; None: all")
    saturated: Literal["auto", "keep", "fill", "drop"] = Field(
        "auto", description="saturated reflections; auto: as their equivalents say"
    )
    max_sd: float = Field(4.0, ge=0, description="of delta CC1/2, beyond which a series goes")
    space_group: str | None = Field(None, description="known; None: by its evidence")
    seed: int = Field(0, description="of random halves, pairs and embeddings")
