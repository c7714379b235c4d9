"""The specimen's shadow on a grid finer than the pixels, put together from shifted frames.

In detector pixels a frame is ``f_s(x) = t_s w(x) o(x - G s)``. On a grid `finer` times the pixels
each frame falls on one point in `finer`^2, the same for all its pixels: the shift of a frame is a
whole number of grid points plus a remainder. So the grid is kept as `finer`^2 planes (phases), a
frame is added to one plane by contiguous additions, and the remainder is left to the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import minimum_filter, uniform_filter

from .shift_and_add import plane_by_plane, scatter, spans_of

Floats = NDArray[np.float32]
Vectors = NDArray[np.float64]

#: Shadow darker than this share of the brightest is not divided by.
LEAST_SHADOW = 0.05
#: Frequency that the object is filtered below, cycles per pixel; rings to the cycle per pixel.
PASSED = 0.5
RINGS_PER_PX = 24


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
    """The shadow on the grid, (plane, row, column) float32 each.

    Attributes
    ----------
    mean : at the middle of a grid point, of the frames that fell on it: nothing is smoothed, so
        that the residuals against it hold nothing of the object.
    shadow : the same, filtered.
    gradient_y, gradient_x : of `shadow`, per pixel.
    slope_y, slope_x : gradient over shadow.
    coverage : how many frames' worth of weight a pixel has around the point.
    """

    mean: Floats
    shadow: Floats
    gradient_y: Floats
    gradient_x: Floats
    slope_y: Floats
    slope_x: Floats
    coverage: Floats


def object_of(
    frames: Floats,
    corner: tuple[int, int],
    use: NDArray[np.intp],
    beam: Floats,
    weight: Floats,
    mask: Floats,
    shifts: Shifts,
    threads: int = 1,
) -> ObjectGrid:
    """The most likely shadow for known shifts: summed counts over summed expectation.

    Parameters
    ----------
    frames : (frame, row, column), contiguous; only those in `use`, which `shifts` is of, are read.
    corner : row and column of the frames where `weight` and `mask` begin.
    beam : (used frame,) t, intensities.
    weight : (row, column) w, the static layer.
    mask : (row, column) 0 or 1.
    threads : among which the planes are shared out; the result is the same for any number.
    """
    q = shifts.finer
    planes = np.zeros((q * q, 4, *shifts.shape), np.float32)
    expected_of_one, spans = weight * mask, spans_of(mask)

    def add(k: int, some: NDArray[np.intp]) -> None:
        scatter(frames, corner, use, beam, expected_of_one, mask, spans, shifts.base, shifts.rest,
                some, planes[k])  # fmt: skip

    plane_by_plane(add, shifts.plane, q * q, threads)
    counts, expected = (_interleaved(planes[:, n], q) for n in (0, 1))
    # some phases may hold no frames at all, so it is whole pixels that are seen or not
    around = uniform_filter(expected, q, mode="constant")
    known = around > 1e-4 * float(around.max(initial=0))
    smooth = np.where(known, _filtered(counts, expected, around, q), np.float32(1))
    gradient_y, gradient_x = (one * np.float32(q) for one in gradient_of(smooth))
    # no slope towards what no frame has seen
    rim = ~minimum_filter(known, 3, mode="constant")
    gradient_y[rim] = 0
    gradient_x[rim] = 0
    floor = np.maximum(smooth, np.float32(LEAST_SHADOW))
    shadow, along_y, along_x = (_split(one, q) for one in (smooth, gradient_y, gradient_x))
    slope_y, slope_x = (
        _split(np.divide(one, floor, dtype=np.float32), q) for one in (gradient_y, gradient_x)
    )
    # what the frames saw lies beside the middle of the grid point
    mean = shadow.copy()
    beside = planes[:, 0] - planes[:, 2] * along_y - planes[:, 3] * along_x
    np.divide(beside, planes[:, 1], out=mean, where=planes[:, 1] > 0)
    per_px = float(q * q) / float(np.mean(weight[mask > 0])) if mask.any() else 0.0
    coverage = around * np.float32(per_px)
    return ObjectGrid(mean, shadow, along_y, along_x, slope_y, slope_x, _split(coverage, q))


def _filtered(counts: Floats, expected: Floats, around: Floats, finer: int) -> Floats:
    """The shadow with each frequency weighted by signal over signal and noise (Wiener).

    The power of the contrast, weighted so that its noise is white, gives both: noise is what is
    left where a pixel sees nothing.
    """
    size = [next_fast_len(n + 8 * finer, real=True) for n in counts.shape]
    root = np.sqrt(expected)
    contrast = np.zeros_like(counts)
    np.divide(counts, root, out=contrast, where=expected > 1e-6 * expected.max())
    level = np.float32(counts.sum(dtype=float) / max(expected.sum(dtype=float), 1e-9))
    contrast -= root * level
    power = np.abs(rfft2(contrast, size)) ** 2
    f = finer * np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    ring = np.minimum((f * RINGS_PER_PX).astype(int), int(0.5 * finer * RINGS_PER_PX))
    count = np.bincount(ring.ravel())
    radial = np.bincount(ring.ravel(), power.ravel()) / count
    # frames at a rational movement sample the object like a comb, which repeats its spectrum
    noise = np.percentile(radial[int(PASSED * RINGS_PER_PX) :], 20)
    signal = np.maximum(radial - noise * (1 + 3 / np.sqrt(count)), 0)
    signal[0] = max(signal[0], radial[0])
    signal[int(PASSED * RINGS_PER_PX) :] = 0
    pass_ = signal / np.maximum(signal + noise, 1e-30)
    gain = np.interp(f.ravel(), (np.arange(len(pass_)) + 0.5) / RINGS_PER_PX, pass_, left=1.0)
    gain = gain.reshape(f.shape).astype(np.float32)
    gain[0, 0] = 1
    rows, columns = counts.shape
    above, total = (
        irfft2(rfft2(one, size) * gain, size)[:rows, :columns]
        for one in (counts - level * expected, expected)
    )
    # lobes of the filter must not empty the denominator where coverage falls off
    least = np.maximum(0.5 * around, 1e-6 * around.max())
    return np.asarray(level + above / np.maximum(total, least), np.float32)


def gradient_of(fine: Floats) -> tuple[Floats, Floats]:
    """Differences of fourth order along rows and columns, per grid point; 0 within two of a rim."""
    along_y, along_x = np.zeros_like(fine), np.zeros_like(fine)
    near, far = np.float32(2 / 3), np.float32(1 / 12)
    along_y[2:-2] = near * (fine[3:-1] - fine[1:-3]) - far * (fine[4:] - fine[:-4])
    along_x[:, 2:-2] = near * (fine[:, 3:-1] - fine[:, 1:-3]) - far * (fine[:, 4:] - fine[:, :-4])
    return along_y, along_x


def _interleaved(planes: Floats, finer: int) -> Floats:
    """(plane, row, column) to (fine row, fine column)."""
    rows, columns = planes.shape[1:]
    out = np.empty((rows * finer, columns * finer), np.float32)
    for k in range(finer * finer):
        out[k // finer :: finer, k % finer :: finer] = planes[k]
    return out


def _split(fine: Floats, finer: int) -> Floats:
    """(fine row, fine column) to (plane, row, column)."""
    rows, columns = fine.shape[0] // finer, fine.shape[1] // finer
    apart = fine.reshape(rows, finer, columns, finer).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(apart).reshape(finer * finer, rows, columns)
