"""Binning of raw patterns about their centre, without the lens's ellipse, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ..geometry import EllipticalDistortion

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

FINE = 16  # samples along an edge of an output pixel, at least
COVERED = 0.98  # of an output pixel's area that must be seen

# what `Binning.apply` says of a pattern, as bits
NOT_FINITE, NEGATIVE, CONSTANT, SATURATED = 1, 2, 4, 8


@dataclass(frozen=True)
class Binning:
    """Which raw pixels make up each pixel of a prepared pattern.

    A raw pixel's counts are dealt to the output pixels by the areas they share, so electrons are
    neither made nor lost but at the rim of the detector. Where that divides raw pixels, prepared
    ones vary less than their electrons and are correlated; with a variance equal to the electrons
    the information of a pattern stays what it was.

    Attributes
    ----------
    shape : (rows, columns) of prepared patterns; the centre comes to lie in their middle.
    mask : (rows, columns) bool, True where less than 98 % of the area is seen.
    start : (pixels + 1,) int64: the raw pixels of output pixel i are start[i] to start[i + 1] of
    raw : (entries,) int64, number of a raw pixel,
    share : (entries,) float32, which part of it.
    used : (raw pixels,) bool, True where not masked.
    """

    shape: tuple[int, int]
    mask: NDArray[np.bool_]
    start: NDArray[np.int64]
    raw: NDArray[np.int64]
    share: Floats32
    used: NDArray[np.bool_]

    @property
    def smoothing(self) -> Floats:
        """(rows, columns): a pixel's variance over that of as many counts not shared; 1 if none."""
        pixel = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        share = self.share.astype(float)
        total = np.bincount(pixel, share, len(self.start) - 1)
        squares = np.bincount(pixel, share**2, len(self.start) - 1)
        return (squares / np.where(total > 0, total, 1.0)).reshape(self.shape)

    def apply(
        self,
        frames: NDArray[np.generic],
        out: Floats32,
        pedestal: float,
        scale: float,
        lowest: float,
        saturation: float,
    ) -> NDArray[np.uint8]:
        """Bin frames (n, rows, columns) into `out` (n, *shape): (counts - pedestal) times scale.

        Returns (n,) bits: NOT_FINITE, NEGATIVE (an unmasked pixel below `lowest`), CONSTANT,
        SATURATED (one at or above `saturation`).
        """
        flat = np.ascontiguousarray(frames.reshape(len(frames), -1))
        if flat.dtype.kind not in "ui" or not flat.dtype.isnative:
            flat = flat.astype(np.float64 if flat.dtype.itemsize > 4 else np.float32)
        flags = np.zeros(len(frames), np.uint8)
        _bin(
            flat,
            self.used,
            self.start,
            self.raw,
            self.share,
            out.reshape(len(out), -1),
            pedestal,
            scale,
            lowest,
            saturation,
            flags,
        )
        return flags


@numba.njit(cache=True, nogil=True)
def _bin(  # type: ignore[no-untyped-def]
    frames, used, start, raw, share, out, pedestal, scale, lowest, saturation, flags
):
    for n in range(len(frames)):
        frame = frames[n]
        low, high = np.inf, -np.inf
        finite = True
        for i in range(len(frame)):
            if used[i]:
                value = float(frame[i])
                low = min(low, value)
                high = max(high, value)
                finite = finite and np.isfinite(value)
        if not finite:
            flags[n] = 1
            continue
        flags[n] = 2 * (low < lowest) + 4 * (low == high) + 8 * (high >= saturation)
        for pixel in range(len(start) - 1):
            total = 0.0
            for entry in range(start[pixel], start[pixel + 1]):
                total += share[entry] * (float(frame[raw[entry]]) - pedestal)
            out[n, pixel] = total * scale


def binning(
    mask: NDArray[np.bool_],
    centre_px: tuple[float, float],
    shape: tuple[int, int],
    bin_px: float,
    distortion: EllipticalDistortion | None = None,
) -> Binning:
    """Binning of raw patterns to `shape`, `bin_px` raw pixels to the edge of a prepared one.

    Parameters
    ----------
    mask : (rows, columns) bool of the raw patterns, True where a pixel must not be used.
    centre_px : (row, column) in the raw patterns of what becomes the middle.
    distortion : ellipse that is taken out, about the centre; areas stay.
    """
    rows, columns = mask.shape
    fine = 2 * max(1, int(np.ceil(FINE / 2 / bin_px)))  # even: no sample lies on an edge
    sub = (np.arange(fine) - (fine - 1) / 2) / fine
    rim = int(np.ceil(2 * bin_px)) + 1  # samples beyond the detector tell what it does not see
    x = (np.arange(-rim, columns + rim)[:, None] + sub - centre_px[1]).ravel()
    column = np.repeat(np.arange(-rim, columns + rim), fine)
    undo = np.linalg.inv((distortion or EllipticalDistortion()).matrix)  # acts on (x, y)
    size = shape[0] * shape[1]
    samples = np.zeros(size, np.int64)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    for row in range(-rim, rows + rim):
        y = (row + sub - centre_px[0])[:, None]
        to_row = np.floor((undo[1, 0] * x + undo[1, 1] * y) / bin_px + shape[0] / 2)
        to_column = np.floor((undo[0, 0] * x + undo[0, 1] * y) / bin_px + shape[1] / 2)
        inside = (to_row >= 0) & (to_row < shape[0]) & (to_column >= 0) & (to_column < shape[1])
        pixel = (to_row * shape[1] + to_column)[inside].astype(np.int64)
        samples += np.bincount(pixel, minlength=size)
        if not 0 <= row < rows:
            continue
        at = np.broadcast_to(column, inside.shape)[inside]
        seen = (at >= 0) & (at < columns)
        seen[seen] = ~mask[row, at[seen]]
        pairs, hits = np.unique(pixel[seen] * columns + at[seen], return_counts=True)
        parts.append((pairs // columns, row * columns + pairs % columns, hits))
    target, raw, hits = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(target, kind="stable")
    target, raw, hits = target[order], raw[order], hits[order]
    good = np.bincount(target, hits, size) >= COVERED * np.maximum(samples, 1)
    keep = good[target]
    target, raw, hits = target[keep], raw[keep], hits[keep]
    # an output pixel's area is known; how many samples fall into it varies by some per cent
    share = hits * bin_px**2 / np.bincount(target, hits, size)[target]
    return Binning(
        shape,
        ~good.reshape(shape),
        np.searchsorted(target, np.arange(size + 1)).astype(np.int64),
        raw,
        share.astype(np.float32),
        ~mask.ravel(),
    )
