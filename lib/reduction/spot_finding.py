"""Spot finding: strong pixels that touch, in a frame or in consecutive frames, are one spot."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numba
import numpy as np
from numpy.typing import NDArray

from .strong_pixels import local_background, strong_pixels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spots:
    """Spots of a series, one row each.

    Attributes
    ----------
    row, column : background-subtracted centroid, px.
    frame : centroid along the series; an integer is the middle of that frame (by position).
    frame_spread : standard deviation of the intensity along the series, frames.
    first, last : first and last frame with strong pixels.
    intensity, sigma : sum above background and its counting error, electrons.
    peak : brightest pixel above background, electrons.
    n_pixels : strong pixels in all frames.
    saturated : holds a saturated pixel.
    edge : touches a pixel that cannot be used, so that part of it may be missing.
    """

    row: Floats
    column: Floats
    frame: Floats
    frame_spread: Floats
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    intensity: Floats
    sigma: Floats
    peak: Floats
    n_pixels: NDArray[np.int64]
    saturated: NDArray[np.bool_]
    edge: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: object) -> Spots:
        """Some of the rows (anything numpy indexes with)."""
        return Spots(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@numba.njit(cache=True, nogil=True)
def _find(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(cache=True, nogil=True)
def _union(parent: NDArray[np.int64], i: int, j: int) -> int:
    i, j = _find(parent, i), _find(parent, j)
    if i < j:
        parent[j] = i
        return i
    parent[i] = j
    return j


# Columns of the running sums kept for each (provisional) spot.
(
    _SUM, _VARIANCE, _ROW, _COLUMN, _FRAME, _FRAME2, _PIXELS, _PEAK, _FIRST, _LAST, _SATURATED,
    _EDGE,
) = range(12)  # fmt: skip
_N_SUMS = 12


@numba.njit(cache=True, nogil=True)
def _label_frame(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    background: NDArray[np.float32],
    strong: NDArray[np.int64],
    ceiling: np.float32,
    frame: int,
    previous: NDArray[np.int32],
    labels: NDArray[np.int32],
    parent: NDArray[np.int64],
    sums: Floats,
    n: int,
) -> int:
    """Give each strong pixel of a frame a spot, joined to its neighbours and to `previous`.

    `strong` holds their places in the flat frame, in order; `labels` comes filled with -1.
    """
    columns = electrons.shape[1]
    for place in strong:
        r, c = place // columns, place % columns
        label = -1
        if r > 0 and labels[r - 1, c] >= 0:
            label = labels[r - 1, c]
        if c > 0 and labels[r, c - 1] >= 0:
            left = labels[r, c - 1]
            label = left if label < 0 else _union(parent, label, left)
        if previous[r, c] >= 0:
            label = previous[r, c] if label < 0 else _union(parent, label, previous[r, c])
        if label < 0:
            label = n
            parent[n] = n
            sums[n, :] = 0.0
            sums[n, _FIRST] = 1e9
            sums[n, _LAST] = -1.0
            n += 1
        labels[r, c] = label
        signal = electrons[r, c] - background[r, c]
        s = sums[label]
        s[_SUM] += signal
        s[_VARIANCE] += max(electrons[r, c], background[r, c])
        if signal > 0:
            s[_ROW] += signal * r
            s[_COLUMN] += signal * c
            s[_FRAME] += signal * frame
            s[_FRAME2] += signal * frame * frame
        s[_PIXELS] += 1.0
        s[_PEAK] = max(s[_PEAK], signal)
        s[_FIRST] = min(s[_FIRST], frame)
        s[_LAST] = max(s[_LAST], frame)
        if electrons[r, c] >= ceiling:
            s[_SATURATED] = 1.0
        if not (valid[r - 1, c] and valid[r + 1, c] and valid[r, c - 1] and valid[r, c + 1]):
            s[_EDGE] = 1.0
    return n


@numba.njit(cache=True, nogil=True)
def _merge(parent: NDArray[np.int64], sums: Floats, n: int) -> NDArray[np.bool_]:
    """Add the sums of joined provisional spots to their root; mark the roots."""
    root = np.zeros(n, np.bool_)
    for i in range(n):
        j = _find(parent, i)
        if j == i:
            root[i] = True
            continue
        for k in (_SUM, _VARIANCE, _ROW, _COLUMN, _FRAME, _FRAME2, _PIXELS):
            sums[j, k] += sums[i, k]
        sums[j, _PEAK] = max(sums[j, _PEAK], sums[i, _PEAK])
        sums[j, _FIRST] = min(sums[j, _FIRST], sums[i, _FIRST])
        sums[j, _LAST] = max(sums[j, _LAST], sums[i, _LAST])
        sums[j, _SATURATED] = max(sums[j, _SATURATED], sums[i, _SATURATED])
        sums[j, _EDGE] = max(sums[j, _EDGE], sums[i, _EDGE])
    return root


class SpotFinder:
    """Finds the spots of a series handed to it frame by frame, in order.

    Parameters
    ----------
    shape : (rows, columns).
    threshold : significance of a strong pixel, in standard deviations.
    clip : clipping of spots in the background, in standard deviations.
    """

    def __init__(self, shape: tuple[int, int], threshold: float = 5.0, clip: float = 3.0) -> None:
        self.threshold, self.clip = threshold, clip
        self._work = np.empty((4, *shape), np.float32)
        self._strong = np.zeros(shape, bool)
        self._previous = np.full(shape, -1, np.int32)
        self._labels = np.full(shape, -1, np.int32)
        nowhere = np.zeros(0, np.int64)
        self._labelled = nowhere, nowhere  # places in the two arrays of labels that are not -1
        self._parent = np.zeros(1 << 16, np.int64)
        self._sums = np.zeros((1 << 16, _N_SUMS))
        self._n = 0

    def add(
        self,
        electrons: NDArray[np.float32],
        valid: NDArray[np.bool_],
        ceiling: float,
        frame: int,
    ) -> NDArray[np.float32]:
        """Take the next frame (rows, columns), saturated at `ceiling` and above, in electrons.

        Returns its local background, which the next frame overwrites. A frame that is never
        handed over (blank) does not part a spot that lives through it.
        """
        background = local_background(electrons, valid, self.clip, self._work)
        strong_pixels(electrons, valid, background, np.float32(self.threshold), self._strong)
        strong = np.flatnonzero(self._strong)
        needed = self._n + len(strong)
        if needed > len(self._parent):
            size = max(needed, 2 * len(self._parent))
            self._parent = np.resize(self._parent, size)
            grown = np.zeros((size, _N_SUMS))
            grown[: self._n] = self._sums[: self._n]
            self._sums = grown
        self._labels.ravel()[self._labelled[1]] = -1
        self._n = _label_frame(
            electrons, valid, background, strong, np.float32(ceiling), frame,
            self._previous, self._labels, self._parent, self._sums, self._n,
        )  # fmt: skip
        self._previous, self._labels = self._labels, self._previous
        self._labelled = strong, self._labelled[0]
        return background

    def spots(self, min_pixels: int = 4, max_peak_fraction: float = 0.7) -> Spots:
        """The spots found so far, in order of their first frame.

        Parameters
        ----------
        min_pixels : spots of fewer strong pixels are noise.
        max_peak_fraction : spots with more than this in one pixel are hot pixels or cosmics.
        """
        sums = self._sums[: self._n].copy()
        s = sums[_merge(self._parent, sums, self._n)]
        keep = (s[:, _PIXELS] >= min_pixels) & (s[:, _SUM] > 0)
        keep &= s[:, _PEAK] <= max_peak_fraction * s[:, _SUM]
        s = s[keep]
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = s[:, _SUM]
            spots = Spots(
                row=s[:, _ROW] / weight,
                column=s[:, _COLUMN] / weight,
                frame=s[:, _FRAME] / weight,
                frame_spread=np.sqrt(
                    np.maximum(s[:, _FRAME2] / weight - (s[:, _FRAME] / weight) ** 2, 0.0)
                ),
                first=s[:, _FIRST].astype(np.int64),
                last=s[:, _LAST].astype(np.int64),
                intensity=s[:, _SUM],
                sigma=np.sqrt(s[:, _VARIANCE]),
                peak=s[:, _PEAK],
                n_pixels=s[:, _PIXELS].astype(np.int64),
                saturated=s[:, _SATURATED] > 0,
                edge=s[:, _EDGE] > 0,
            )
        return spots[np.lexsort((spots.row, spots.first))]
