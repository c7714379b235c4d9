"""Where each focused pattern lies, to a small fraction of a pixel.

What descan leaves changes in steps, each time the deflectors are set: a smooth track of the beam
(`lib.reduction.beam_centre.track_beam`) would blur them. So every frame has a centre of its own,
found where it is expected, and only the frames on which the direct beam is not seen are bridged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter, uniform_filter

from ..reduction.beam_centre import centroid_above
from .disc import add_blocks

Floats = NDArray[np.float64]
Image = NDArray[Any]

# The first look; then the beam's own blob, in a window that low-order reflections are outside.
HALF_PX, FRACTION, BLOCK_PX = 10, 0.35, 8
# The beam's halo: the median of so many blocks a side, which a reflection fills less than half of;
# above half of its height, within so many blocks; more than twice the frame's median and this.
HALO_BLOCKS, HALO_REACH, HALO_COUNTS = 5, 5, 1.0
BLOB_HALF_PX, BLOB_FRACTION = 7, 0.25
# A centre farther than this from its neighbours' median is a reflection, not the beam.
TOLERANCE_PX = 6.0


@dataclass(frozen=True)
class PatternCentres:
    """Centres of a series.

    Attributes
    ----------
    centres_px : (n, 2) (row, column).
    seen : (n,) False where a centre was bridged.
    """

    centres_px: Floats
    seen: NDArray[np.bool_]

    def offsets_px(self) -> Floats:
        """(n, 2) by which each frame is displaced from their median."""
        offsets: Floats = self.centres_px - np.median(self.centres_px[self.seen], axis=0)
        return offsets


def pattern_centre(frame: Image, expected_px: ArrayLike | None = None) -> Floats | None:
    """(2,) (row, column) of the direct beam on a frame; None if it is not there.

    Pixels of the detector's cross are used too: the beam may sit on it.

    Parameters
    ----------
    expected_px : (2,) where it is looked for. None: in the middle of the halo of inelastic
        scattering, which reflections do not move, whatever their height; without a halo, about
        the middle of the 24 x 24 pixels that hold the most.
    """
    image = np.ascontiguousarray(frame, np.float32)
    if expected_px is None:
        expected_px = _first_look(image)
    row, column = (float(v) for v in np.asarray(expected_px, float))
    for _ in range(6):
        if not np.isfinite(row + column):
            return None
        before = row, column
        row, column = _blob_centre(image, row, column, HALF_PX, 0.5)
        if np.hypot(row - before[0], column - before[1]) < 0.01:
            break
    # once more with its wings, which tell more where its top is saturated or on wide pixels
    row, column = _blob_centre(image, row, column, BLOB_HALF_PX, BLOB_FRACTION)
    return np.array([row, column]) if np.isfinite(row + column) else None


def _first_look(image: NDArray[np.float32]) -> Floats:
    """(2,) about where the direct beam is, to a few pixels; NaN on an empty frame."""
    everything = np.ones(image.shape, bool)
    n, m = image.shape[0] // BLOCK_PX, image.shape[1] // BLOCK_PX
    total, _ = add_blocks(image, everything, BLOCK_PX, 0, 0, n, m)
    halo = median_filter(total, HALO_BLOCKS, mode="constant")
    i, j = np.unravel_index(int(np.argmax(halo)), halo.shape)
    if halo[i, j] > 2 * np.median(halo) + HALO_COUNTS * BLOCK_PX**2:
        low = max(i - HALO_REACH, 0), max(j - HALO_REACH, 0)
        near = halo[low[0] : i + HALO_REACH + 1, low[1] : j + HALO_REACH + 1]
        weight = np.maximum(near - 0.5 * halo[i, j], 0.0)
        place = np.tensordot(np.indices(near.shape), weight, 2) / weight.sum() + low
        return np.asarray(place * BLOCK_PX + (BLOCK_PX - 1) / 2, float)
    wide = uniform_filter(total, 3, mode="constant")
    place = np.array(np.unravel_index(int(np.argmax(wide)), wide.shape), float)
    at = place * BLOCK_PX + (BLOCK_PX - 1) / 2
    row, column, _ = centroid_above(
        image, everything, float(at[0]), float(at[1]), HALF_PX, FRACTION
    )
    return np.array([row, column])


@numba.njit(cache=True, nogil=True)
def _blob_centre(
    image: NDArray[np.float32], row: float, column: float, half: int, fraction: float
) -> tuple[float, float]:
    """Centroid of the bright pixels that hang together with those at (row, column); else NaN.

    Heights count up to the median about (row, column): where wide pixels of a cross share their
    counts the beam is lower than a reflection beside it, and must not be outweighed by it.
    """
    rows, columns = image.shape
    if not np.isfinite(row + column):
        return np.nan, np.nan
    i0, j0 = round(row), round(column)
    if i0 < half + 1 or j0 < half + 1 or i0 >= rows - half - 1 or j0 >= columns - half - 1:
        return np.nan, np.nan
    size = 2 * half + 1
    smooth = np.zeros((size, size))
    for u in range(size):
        for v in range(size):
            total = 0.0
            for i in range(i0 - half + u - 1, i0 - half + u + 2):
                for j in range(j0 - half + v - 1, j0 - half + v + 2):
                    total += image[i, j]
            smooth[u, v] = total / 9
    near = smooth[half - 3 : half + 4, half - 3 : half + 4]
    cap = np.median(near)
    # begin at the highest place nearby, for the start may lie beside the beam
    a, b = half, half
    for u in range(half - 4, half + 5):
        for v in range(half - 4, half + 5):
            if smooth[u, v] > smooth[a, b]:
                a, b = u, v
    if cap < fraction * smooth[a, b]:
        cap = smooth[a, b]
    if cap <= 0:
        return np.nan, np.nan
    limit = fraction * cap
    taken = np.zeros((size, size), np.bool_)
    stack = [(a, b)]
    taken[a, b] = True
    weight, sum_row, sum_column = 0.0, 0.0, 0.0
    while stack:
        u, v = stack.pop()
        w = min(smooth[u, v], cap) - limit
        weight += w
        sum_row += w * (i0 - half + u)
        sum_column += w * (j0 - half + v)
        for du, dv in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            x, y = u + du, v + dv
            if 0 <= x < size and 0 <= y < size and not taken[x, y] and smooth[x, y] > limit:
                taken[x, y] = True
                stack.append((x, y))
    if weight <= 0:
        return np.nan, np.nan
    return sum_row / weight, sum_column / weight


def pattern_centres(frames: Sequence[Image], tolerance_px: float = TOLERANCE_PX) -> PatternCentres:
    """Centres of all frames of a series."""
    found = [pattern_centre(frame) for frame in frames]
    seen = [one for one in found if one is not None]
    if seen:  # a second time, near where most have it
        middle = np.median(seen, axis=0)
        found = [
            pattern_centre(frame, middle)
            if one is None or np.linalg.norm(one - middle) > tolerance_px
            else one
            for frame, one in zip(frames, found, strict=True)
        ]
    measured = [np.full(2, np.nan) if one is None else one for one in found]
    return bridged(np.array(measured).reshape(-1, 2), tolerance_px)


def bridged(measured_px: ArrayLike, tolerance_px: float = TOLERANCE_PX) -> PatternCentres:
    """Centres (n, 2) as measured frame by frame, those that are not the beam's bridged."""
    measured = np.array(measured_px, float)
    seen = np.isfinite(measured).all(axis=1)
    index = np.arange(len(measured))
    for k in index[seen]:
        near = measured[max(k - 5, 0) : k + 6][seen[max(k - 5, 0) : k + 6]]
        about = np.median(near if len(near) >= 3 else measured[seen], axis=0)
        if np.linalg.norm(measured[k] - about) > tolerance_px:
            seen[k] = False
    if seen.any():
        for axis in (0, 1):
            measured[~seen, axis] = np.interp(index[~seen], index[seen], measured[seen, axis])
    return PatternCentres(measured, seen)
