"""Covariance of A and D by resampling regions of the scan (block bootstrap, Kunsch 1989).

Frames that see the same part of the specimen share its errors, so whole regions are drawn. Each
resampling is one Gauss-Newton step from the solution with the drawn regions' scores; the fit is
not repeated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]


def regions(scan: Vectors, blocks: int) -> NDArray[np.intp]:
    """(frame,) number of the region, `blocks` x `blocks` over the extent of the positions."""
    low, high = scan[:, :2].min(0), scan[:, :2].max(0)
    place = (scan[:, :2] - low) / np.maximum(high - low, 1e-9)
    cell = np.minimum((place * blocks).astype(int), blocks - 1)
    return np.asarray(cell[:, 0] * blocks + cell[:, 1])


def summed_by(region: NDArray[np.intp], values: Vectors) -> Vectors:
    """(region, ...) sums of values by frame."""
    order = np.argsort(region, kind="stable")
    first = np.flatnonzero(np.diff(region[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[order], first, axis=0))


def resampled_movement(
    scores: Vectors,
    scan: Vectors,
    information: Vectors,
    region: NDArray[np.intp],
    draws: NDArray[np.int64],
) -> Vectors:
    """(draw, 4) changes of G, row by row; scores (frame, 2), draws (draw, region) times drawn."""
    each = -(scores[:, :, None] * scan[:, None, :]).reshape(len(scores), -1)
    blocks = summed_by(region, each)
    blocks -= blocks.mean(0)
    changes = np.linalg.solve(information, (draws @ blocks).T).T
    columns = scan.shape[1]
    return np.asarray(changes.reshape(-1, 2, columns)[:, :, :2].reshape(-1, 4))


def resampled_descan(
    normal: Vectors, right: Vectors, region: NDArray[np.intp], draws: NDArray[np.int64]
) -> Vectors:
    """(draw, 4) changes of D, row by row, from normal equations by frame."""
    blocks = summed_by(region, right)
    blocks -= blocks.mean(0)
    return np.asarray(np.linalg.solve(normal.sum(0), (draws @ blocks).T).T)


def draw_regions(count: int, resamplings: int, seed: int) -> NDArray[np.int64]:
    """(resampling, region) how often each region is drawn, with replacement."""
    drawn = np.random.default_rng(seed).integers(count, size=(resamplings, count))
    drawn += np.arange(resamplings)[:, None] * count
    return np.bincount(drawn.ravel(), minlength=resamplings * count).reshape(resamplings, count)


def covariance_of(movement: Vectors, descan: Vectors) -> Vectors:
    """(8, 8) of A = D - G then D, from the same draws' changes of G and D."""
    out: Vectors = np.cov(np.hstack([descan - movement, descan]).T)
    return out
