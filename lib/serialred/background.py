"""The background of a picture: what it would be without particles.

A polynomial in the logarithm (illumination) times the mean of the block about each pixel, both
over what is neither dark nor opaque. It changes slowly, so it is computed on bins.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The local mean is taken on bins of so many pixels a side: it is slow, and this is quick.
BIN = 4

# Darker than this part of the bright parts about it is opaque: a grid bar, or beyond the beam.
OPAQUE = 0.4

# Bins darker than the local mean by this part of it, or by their noise, are left out of it.
DARK_BIN = 0.04

# Of the polynomial that stands for the illumination.
DEGREE = 4
N_TERMS = (DEGREE + 1) * (DEGREE + 2) // 2


def local_mean(smooth: Singles, block_px: float) -> tuple[Singles, Mask]:
    """Mean of what is bright about each pixel, and which pixels are opaque."""
    bins = binned(smooth, BIN)
    block = max(3, 2 * round(0.5 * block_px / BIN) + 1)
    envelope = uniform_filter(maximum_filter(bins, 2 * block + 1), block)
    bright = bins > OPAQUE * envelope
    light = _illumination(bins, bright)
    even = bins / light
    calm = uniform_filter(even, 3)
    keep = bright
    for _ in range(3):  # what is dark against one mean is left out of the next
        clear = minimum_filter(keep.astype(np.uint8), 3) > 0
        mean = _mean_of(even, clear, block)
        fall = 1 - calm / mean
        noise = 1.4826 * float(np.median(np.abs(fall[bright]))) if bright.any() else 0.0
        keep = (fall < max(DARK_BIN, 3 * noise)) & bright
    level = np.maximum(_unbinned(mean * light, smooth.shape), np.float32(1e-3))
    return level, smooth < OPAQUE * level


def _illumination(bins: Singles, bright: Mask) -> Singles:
    """exp(polynomial) through what is neither dark nor opaque.

    Without it a mean would be wrong where its block is cut by the edge of the picture.
    """
    every = max(1, min(bins.shape) // 64)
    terms, few = _terms(bins.shape), _terms(bins.shape)[:, ::every, ::every].reshape(N_TERMS, -1)
    log = np.log(np.maximum(bins[::every, ::every], 1e-3)).ravel().astype(np.float64)
    bright = bright[::every, ::every].ravel()
    if np.count_nonzero(bright) < max(0.1 * bright.size, 5 * N_TERMS):
        return np.full_like(bins, bins.mean())
    keep = bright
    for _ in range(5):
        design = few[:, keep]
        normal = design @ design.T
        normal[np.diag_indices(N_TERMS)] *= 1 + 1e-6  # where a bar leaves only a strip
        coefficients = np.linalg.solve(normal, design @ log[keep])
        off = log - coefficients @ few
        spread = 1.4826 * float(np.median(np.abs(off[keep])))
        keep = bright & (off > -2.5 * spread)
    fit = np.clip(np.tensordot(coefficients, terms, 1), log[keep].min(), log[keep].max())
    return np.exp(fit).astype(np.float32)


@lru_cache(maxsize=4)
def _terms(shape: tuple[int, int]) -> Floats:
    """(terms, rows, columns) powers of the place in the picture."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    powers = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    return np.stack([np.outer(y**i, x**j) for i, j in powers])


def _mean_of(bins: Singles, keep: Mask, block: int) -> Singles:
    """Local mean of the bins kept; where the block holds few, of a larger one."""
    weight = keep.astype(np.float32)
    value = bins * weight
    total, number = np.zeros_like(bins), np.zeros_like(bins)
    for size, share in ((block, 1.0), (3 * block, 0.03)):
        total += np.float32(share) * uniform_filter(value, size)
        number += np.float32(share) * uniform_filter(weight, size)
    return (total + np.float32(1e-4)) / (number + np.float32(1e-4))


def binned(image: Singles, n: int) -> Singles:
    """Means of n x n pixels; at the far edges the last pixels stand for missing ones."""
    if n == 1:
        return image
    rows, columns = image.shape
    padded = np.pad(image, ((0, -rows % n), (0, -columns % n)), mode="edge")
    shape = (padded.shape[0] // n, n, padded.shape[1] // n, n)
    return padded.reshape(shape).mean(axis=(1, 3), dtype=np.float32)


def _unbinned(bins: Singles, shape: tuple[int, ...]) -> Singles:
    """Linear between the middles of the bins."""
    down, across = (_between(n, m) for n, m in zip(shape, bins.shape, strict=True))
    return np.asarray(down @ bins @ across.T, np.float32)


def _between(n: int, n_bins: int) -> Singles:
    """(n, n_bins) weights of linear interpolation."""
    place = np.clip((np.arange(n) - 0.5 * (BIN - 1)) / BIN, 0, n_bins - 1)
    low = np.minimum(place.astype(int), max(n_bins - 2, 0))
    weights = np.zeros((n, n_bins), np.float32)
    weights[np.arange(n), low] = 1 - (place - low)
    if n_bins > 1:
        weights[np.arange(n), low + 1] = place - low
    return weights
