"""A first look at a series: gain, saturation, and the part of the detector that is lit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..series import RotationSeries
from .noise import estimate_gain, estimate_saturation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """What a sample of the frames says about the detector.

    Attributes
    ----------
    gain : counts per electron.
    saturation : counts; infinite if no ceiling is known or seen.
    valid : (rows, columns) True where a pixel can be used: not masked, and lit.
    notes : how each was found.
    """

    gain: float
    saturation: float
    valid: NDArray[np.bool_]
    notes: tuple[str, ...]


def frame_blocks(series: RotationSeries) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """(first position, frames) of the series, a chunk at a time, so memory stays bounded."""
    start = 0
    for count in series.frames.chunks[0]:
        block = series.frames[start : start + count].compute(scheduler="synchronous")
        yield start, block
        start += count


def to_electrons(raw: NDArray[np.generic], pedestal: float, gain: float) -> NDArray[np.float32]:
    """Counts in electrons, float32."""
    electrons: NDArray[np.float32] = raw.astype(np.float32)
    if pedestal:
        electrons -= np.float32(pedestal)
    if gain != 1.0:
        electrons *= np.float32(1.0 / gain)
    return electrons


def survey(series: RotationSeries, n_sampled: int = 12) -> Survey:
    """Look at pairs of frames spread over the series.

    The gain comes from consecutive frames, the saturation from a ceiling they share, the lit
    area from their mean: a round aperture that cuts the pattern makes a step in the background,
    and a step is full of false spots.
    """
    n = len(series)
    first = np.unique(np.linspace(0, max(n - 2, 0), max(n_sampled // 2, 1)).astype(int))
    gains, maxima, at_maximum = [], [], []
    total = np.zeros(series.shape)
    used = 0
    usable = ~series.mask
    for i in first:
        pair = series.frames[i : i + 2].compute(scheduler="synchronous")
        for frame in pair:
            top = frame[usable].max() if usable.any() else 0
            if top > series.pedestal:
                maxima.append(float(top))
                at_maximum.append(int((frame == top).sum()))
                total += frame - series.pedestal
                used += 1
        if len(pair) == 2 and pair[0].any() and pair[1].any():
            gains.append(estimate_gain(pair[0], pair[1], usable, series.pedestal))
    notes = []
    if series.gain is not None:
        gain = series.gain
    else:
        known = np.array([g for g in gains if np.isfinite(g) and g > 0])
        gain = float(np.median(known)) if len(known) else 1.0
        notes.append(
            f"gain {gain:.3g} counts per electron, from the noise of {len(known)} frame pairs"
            if len(known)
            else "gain could not be estimated (too few counts): 1 count per electron assumed"
        )
    if series.saturation is not None:
        saturation = series.saturation
    else:
        ceiling = estimate_saturation(np.array(maxima), np.array(at_maximum))
        saturation = np.inf if ceiling is None else ceiling
        notes.append(
            "no saturation level is known and the frames show none"
            if ceiling is None
            else f"saturation at {ceiling:g} counts: the frames' common ceiling"
        )
    valid = usable.copy()
    if used:
        dark = unlit_area(total / used / gain, usable)
        if dark.any():
            valid &= ~dark
            notes.append(f"{100 * dark.mean():.1f} % of the detector lies outside the lit aperture")
    return Survey(gain, saturation, valid, tuple(notes))


def unlit_area(mean_electrons: Floats, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels in the shadow of an aperture: dark, at the rim, behind a sharp edge.

    A background that merely falls off with the angle has no edge and is kept.
    """
    smooth = ndimage.uniform_filter(np.where(usable, mean_electrons, 0.0), 5)
    level = float(np.median(smooth[usable])) if usable.any() else 0.0
    none = np.zeros(usable.shape, bool)
    if not level > 0:
        return none
    labels = ndimage.label((smooth < 0.12 * level) & usable)[0]
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    dark = np.isin(labels, rim[rim > 0]) & (labels > 0)
    if dark.mean() < 0.005:
        return none
    outside = ndimage.binary_dilation(dark, iterations=16) & usable
    outside &= ~ndimage.binary_dilation(dark, iterations=10)
    inside = dark & ~ndimage.binary_erosion(dark, iterations=8, border_value=1)
    if not (outside.any() and inside.any()):
        return none
    if smooth[outside].mean() < 4 * smooth[inside].mean():
        return none
    shadow: NDArray[np.bool_] = ndimage.binary_dilation(dark, iterations=8)
    return shadow
