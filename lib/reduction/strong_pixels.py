"""Which pixels of a frame stand out from the background around them.

A pixel is strong where the counts of its 3 x 3 neighbourhood, in electrons, exceed those of
the surrounding box (mean after clipping its own spots) by `threshold` standard deviations of
the variance-stabilised Poisson variable 2 sqrt(N + 3/8) (Anscombe, Biometrika 35 (1948) 246):
at the sub-electron backgrounds of ED a Gaussian z would let noise through.

Every pixel of every frame passes through here, so all loops run along a row, without branches.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _slide(
    part: NDArray[np.float32], doubled: NDArray[np.float32], width: int, total: NDArray[np.float32]
) -> None:
    """Sums of `width` neighbours, total[c] = part[c] + ... + part[c + width - 1].

    Neighbours are summed in pairs, pairs of pairs and so on, which takes log2(width) sweeps and,
    unlike a running sum, no sweep waits for its own last result. `part` is overwritten.
    """
    n = len(total)
    total[:] = 0.0
    done, span = 0, 1
    while True:
        if width & span:
            shifted = part[done : done + n]
            for c in range(n):
                total[c] += shifted[c]
            done += span
        if 2 * span > width:
            return
        shifted = part[span:]
        for c in range(len(shifted)):
            doubled[c] = part[c] + shifted[c]
        part, doubled = doubled, part
        span *= 2


@numba.njit(cache=True, nogil=True, fastmath=True)
def _box_sums(
    values: NDArray[np.float32], half: int, column_sums: Floats, sums: NDArray[np.float32]
) -> None:
    """Sums over a (2 half + 1)^2 box about each pixel, cut at the detector's edge."""
    rows, columns = values.shape
    width = 2 * half + 1
    padded = np.zeros(columns + width, np.float32)
    doubled = np.zeros(columns + width, np.float32)
    # in double precision, or bright pixels leave their rounding errors in all rows below
    column_sums[:] = 0.0
    for r in range(-half, rows):
        if r + half < rows:
            new = values[r + half]
            for c in range(columns):
                column_sums[c] += new[c]
        if r < 0:
            continue
        if r > half:
            old = values[r - half - 1]
            for c in range(columns):
                column_sums[c] -= old[c]
        padded[:half] = 0.0
        padded[half + columns :] = 0.0
        middle = padded[half : half + columns]
        for c in range(columns):
            middle[c] = column_sums[c]
        _slide(padded, doubled, width, sums[r])


@numba.njit(cache=True, nogil=True, fastmath=True)
def _background(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    half: int,
    clip: np.float32,
    work: NDArray[np.float32],
) -> None:
    """The local background, left in work[0]."""
    rows, columns = electrons.shape
    zero, one, least = np.float32(0.0), np.float32(1.0), np.float32(0.25)
    # sums over boxes; the electrons of a pixel that is kept, or 0; whether it is: 1 or 0
    total, count, kept, keep = work[0], work[1], work[2], work[3]
    column_sums = np.empty(columns)
    for r in range(rows):
        e, v, w, k = electrons[r], valid[r], kept[r], keep[r]
        for c in range(columns):
            k[c] = one if v[c] else zero
            w[c] = e[c] if v[c] else zero
    for _ in range(2):
        _box_sums(kept, half, column_sums, total)
        _box_sums(keep, half, column_sums, count)
        for r in range(rows):
            e, v, w, k, t, n = electrons[r], valid[r], kept[r], keep[r], total[r], count[r]
            for c in range(columns):
                mean = t[c] / max(n[c], one)
                good = v[c] & (e[c] <= mean + clip * np.sqrt(max(mean, least)))
                k[c] = one if good else zero
                w[c] = e[c] if good else zero
    _box_sums(kept, half, column_sums, total)
    _box_sums(keep, half, column_sums, count)
    minimum = np.float32(0.2 * (2 * half + 1) ** 2)
    for r in range(rows):
        t, n = total[r], count[r]
        for c in range(columns):
            t[c] = max(t[c] / n[c], zero) if n[c] >= minimum else np.float32(np.nan)


def local_background(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    half: int,
    clip: float,
    work: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Mean of the surrounding box after clipping its spots; NaN where too few pixels are left.

    Parameters
    ----------
    electrons : (rows, columns) float32.
    valid : (rows, columns) bool.
    half : half-width of the box in px.
    clip : pixels above mean + clip * sqrt(mean) of one pass are left out of the next.
    work : (4, rows, columns) to work in and to hold the result; fresh memory for every frame
        would cost as much time as the sums do.
    """
    if work is None:
        work = np.empty((4, *electrons.shape), np.float32)
    _background(electrons, valid, half, np.float32(clip), work)
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
