"""Integration: intensities of one lattice from its shoeboxes.

The intensity of a reflection is what the crystal would give if swept through the Ewald sphere
at unit speed: counts times the speed of the excitation error (the Lorentz factor's inverse,
``|axis x q . s| / |s|``), so that it is proportional to |F|^2 kinematically.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from . import profiles
from .prediction import Predictions
from .profiles import SpotProfile
from .refinement import Model, Observations
from .result import Flag, Reflections
from .shoeboxes import Slices

Floats = NDArray[np.float64]

# Rocking curves are followed to this many standard deviations: 99.7 % of a Gaussian.
REACH = 3.0
# The learned spot profile is right to about this part of a slice's intensity.
_PROFILE_ERROR = 0.03
# Nor does a slice of which masks and neighbours leave less than this.
_MIN_SEEN = 0.7
# A slice shares its core with another reflection where more than this part of it is common.
_SHARED = 0.1
# Less of a rocking curve than this says too little about the whole.
_MIN_PARTIALITY = 0.2


@dataclass(frozen=True)
class RockingCurve:
    """Width of the rocking curve: sigma^2 = size^2 + (eta |g|)^2, in the excitation error.

    Attributes
    ----------
    size_per_A : part that does not grow with |g| (thickness, beam divergence).
    eta_rad : mosaic spread.
    """

    size_per_A: float = 2e-3
    eta_rad: float = 2e-3

    def sigma(self, length: Floats) -> Floats:
        """(n,) standard deviation in 1/Å at |g| = length."""
        return np.hypot(self.size_per_A, self.eta_rad * np.asarray(length, float))

    @classmethod
    def fit(cls, length: Floats, sigma: Floats, weight: Floats) -> RockingCurve | None:
        """Robust fit to observed widths, or None with fewer than 10."""
        good = np.isfinite(sigma) & (sigma > 0)
        if good.sum() < 10:
            return None
        g2, s2, w = length[good] ** 2, sigma[good] ** 2, weight[good]
        size2, eta2 = float(np.median(s2)), 0.0
        keep = np.ones(len(g2), bool)
        for _ in range(5):
            design = np.stack([np.ones(keep.sum()), g2[keep]], axis=1)
            # relative errors: a width is known to a fraction of itself
            expected = np.maximum(size2 + eta2 * g2[keep], 1e-12)
            v = np.sqrt(w[keep]) / expected
            size2, eta2 = np.linalg.lstsq(design * v[:, None], s2[keep] * v, rcond=None)[0]
            if eta2 < 0:
                size2, eta2 = float(np.average(s2[keep], weights=v**2)), 0.0
            elif size2 < 0:
                size2, eta2 = 0.0, float(np.average(s2[keep] / g2[keep], weights=w[keep]))
            ratio = s2 / np.maximum(size2 + eta2 * g2, 1e-12)
            keep = (ratio > 0.15) & (ratio < 4.0)
            if keep.sum() < 10:
                return None
        return cls(float(np.sqrt(max(size2, 1e-10))), float(np.sqrt(max(eta2, 0.0))))


@dataclass(frozen=True)
class Integrated:
    """Reflections of a lattice and what their shoeboxes told on the way.

    Attributes
    ----------
    reflections : in the order of the predictions kept.
    kept : (m,) rows of the predictions.
    rocking : learned width.
    profile : learned spot profile.
    observations : strong reflections' positions, for another refinement.
    profile_ratio : (frames,) observed over expected intensity; NaN where unknown.
    """

    reflections: Reflections
    kept: NDArray[np.int64]
    rocking: RockingCurve
    profile: SpotProfile
    observations: Observations
    profile_ratio: Floats


def gaussian_profile(sigma_px: float, half: int, core_px: float) -> SpotProfile:
    """A round Gaussian spot, for want of strong ones to learn from."""
    k = 2 * (half + 1) * profiles.OVERSAMPLING + 1
    offset = (np.arange(k) - k // 2) / profiles.OVERSAMPLING
    r2 = offset[:, None] ** 2 + offset[None, :] ** 2
    table = np.exp(-0.5 * r2 / sigma_px**2)
    table /= table.sum() / profiles.OVERSAMPLING**2
    core = float(table[r2 <= core_px**2].sum() / profiles.OVERSAMPLING**2)
    return SpotProfile(table, core_px, core)


def integrate(
    model: Model,
    predictions: Predictions,
    slices: Slices,
    rocking: RockingCurve,
    core_px: float,
    n_frames: int,
) -> Integrated:
    """Fit spot and rocking profiles to the slices of one lattice.

    Parameters
    ----------
    model, predictions, slices : where the reflections are, and their pixels.
    rocking : first guess of the width; refined here.
    core_px : radius of the summation area.
    n_frames : frames in the series.
    """
    measured = np.empty((len(slices), 9))
    profiles.measure_slices(
        slices.boxes, slices.crowd, slices.row, slices.column, core_px, measured
    )
    clean = (measured[:, 5] == 0) & ~slices.saturated & ~slices.masked
    significance = measured[:, 3] / np.sqrt(np.maximum(measured[:, 4], 1e-9))
    strong_slice = clean & (significance > 10) & np.isfinite(significance)
    if strong_slice.sum() < 50:
        strong_slice = clean & (significance > 5) & np.isfinite(significance)
    profile = profiles.learn_spot_profile(
        slices.boxes, slices.crowd, slices.row, slices.column, measured, strong_slice, core_px
    ) or gaussian_profile(core_px / 2.5, slices.half, core_px)
    value, variance = _slice_intensities(slices, measured, clean, profile)
    _uncover_lost(predictions, slices, measured, profile, rocking, value, variance)

    rocking = _learn_rocking(predictions, slices, value, variance, rocking)
    sigma = rocking.sigma(predictions.length)
    scale = np.ones(len(slices))
    prior_shift, prior_width = 0.4 * float(np.median(sigma)), 0.3
    for _ in range(2):
        fitted = np.empty((len(predictions), 10))
        profiles.fit_rocking(
            slices.start, slices.excitation_low, slices.excitation_high, value, variance,
            scale, sigma, prior_shift, prior_width, 5.0, fitted,
        )  # fmt: skip
        strength = fitted[:, 0] / np.sqrt(fitted[:, 1])
        sure = (strength > 20) & (fitted[:, 4] > 0.95)
        if sure.sum() >= 20:
            prior_shift = float(
                np.clip(1.4826 * np.median(np.abs(fitted[sure, 2])), 1e-5, np.median(sigma))
            )
            prior_width = float(np.clip(1.4826 * np.median(np.abs(fitted[sure, 3])), 0.03, 0.5))
    return _collect(
        model, predictions, slices, measured, value, variance, fitted, rocking, profile, n_frames
    )


def _slice_intensities(
    slices: Slices, measured: Floats, clean: NDArray[np.bool_], profile: SpotProfile
) -> tuple[Floats, Floats]:
    """Intensity and variance of each slice: the fit, or the sum where that is surer."""
    fit = np.empty((len(slices), 3))
    profiles.fit_slices(
        slices.boxes, slices.crowd, slices.row, slices.column, measured, profile.table,
        profile.core_px + 0.5, profiles.OVERSAMPLING, fit,
    )  # fmt: skip
    # a slice whose visible pixels hold little of the profile says too little
    fit[fit[:, 2] < _MIN_SEEN] = np.nan
    fit_variance = fit[:, 1] + (_PROFILE_ERROR * fit[:, 0]) ** 2
    total = measured[:, 3] / profile.core_fraction
    total_variance = measured[:, 4] / profile.core_fraction**2
    use_sum = clean & (total_variance < fit_variance)
    value = np.where(use_sum, total, fit[:, 0])
    variance = np.where(use_sum, total_variance, fit_variance)
    return value, variance


def _uncover_lost(
    predictions: Predictions,
    slices: Slices,
    measured: Floats,
    profile: SpotProfile,
    rocking: RockingCurve,
    value: Floats,
    variance: Floats,
) -> None:
    """Give reflections that others cover all along the pixels they share, in place.

    They are listed, with what stands there, and flagged; one that is seen on some of its
    frames is not disturbed.
    """
    which = slices.reflection
    expected = _cdf(slices.excitation_high, rocking, predictions.length[which]) - _cdf(
        slices.excitation_low, rocking, predictions.length[which]
    )
    seen = np.bincount(which, np.where(np.isfinite(value), expected, 0.0), len(predictions))
    hidden = (seen < 0.5)[which] & ~np.isfinite(value) & (measured[:, 8] > _SHARED)
    if not hidden.any():
        return
    covered = np.empty((int(hidden.sum()), 3))
    profiles.fit_slices(
        slices.boxes[hidden], np.zeros_like(slices.crowd[hidden]), slices.row[hidden],
        slices.column[hidden], measured[hidden], profile.table, profile.core_px + 0.5,
        profiles.OVERSAMPLING, covered,
    )  # fmt: skip
    covered[covered[:, 2] < _MIN_SEEN] = np.nan
    value[hidden] = covered[:, 0]
    variance[hidden] = covered[:, 1] + (_PROFILE_ERROR * covered[:, 0]) ** 2


def _learn_rocking(
    predictions: Predictions, slices: Slices, value: Floats, variance: Floats, guess: RockingCurve
) -> RockingCurve:
    """Width of the rocking curves from the second moments of well-recorded reflections."""
    n = len(predictions)
    good = np.isfinite(value)
    v = np.where(good, value, 0.0)
    which = slices.reflection
    middle = 0.5 * (slices.excitation_low + slices.excitation_high)
    span = slices.excitation_high - slices.excitation_low
    total = np.bincount(which, v, n)
    noise = np.sqrt(np.bincount(which, np.where(good, variance, 0.0), n))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(which, v * middle, n) / total
        second = np.bincount(which, v * (middle**2 + span**2 / 12), n) / total - mean**2
        width_of_frame = np.bincount(which, v * span, n) / total
    count = np.bincount(which, good, n)
    holes = np.bincount(which, ~good, n)
    sigma = guess.sigma(predictions.length)
    # the curve must have been seen to both sides, and be resolved by the frames
    low = np.full(n, np.inf)
    high = np.full(n, -np.inf)
    np.minimum.at(low, which, slices.excitation_low)
    np.maximum.at(high, which, slices.excitation_high)
    seen = (low < -1.8 * sigma) & (high > 1.8 * sigma) & (holes == 0) & (count >= 3)
    resolved = width_of_frame < 2.5 * sigma
    use = seen & resolved & (total > 15 * noise) & (second > 0)
    # sweeping subtracts nothing: the frame's own width is in `second` and taken out here
    with np.errstate(invalid="ignore"):
        observed = np.sqrt(np.maximum(second - width_of_frame**2 / 6, 1e-12))
    fitted = RockingCurve.fit(predictions.length[use], observed[use], np.ones(int(use.sum())))
    return fitted or guess


def _collect(
    model: Model,
    predictions: Predictions,
    slices: Slices,
    measured: Floats,
    value: Floats,
    variance: Floats,
    fitted: Floats,
    rocking: RockingCurve,
    profile: SpotProfile,
    n_frames: int,
) -> Integrated:
    """Turn fitted curves into reflections, observations and frame scales."""
    n = len(predictions)
    which = slices.reflection
    good = np.isfinite(value)
    swept_low = _cdf(slices.excitation_low, rocking, predictions.length[which])
    swept_high = _cdf(slices.excitation_high, rocking, predictions.length[which])
    expected = swept_high - swept_low
    partiality = np.bincount(which, np.where(good, expected, 0.0), n)
    total = np.bincount(which, np.where(good, value, 0.0), n)
    total_variance = np.bincount(which, np.where(good, variance, 0.0), n)
    kept = np.flatnonzero(
        np.isfinite(fitted[:, 0]) & (partiality > _MIN_PARTIALITY) & (fitted[:, 1] > 0)
    )
    intensity, var = fitted[:, 0].copy(), fitted[:, 1].copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        # where the whole curve was seen, adding it up needs no model of its shape
        summed = total / partiality
        summed_variance = total_variance / partiality**2
        misfit = np.maximum(fitted[:, 5], 1.0)
        use_sum = (partiality > 0.97) & (summed_variance < var * misfit)
    intensity = np.where(use_sum, summed, intensity)
    var = np.where(use_sum, summed_variance, var * misfit)

    flags = np.zeros(n, np.uint32)

    def mark(per_slice: NDArray[np.bool_], flag: Flag) -> None:
        flags[np.bincount(which, per_slice & (expected > 0.02), n) > 0] |= np.uint32(flag)

    mark(slices.saturated, Flag.SATURATED)
    mark(slices.masked, Flag.MASKED)
    mark(measured[:, 8] > _SHARED, Flag.OVERLAP)
    mark(~np.isfinite(measured[:, 0]), Flag.BACKGROUND)
    flags[partiality < 0.95] |= np.uint32(Flag.PARTIAL)
    flags[fitted[:, 9] > 6] |= np.uint32(Flag.MISFIT)
    rate = np.abs(predictions.rate)
    per_radian = rate / (np.deg2rad(abs(model.angle_step_deg)) * model.rotation_scale)

    weight = np.where(good & (measured[:, 3] > 0) & np.isfinite(measured[:, 6]), measured[:, 3], 0)
    weight_sum = np.bincount(which, weight, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        d_row = np.bincount(which, weight * np.nan_to_num(measured[:, 6]), n) / weight_sum
        d_column = np.bincount(which, weight * np.nan_to_num(measured[:, 7]), n) / weight_sum
        background = np.bincount(which, np.nan_to_num(measured[:, 0]) * expected, n) / np.maximum(
            np.bincount(which, expected, n), 1e-9
        )
    strength = intensity / np.sqrt(var)
    trusted = (strength > 5) & np.isfinite(d_row)
    reflections = Reflections(
        hkl=predictions.hkl,
        intensity_sum=summed * per_radian,
        sigma_sum=np.sqrt(summed_variance) * per_radian,
        intensity=intensity * per_radian,
        sigma=np.sqrt(var) * per_radian,
        background=background,
        frame=predictions.frame,
        angle_deg=model.angle_deg(predictions.frame),
        row=predictions.row,
        column=predictions.column,
        observed_row=np.where(trusted, predictions.row + d_row, np.nan),
        observed_column=np.where(trusted, predictions.column + d_column, np.nan),
        partiality=np.minimum(partiality, 1.0),
        lorentz=1.0 / per_radian,
        d_A=1.0 / predictions.length,
        flags=flags,
    )
    return Integrated(
        reflections[kept], kept, rocking, profile,
        _observations(predictions, fitted, strength, flags, d_row, d_column, kept),
        _profile_ratios(slices, value, variance, fitted, expected, n_frames),
    )  # fmt: skip


def _cdf(excitation: Floats, rocking: RockingCurve, length: Floats) -> Floats:
    cdf: Floats = ndtr(excitation / rocking.sigma(length))
    return cdf


def _observations(
    predictions: Predictions,
    fitted: Floats,
    strength: Floats,
    flags: NDArray[np.uint32],
    d_row: Floats,
    d_column: Floats,
    kept: NDArray[np.int64],
) -> Observations:
    """Strong, clean reflections as observations for the refinement."""
    spoiled = np.uint32(Flag.MASKED | Flag.OVERLAP | Flag.PARTIAL | Flag.EDGE | Flag.MISFIT)
    use = np.zeros(len(predictions), bool)
    use[kept] = True
    use &= (strength > 8) & ((flags & spoiled) == 0) & np.isfinite(d_row) & np.isfinite(d_column)
    with np.errstate(invalid="ignore", divide="ignore"):
        frame = predictions.frame + fitted[:, 2] / predictions.rate
    use &= np.isfinite(frame)
    p = predictions[use]
    return Observations(
        hkl=p.hkl,
        row=p.row + d_row[use],
        column=p.column + d_column[use],
        frame=frame[use],
        sigma_px=np.sqrt(0.15**2 + (1.5 / strength[use]) ** 2),
        sigma_excitation=np.sqrt(np.maximum(fitted[use, 8], 0) + (2e-4) ** 2),
    )


def _profile_ratios(
    slices: Slices,
    value: Floats,
    variance: Floats,
    fitted: Floats,
    expected: Floats,
    n_frames: int,
) -> Floats:
    """Observed over expected intensity of the strong slices of each frame."""
    which = slices.reflection
    model_value = fitted[which, 0] * expected
    strong = (fitted[which, 0] > 15 * np.sqrt(fitted[which, 1])) & np.isfinite(value)
    strong &= (expected > 0.05) & (variance > 0)
    w = np.where(strong, 1.0 / np.where(strong, variance + (0.1 * model_value) ** 2, 1.0), 0.0)
    safe = np.where(strong, value, 0.0)
    known = np.where(strong, model_value, 0.0)
    top = np.bincount(slices.frame, w * safe * known, n_frames)
    bottom = np.bincount(slices.frame, w * known**2, n_frames)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale: Floats = np.where(bottom > 0, top / bottom, np.nan)
    return scale
