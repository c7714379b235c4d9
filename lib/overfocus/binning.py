"""One pass over a scan: frames summed in squares of pixels, and what only raw pixels can tell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import rank_filter

from ..errors import UserError
from ..stem4d.scan import Scan4D

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Radius of the disc in binned pixels that suffices (larger takes time, smaller costs accuracy).
RADIUS_BINNED_PX = 22
#: One frame in so many is also looked at pixel by pixel.
SAMPLE = 32
_NEIGHBOURS = np.ones((3, 3), bool)
_NEIGHBOURS[1, 1] = False


@dataclass
class BinnedScan:
    """What the calibration keeps of a scan.

    Attributes
    ----------
    name, scan_shape, shape, binning : of the scan; raw pixels per binned one along an axis.
    frames : (scan_row, scan_column, row, column) float32, electrons or counts per binned pixel.
    recorded : (scan_row, scan_column) bool, True where there is a frame.
    mask : (row, column) bool of raw pixels that must not be used.
    mean : (row, column) float64, mean of one raw frame in `SAMPLE`.
    sampled : how many frames that mean is of.
    saturated : share of the sampled pixels at or above the saturation.
    """

    name: str
    scan_shape: tuple[int, int]
    shape: tuple[int, int]
    binning: int
    frames: Floats
    recorded: Mask
    mask: Mask
    mean: NDArray[np.float64]
    sampled: int = 0
    saturated: float = 0.0

    @property
    def origin_px(self) -> float:
        """Raw row (and column) of the middle of binned pixel 0."""
        return (self.binning - 1) / 2

    def bad_px(self) -> Mask:
        """(row, column) bool, binned pixels that hold a masked, hot or dead raw pixel."""
        bad = self.mask | odd_pixels(self.mean / max(self.sampled, 1), self.sampled)
        h, w = self.frames.shape[2:]
        b = self.binning
        return np.asarray(bad[: h * b, : w * b].reshape(h, b, w, b).any((1, 3)))


class Binner:
    """Fills a `BinnedScan` with runs of frames, in any order and from several threads.

    Parameters
    ----------
    rows : first scan row, and the one after the last, of those that come; all if None. There is
        then room for these alone, and `odd` is to be handed on.
    room : gives an array of a shape and type for the binned frames.

    Attributes
    ----------
    odd : by the first frame of a run, what its sampled frames told: sum (row, column), how many
        they were, and how many of their pixels were saturated.
    """

    def __init__(
        self,
        scan: Scan4D,
        binning: int,
        rows: tuple[int, int] | None = None,
        room: Callable[[tuple[int, ...], type[np.float32]], Floats] = np.empty,
    ) -> None:
        columns = scan.scan_shape[1]
        begin, stop = rows or (0, scan.scan_shape[0])
        height, width = (n // binning for n in scan.shape)
        if min(height, width) < 8:
            raise UserError(
                "binning", f"{binning} for frames {scan.shape}", "8 binned pixels or more",
                "choose a smaller binning",
            )  # fmt: skip
        self._limit = scan.saturation
        self._pedestal = float(scan.pedestal)
        self._missing = scan.missing.ravel()
        self._before = begin * columns
        self.odd: dict[int, tuple[Floats, int, int]] = {}
        self._lock = threading.Lock()
        self.binned = BinnedScan(
            scan.name, scan.scan_shape, scan.shape, binning,
            room((stop - begin, columns, height, width), np.float32),
            np.zeros((stop - begin, columns), bool), scan.mask.copy(), np.zeros(scan.shape),
        )  # fmt: skip
        self._flat = self.binned.frames.reshape(-1, height, width)
        self._recorded = self.binned.recorded.reshape(-1)

    def add(self, first: int, frames: NDArray[np.generic]) -> None:
        """Frames (n, row, column) from number `first` on; for the work of `for_each_rows`.

        The number of a frame is scan row * columns + scan column. May be called for different
        frames at a time.
        """
        here = slice(first - self._before, first - self._before + len(frames))
        out = self._flat[here]
        frames = np.asarray(frames)
        totals = bin_frames(frames, self.binned.binning, self._pedestal, out)
        present = ~self._missing[first : first + len(frames)]
        sample = np.flatnonzero(present)[(first // max(len(frames), 1)) % 8 :: SAMPLE]
        total = np.zeros(self.binned.shape, np.float32)
        saturated = 0
        for i in sample:
            total += frames[i]
            if self._limit is not None:
                saturated += int(np.count_nonzero(frames[i] >= self._limit))
        if frames.dtype.kind == "f":
            present = self._drop_nan(frames, out, total, sample, present)
        self.odd[first] = (total - self._pedestal * len(sample), len(sample), saturated)
        self._recorded[here] = present & (totals != 0)

    def _drop_nan(
        self, frames: NDArray[np.generic], out: Floats, total: Floats,
        sample: NDArray[np.intp], present: Mask,
    ) -> Mask:  # fmt: skip
        """Pixels that are never numbers are masked; frames with others that are not are dropped."""
        with self._lock:
            if len(sample):
                self.binned.mask |= ~np.isfinite(frames[sample]).any(0)
            mask = self.binned.mask.copy()
        total[~np.isfinite(total)] = 0
        b = self.binned.binning
        h, w = out.shape[1:]
        out[:, mask[: h * b, : w * b].reshape(h, b, w, b).any((1, 3))] = 0
        fine: Mask = present & np.isfinite(out).all((1, 2))
        out[~np.isfinite(out)] = 0
        return fine

    def finish(self) -> BinnedScan:
        """The scan so far."""
        done = self.binned
        done.mean = np.zeros(done.shape)
        # in the order of the scan, or the last bit would depend on who was first
        odd = [one for _, one in sorted(self.odd.copy().items(), key=lambda run: run[0])]
        for total, _, _ in odd:
            done.mean += total
        done.sampled = sum(one[1] for one in odd)
        pixels = max(1, done.sampled * done.shape[0] * done.shape[1])
        done.saturated = sum(one[2] for one in odd) / pixels
        return done


def odd_pixels(mean: NDArray[np.float64], sampled: int) -> Mask:
    """Pixels far above or below all eight neighbours but one, in the mean of `sampled` frames."""
    if sampled == 0:
        return np.zeros(mean.shape, bool)
    above = rank_filter(mean, -2, footprint=_NEIGHBOURS)
    below = rank_filter(mean, 1, footprint=_NEIGHBOURS)
    noise = 6 * np.sqrt(np.maximum(above, 1 / sampled) / sampled)
    odd: Mask = (mean > 2 * above + noise) | (mean < 0.4 * below - noise)
    return odd


def bin_frames(
    frames: NDArray[np.generic], binning: int, pedestal: float, out: Floats
) -> NDArray[np.float64]:
    """Sum frames, (n, row, column), over squares of pixels into `out`; trailing pixels drop.

    Returns (n,) sums of the frames, 0 where nothing was recorded.
    """
    if frames.dtype.byteorder == ">" or frames.dtype.kind not in "uif":
        frames = frames.astype(np.float32)
    totals = np.zeros(len(out))
    work = _KERNELS.get(binning, _bin_any)
    work(np.ascontiguousarray(frames), binning, pedestal, out, totals)
    return totals


@njit(cache=True, nogil=True, fastmath=True)
def _bin_any(frames, binning, pedestal, out, totals):  # type: ignore[no-untyped-def]
    n, height, width = out.shape
    raw_width = width * binning
    sums = np.empty(raw_width, np.float32)
    floor = np.float32(pedestal * binning * binning)
    for f in range(n):
        for y in range(height):
            first = frames[f, y * binning]
            for x in range(raw_width):
                sums[x] = first[x]
            for row in range(1, binning):
                line = frames[f, y * binning + row]
                for x in range(raw_width):
                    sums[x] += line[x]
            for x in range(width):
                total = np.float32(0)
                for i in range(binning):
                    total += sums[x * binning + i]
                out[f, y, x] = total - floor
                totals[f] += total


@njit(cache=True, nogil=True, fastmath=True)
def _bin4(frames, binning, pedestal, out, totals):  # type: ignore[no-untyped-def]
    """As `_bin_any`; the compiler makes vector code where it knows the numbers."""
    n, height, width = out.shape
    sums = np.empty(4 * width, np.float32)
    floor = np.float32(pedestal * 16)
    for f in range(n):
        for y in range(height):
            a, b = frames[f, 4 * y], frames[f, 4 * y + 1]
            c, d = frames[f, 4 * y + 2], frames[f, 4 * y + 3]
            for x in range(4 * width):
                sums[x] = (np.float32(a[x]) + np.float32(b[x])) + (
                    np.float32(c[x]) + np.float32(d[x])
                )
            line = np.float32(0)
            for x in range(width):
                left, right = sums[4 * x] + sums[4 * x + 1], sums[4 * x + 2] + sums[4 * x + 3]
                out[f, y, x] = left + right - floor
                line += left + right
            totals[f] += line


_KERNELS = {4: _bin4}
