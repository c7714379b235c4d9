"""Lattice translations that a data set's cell lacks: reflections that are never there.

A cell twice or three times too large indexes reflections that no crystal has. Multiple
scattering cannot fill them, since it leads from lattice point to lattice point only; so they
must be nothing but noise. All 7 halves and 13 thirds of a primitive basis are tried, which
covers every centring and every multiple cell of index 2 and 3, and, taken together, F.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Cell, Floats, Integers, d_spacing_A
from ..crystal.centring import centring_translations, primitive_basis
from ..reduction.statistics import equivalents, merge
from .intensities import mean_at_resolution
from .verdict import CentringEvidence

# Fewer reflections than these do not show a translation.
_LEAST_ABSENT, _LEAST_PRESENT = 20, 20
# With none of the absent class in the list, so many others say that they were left out.
_LEFT_OUT = 50
# Noise: hardly one beyond three sigmas, and next to no intensity.
_MOST_ABOVE_3_SIGMA, _MOST_RATIO = 0.05, 0.05
# The others must be signal.
_LEAST_SIGNAL = 0.2


def centring_evidence(
    hkl: ArrayLike, intensity: ArrayLike, sigma: ArrayLike, cell: Cell, bravais: str = "aP"
) -> tuple[CentringEvidence, ...]:
    """Every half and third of the cell's lattice that may be a translation of the crystal.

    Parameters
    ----------
    hkl, intensity, sigma : (n, 3), (n,), (n,) on one scale.
    cell, bravais : of the setting; translations that `bravais` already has are not tried.

    Returns
    -------
    One for each translation, those found first, then by rising ratio.
    """
    h = np.asarray(hkl, np.int64).reshape(-1, 3)
    group = equivalents(h, np.eye(3)[None])
    merged = merge(group, intensity, sigma)
    unique = h[np.unique(group, return_index=True)[1]] if len(h) else h
    mean = mean_at_resolution(d_spacing_A(unique, cell), merged.intensity)
    x = merged.intensity / mean
    strong = merged.intensity / merged.sigma
    basis = primitive_basis(centring_translations(bravais))
    spans = len(unique) > 0 and np.linalg.matrix_rank(unique) == 3
    evidence = []
    for translation, fractions in _translations(basis):
        absent = np.abs(unique @ translation - np.rint(unique @ translation)) > 1e-3
        n = int(absent.sum())
        n_present = len(unique) - n
        ratio = ratio_sd = i_over_sigma = float("nan")
        if n and n_present:
            ratio = float(x[absent].mean() / max(x[~absent].mean(), 1e-9))
            ratio_sd = float(x[absent].std() / np.sqrt(n) / max(x[~absent].mean(), 1e-9))
            i_over_sigma = float(strong[absent].mean())
        found = n == 0 and n_present >= _LEFT_OUT and bool(spans)
        if n >= _LEAST_ABSENT and n_present >= _LEAST_PRESENT:
            found = bool(
                np.mean(strong[~absent] > 3) > _LEAST_SIGNAL
                and np.mean(strong[absent] > 3) < _MOST_ABOVE_3_SIGMA
                and ratio + 2 * ratio_sd < _MOST_RATIO
            )
        evidence.append(
            CentringEvidence(fractions, n, n_present, i_over_sigma, ratio, ratio_sd, found)
        )
    evidence.sort(key=lambda e: (not e.found, np.nan_to_num(e.ratio, nan=9.0)))
    return tuple(evidence)


def _translations(
    basis: Floats,
) -> list[tuple[Floats, tuple[Fraction, Fraction, Fraction]]]:
    """Halves and thirds of a primitive basis (columns), one of each pair +t and -t."""
    result = []
    for denominator in (2, 3):
        grid: Integers = np.indices((denominator,) * 3).reshape(3, -1).T
        for steps in grid[1:]:
            if steps[np.flatnonzero(steps)[0]] > 1:  # twice a third is minus a third
                continue
            t = basis @ steps / denominator
            parts = [Fraction(float(v)).limit_denominator(12) % 1 for v in t]
            result.append((np.array(parts, float), (parts[0], parts[1], parts[2])))
    return result
