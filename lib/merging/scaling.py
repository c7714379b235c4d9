"""Scaling of many crystals: what each was multiplied by, and what their sigmas are worth.

The measured intensity of observation j of reflection h in data set i is ``g_ij J_h`` with

``ln g = K_i + B_i u + k_i(frame) + sum_m P_m(u) c_im(frame)``

where u runs from -1 to 1 in 1/d^2 over the range of the data and P_1, P_2 are Legendre
polynomials. K and B are the classical scale and fall-off; k follows the illuminated volume, and
the c what tilting and thickness do to the fall-off, which for electrons is no constant of a
crystal. k and c are piecewise linear over the rotation and penalised, so that they are zero
unless equivalents say otherwise. See `scale_model` for how it is solved.

K and B have a weak prior: the scale at which each data set has the mean intensity of all the
others in shells of resolution (Wilson's). Common reflections overrule it by orders of magnitude,
and data sets without any stay on it, which is stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Floats, Integers
from ..reduction.scaling import ErrorModel
from .data_set import DataSet


@dataclass(frozen=True)
class SetScale:
    """How one data set was scaled.

    Attributes
    ----------
    name : of the data set.
    scale : geometric mean of what its intensities were divided by.
    b_A2 : its fall-off relative to the mean of all: ``exp(-2 b / (4 d^2))`` was divided out.
    frame_scale : (n_frames,) smooth (and, if asked for, frame-wise) scale, mean logarithm 0.
    surface : (k, 2) coefficients of P_1 and P_2 at k positions evenly over the rotation.
    n_common : unique reflections it shares with other data sets.
    component : number of the group of data sets linked by common reflections, largest first.
    error : its error model.
    n_outliers : observations found to contradict their equivalents.
    """

    name: str
    scale: float
    b_A2: float
    frame_scale: Floats
    surface: Floats
    n_common: int
    component: int
    error: ErrorModel
    n_outliers: int


@dataclass(frozen=True)
class Scaled:
    """Data sets on a common scale, with sigmas that repeats justify.

    Attributes
    ----------
    data : the data sets, intensities and sigmas corrected, outliers flagged `Flag.OUTLIER`.
    factor : per data set, (n,) what each intensity was divided by.
    outlier : per data set, (n,) bool: contradicts its equivalents, here or in the series.
    sets : how each was scaled, in the order of `data`.
    operators : (m, 3, 3) rotations taken as symmetry.
    error : error model common to all; those of the sets differ from it where they have repeats.
    chi_square : of equivalents after everything, outliers left out; NaN without repeats.
    excluded : data sets that could not be used, by name, and why.
    notes : every choice and oddity, one sentence each.
    """

    data: tuple[DataSet, ...]
    factor: tuple[Floats, ...]
    outlier: tuple[NDArray[np.bool_], ...]
    sets: tuple[SetScale, ...]
    operators: Integers
    error: ErrorModel
    chi_square: float
    excluded: Mapping[str, str]
    notes: tuple[str, ...]


def scale_data_sets(
    data_sets: Sequence[DataSet],
    operators: ArrayLike,
    *,
    min_common: int = 10,
    surface: bool = True,
    frame_jitter: float = 0.0,
    outlier_sigma: float = 4.0,
) -> Scaled:
    """Scale data sets together, correct their sigmas and find outliers.

    Parameters
    ----------
    data_sets : in one setting of one cell, indexing ambiguity resolved; names differ.
    operators : (m, 3, 3) rotations of the Laue class, acting on columns of indices.
    min_common : data sets with fewer reflections in common are not said to be linked.
    surface : whether the fall-off may change smoothly with rotation.
    frame_jitter : standard deviation (in ln) by which each frame may leave the smooth scale; 0:
        not at all. 0.1 for a flickering beam.
    outlier_sigma : observations farther than this from their equivalents are outliers.

    Raises
    ------
    UserError : if names repeat, lattice types or cells differ, or no data set is usable.
    """
    raise NotImplementedError
