"""Figures of merit of merged data by resolution shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .coverage import OrientationCoverage
from .scaling import Scaled

# Of the mean that R factors refer to, named after whose they are: "unweighted" (gemmi's U);
# "xds": 1/sigma^2 and denominator sum I (gemmi's X, cctbx); "aimless": 1/sigma^2, n <I> (gemmi's Y)
Weights = Literal["unweighted", "xds", "aimless"]


@dataclass(frozen=True)
class MergingShell:
    """Figures of merit of one resolution shell (or of all data)."""

    d_max_A: float
    d_min_A: float
    n_observed: int
    n_unique: int
    n_possible: int
    completeness: float
    multiplicity: float
    mean_intensity: float
    i_over_sigma: float
    r_merge: float
    r_meas: float
    r_pim: float
    cc_half: float
    cc_half_n: int
    cc_half_p: float
    cc_half_sigma_tau: float
    chi_square: float


@dataclass(frozen=True)
class CellSpread:
    """Mean cell of some data sets and how they scatter about it."""

    n: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    smallest: tuple[float, ...]
    largest: tuple[float, ...]


@dataclass(frozen=True)
class MergingStatistics:
    """What a table of a paper says of merged data."""

    overall: MergingShell
    shells: tuple[MergingShell, ...]
    weights: Weights
    halves: str
    wilson_b_A2: float
    wilson_error_A2: float
    cells: CellSpread
    coverage: OrientationCoverage


def merging_statistics(
    scaled: Scaled,
    *,
    n_shells: int = 10,
    d_max_A: float | None = None,
    d_min_A: float | None = None,
    weights: Weights = "xds",
    space_group: str | None = None,
    seed: int = 0,
) -> MergingStatistics:
    """Statistics of scaled data sets, overall and in shells of equal volume."""
    raise NotImplementedError
