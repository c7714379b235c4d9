"""About where a pattern's centre is: the point about which it looks the same upside down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import uniform_filter

_LEAST_SHARED = 0.1  # part of the largest overlap
_APART = 12  # half pixels by which two centres differ


def inversion_centres(image: NDArray[np.floating], most: int = 4) -> list[tuple[float, float]]:
    """(row, column) of points of inversion of a small image, best first; NaN: pixels missing.

    The correlation of the image with itself turned by 180 degrees, over the pixels that both
    have (as Padfield, IEEE Trans. Image Process. 21, 2012, does it by Fourier transforms). Slow
    changes are taken out first, so that rings decide and not the background.
    """
    valid = np.isfinite(image).astype(np.float32)
    if valid.sum() < 64:
        return []
    filled = np.where(valid > 0, image, 0.0).astype(np.float32)
    level = max(float(np.median(filled[valid > 0])), 1e-30)
    # logarithms, lest the direct beam outshine all
    filled = np.log1p(np.maximum(filled, 0) / level) * valid
    width = max(image.shape) // 12
    weight = uniform_filter(valid, width) + 1e-6
    rest = (filled - uniform_filter(filled, width) / weight) * valid
    # spots and the edges of shadows count no more than rings do
    limit = 3 * 1.4826 * float(np.median(np.abs(rest[valid > 0])))
    rest = np.clip(rest, -limit, limit)
    size = [fft.next_fast_len(2 * n, real=True) for n in image.shape]
    a, m = fft.rfft2(rest, size), fft.rfft2(valid, size)
    product = fft.irfft2(a * a, size)
    power = fft.irfft2(fft.rfft2(rest * rest, size) * m, size)  # of either image where both are
    shared = fft.irfft2(m * m, size)
    enough = shared > _LEAST_SHARED * shared.max()
    # a correlation in units of its standard error, lest a few shared pixels win by chance
    score = np.where(enough, product * np.sqrt(np.abs(shared)) / np.maximum(power, 1e-6), -np.inf)
    found: list[tuple[float, float]] = []
    while len(found) < most:
        row, column = (int(i) for i in np.unravel_index(int(np.argmax(score)), score.shape))
        if not np.isfinite(score[row, column]):
            break
        found.append((_top(score, row, column) / 2, _top(score.T, column, row) / 2))
        around = (
            slice(max(0, row - _APART), row + _APART),
            slice(max(0, column - _APART), column + _APART),
        )
        score[around] = -np.inf
    return found


def _top(score: NDArray[np.floating], at: int, other: int) -> float:
    """Sub-pixel place of the maximum along the first axis, by a parabola."""
    if not 0 < at < len(score) - 1:
        return float(at)
    before, here, after = (float(score[at + i, other]) for i in (-1, 0, 1))
    bend = before - 2 * here + after
    if not (np.isfinite(bend) and bend < 0):
        return float(at)
    return at + 0.5 * (before - after) / bend
