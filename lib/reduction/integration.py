"""Integration: intensities of one lattice from its shoeboxes.

The intensity of a reflection is what the crystal would give if swept through the Ewald sphere
at unit speed: counts times the speed of the excitation error (the Lorentz factor's inverse,
``|axis x q . s| / |s|``), so that it is proportional to |F|^2 kinematically.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from . import profiles
from .background import Backgrounds, fit_backgrounds
from .model import Model
from .prediction import Predictions
from .profiles import SliceSums, SpotProfile
from .residuals import Observations
from .result import Flag, Reflections
from .rocking import RockingCurve, fit_rocking
from .shoeboxes import Slices

Floats = NDArray[np.float64]
BoxCentres = tuple[Floats, Floats]
_Pixels = tuple[NDArray[np.float32], NDArray[np.uint8], Floats, Floats]

# Rocking curves are followed to this many standard deviations: 99.7 % of a Gaussian.
REACH = 3.0
# The learned spot profile is right to about this part of a slice's intensity.
_PROFILE_ERROR = 0.03
# Nor does a slice of which masks and neighbours leave less than this.
_MIN_SEEN = 0.7
# The flanks of a saturated spot are strong enough to tell its top.
_MIN_SEEN_SATURATED = 0.3
# A slice shares its core with another reflection where more than this part of it is common.
_SHARED = 0.1
# A background is no plane where it falls short of it by so many times its counting error: in the
# halo of the direct beam.
_UNEVEN = 2.5
# Less of a rocking curve than this says too little about the whole.
_MIN_PARTIALITY = 0.2
# Slices that fit as well as they should, which each rocking curve is taken to have besides its own.
_USUAL_FREEDOM = 4.0


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


def box_centres(slices: Slices) -> BoxCentres:
    """(row, column), (m,) each: the pixel in the middle of each box, of slices just planned.

    Predicted positions move as the model is refined; boxes stay where they were cut.
    """
    return np.round(slices.row), np.round(slices.column)


def integrate(
    model: Model,
    predictions: Predictions,
    slices: Slices,
    centre: BoxCentres,
    rocking: RockingCurve,
    core_px: float,
    n_frames: int,
) -> Integrated:
    """Fit spot and rocking profiles to the slices of one lattice.

    Parameters
    ----------
    model, predictions, slices : where the reflections are, and their pixels.
    centre : `box_centres` of the slices as they were cut.
    rocking : first guess of the width; refined here.
    core_px : radius of the summation area.
    n_frames : frames in the series.
    """
    pixels = (slices.boxes, slices.crowd, centre[0] - slices.row, centre[1] - slices.column)
    region = profiles.regions(slices.row, slices.column)
    background = fit_backgrounds(*pixels, slices.reflection, core_px)
    sums = profiles.sum_slices(*pixels, background, core_px)
    clean = (sums.lost == 0) & ~slices.saturated & ~slices.masked & np.isfinite(sums.total)
    significance = sums.total / np.sqrt(np.maximum(sums.variance, 1e-9))
    strong_slice = clean & (significance > 10)
    if strong_slice.sum() < 50:
        strong_slice = clean & (significance > 5)
    profile = profiles.learn_spot_profile(
        *pixels, background, sums, strong_slice, region, core_px
    ) or profiles.gaussian_profile(core_px / 2.5, slices.half, core_px, int(region.max()) + 1)
    seen = _slice_intensities(slices, pixels, background, sums, clean, profile, region)
    expected = _expected(predictions, slices, rocking)
    _uncover_lost(
        len(predictions), slices, pixels, background, sums, profile, region, expected, seen
    )  # fmt: skip

    which, n = slices.reflection, len(predictions)
    rocking = _learn_rocking(predictions, slices, seen, rocking)
    sigma = rocking.sigma(predictions.length)
    expected = _expected(predictions, slices, rocking)
    # an error that all slices share goes with (sum p)^2 / sum p^2 in the fit of I p
    alike = np.bincount(which, expected, n) ** 2 / np.maximum(
        np.bincount(which, expected**2, n), 1e-12
    )
    variance = seen.variance + seen.lever**2 * (
        background.own_variance + alike[which] * background.shared_variance
    )
    prior_shift, prior_width = 0.4 * float(np.median(sigma)), 0.3
    for _ in range(2):
        fitted = np.empty((len(predictions), 10))
        fit_rocking(
            slices.start, slices.excitation_low, slices.excitation_high, seen.value, variance,
            sigma, prior_shift, prior_width, 5.0, fitted,
        )  # fmt: skip
        strength = fitted[:, 0] / np.sqrt(fitted[:, 1])
        sure = (strength > 20) & (fitted[:, 4] > 0.95)
        if sure.sum() >= 20:
            prior_shift = float(
                np.clip(1.4826 * np.median(np.abs(fitted[sure, 2])), 1e-5, np.median(sigma))
            )
            prior_width = float(np.clip(1.4826 * np.median(np.abs(fitted[sure, 3])), 0.03, 0.5))
    return _collect(
        model, predictions, slices, background, sums, seen, expected, fitted, rocking, profile,
        n_frames,
    )  # fmt: skip


@dataclass(frozen=True)
class _SliceIntensities:
    """Electrons of each slice (m,), NaN where unknown; variance without the background's."""

    value: Floats
    variance: Floats
    lever: Floats  # electrons that an electron per pixel more background takes off


def _slice_intensities(
    slices: Slices,
    pixels: _Pixels,
    background: Backgrounds,
    sums: SliceSums,
    clean: NDArray[np.bool_],
    profile: SpotProfile,
    region: NDArray[np.int64],
) -> _SliceIntensities:
    """Intensity of each slice: the fit, or the sum where that is surer."""
    fit = profiles.fit_slices(*pixels, background, profile, region)
    # a slice whose visible pixels hold little of the profile says too little
    enough = np.where(slices.saturated, _MIN_SEEN_SATURATED, _MIN_SEEN)
    fitted = np.where(fit.seen < enough, np.nan, fit.intensity)
    # what the flanks tell of the top is the less certain the less they hold
    with np.errstate(divide="ignore", invalid="ignore"):
        fit_variance = fit.variance + (_PROFILE_ERROR * fitted / np.minimum(fit.seen, 1)) ** 2
    core = profile.core_fraction[region]
    total, total_variance = sums.total / core, sums.variance / core**2
    use_sum = clean & (total_variance < fit_variance)
    return _SliceIntensities(
        np.where(use_sum, total, fitted),
        np.where(use_sum, total_variance, fit_variance),
        np.where(use_sum, sums.n_core / core, fit.lever),
    )


def _expected(predictions: Predictions, slices: Slices, rocking: RockingCurve) -> Floats:
    """(m,) part of its reflection that each slice should hold."""
    length = predictions.length[slices.reflection]
    return rocking.swept(slices.excitation_low, slices.excitation_high, length)


def _uncover_lost(
    n: int,
    slices: Slices,
    pixels: _Pixels,
    background: Backgrounds,
    sums: SliceSums,
    profile: SpotProfile,
    region: NDArray[np.int64],
    expected: Floats,
    seen: _SliceIntensities,
) -> None:
    """Give reflections that others cover all along the pixels they share, in place.

    They are listed, with what stands there, and flagged; one that is seen on some of its
    frames is not disturbed.
    """
    which, unknown = slices.reflection, ~np.isfinite(seen.value)
    part = np.bincount(which, np.where(unknown, 0.0, expected), n)
    hidden = (part < 0.5)[which] & unknown & (sums.shared > _SHARED)
    if not hidden.any():
        return
    under = Backgrounds(**{f.name: getattr(background, f.name)[hidden] for f in fields(background)})
    boxes, crowd, d_row, d_column = pixels
    fit = profiles.fit_slices(
        boxes[hidden], np.zeros_like(crowd[hidden]), d_row[hidden], d_column[hidden], under,
        profile, region[hidden],
    )  # fmt: skip
    enough = fit.seen >= _MIN_SEEN
    seen.value[hidden] = np.where(enough, fit.intensity, np.nan)
    seen.variance[hidden] = fit.variance + (_PROFILE_ERROR * fit.intensity) ** 2
    seen.lever[hidden] = fit.lever


def _learn_rocking(
    predictions: Predictions, slices: Slices, seen: _SliceIntensities, guess: RockingCurve
) -> RockingCurve:
    """Width of the rocking curves from the second moments of well-recorded reflections."""
    n = len(predictions)
    good = np.isfinite(seen.value)
    v = np.where(good, seen.value, 0.0)
    which = slices.reflection
    middle = 0.5 * (slices.excitation_low + slices.excitation_high)
    span = slices.excitation_high - slices.excitation_low
    total = np.bincount(which, v, n)
    noise = np.sqrt(np.bincount(which, np.where(good, seen.variance, 0.0), n))
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
    whole = (low < -1.8 * sigma) & (high > 1.8 * sigma) & (holes == 0) & (count >= 3)
    resolved = width_of_frame < 2.5 * sigma
    use = whole & resolved & (total > 15 * noise) & (second > 0)
    # sweeping subtracts nothing: the frame's own width is in `second` and taken out here
    with np.errstate(invalid="ignore"):
        observed = np.sqrt(np.maximum(second - width_of_frame**2 / 6, 1e-12))
    fitted = RockingCurve.fit(predictions.length[use], observed[use], np.ones(int(use.sum())))
    return fitted or guess


def _collect(
    model: Model,
    predictions: Predictions,
    slices: Slices,
    background: Backgrounds,
    sums: SliceSums,
    seen: _SliceIntensities,
    expected: Floats,
    fitted: Floats,
    rocking: RockingCurve,
    profile: SpotProfile,
    n_frames: int,
) -> Integrated:
    """Turn fitted curves into reflections, observations and frame scales."""
    n = len(predictions)
    which = slices.reflection
    good = np.isfinite(seen.value)

    def add(values: Floats) -> Floats:
        """Sum over the slices of each reflection that have an intensity."""
        return np.asarray(np.bincount(which, np.where(good, values, 0.0), n), np.float64)

    def mean(values: Floats) -> Floats:
        """Mean over the slices of each reflection, as much of it as each should hold."""
        everything = np.maximum(np.bincount(which, expected, n), 1e-9)
        return np.asarray(np.bincount(which, values * expected, n) / everything, np.float64)

    partiality = add(expected)
    total = add(seen.value)
    # the background's error that slices share adds up before it is squared
    shared = add(seen.lever * np.sqrt(background.shared_variance)) ** 2
    total_variance = add(seen.variance + seen.lever**2 * background.own_variance) + shared
    kept = np.flatnonzero(
        np.isfinite(fitted[:, 0]) & (partiality > _MIN_PARTIALITY) & (fitted[:, 1] > 0)
    )
    intensity, var = fitted[:, 0].copy(), fitted[:, 1].copy()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # where the whole curve was seen, adding it up needs no model of its shape
        summed = total / partiality
        summed_variance = total_variance / partiality**2
        # a few slices say little about their own fit: as if so many more had fitted
        freedom = np.maximum(fitted[:, 6] - 1, 1)
        misfit = (fitted[:, 5] * freedom + _USUAL_FREEDOM) / (freedom + _USUAL_FREEDOM)
        misfit = np.maximum(misfit, 1.0)
        use_sum = (partiality > 0.97) & (summed_variance < var * misfit)
    intensity = np.where(use_sum, summed, intensity)
    var = np.where(use_sum, summed_variance, var * misfit)

    flags = np.zeros(n, np.uint32)

    def mark(per_slice: NDArray[np.bool_], flag: Flag) -> None:
        flags[np.bincount(which, per_slice & (expected > 0.02), n) > 0] |= np.uint32(flag)

    mark(slices.saturated, Flag.SATURATED)
    mark(slices.masked, Flag.MASKED)
    mark(sums.shared > _SHARED, Flag.OVERLAP)
    mark(~np.isfinite(background.level), Flag.BACKGROUND)
    flags[partiality < 0.95] |= np.uint32(Flag.PARTIAL)
    flags[fitted[:, 9] > 6] |= np.uint32(Flag.MISFIT)
    rate = np.abs(predictions.rate)
    per_radian = rate / (np.deg2rad(abs(model.angle_step_deg)) * model.rotation_scale)

    weight = np.where(good & (sums.total > 0), sums.total, 0.0)
    weight_sum = np.bincount(which, weight, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        d_row = np.bincount(which, weight * np.nan_to_num(sums.offset_row), n) / weight_sum
        d_column = np.bincount(which, weight * np.nan_to_num(sums.offset_column), n) / weight_sum
    uneven = mean(np.nan_to_num(background.unevenness, posinf=10.0))
    flags[uneven > _UNEVEN] |= np.uint32(Flag.BACKGROUND)
    strength = intensity / np.sqrt(var)
    trusted = (strength > 5) & np.isfinite(d_row)
    reflections = Reflections(
        hkl=predictions.hkl,
        intensity_sum=summed * per_radian,
        sigma_sum=np.sqrt(summed_variance) * per_radian,
        intensity=intensity * per_radian,
        sigma=np.sqrt(var) * per_radian,
        background=mean(np.nan_to_num(background.level)),
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
        _profile_ratios(slices, seen, fitted, expected, n_frames),
    )  # fmt: skip


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
    seen: _SliceIntensities,
    fitted: Floats,
    expected: Floats,
    n_frames: int,
) -> Floats:
    """Observed over expected intensity of the strong slices of each frame."""
    which, value, variance = slices.reflection, seen.value, seen.variance
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
