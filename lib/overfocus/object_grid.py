"""The specimen's shadow on a grid finer than the pixels, put together from shifted frames.

In detector pixels a frame is ``f_s(x) = t_s w(x) o(x - G s)``. On a grid `finer` times the pixels
each frame falls on one point in `finer`^2, the same for all its pixels: the shift of a frame is a
whole number of grid points plus a remainder. So the grid is kept as `finer`^2 planes (phases), a
frame is added to one plane by contiguous additions, and the remainder is left to the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter, uniform_filter1d

Floats = NDArray[np.float32]
Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Shifts:
    """Where frames lie on the grid.

    Attributes
    ----------
    plane : (frame,) int32, the phase.
    base : (frame, 2) int32, grid row and column of the frame's first pixel, within its plane.
    rest : (frame, 2) float32, true less rounded place, in pixels.
    shape : (rows, columns) of a plane.
    finer : grid points per pixel, along an axis.
    """

    plane: NDArray[np.int32]
    base: NDArray[np.int32]
    rest: Floats
    shape: tuple[int, int]
    finer: int

    def some(self, which: NDArray[np.bool_]) -> Shifts:
        """Part of the frames on the same grid."""
        return replace(self, plane=self.plane[which], base=self.base[which], rest=self.rest[which])


def shifts_of(movement: Vectors, frame_shape: tuple[int, int], finer: int) -> Shifts:
    """The place of each frame whose content moved by `movement`, (frame, 2) pixels."""
    exact = -finer * movement
    whole = np.rint(exact)
    rest = ((exact - whole) / finer).astype(np.float32)
    whole = (whole - whole.min(0)).astype(np.int32)
    base, phase = whole // finer, whole % finer
    size = base.max(0) + np.array(frame_shape)
    plane = (phase[:, 0] * finer + phase[:, 1]).astype(np.int32)
    return Shifts(plane, base.astype(np.int32), rest, (int(size[0]), int(size[1])), finer)


@dataclass(frozen=True)
class ObjectGrid:
    """The shadow o and its gradient per pixel, (plane, row, column) float32, and coverage.

    `coverage` is how many frames' worth of weight a point has (smoothed, per pixel).
    """

    shadow: Floats
    gradient_y: Floats
    gradient_x: Floats
    coverage: Floats


def object_of(
    frames: Floats,
    corner: tuple[int, int],
    use: NDArray[np.intp],
    beam: Floats,
    weight: Floats,
    mask: Floats,
    shifts: Shifts,
    smooth: int = 1,
) -> ObjectGrid:
    """The most likely shadow for known shifts: summed counts over summed expectation.

    Parameters
    ----------
    frames : (frame, row, column), contiguous; only those in `use`, which `shifts` is of, are read.
    corner : row and column of the frames where `weight` and `mask` begin.
    beam : (used frame,) t, intensities.
    weight : (row, column) w, the static layer.
    mask : (row, column) 0 or 1.
    smooth : the grid is smoothed by a triangle this many pixels wide at half height.
    """
    q = shifts.finer
    planes = np.zeros((2, q * q, *shifts.shape), np.float32)
    _scatter(frames, corner, use, beam, weight * mask, mask, shifts.plane, shifts.base, planes)
    counts, expected = (_interleaved(one, q) for one in planes)
    width = q * smooth + (1 - (q * smooth) % 2)
    if width > 1:
        for one in (counts, expected):
            for axis in (0, 1, 0, 1):
                uniform_filter1d(one, width, axis=axis, output=one, mode="constant")
    known = expected > 1e-6 * float(expected.max(initial=0))
    shadow = np.ones_like(counts)
    np.divide(counts, expected, out=shadow, where=known)
    per_px = float(q * q) / float(np.mean(weight[mask > 0])) if mask.any() else 0.0
    gradient = _gradient(shadow)
    # A weighted mean is that of the weights' centre, not of the point: where coverage falls off
    # towards the scan's edge, the two differ by variance * grad W / W, outwards. Left in, it
    # scales G (local linear regression instead of local constant).
    spread = (2 * (width**2 - 1) + 1) / 12
    pull = np.zeros_like(expected)
    np.divide(np.float32(spread), expected, out=pull, where=known)
    for along, change in zip(_gradient(expected), gradient, strict=True):
        shadow -= along * pull * change
    gradient_y, gradient_x = (one * np.float32(q) for one in _gradient(shadow))
    # no slope towards what no frame has seen
    rim = ~minimum_filter(known, 3, mode="constant")
    gradient_y[rim] = 0
    gradient_x[rim] = 0
    return ObjectGrid(
        *(_split(one, q) for one in (shadow, gradient_y, gradient_x, expected * per_px))
    )


def _gradient(fine: Floats) -> tuple[Floats, Floats]:
    """Central differences along rows and columns, per grid point."""
    along_y, along_x = np.zeros_like(fine), np.zeros_like(fine)
    np.subtract(fine[2:], fine[:-2], out=along_y[1:-1])
    np.subtract(fine[:, 2:], fine[:, :-2], out=along_x[:, 1:-1])
    along_y *= 0.5
    along_x *= 0.5
    return along_y, along_x


def _interleaved(planes: Floats, finer: int) -> Floats:
    """(plane, row, column) to (fine row, fine column)."""
    rows, columns = planes.shape[1:]
    apart = planes.reshape(finer, finer, rows, columns).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(apart).reshape(rows * finer, columns * finer)


def _split(fine: Floats, finer: int) -> Floats:
    """(fine row, fine column) to (plane, row, column)."""
    rows, columns = fine.shape[0] // finer, fine.shape[1] // finer
    apart = fine.reshape(rows, finer, columns, finer).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(apart).reshape(finer * finer, rows, columns)


@njit(cache=True, nogil=True, fastmath=True)
def _scatter(  # type: ignore[no-untyped-def]
    frames, corner, use, beam, weight, mask, plane, base, out
):
    height, width = mask.shape
    for i in range(len(use)):
        frame = frames[use[i]]
        counts, expected = out[0, plane[i]], out[1, plane[i]]
        top, left, t = base[i, 0], base[i, 1], beam[i]
        for y in range(height):
            to_counts = counts[top + y, left : left + width]
            to_expected = expected[top + y, left : left + width]
            line = frame[corner[0] + y, corner[1] : corner[1] + width]
            w, m = weight[y], mask[y]
            for x in range(width):
                to_counts[x] += line[x] * m[x]
                to_expected[x] += t * w[x]


@njit(cache=True, nogil=True, fastmath=True)
def compare(  # type: ignore[no-untyped-def]
    frames, corner, use, beam, weight, mask, plane, base, rest,
    shadow, gradient_y, gradient_x, other_y, other_x, sums, layer,
):  # fmt: skip
    """Frames against what the grid predicts of them.

    Adds to `sums`, (used frame, 10): sum of frame and of its prediction; the scores
    sum r h_y, sum r h_x, sum r p; the information sum w g_y h_y, (g_y h_x + g_x h_y) / 2, g_x h_x,
    h_y p, h_x p, where p is the predicted shadow, g its gradient, h the gradient in `other_y` and
    `other_x`, and r the residual, all of the masked pixels; and to `layer`, (row, column), the
    sum of t p over frames.
    """
    height, width = mask.shape
    half = np.float32(0.5)
    for i in range(len(use)):
        frame = frames[use[i]]
        k, top, left, t = plane[i], base[i, 0], base[i, 1], beam[i]
        dy, dx = rest[i, 0], rest[i, 1]
        zero = np.float32(0)
        total, told, sy, sx, st = zero, zero, zero, zero, zero
        hyy, hyx, hxx, hyt, hxt = zero, zero, zero, zero, zero
        for y in range(height):
            o = shadow[k, top + y, left : left + width]
            gy = gradient_y[k, top + y, left : left + width]
            gx = gradient_x[k, top + y, left : left + width]
            hy = other_y[k, top + y, left : left + width]
            hx = other_x[k, top + y, left : left + width]
            line = frame[corner[0] + y, corner[1] : corner[1] + width]
            w, m, to_layer = weight[y], mask[y], layer[y]
            for x in range(width):
                p = o[x] + dy * gy[x] + dx * gx[x]
                to_layer[x] += t * p
                tw = t * w[x] * m[x]
                counted = line[x] * m[x]
                r = counted - tw * p
                total += counted
                told += tw * p
                sy += r * hy[x]
                sx += r * hx[x]
                st += r * p
                a, b = tw * hy[x], tw * hx[x]
                hyy += a * gy[x]
                hyx += half * (a * gx[x] + b * gy[x])
                hxx += b * gx[x]
                hyt += a * p
                hxt += b * p
        sums[i, 0] += total
        sums[i, 1] += told
        sums[i, 2] += sy
        sums[i, 3] += sx
        sums[i, 4] += st
        sums[i, 5] += hyy
        sums[i, 6] += hyx
        sums[i, 7] += hxx
        sums[i, 8] += hyt
        sums[i, 9] += hxt
