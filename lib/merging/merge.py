"""Merging: one intensity for each unique reflection, from scaled data sets."""

from __future__ import annotations

from typing import Literal

from .merged_reflections import MergedReflections
from .scaling import Scaled

# keep: as any other; fill: only where a reflection has no unsaturated observation; drop: never
Saturated = Literal["keep", "fill", "drop"]


def merge_scaled(
    scaled: Scaled,
    *,
    space_group: str | None = None,
    saturated: Saturated = "keep",
    d_min_A: float | None = None,
) -> MergedReflections:
    """Weighted means (1/sigma^2) of equivalent observations, outliers left out."""
    raise NotImplementedError


def symmorphic_group(bravais: str, operators: object) -> str:
    """Symbol of the Laue class with the lattice's centring, e.g. ``P m -3 m``."""
    raise NotImplementedError
