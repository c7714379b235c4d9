"""Which beam directions were recorded, and which part of reciprocal space that leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Floats
from .data_set import DataSet


@dataclass(frozen=True)
class OrientationCoverage:
    """Directions of the beam in the crystal, and of reciprocal space recorded.

    Attributes
    ----------
    beam : per data set, (k, 3) unit vectors of the beam in the Cartesian frame of the cell, about
        one per degree of rotation; (0, 3) where it could not be told.
    axis : (sets, 3) unit vectors of the rotation axis likewise; NaN where unknown.
    directions : (n, 3) unit vectors evenly over a hemisphere of reciprocal space.
    times : (n,) data sets that recorded a reflection at `d_A` in this direction or an equivalent.
    d_A : resolution that this holds for.
    covered, covered_without_symmetry : fractions of the directions recorded at least once.
    missing_cone_deg : half angle of the largest cone with no recorded direction.
    missing_direction : (3,) its axis.
    """

    beam: tuple[Floats, ...]
    axis: Floats
    directions: Floats
    times: NDArray[np.int64]
    d_A: float
    covered: float
    covered_without_symmetry: float
    missing_cone_deg: float
    missing_direction: Floats


def orientation_coverage(
    data_sets: Sequence[DataSet], operators: ArrayLike, *, d_A: float | None = None
) -> OrientationCoverage:
    """Coverage of reciprocal space at one resolution, by default the data's limit."""
    raise NotImplementedError
