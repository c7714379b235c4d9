"""Frames against the planes of an object grid: added to them, and compared with them.

Frames are taken plane by plane, so that what is written stays in the core's cache; planes may go
side by side, and each has its own sums, so that the result is the same for any number of threads.
Of each row only the span is touched that holds pixels in use.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Spans = NDArray[np.int32]


def spans_of(mask: NDArray[np.generic]) -> Spans:
    """(row, 2) first column that is not 0 in each row, and the one after the last."""
    lit = np.asarray(mask) != 0
    first = np.argmax(lit, axis=1)
    stop = lit.shape[1] - np.argmax(lit[:, ::-1], axis=1)
    out = np.column_stack([first, np.where(lit.any(1), stop, first)])
    return out.astype(np.int32)


def plane_by_plane(
    work: Callable[[int, NDArray[np.intp]], None],
    plane: NDArray[np.int32],
    planes: int,
    threads: int,
) -> None:
    """Call `work` with each plane's number and the places of its frames in `plane`, in order."""
    order = np.argsort(plane, kind="stable")
    cut = np.searchsorted(plane[order], np.arange(planes + 1))
    parts = [order[cut[k] : cut[k + 1]] for k in range(planes)]
    if threads <= 1 or planes == 1:
        for k in range(planes):
            work(k, parts[k])
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, k, parts[k]) for k in range(planes)]:
            done.result()


# Indices are unsigned and into flat arrays: what numba must not wrap around is made vector code.
_U = np.uint64


@njit(cache=True, nogil=True, fastmath=True)
def scatter(  # type: ignore[no-untyped-def]
    frames, corner, use, beam, weight, mask, spans, base, rest, some, out
):
    """Add frames to a plane.

    Adds to `out`, (4, row, column): the masked counts of the frames in `some`, what is expected
    of a shadow of 1 (`weight`, masked), and the latter times the two remainders of the shift.
    """
    across, width = mask.shape[1], frames.shape[2]
    flat_weight, flat_mask = weight.ravel(), mask.ravel()
    grid = out.shape[2]
    counts, expected = out[0].reshape(-1), out[1].reshape(-1)
    beside_y, beside_x = out[2].reshape(-1), out[3].reshape(-1)
    for i in some:
        frame = frames[use[i]].reshape(-1)
        t = beam[i]
        ty, tx = t * rest[i, 0], t * rest[i, 1]
        for y in range(mask.shape[0]):
            first, n = spans[y, 0], _U(spans[y, 1] - spans[y, 0])
            g = _U((base[i, 0] + y) * grid + base[i, 1] + first)
            f = _U((corner[0] + y) * width + corner[1] + first)
            m = _U(y * across + first)
            for x in range(n):
                counts[g + x] += frame[f + x] * flat_mask[m + x]
            for x in range(n):
                expected[g + x] += t * flat_weight[m + x]
            for x in range(n):
                beside_y[g + x] += ty * flat_weight[m + x]
            for x in range(n):
                beside_x[g + x] += tx * flat_weight[m + x]


@njit(cache=True, nogil=True, fastmath=True)
def compare(  # type: ignore[no-untyped-def]
    frames, corner, use, beam, weight, mask, spans, wide, base, rest, some,
    mean, gradient_y, gradient_x, slope_y, slope_x, sums, layer,
):  # fmt: skip
    """Frames against what a plane predicts of them.

    Adds to `sums`, (used frame, 9): sum of frame and of its prediction p; the scores sum r l_y,
    sum r l_x; the information sum p l_y l_y, p l_y l_x, p l_x l_x, and sum p l_y, p l_x, where l
    is the slope and r the residual, all of the masked pixels; and to `layer`, (row, column), the
    sum over frames of what is predicted for a static layer of 1, within the spans `wide`.
    """
    zero = np.float32(0)
    across, width, grid = mask.shape[1], frames.shape[2], mean.shape[1]
    flat_weight, flat_mask, to_layer = weight.ravel(), mask.ravel(), layer.reshape(-1)
    o, gy, gx = mean.reshape(-1), gradient_y.reshape(-1), gradient_x.reshape(-1)
    ly, lx = slope_y.reshape(-1), slope_x.reshape(-1)
    for i in some:
        frame = frames[use[i]].reshape(-1)
        t, dy, dx = beam[i], rest[i, 0], rest[i, 1]
        total, told, sy, sx = zero, zero, zero, zero
        hyy, hyx, hxx, hyt, hxt = zero, zero, zero, zero, zero
        for y in range(mask.shape[0]):
            row = (base[i, 0] + y) * grid + base[i, 1]
            first, n = wide[y, 0], _U(wide[y, 1] - wide[y, 0])
            g, m = _U(row + first), _U(y * across + first)
            for x in range(n):
                to_layer[m + x] += t * (o[g + x] + dy * gy[g + x] + dx * gx[g + x])
            first, n = spans[y, 0], _U(spans[y, 1] - spans[y, 0])
            g, m = _U(row + first), _U(y * across + first)
            f = _U((corner[0] + y) * width + corner[1] + first)
            for x in range(n):
                p = t * flat_weight[m + x] * (o[g + x] + dy * gy[g + x] + dx * gx[g + x])
                counted = frame[f + x] * flat_mask[m + x]
                r = counted - p
                hy, hx = ly[g + x], lx[g + x]
                total += counted
                told += p
                sy += r * hy
                sx += r * hx
                a, b = p * hy, p * hx
                hyy += a * hy
                hyx += a * hx
                hxx += b * hx
                hyt += a
                hxt += b
        sums[i, 0] += total
        sums[i, 1] += told
        sums[i, 2] += sy
        sums[i, 3] += sx
        sums[i, 4] += hyy
        sums[i, 5] += hyx
        sums[i, 6] += hxx
        sums[i, 7] += hyt
        sums[i, 8] += hxt
