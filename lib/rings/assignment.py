"""Which ring is which: the scale at which a calibrant's spacings explain the profile best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_opening, label, median_filter
from scipy.signal import find_peaks, peak_widths

from .calibrant import Calibrant
from .centre_start import RoundStart
from .masking import DARK

Floats = NDArray[np.float64]

# Peaks stand out from the noise of the profile by so much, ...
LEAST_SIGMA = 6.0
# ... and are no wider than so many times the usual one.
WIDEST = 2.5
# A ring has its place to so much of its radius before distortions are known.
RELATIVE_TOLERANCE = 0.005
# Rings closer than this part of their full width at half maximum are one, ...
MERGED = 0.6
# ... and closer than this the weaker is a shoulder that need not be a peak of its own.
SHOULDER = 1.6
# Scales closer than this, relative, are the same.
SAME_SCALE = 0.02


@dataclass(frozen=True)
class Peaks:
    """Rings seen in a profile.

    Attributes
    ----------
    radius_px : (n,) increasing.
    height : (n,) counts above what surrounds them.
    fwhm_px : full width at half maximum of the usual one.
    least : height at which a ring is just seen, anywhere in `limits_px`.
    limits_px : radii between which rings could be seen.
    """

    radius_px: Floats
    height: Floats
    fwhm_px: float
    least: Floats
    limits_px: tuple[float, float]


@dataclass(frozen=True)
class Assignment:
    """A scale, and how well it explains what was seen.

    Attributes
    ----------
    distance_px : radius of a ring over the tangent of its scattering angle.
    explained : part of what was seen that the calibrant has, less what chance would explain.
    found : part of the calibrant's rings, by strength, that were seen where they should be.
    matched : how many rings agree.
    rms : of their radii, relative.
    """

    distance_px: float
    explained: float
    found: float
    matched: int
    rms: float

    @property
    def score(self) -> float:
        """1 if all is explained and found, at all the tolerance allows to 0."""
        return self.explained * self.found * min(1.0, self.matched / 3)


def find_rings(start: RoundStart) -> Peaks:
    """Peaks of the profile of a `RoundStart`."""
    seen = _longest_run(np.isfinite(start.profile) & (start.coverage > 0.3))
    if np.count_nonzero(seen) < 20:
        return Peaks(np.zeros(0), np.zeros(0), 0.0, np.zeros(len(seen)), (0.0, 0.0))
    radius = start.radius_px
    first, last = radius[seen][0], radius[seen][-1]
    profile = np.interp(radius, radius[seen], start.profile[seen])
    noise = np.interp(radius, radius[seen], start.noise[seen])
    first = max(first, _behind_stop(radius, profile, first))
    # the noise between rings: spots make it large on them
    noise = median_filter(noise, size=61, mode="nearest")
    fwhm = 5.0
    for _ in range(3):
        sigma = max(1.0, 0.25 * fwhm)
        smooth = gaussian_filter1d(profile, sigma, mode="nearest")
        least = LEAST_SIGMA * noise / np.sqrt(2 * np.sqrt(np.pi) * sigma)
        # rounding of smooth profiles is no ring
        least = np.maximum(least, 1e-3 * np.abs(smooth))
        at, what = find_peaks(smooth, prominence=0)
        tall = what["prominences"] > least[at]
        at, height = at[tall], what["prominences"][tall]
        if len(at) == 0:
            break
        width = peak_widths(smooth, at, rel_height=0.5)[0]
        strongest = np.argsort(-height * np.sqrt(at))[:5]
        fwhm = float(np.median(width[strongest]))
        inside = (at > first + 0.8 * width) & (at < last - 0.8 * width) & (at > 2 * fwhm)
        kept = inside & (width < WIDEST * fwhm) & (width > 0.2 * fwhm)
        at, height = at[kept], height[kept]
    places = radius[at] + np.array([_vertex(smooth, int(i)) for i in at])
    return Peaks(places, height, fwhm, least, (float(first), float(last)))


def _longest_run(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only the longest run of `seen`."""
    runs, n = label(seen)
    if n < 2:
        return seen
    longest: NDArray[np.bool_] = runs == 1 + int(np.argmax(np.bincount(runs)[1:]))
    return longest


def _behind_stop(radius: Floats, profile: Floats, first: float) -> float:
    """Radius from which diffuse scattering is seen: it only falls outwards, but behind a stop."""
    inside = radius >= first
    size = max(5, len(radius) // 25)
    diffuse = grey_opening(profile, size=size, mode="nearest")
    brightest = int(np.argmax(np.where(inside, diffuse, -np.inf)))
    dark = np.flatnonzero(inside[:brightest] & (diffuse[:brightest] < DARK * diffuse[brightest]))
    return float(radius[dark[-1] + 1]) if len(dark) else first


def _vertex(line: Floats, i: int) -> float:
    before, here, after = line[i - 1 : i + 2]
    bend = before - 2 * here + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0


def best_scales(
    peaks: Peaks, calibrant: Calibrant, wavelength_A: float, limits_px: tuple[float, float]
) -> list[Assignment]:
    """Distances in px between `limits_px`, best first, none twice; empty if nothing fits."""
    sine = wavelength_A / (2 * calibrant.d_A)
    possible = sine < 0.7
    tangent = np.tan(2 * np.arcsin(sine[possible]))
    strength = calibrant.intensity[possible] / tangent
    # any strong ring may be any of the tallest peaks
    tallest = np.argsort(-peaks.height)[:8]
    strongest = np.argsort(-strength)[:10]
    tried = (peaks.radius_px[tallest][:, None] / tangent[strongest][None, :]).ravel()
    tried = np.unique(tried[(tried >= limits_px[0]) & (tried <= limits_px[1])])
    found = [_judge(distance, peaks, tangent, strength) for distance in tried]
    found.sort(key=lambda a: (-a.score, a.rms))
    best: list[Assignment] = []
    for one in found:
        apart = all(abs(one.distance_px / b.distance_px - 1) > SAME_SCALE for b in best)
        if one.matched >= 1 and apart:
            best.append(one)
    return best


def _judge(distance: float, peaks: Peaks, tangent: Floats, strength: Floats) -> Assignment:
    """How well one scale explains the peaks; the scale is refined on what it matches."""
    seen = np.sqrt(peaks.height)
    for _ in range(3):
        place, height = _merged(distance * tangent, strength, peaks.fwhm_px)
        near = np.clip(np.searchsorted(place, peaks.radius_px), 1, max(len(place) - 1, 1))
        near = np.where(
            np.abs(place[near - 1] - peaks.radius_px)
            < np.abs(place[np.minimum(near, len(place) - 1)] - peaks.radius_px),
            near - 1,
            np.minimum(near, len(place) - 1),
        )
        ratio = peaks.radius_px / place[near]
        tolerance = RELATIVE_TOLERANCE + 0.15 * peaks.fwhm_px / peaks.radius_px
        matches = np.abs(ratio - 1) < tolerance
        if not np.any(matches):
            return Assignment(distance, 0.0, 0.0, 0, np.inf)
        weight = seen[matches] * peaks.radius_px[matches] ** 2
        change = float(np.sum(weight * ratio[matches]) / np.sum(weight))
        distance *= change
    # a ring is expected where it would be tall enough to be seen, as the matched ones tell
    scale = float(np.median(peaks.height[matches] / height[near[matches]]))
    first, last = peaks.limits_px
    inside = (place > first + 1.5 * peaks.fwhm_px) & (place < last - 1.5 * peaks.fwhm_px)
    index = np.clip(place.astype(int), 0, len(peaks.least) - 1)
    expected = inside & (height * scale > 3 * peaks.least[index])
    between = np.abs(place[:, None] - place[None, :])
    taller = height[None, :] > height[:, None]
    expected &= ~np.any(taller & (between < SHOULDER * peaks.fwhm_px), axis=1)
    gap = np.abs(place[:, None] - peaks.radius_px[None, :]).min(axis=1)
    there = gap < 0.3 * peaks.fwhm_px + RELATIVE_TOLERANCE * place
    wanted = np.sqrt(height) * expected
    found = float(np.sum(wanted * there) / np.sum(wanted)) if np.any(expected) else 0.0
    # what chance would explain: how much of the radii lies within the tolerance of some ring
    reach = np.interp(place, peaks.radius_px, tolerance * peaks.radius_px)
    within = place[inside | (place < last)]
    chance = min(0.95, float(2 * np.sum(reach[: len(within)]) / max(last - first, 1.0)))
    part = float(np.sum(seen[matches]) / np.sum(seen))
    explained = max(0.0, (part - chance) / (1 - chance))
    rms = float(np.sqrt(np.mean((ratio[matches] / change - 1) ** 2)))
    return Assignment(distance, explained, found, len(np.unique(near[matches])), rms)


def _merged(place: Floats, strength: Floats, fwhm: float) -> tuple[Floats, Floats]:
    """Rings that cannot be seen apart, as one at their common centre; by increasing radius."""
    starts = np.flatnonzero(np.diff(place, prepend=-np.inf) > MERGED * fwhm)
    total = np.add.reduceat(strength, starts)
    return np.add.reduceat(strength * place, starts) / total, total
