"""The table of a paper: figures of merit, Wilson plot, cells and coverage of merged data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import gemmi
import numpy as np

from ..crystal.cell import Cell, Floats
from .coverage import OrientationCoverage, orientation_coverage
from .data_set import DataSet
from .merge import mean_cell, mergeable
from .observations import observations
from .saturation import SaturatedChoice
from .scaling import Scaled
from .shell_statistics import MergingShell, Weights, shell_statistics


@dataclass(frozen=True)
class CellSpread:
    """Mean cell of some data sets and how they scatter about it.

    n : data sets. mean : weighted by observations. deviation : standard deviation of one, NaN for
    a single set. smallest, largest : of each parameter.
    """

    n: int
    mean: Cell
    deviation: tuple[float, ...]
    smallest: tuple[float, ...]
    largest: tuple[float, ...]


@dataclass(frozen=True)
class WilsonPlot:
    """ln of the mean intensity over that of randomly placed atoms, against 1 / (4 d^2).

    s2_per_A2, ln_ratio : (k,) points. b_A2, error_A2 : overall B factor, ``I ~ exp(-2 B s2)``;
    NaN with fewer than three points. composition : what atoms were assumed; empty: points alike.
    """

    s2_per_A2: Floats
    ln_ratio: Floats
    b_A2: float
    error_A2: float
    composition: dict[str, float]


@dataclass(frozen=True)
class MergingStatistics:
    """What the table of a paper says of merged data.

    Attributes
    ----------
    overall, shells : figures of merit.
    weights : the mean that the R factors refer to.
    halves : how the halves of CC1/2 were drawn.
    wilson, cells, coverage : as named.
    """

    overall: MergingShell
    shells: tuple[MergingShell, ...]
    weights: Weights
    halves: str
    wilson: WilsonPlot
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
    saturated: SaturatedChoice = "keep",
    composition: dict[str, float] | None = None,
    seed: int = 0,
) -> MergingStatistics:
    """Statistics of scaled data sets; outliers are left out as in `merge.merge_scaled`.

    Parameters
    ----------
    scaled : of `scaling.scale_data_sets`.
    n_shells : of equal volume in reciprocal space.
    d_max_A, d_min_A : the range; by default from the lattice's lowest reflection to the finest
        observation.
    weights : see `Weights`.
    space_group : if known, its absences are neither counted nor expected.
    saturated : as they were merged.
    composition : atoms by element, for the Wilson plot.
    seed : of the random halves.

    Raises
    ------
    ValueError : if there is no observation in the range.
    """
    obs = observations(scaled.data, scaled.operators)
    good = mergeable(scaled, obs, saturated)
    hkl = np.concatenate([d.hkl for d in scaled.data])[good]
    cell = mean_cell(scaled.data)
    figures = partial(
        shell_statistics,
        hkl, obs.intensity[good], obs.sigma[good], cell, scaled.data[0].bravais, scaled.operators,
        d_max_A=d_max_A, d_min_A=d_min_A, weights=weights, space_group=space_group, seed=seed,
    )  # fmt: skip
    shells, overall = figures(n_shells=n_shells), figures(n_shells=1)[0]
    return MergingStatistics(
        overall=overall,
        shells=shells,
        weights=weights,
        halves=f"means of random halves of each reflection's observations, seed {seed}",
        wilson=wilson_plot(shells, composition or {}),
        cells=cell_spread(scaled.data),
        coverage=orientation_coverage(scaled.data, scaled.operators, d_A=overall.d_min_A),
    )


def cell_spread(data_sets: Sequence[DataSet]) -> CellSpread:
    """Mean and scatter of the cells of some data sets."""
    cells = np.array([d.cell for d in data_sets])
    deviation = cells.std(axis=0, ddof=1) if len(cells) > 1 else np.full(6, np.nan)
    return CellSpread(
        n=len(cells),
        mean=mean_cell(tuple(data_sets)),
        deviation=tuple(map(float, deviation)),
        smallest=tuple(map(float, cells.min(axis=0))),
        largest=tuple(map(float, cells.max(axis=0))),
    )


def wilson_plot(shells: Sequence[MergingShell], composition: dict[str, float]) -> WilsonPlot:
    """Wilson plot of the shells' mean intensities.

    Parameters
    ----------
    shells : of `shell_statistics`; those with a mean that is not positive are left out.
    composition : atoms by element, in any amounts; electron scattering factors of gemmi's c4322.
        Without any the fall-off of the atoms is part of B.
    """
    middle = np.array([0.5 * (s.d_max_A**-2 + s.d_min_A**-2) / 4 for s in shells])
    mean = np.array([s.mean_intensity for s in shells])
    atoms = np.ones(len(middle))
    if composition:
        atoms = np.zeros(len(middle))
        for element, amount in composition.items():
            coefficients = np.array(gemmi.Element(element).c4322.get_coefs())
            f = np.exp(-middle[:, None] * coefficients[5:]) @ coefficients[:5]
            atoms += amount * f**2
    known = np.isfinite(mean) & (mean > 0)
    x, y = middle[known], np.log(mean[known] / atoms[known])
    b, error = float("nan"), float("nan")
    if len(x) >= 3:
        (slope, _), covariance = np.polyfit(x, y, 1, cov="unscaled")
        rest = y - np.polyval(np.polyfit(x, y, 1), x)
        b = -0.5 * float(slope)
        error = 0.5 * float(np.sqrt(covariance[0, 0] * np.sum(rest**2) / (len(x) - 2)))
    return WilsonPlot(x, y, b, error, dict(composition))


def table(statistics_: MergingStatistics) -> str:
    """The figures of merit as text, a line for each shell and one for all."""
    head = (
        "   d_max   d_min observed unique possible compl.  mult.      <I>  I/sigma R_merge R_meas"
        "  R_pim  CC1/2   (s.t.)"
    )
    lines = [head]
    for s in (*statistics_.shells, statistics_.overall):
        star = "*" if s.significant else " "
        lines.append(
            f"{s.d_max_A:8.2f}{s.d_min_A:8.2f}{s.n_observed:9d}{s.n_unique:7d}{s.n_possible:9d}"
            f"{100 * s.completeness:7.1f}{s.multiplicity:7.1f}{s.mean_intensity:10.3g}"
            f"{s.i_over_sigma:8.1f}{s.r_merge:8.3f}{s.r_meas:7.3f}{s.r_pim:7.3f}"
            f"{s.cc_half:7.3f}{star}{s.cc_half_sigma_tau:8.3f}"
        )
    return "\n".join(lines)
