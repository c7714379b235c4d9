"""Merging: one intensity for each unique reflection, from scaled data sets."""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from ..crystal.cell import Cell
from ..crystal.lattice_symmetry import holohedral_group
from ..errors import UserError
from ..reduction.statistics import asymmetric_unit, merge
from .data_set import DataSet
from .merged_reflections import MergedReflections
from .observations import Observations, observations
from .saturation import SaturatedChoice
from .scaling import Scaled

_IMPROBABLE = 0.001


def merge_scaled(
    scaled: Scaled,
    *,
    space_group: str | None = None,
    saturated: SaturatedChoice = "keep",
    d_min_A: float | None = None,
) -> MergedReflections:
    """Weighted means (1/sigma^2) of equivalent observations, outliers left out.

    Sigmas follow from those of the observations; where these disagree by more than they allow
    (chi^2 with a chance of 0.1 %), as do two of which one is wrong, from their scatter.

    Parameters
    ----------
    scaled : of `scaling.scale_data_sets`.
    space_group : symbol to state, by default `laue_group_symbol`; it has to belong to the Laue
        class that was scaled in. Its absences are merged like any other reflection.
    saturated : keep them, fill in with them where nothing else is known, or drop them; as
        `saturation.saturated_evidence` finds.
    d_min_A : finest resolution to merge to; all by default.

    Raises
    ------
    UserError : if no observation is left, or the space group is unknown.
    """
    obs = observations(scaled.data, scaled.operators)
    good = mergeable(scaled, obs, saturated)
    if d_min_A is not None:
        good &= 0.5 / np.sqrt(obs.s2) >= d_min_A * (1 - 1e-9)
    if not good.any():
        raise UserError("merging", "no observation", "some", "allow a finer resolution")
    bravais = scaled.data[0].bravais
    try:
        symbol = space_group or laue_group_symbol(bravais, scaled.operators)
        gemmi.SpaceGroup(symbol)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            "space_group", space_group or str(error), "a Hermann-Mauguin symbol", "name one"
        ) from error
    rows = np.flatnonzero(good)
    hkl = np.concatenate([d.hkl for d in scaled.data])
    kept, first, group = np.unique(obs.group[rows], return_index=True, return_inverse=True)
    i, sigma = obs.intensity[rows], obs.sigma[rows]
    merged = merge(group, i, sigma)
    square = np.bincount(group, ((i - merged.intensity[group]) / sigma) ** 2)
    freedom = np.maximum(merged.multiplicity - 1, 1)
    disagree = chi2.sf(square, freedom) < _IMPROBABLE
    return MergedReflections(
        hkl=asymmetric_unit(hkl[rows[first]], scaled.operators).astype(np.int32),
        intensity=merged.intensity,
        sigma=merged.sigma * np.where(disagree, np.sqrt(square / freedom), 1.0),
        multiplicity=merged.multiplicity,
        n_saturated=np.bincount(group, obs.saturated[rows], len(kept)).astype(np.int64),
        cell=mean_cell(scaled.data),
        space_group=symbol,
        wavelength_A=float(np.mean([d.wavelength_A for d in scaled.data])),
    )


def mergeable(
    scaled: Scaled, obs: Observations, saturated: SaturatedChoice = "keep"
) -> NDArray[np.bool_]:
    """(n,) observations that are merged: no outliers, saturated ones as chosen."""
    good = ~np.concatenate(scaled.outlier)
    if saturated == "drop":
        good &= ~obs.saturated
    elif saturated == "fill":
        clean = np.bincount(obs.group, good & ~obs.saturated, obs.n_groups)[obs.group] > 0
        good &= ~(obs.saturated & clean)
    return good


def mean_cell(data_sets: tuple[DataSet, ...]) -> Cell:
    """Mean of the cells, weighted by the number of observations."""
    weight = np.array([len(d) for d in data_sets], float)
    a, b, c, alpha, beta, gamma = np.average(
        [d.cell for d in data_sets], axis=0, weights=np.maximum(weight, 1)
    )
    return float(a), float(b), float(c), float(alpha), float(beta), float(gamma)


def laue_group_symbol(bravais: str, operators: ArrayLike) -> str:
    """Symbol of the centrosymmetric group without screws and glides, e.g. ``P m -3 m``.

    Parameters
    ----------
    bravais : lattice type, for the centring.
    operators : (m, 3, 3) rotations of the Laue class, acting on columns of indices.

    Raises
    ------
    ValueError : if the rotations are no group that is known in this setting.
    """
    rotations = np.asarray(operators, np.int64).reshape(-1, 3, 3)
    ops = []
    for rotation in rotations:  # h' = W h for columns means x' = W^-T x
        real = np.rint(np.linalg.inv(rotation).T).astype(int)
        for sign in (1, -1):
            op = gemmi.Op()
            op.rot = (sign * gemmi.Op.DEN * real).tolist()
            op.tran = [0, 0, 0]
            ops.append(op)
    centrings = holohedral_group(bravais).operations().cen_ops
    group_ops = gemmi.GroupOps([op.translated(shift) for shift in centrings for op in ops])
    group = gemmi.find_spacegroup_by_ops(group_ops)
    if group is None:
        raise ValueError(
            f"operators: found {len(rotations)} rotations that are no Laue class of a {bravais} "
            "lattice in a known setting"
        )
    return str(group.xhm())
