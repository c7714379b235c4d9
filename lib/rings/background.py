"""Diffuse scattering under rings: how much there is, and images without it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def block_mean(
    pixels: NDArray[np.float32], good: Mask, block: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means over blocks of `block` x `block` pixels, and which part of each is good.

    Rows and columns that do not fill a block are left out. Block ``(i, j)`` has its centre at
    pixel ``(block i + (block - 1) / 2, ...)``. Means of blocks without a good pixel are 0.
    """
    rows, columns = (n // block * block for n in pixels.shape)
    shape = (rows // block, block, columns // block, block)
    kept = good[:rows, :columns].astype(np.float32)
    part = kept.reshape(shape).mean(axis=(1, 3))
    total = (pixels[:rows, :columns] * kept).reshape(shape).mean(axis=(1, 3))
    return np.where(part > 0, total / np.maximum(part, 1e-12), 0).astype(np.float32), part


def blurred(
    image: NDArray[np.float32], weight: NDArray[np.float32], sigma_px: float
) -> NDArray[np.float32]:
    """Gaussian mean of the good part of an image (normalised convolution), 0 where none is."""
    below = gaussian_filter(weight, sigma_px, mode="constant")
    above = gaussian_filter(image * weight, sigma_px, mode="constant")
    return np.where(below > 1e-3, above / np.maximum(below, 1e-3), 0).astype(np.float32)


def without_background(
    image: NDArray[np.float32], weight: NDArray[np.float32], fine_px: float, coarse_px: float
) -> NDArray[np.float32]:
    """Rings alone, in units of their noise: a band of widths, evened by the local brightness.

    ``(blur_fine - blur_coarse) / sqrt(blur_coarse)``, cut at 4 robust standard deviations, so that
    neither the centre nor single spots outweigh the rings; 0 where nothing is good.
    """
    smooth = blurred(image, weight, coarse_px)
    seen = weight > 0.5
    floor = max(float(np.percentile(smooth[seen], 5)), 1e-6) if np.any(seen) else 1.0
    band = (blurred(image, weight, fine_px) - smooth) / np.sqrt(np.maximum(smooth, floor))
    spread = 1.4826 * float(np.median(np.abs(band[seen]))) if np.any(seen) else 0.0
    cut = 4 * spread if spread > 0 else np.inf
    return np.where(seen, np.clip(band, -cut, cut), 0).astype(np.float32)
