"""Virtual detectors: images of the specimen from parts of every pattern."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .rows import for_each_rows
from .scan import Scan4D, scan_of

Floats = NDArray[np.float64]


def virtual_detector(scan: Scan4D, where: NDArray[np.bool_], threads: int = 2) -> Floats:
    """Counts on a part of the detector at each scan point, (scan_row, scan_column).

    Masked pixels count nothing; NaN where no pattern was recorded.

    Parameters
    ----------
    where : (row, column), the part.
    """
    out = np.zeros(scan.scan_shape)
    flat = out.reshape(-1)
    pixels = np.flatnonzero((where & ~scan.mask).ravel())
    for_each_rows(scan, lambda first, frames: _sum_pixels(frames, pixels, first, flat), threads)
    out -= scan.pedestal * len(pixels)
    out[scan.missing] = np.nan
    return out


def disc(shape: tuple[int, int], centre_px: tuple[float, float], radius_px: float) -> Any:
    """(row, column) bool, the pixels within a circle."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre_px[0]) ** 2 + (columns - centre_px[1]) ** 2 <= radius_px**2


def middle_rows(scan: Scan4D, at_most_bytes: int) -> Scan4D:
    """The scan in memory: all of it, or the rows about its middle that fit.

    Rows are left out at both ends alike, so that the middle of the scan stays where it was.
    """
    rows, columns = scan.scan_shape
    row_bytes = columns * scan.shape[0] * scan.shape[1] * scan.frames.dtype.itemsize
    fit = max(1, at_most_bytes // row_bytes)
    left = 0 if fit >= rows else -(-(rows - fit) // 2)
    first, stop = left, rows - left
    held = np.empty((stop - first, columns, *scan.shape), scan.frames.dtype)
    flat = held.reshape(-1, *scan.shape)

    def keep(run: int, frames: NDArray[Any]) -> None:
        start = run - first * columns
        flat[start : start + len(frames)] = frames

    for_each_rows(scan, keep, 2, (first, stop))
    return scan_of(
        held, name=scan.name, mask=scan.mask, missing=scan.missing[first:stop],
        pedestal=scan.pedestal, saturation=scan.saturation, gain=scan.gain,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _sum_pixels(frames, pixels, first, out):  # type: ignore[no-untyped-def]
    for n in range(len(frames)):
        flat = frames[n].reshape(-1)
        total = 0.0
        for k in pixels:
            total += flat[k]
        out[first + n] = total
