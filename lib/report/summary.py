"""The few numbers that stand for a reduction, and the statistics its plots show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..reduction.result import Flag, Lattice, Reduction, Reflections
from .notation import LATTICE_NAMES, cell_text

Floats = NDArray[np.float64]

# Not to be counted among what tells how good the data are.
_UNSOUND = Flag.MASKED | Flag.EDGE | Flag.BACKGROUND | Flag.PROFILE_FAILED | Flag.OUTLIER


@dataclass(frozen=True)
class Headline:
    """A reduction in one row of a table.

    Attributes
    ----------
    lattice, cell : in words; "none" and "" where no lattice was found.
    n_lattices : found in the series.
    indexed_percent : of all strong spots, by any lattice; NaN without one.
    resolution_A : where the mean I/sigma of single observations falls below 1; NaN without one.
    i_over_sigma : mean over the first lattice's sound reflections; NaN without one.
    reflections : integrated, of the first lattice.
    """

    lattice: str
    cell: str
    n_lattices: int
    indexed_percent: float
    resolution_A: float
    i_over_sigma: float
    reflections: int


def headline(reduction: Reduction) -> Headline:
    """The row for a reduction's strongest lattice."""
    if not reduction.lattices:
        return Headline("none", "", 0, np.nan, np.nan, np.nan, 0)
    first, frames = reduction.lattices[0], reduction.frames
    sound = first.reflections[usable(first.reflections)]
    return Headline(
        lattice=LATTICE_NAMES.get(first.bravais, first.bravais),
        cell=cell_text(first.cell, first.cell_esd),
        n_lattices=len(reduction.lattices),
        indexed_percent=100 * float(frames.n_indexed.sum() / max(int(frames.n_spots.sum()), 1)),
        resolution_A=resolution_limit_A(sound),
        i_over_sigma=float(np.mean(sound.intensity / sound.sigma)) if len(sound) else np.nan,
        reflections=len(first.reflections),
    )


def usable(reflections: Reflections) -> NDArray[np.bool_]:
    """(n,) True where the profile intensity and its sigma mean something."""
    finite = np.isfinite(reflections.intensity) & (reflections.sigma > 0)
    return finite & ~reflections.has(_UNSOUND)


@dataclass(frozen=True)
class Shells:
    """Statistics in resolution shells, low resolution first, one row each.

    Attributes
    ----------
    d_max_A, d_min_A : limits of the shell.
    d_A : its middle, on the scale of 1/d^2.
    count : reflections.
    i_over_sigma : mean I/sigma.
    mean_intensity : mean I, as in `Reflections`.
    """

    d_max_A: Floats
    d_min_A: Floats
    d_A: Floats
    count: NDArray[np.int64]
    i_over_sigma: Floats
    mean_intensity: Floats

    def __len__(self) -> int:
        return len(self.count)


def resolution_shells(reflections: Reflections, n: int = 12, at_least: int = 25) -> Shells:
    """At most `n` shells of equal volume in reciprocal space, `at_least` reflections in the mean.

    Empty where there are no reflections.
    """
    if len(reflections) == 0:
        none = np.zeros(0)
        return Shells(none, none, none, np.zeros(0, np.int64), none, none)
    volume = reflections.d_A**-3
    n = max(1, min(n, len(reflections) // at_least))
    edges = np.linspace(volume.min(), volume.max() * (1 + 1e-9), n + 1)
    shell = np.clip(np.searchsorted(edges, volume, side="right") - 1, 0, n - 1)
    count = np.bincount(shell, minlength=n)
    per = np.maximum(count, 1)
    ratio = np.bincount(shell, reflections.intensity / reflections.sigma, n) / per
    mean = np.bincount(shell, reflections.intensity, n) / per
    d = edges ** (-1 / 3)
    middle = (0.5 * (d[:-1] ** -2 + d[1:] ** -2)) ** -0.5
    kept = count > 0
    return Shells(d[:-1][kept], d[1:][kept], middle[kept], count[kept], ratio[kept], mean[kept])


def resolution_limit_A(reflections: Reflections, threshold: float = 1.0) -> float:
    """The d at which the mean I/sigma of single observations falls below `threshold`.

    Interpolated in 1/d^2 between the last shell above it and the next; the smallest d where it
    never falls, NaN where it never stands.
    """
    shells = resolution_shells(reflections, n=20)
    below = np.flatnonzero(shells.i_over_sigma < threshold)
    if len(below) == 0:
        return float(reflections.d_A.min()) if len(reflections) else float("nan")
    k = int(below[0])
    if k == 0:
        return float("nan")
    y0, y1 = shells.i_over_sigma[k - 1 : k + 1]
    x0, x1 = shells.d_A[k - 1 : k + 1] ** -2
    return float((x0 + (x1 - x0) * (y0 - threshold) / (y0 - y1)) ** -0.5)


def strongest_first(lattice: Lattice, at_least: float) -> NDArray[np.int64]:
    """Positions of sound reflections with I/sigma of `at_least` and an observed centroid."""
    r = lattice.reflections
    significance = np.where(usable(r), r.intensity / np.where(r.sigma > 0, r.sigma, 1), -1.0)
    seen = np.isfinite(r.observed_row) & np.isfinite(r.observed_column)
    order = np.argsort(-significance, kind="stable")
    chosen: NDArray[np.int64] = order[(significance[order] >= at_least) & seen[order]]
    return chosen
