"""Correction: Laue class, scale, error model and outliers of one lattice's intensities.

The step that XDS calls CORRECT: it works on integrated intensities alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.lattice_symmetry import candidate_operators
from . import statistics
from .laue_symmetry import LaueVerdict, laue_verdict
from .result import Flag, Reflections
from .scaling import (
    deviations,
    find_outliers,
    fit_error_model,
    mean_at_resolution,
    smooth_scale,
)

Floats = NDArray[np.float64]

# Reflections tell the scale if they cross the sphere at this part of the speed of their like.
_MIN_ZETA = 0.3


@dataclass(frozen=True)
class Corrected:
    """A lattice's reflections after correction.

    Attributes
    ----------
    reflections : scaled, with honest sigmas and outliers flagged.
    frame_scale : (frames,) scale that intensities were divided by.
    laue : the symmetry that the intensities show.
    note : what was done, one sentence.
    """

    reflections: Reflections
    frame_scale: Floats
    laue: LaueVerdict
    note: str


def comparable(reflections: Reflections) -> NDArray[np.bool_]:
    """(n,) reflections whose intensity can be compared with their equivalents'.

    Masked and saturated pixels are left out of the profile fit, which keeps a reflection only
    where enough of the profile is seen; so such reflections count.
    """
    r = reflections
    usable: NDArray[np.bool_] = (
        ~r.has(Flag.OVERLAP | Flag.BACKGROUND)
        & np.isfinite(r.intensity)
        & (r.sigma > 0)
        & (r.partiality > 0.7)
    )
    return usable


def correct(
    reflections: Reflections,
    bravais: str,
    n_frames: int,
    range_deg: float,
) -> Corrected:
    """Scale, find outliers and correct the sigmas by the symmetry that the intensities show.

    Parameters
    ----------
    reflections : as integrated.
    bravais : lattice type; its rotations are tried on the intensities.
    n_frames, range_deg : of the series.
    """
    r = reflections
    clean = comparable(r)
    verdict = laue_verdict(
        r.hkl[clean], r.intensity[clean], r.sigma[clean], r.d_A[clean],
        candidate_operators(bravais),
    )  # fmt: skip
    note = (
        f"intensities obey Laue class {verdict.laue_class}: {verdict.n_seen} of "
        f"{len(verdict.seen)} rotations of the {bravais} lattice seen"
    )
    if not clean.any():
        note = (
            f"none of {len(r)} reflections can be compared with another: all overlap, have no "
            "background, or were recorded by less than 70 %"
        )
    group = statistics.equivalents(r.hkl, verdict.operators)
    # near the axis the Lorentz factor is large and so is its error: that is no scale; nor are
    # saturated reflections, the strongest there are, known from their flanks alone
    steady = clean & (r.d_A > _MIN_ZETA * r.lorentz) & ~r.has(Flag.SATURATED)
    scale = smooth_scale(
        group[steady], r.frame[steady], r.intensity[steady], r.sigma[steady], n_frames, range_deg
    )
    if scale is None:
        scale = np.ones(n_frames)
        note += "; too few equivalents to scale the frames"
    else:
        at = np.interp(r.frame, np.arange(n_frames), scale)
        names = ("intensity", "sigma", "intensity_sum", "sigma_sum")
        r = replace(r, **{name: getattr(r, name) / at for name in names})
        note += f"; frames scaled between {scale.min():.2f} and {scale.max():.2f}"
    inside = np.flatnonzero(clean)
    mean = deviations(group, r.intensity, r.sigma)[1]
    around = np.zeros(len(r))
    around[inside] = mean_at_resolution(r.d_A[inside], r.intensity[inside])
    errors = fit_error_model(group[inside], r.intensity[inside], r.sigma[inside], around[inside])
    if errors is not None:
        # once more without the outliers that the first model shows
        outlier = find_outliers(
            group[inside], r.intensity[inside], errors.sigma(r.sigma, mean, around)[inside]
        )
        kept = inside[~outlier]
        errors = fit_error_model(group[kept], r.intensity[kept], r.sigma[kept], around[kept])
    if errors is None:
        return Corrected(r, scale, verdict, note + "; too few equivalents for an error model")
    sigma = errors.sigma(r.sigma, mean, around)
    outlier = find_outliers(group[inside], r.intensity[inside], sigma[inside])
    flags = r.flags.copy()
    flags[inside[outlier]] |= np.uint32(Flag.OUTLIER)
    r = replace(r, sigma=sigma, sigma_sum=errors.sigma(r.sigma_sum, mean, around), flags=flags)
    note += (
        f"; sigma^2 = {errors.a:.2f}^2 (sigma^2 + {errors.c:.3g} I <I> + ({errors.b:.3f} I)^2); "
        f"{int(outlier.sum())} outliers"
    )
    return Corrected(r, scale, verdict, note)
