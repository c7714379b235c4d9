"""The first G where the shadow hardly moves over the scan: optical flow.

Over a tile of the scan in which the shadow moves by less than its features, frames are linear in
the scan position, ``f_s = f_0 - grad f_0 . G s + f_0 e . s``, so slopes of the pixels along both
scan axes give G by linear least squares (Lucas and Kanade, IJCAI 1981), e what the beam's
intensity does. As in `cross_spectra`, A = D - G is taken as free of shear, so that lines do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

from .object_grid import Floats, gradient_of

Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Scan points along a tile, and how far the shadow may move in it, pixels.
TILES = (4, 8, 16, 32)
MOST_PX = 1.5
#: Frames are smoothed by this first, lest differences of pixels make slopes of edges too small;
#: so wide a rim of the disc is left out.
SMOOTH_PX, EDGE_PX = 1.0, 4


@dataclass(frozen=True)
class Flow:
    """A first G.

    Attributes
    ----------
    movement : (2, 2) pixels per scan point.
    snr, halves_snr : z of the whole, and the smaller z of two halves.
    explained : share of what changes linearly along the scan, beyond noise, that G explains.
    """

    movement: Vectors
    snr: float
    halves_snr: float
    explained: float


def flow_of(frames: Floats, use: Mask, layer: Floats, mask: Mask, descan: Vectors) -> Flow | None:
    """Optical flow of a scan; None if its frames tell nothing.

    Parameters
    ----------
    frames : (scan_row, scan_column, row, column) counts.
    use : (scan_row, scan_column) recorded points.
    layer : (row, column) what a frame is without specimen.
    mask : (row, column) pixels that are looked at.
    descan : (2, 2) first D, pixels per scan point.
    """
    best = None
    for size in TILES:
        if size > max(TILES[0], min(use.shape) // 2):
            break
        if best is not None and np.linalg.norm(best.movement, 2) * size > MOST_PX:
            break
        best = _in_tiles(frames, use, layer, mask, descan, size) or best
    return best


def _in_tiles(
    frames: Floats, use: Mask, layer: Floats, mask: Mask, descan: Vectors, size: int
) -> Flow | None:
    """The flow in all tiles of a size, those of even and of odd columns apart."""
    inner = binary_erosion(mask, iterations=EDGE_PX)
    matrix, right, total = np.zeros((2, 2, 3, 3)), np.zeros((2, 2, 3)), 0.0
    safe = np.where(layer > 0, layer, 1)
    for top in range(0, use.shape[0], size):
        for left in range(0, use.shape[1], size):
            here = (slice(top, top + size), slice(left, left + size))
            place = np.argwhere(use[here]).astype(float)
            if len(place) < size * size // 2 or np.ptp(place, axis=0).min() < 1:
                continue
            place -= place.mean(0)
            tall = frames[here][use[here]].reshape(len(place), -1)
            spread = place.T @ place
            raw = (np.linalg.solve(spread, place.T) @ tall).reshape(2, *layer.shape) / safe
            slopes = gaussian_filter(raw * mask, (0, SMOOTH_PX, SMOOTH_PX))
            bright = gaussian_filter(tall.mean(0).reshape(layer.shape) / safe * mask, SMOOTH_PX)
            mean = bright[inner]
            known = np.stack([*(one[inner] for one in gradient_of(bright)), mean])
            # counts of variance f_0 w: slopes have that over the spread of the positions
            weight = safe[inner] / np.maximum(mean, 0.05)
            half = (left // size) % 2
            gram = (known * weight) @ known.T
            for axis in (0, 1):
                matrix[half, axis] += spread[axis, axis] * gram
                right[half, axis] += spread[axis, axis] * (known * weight) @ slopes[axis][inner]
                total += spread[axis, axis] * float(weight @ slopes[axis][inner] ** 2)
                total -= len(mean) / (4 * np.pi * SMOOTH_PX**2)
    found = [_unsheared(matrix.sum(0), right.sum(0), descan, side) for side in (1.0, -1.0)]
    movement, gain = max(found, key=lambda one: one[1])
    if not gain > 0:
        return None
    halves = [_z(matrix[half], right[half], movement) for half in (0, 1)]
    snr = _z(matrix.sum(0), right.sum(0), movement)
    return Flow(movement, snr, min(halves), gain / max(total, gain))


def _unsheared(
    matrix: Vectors, right: Vectors, descan: Vectors, side: float
) -> tuple[Vectors, float]:
    """G whose D - G is free of shear, of a handedness, and what it explains."""
    # unknowns: a, b of A = ((a, -side b), (b, side a)), and the two of intensity; G = D - A
    basis = np.zeros((2, 3, 4))
    basis[0, :, :] = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    basis[1, 0, 1], basis[1, 1, 0], basis[1, 2, 3] = -side, side, 1
    # slopes are -grad f . G = grad f . (A - D)
    offset = np.zeros((2, 3))
    offset[:, :2] = -descan.T
    gram, force = np.zeros((4, 4)), np.zeros(4)
    for axis in (0, 1):
        gram += basis[axis].T @ matrix[axis] @ basis[axis]
        force += basis[axis].T @ (right[axis] - matrix[axis] @ offset[axis])
    try:
        solution = np.linalg.solve(gram, force)
    except np.linalg.LinAlgError:
        return np.zeros((2, 2)), 0.0
    told = np.array([basis[axis] @ solution + offset[axis] for axis in (0, 1)])
    gain = sum(
        2 * told[axis] @ right[axis] - told[axis] @ matrix[axis] @ told[axis] for axis in (0, 1)
    )
    return -told[:, :2].T, float(gain)


def _z(matrix: Vectors, right: Vectors, movement: Vectors) -> float:
    """Signal to noise of a movement, against standing still with any change of intensity."""
    signal, noise = 0.0, 0.0
    for axis in (0, 1):
        # the intensity eliminated
        m, r = matrix[axis], right[axis]
        if m[2, 2] <= 0:
            return 0.0
        inner = m[:2, :2] - np.outer(m[:2, 2], m[2, :2]) / m[2, 2]
        force = r[:2] - m[:2, 2] * r[2] / m[2, 2]
        told = -movement[:, axis]
        signal += float(told @ force)
        noise += float(told @ inner @ told)
    return signal / np.sqrt(noise) if noise > 0 else 0.0
