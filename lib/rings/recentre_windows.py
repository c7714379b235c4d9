"""Which rings of a radial profile the centre is found from, and the radii about each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_widths

from .recentre_image import NoRings

Floats = NDArray[np.float64]

_SIGNIFICANT = 6.0  # standard errors that a ring must stand out ...
_SURE = 10.0  # ... and the clearest one: chance makes 6 somewhere along a profile, now and then
_MOST_RINGS = 10
_WIDEST = 3.0  # times the usual width of a ring: beyond it, the edge of a stop


@dataclass(frozen=True)
class Window:
    """The radii (positions in the rays) about a ring, a stride apart, and its place among them."""

    first: int
    stop: int
    radius: float

    @property
    def stride(self) -> int:
        """Wide rings need no radius of every pixel."""
        return max(1, (self.stop - self.first) // 60)


def ring_windows(line: Floats, name: str) -> list[Window]:
    """The rings that stand out of a radial profile (radius, 2), with the radii to use for each."""
    mean = line[:, 0].copy()
    known = np.isfinite(mean)
    if np.count_nonzero(known) < 30:
        raise NoRings(name, "hardly any pixels to use", "powder rings", "check the mask")
    inside = int(np.argmax(known))
    last = len(mean) - int(np.argmax(known[::-1]))
    mean[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), mean[known])
    error = np.interp(np.arange(len(mean)), np.flatnonzero(known), line[known, 1])
    smooth = np.convolve(np.pad(mean, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    peaks, found = find_peaks(smooth, prominence=0, width=1.5, rel_height=0.5)
    far = (peaks > inside + 5) & (peaks < last - 5) & (peaks > max(8, 0.02 * len(mean)))
    strength = found["prominences"] / np.maximum(error[peaks], 1e-30)
    strong = far & (strength > _SIGNIFICANT)
    if not np.any(strong) or strength[strong].max() < _SURE:
        raise NoRings(
            name, "no ring that stands out of the noise", "powder rings",
            "expose longer, or take another image",
        )  # fmt: skip
    peaks, strength = peaks[strong], strength[strong]
    order = np.argsort(-strength)[:_MOST_RINGS]
    peaks, strength = peaks[np.sort(order)], strength[np.sort(order)]
    width = peak_widths(smooth, peaks, rel_height=0.5)[0]
    narrow = _no_edges(smooth, peaks, width)
    if not np.any(narrow):
        raise NoRings(name, "no ring but the edge of a stop", "powder rings", "check the image")
    peaks, width = peaks[narrow], width[narrow]
    windows = []
    for i, peak in enumerate(peaks):
        half = int(np.ceil(np.clip(1.5 * width[i], 5, 0.8 * peak)))
        first, stop = peak - half, peak + half + 1
        if i:
            first = max(first, (peaks[i - 1] + peak) // 2)
        if i + 1 < len(peaks):
            stop = min(stop, (peaks[i + 1] + peak) // 2 + 1)
        first, stop = max(first, inside, 1), min(stop, last, len(mean))
        if stop - first >= 7:
            windows.append(Window(int(first), int(stop), float(peak)))
    if not windows:
        raise NoRings(name, "rings too narrow to measure", "rings of 2 px and more", "bin less")
    return windows


def _no_edges(smooth: Floats, peaks: NDArray[np.int64], width: Floats) -> NDArray[np.bool_]:
    """Which peaks are rings, not the brim of light around a beam stop.

    A brim is wider than rings, or, where there is nothing to compare with, dark inside.
    """
    if len(peaks) >= 3:
        kept: NDArray[np.bool_] = width < _WIDEST * np.median(width)
        return kept
    inner = np.array([smooth[int(0.3 * peak) : peak].min() for peak in peaks])
    outer = np.array([smooth[peak : int(1.5 * peak) + 1].min() for peak in peaks])
    return inner > 0.5 * outer
