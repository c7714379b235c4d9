"""The observations of one or more data sets as one list, and merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats, Integers, d_spacing_A
from ..errors import UserError
from ..merging.data_set import DataSet
from ..reduction.result import Flag
from ..reduction.statistics import asymmetric_unit, equivalents, merge


@dataclass(frozen=True)
class Observations:
    """hkl (n, 3), intensity, sigma (n,) on one scale, of one cell."""

    hkl: NDArray[np.int64]
    intensity: Floats
    sigma: Floats
    cell: Cell
    bravais: str

    def __len__(self) -> int:
        return len(self.hkl)


def pooled(data_sets: Sequence[DataSet]) -> Observations:
    """All observations but outliers; the cell is the median of the data sets'.

    Raises
    ------
    UserError : if there is no data set, or they are in different lattice settings.
    """
    if not data_sets:
        raise UserError("space group", "no data set", "one or more", "merge some first")
    settings = sorted({data.bravais for data in data_sets})
    if len(settings) > 1:
        raise UserError(
            "space group", f"data sets in settings {', '.join(settings)}", "one setting",
            "reindex them alike first",
        )  # fmt: skip
    kept = [data.select(~data.has(Flag.OUTLIER)) for data in data_sets]
    a, b, c, alpha, beta, gamma = np.median([data.cell for data in data_sets], axis=0).tolist()
    return Observations(
        hkl=np.concatenate([data.hkl for data in kept]).astype(np.int64).reshape(-1, 3),
        intensity=np.concatenate([data.intensity for data in kept]),
        sigma=np.concatenate([data.sigma for data in kept]),
        cell=(a, b, c, alpha, beta, gamma),
        bravais=settings[0],
    )


@dataclass(frozen=True)
class MergedUnder:
    """Unique reflections under a group of rotations and Friedel's law.

    Attributes
    ----------
    hkl : (m, 3) representatives.
    intensity, sigma : (m,) weighted means.
    d_A : (m,).
    scatter : (m,) r.m.s. deviation of the observations over their sigmas; NaN below three.
    """

    hkl: NDArray[np.int64]
    intensity: Floats
    sigma: Floats
    d_A: Floats
    scatter: Floats


def merged_under(
    hkl: NDArray[np.int64], intensity: Floats, sigma: Floats, cell: Cell, operators: Integers
) -> MergedUnder:
    """Merge observations under the rotations `operators` (m, 3, 3)."""
    # rotations are applied to each index once, however often it was observed
    index = equivalents(hkl, np.eye(3)[None])
    group = equivalents(hkl[np.unique(index, return_index=True)[1]], operators)[index]
    mean = merge(group, intensity, sigma)
    first = np.unique(group, return_index=True)[1]
    unique = asymmetric_unit(hkl[first], operators)
    deviation = (intensity - mean.intensity[group]) / sigma
    n = mean.multiplicity
    chi2 = np.bincount(group, deviation**2, len(n)) / np.maximum(n - 1, 1)
    return MergedUnder(
        hkl=unique,
        intensity=mean.intensity,
        sigma=mean.sigma,
        d_A=d_spacing_A(unique, cell),
        scatter=np.where(n > 2, np.sqrt(chi2), np.nan),
    )
