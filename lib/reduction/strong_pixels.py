"""Which pixels of a frame stand out from the background around them.

A pixel is strong where the counts of its 3 x 3 neighbourhood, in electrons, exceed those of
the surrounding 15 x 15 box (mean after clipping its own spots) by `threshold` standard
deviations of the variance-stabilised Poisson variable 2 sqrt(N + 3/8) (Anscombe, Biometrika 35
(1948) 246): at the sub-electron backgrounds of ED a Gaussian z would let noise through.

Every pixel of every frame passes through here, so all loops run along a row, without branches.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


# Half-width of the box that a pixel's background is taken from; `_across` is written for it.
HALF_BOX = 7


@numba.njit(cache=True, nogil=True, fastmath=True)
def _across(
    columns: NDArray[np.float32],
    pairs: NDArray[np.float32],
    fours: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Sums of 15 neighbours, sums[c] = columns[c] + ... + columns[c + 14], by pairs and fours.

    Unlike with a running sum, no step waits for the one before it.
    """
    for c in range(len(pairs)):
        pairs[c] = columns[c] + columns[c + 1]
    for c in range(len(fours)):
        fours[c] = pairs[c] + pairs[c + 2]
    for c in range(len(sums)):
        sums[c] = fours[c] + fours[c + 4] + fours[c + 8] + pairs[c + 12] + columns[c + 14]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _box_sums(values: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    """Sums over the box about each pixel, cut at the detector's edge."""
    rows, columns = values.shape
    padded = np.zeros(columns + 2 * HALF_BOX, np.float32)
    pairs, fours = np.empty(len(padded) - 1, np.float32), np.empty(len(padded) - 3, np.float32)
    middle = padded[HALF_BOX : HALF_BOX + columns]
    # in double precision, or bright pixels leave their rounding errors in all rows below
    inside = np.zeros(columns)
    for r in range(-HALF_BOX, rows):
        new, old = r + HALF_BOX, r - HALF_BOX - 1
        if new < rows:
            for c in range(columns):
                inside[c] += values[new, c]
        if old >= 0:
            for c in range(columns):
                inside[c] -= values[old, c]
        if r >= 0:
            for c in range(columns):
                middle[c] = inside[c]
            _across(padded, pairs, fours, sums[r])


@numba.njit(cache=True, nogil=True, fastmath=True)
def _background(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    clip: np.float32,
    work: NDArray[np.float32],
) -> None:
    """The local background, left in work[0]."""
    rows, columns = electrons.shape
    zero, one, least = np.float32(0.0), np.float32(1.0), np.float32(0.25)
    # sums over boxes; the electrons of a pixel that is kept, or 0; whether it is: 1 or 0
    total, count, kept, keep = work[0], work[1], work[2], work[3]
    for r in range(rows):
        e, v, w, k = electrons[r], valid[r], kept[r], keep[r]
        for c in range(columns):
            k[c] = one if v[c] else zero
            w[c] = e[c] if v[c] else zero
    for _ in range(2):
        _box_sums(kept, total)
        _box_sums(keep, count)
        for r in range(rows):
            e, v, w, k, t, n = electrons[r], valid[r], kept[r], keep[r], total[r], count[r]
            for c in range(columns):
                mean = t[c] / max(n[c], one)
                good = v[c] & (e[c] <= mean + clip * np.sqrt(max(mean, least)))
                k[c] = one if good else zero
                w[c] = e[c] if good else zero
    _box_sums(kept, total)
    _box_sums(keep, count)
    minimum = np.float32(0.2 * (2 * HALF_BOX + 1) ** 2)
    for r in range(rows):
        t, n = total[r], count[r]
        for c in range(columns):
            t[c] = max(t[c] / n[c], zero) if n[c] >= minimum else np.float32(np.nan)


def local_background(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    clip: float,
    work: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Mean of the surrounding box after clipping its spots; NaN where too few pixels are left.

    Parameters
    ----------
    electrons : (rows, columns) float32.
    valid : (rows, columns) bool.
    clip : pixels above mean + clip * sqrt(mean) of one pass are left out of the next.
    work : (4, rows, columns) to work in and to hold the result; fresh memory for every frame
        would cost as much time as the sums do.
    """
    if work is None:
        work = np.empty((4, *electrons.shape), np.float32)
    _background(electrons, valid, np.float32(clip), work)
    return work[0]


@numba.njit(cache=True, nogil=True)
def strong_pixels(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    background: NDArray[np.float32],
    threshold: np.float32,
    strong: NDArray[np.bool_],
) -> None:
    """Mark in `strong` the pixels whose 3 x 3 neighbourhood stands above the background."""
    rows, columns = electrons.shape
    strong[:] = False
    # 2 sqrt(T + 3/8) - 2 sqrt(mu + 3/8) > t, solved for T so that no root is taken
    quarter = np.float32(0.25) * threshold * threshold
    zero, one, eighths = np.float32(0.0), np.float32(1.0), np.float32(0.375)
    total, count = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for r in range(1, rows - 1):
        total[:] = 0.0
        count[:] = 0.0
        for i in range(r - 1, r + 2):
            e, v = electrons[i], valid[i]
            for c in range(columns):
                total[c] += e[c] if v[c] else zero
                count[c] += one if v[c] else zero
        left_t, middle_t, right_t = total[:-2], total[1:-1], total[2:]
        left_n, middle_n, right_n = count[:-2], count[1:-1], count[2:]
        e, v, b, s = electrons[r, 1:-1], valid[r, 1:-1], background[r, 1:-1], strong[r, 1:-1]
        for c in range(columns - 2):
            expected = (left_n[c] + middle_n[c] + right_n[c]) * b[c]
            excess = left_t[c] + middle_t[c] + right_t[c] - expected - quarter
            # comparisons with a background that is NaN are false
            s[c] = (
                v[c]
                & (e[c] > b[c])
                & (excess > zero)
                & (excess * excess > np.float32(4.0) * quarter * (expected + eighths))
            )
