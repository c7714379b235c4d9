"""What a user may choose about a reduction."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..crystal.lattice_symmetry import BRAVAIS


class ReductionConfig(BaseModel):
    """Choices of engine, and of what it does; the defaults are meant to be left alone.

    All of it is recorded in the artefact's manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["auto", "builtin", "xds", "dials"] = Field(
        "auto",
        description="program to reduce with; auto: XDS if licensed and runnable, else ours",
    )
    xds_path: str | None = Field(None, description="XDS, if it is not xds_par on the PATH")
    limit_s: float = Field(1800.0, gt=0, description="wall time for programs of others")
    spot_threshold: float = Field(5.0, gt=0, description="significance of a strong pixel")
    min_spot_significance: float = Field(6.0, gt=0, description="I/sigma of a spot")
    min_spot_pixels: int = Field(6, ge=1, description="strong pixels of a spot, all frames")
    d_max_A: float = Field(20.0, gt=0, description="spots at lower resolution are halo")
    d_min_A: float | None = Field(None, gt=0, description="resolution limit; None: what is seen")
    min_axis_A: float = Field(3.0, gt=0, description="shortest real-space axis searched")
    max_axis_A: float = Field(100.0, gt=0, description="longest real-space axis searched")
    max_lattices: int = Field(3, ge=1, description="lattices looked for")
    cell: tuple[float, float, float, float, float, float] | None = Field(
        None, description="known conventional cell (Å, degrees): the result is given in its setting"
    )
    bravais: str | None = Field(
        None, description="lattice type of the known cell: only its orientation is looked for"
    )
    try_reversed_axis: bool = Field(True, description="also try the opposite rotation sense")
    refine_distance: bool = Field(
        False, description="hold the known cell and refine the camera length instead"
    )
    seed: int = Field(0, description="of the random half sets behind CC1/2")

    @model_validator(mode="after")
    def _what_a_known_cell_allows(self) -> Self:
        if self.refine_distance and self.cell is None:
            raise ValueError("refine_distance needs a known cell: the cell's scale hides it")
        if self.bravais is not None and (self.cell is None or self.bravais not in BRAVAIS):
            raise ValueError(f"bravais needs a known cell and one of {', '.join(BRAVAIS)}")
        return self
