"""INTEGRATE.LP: what XDS measured on each image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .log import Log
from .refined import RefinedParameters


@dataclass(frozen=True, eq=False)
class ImageTable:
    """One row per image, (n,) each, in the order of the log.

    Attributes
    ----------
    number : of the image.
    error : IER, 0 or -1 cannot be read or -3 wrong format.
    scale : factor of the image; NaN on overflow.
    n_background, n_overloaded, n_ewald, n_strong, n_rejected : background pixels, overloaded
        reflections, reflections near the Ewald sphere, strong and unexpected reflections; -1 on
        overflow.
    divergence_esd_deg, mosaicity_esd_deg : SIGMAB and SIGMAR, 0 where not determined.
    """

    number: NDArray[np.int64]
    error: NDArray[np.int64]
    scale: Floats
    n_background: NDArray[np.int64]
    n_overloaded: NDArray[np.int64]
    n_ewald: NDArray[np.int64]
    n_strong: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    divergence_esd_deg: Floats
    mosaicity_esd_deg: Floats

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class ProfileCorrelation:
    """One row of the correlations between observed and expected profiles.

    Attributes
    ----------
    min_i_over_sigma, max_i_over_sigma : the bin.
    correlation, esd : mean and its standard deviation, -1 to 1.
    mean_intensity : of the bin.
    n : reflections.
    """

    min_i_over_sigma: float
    max_i_over_sigma: float
    correlation: float
    esd: float
    mean_intensity: float
    n: int | None


@dataclass(frozen=True)
class Integrate(Log):
    """What INTEGRATE.LP says. What it does not say is None, NaN or empty.

    Attributes
    ----------
    data_range : first and last image asked for.
    batches : first and last image of each batch that was begun.
    images : one row per image.
    refinements : parameters refined per batch, if REFINE(INTEGRATE) asks for any.
    n_integrated : reflections integrated in each batch, None where not printed.
    beam_divergence_deg, beam_divergence_esd_deg, reflecting_range_deg,
    reflecting_range_esd_deg : the values suggested for XDS.INP.
    profile_correlations : by I/sigma.
    n_saved : reflections on INTEGRATE.HKL.
    """

    data_range: tuple[int, int] | None
    batches: tuple[tuple[int, int], ...]
    images: ImageTable
    refinements: tuple[RefinedParameters, ...]
    n_integrated: tuple[int | None, ...]
    beam_divergence_deg: float
    beam_divergence_esd_deg: float
    reflecting_range_deg: float
    reflecting_range_esd_deg: float
    profile_correlations: tuple[ProfileCorrelation, ...]
    n_saved: int | None


def read_integrate(path: str | Path) -> Integrate:
    """Read an INTEGRATE.LP, also of a run that failed or was cut (see `Log.complete`).

    Raises
    ------
    UserError : the file cannot be read, or is not a log of INTEGRATE.
    """
    raise NotImplementedError
