"""Which pixels tell nothing of the rings: found from the image itself.

Beam stop and other shadows: on an image of block means, the brightness is opened (rings and spots
go), then closed (shadows narrower than a part of the image fill up); what is much darker than
what fills it is shadow. Single pixels are judged by their eight neighbours; saturation by the
stated limit, or by a plateau at the largest value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, grey_closing, grey_opening

from .background import Mask, block_mean

# Longest edge of the image of block means.
BLOCKS = 256
# A shadow is darker than this part of what surrounds it, ...
DARK = 0.4
# ... narrower than this part of the shorter edge, ...
WIDEST = 0.18
# ... and, to be told from noise, what surrounds it has this many counts in a block.
LEAST_COUNTS = 12.0
# A pixel is sick if it leaves its neighbours by so many standard deviations.
SICK = 10.0
# So many pixels at the very largest value are a plateau, not a maximum.
PLATEAU = 12


@dataclass(frozen=True)
class RingMask:
    """Pixels that may be used, and why the others may not.

    Attributes
    ----------
    good : (rows, columns) bool.
    n_missing : not finite.
    n_saturated : full, with their neighbours.
    n_sick : hot or dead, single or in whole lines.
    n_shadow : behind the beam stop or another obstacle.
    saturation : counts from which pixels were taken as full; infinite if none is.
    """

    good: Mask
    n_missing: int
    n_saturated: int
    n_sick: int
    n_shadow: int
    saturation: float


def find_mask(pixels: NDArray[np.generic], saturation: float | None = None) -> RingMask:
    """Mask of an image (rows, columns) of any real dtype.

    `saturation`: counts from which a pixel is full, if known.
    """
    image = np.asarray(pixels, np.float32)
    finite = np.isfinite(image)
    n_missing = int(image.size - np.count_nonzero(finite))
    image = np.where(finite, image, 0)
    limit = _plateau(image, finite, saturation)
    full = image >= limit
    near_full = _grown(full, 2) if np.any(full) else full
    lines = _empty_lines(image, finite)
    good = finite & ~near_full & ~lines
    sick = _sick(image, good, _noise_per_count(image, good))
    good &= ~sick
    shadow = _shadow(image, good | sick)
    return RingMask(
        good & ~shadow,
        n_missing,
        int(np.count_nonzero(near_full)),
        int(np.count_nonzero(sick | (lines & finite))),
        int(np.count_nonzero(shadow & good)),
        limit,
    )


def _plateau(image: NDArray[np.float32], finite: Mask, stated: float | None) -> float:
    """Counts from which pixels are full: as stated, or where the image has a plateau."""
    limit = math.inf if stated is None else stated
    if not np.any(finite):
        return limit
    largest = float(image[finite].max())
    alike = int(np.count_nonzero(image[finite] >= largest))
    bulk = float(np.median(image[finite]))
    if alike >= PLATEAU and largest > 5 * max(bulk, 1) and alike < image.size / 4:
        limit = min(limit, largest)
    return limit


def _grown(mask: Mask, by: int) -> Mask:
    """`mask` and all within `by` pixels of it."""
    grown: Mask = binary_dilation(mask, np.ones((2 * by + 1, 2 * by + 1), bool))
    return grown


def _empty_lines(image: NDArray[np.float32], finite: Mask) -> Mask:
    """Rows and columns that say the same all along: dead lines, padding."""
    lines = np.zeros(image.shape, bool)
    lines[np.ptp(image, axis=1) == 0] = True
    lines[:, np.ptp(image, axis=0) == 0] = True
    return lines & finite


def _noise_per_count(image: NDArray[np.float32], good: Mask) -> float:
    """Variance over mean of a pixel: 1 for counted electrons, the gain of others.

    From differences of neighbours along rows, in the part of the image of middling brightness.
    """
    first, second = image[:, :-1:2], image[:, 1::2]
    both = good[:, :-1:2] & good[:, 1::2]
    n = min(first.shape[1], second.shape[1])
    a, b = first[:, :n][both[:, :n]], second[:, :n][both[:, :n]]
    if len(a) < 100:
        return 1.0
    mean = (a + b) / 2
    low, high = np.percentile(mean, [30, 90])
    middling = (mean >= low) & (mean <= high) & (mean > 0)
    if np.count_nonzero(middling) < 100:
        return 1.0
    a, b = a[middling], b[middling]
    # by absolute differences, which single sick pixels do not spoil; pi/4 for those of a Gaussian
    variance = np.pi / 4 * float(np.mean(np.minimum(np.abs(a - b), 20 * np.abs(a - b).mean()))) ** 2
    return max(variance / float(np.mean(mean[middling])), 1e-12)


@numba.njit(cache=True, nogil=True)
def _sick(image: NDArray[np.float32], good: Mask, gain: float) -> Mask:
    """Pixels far above all of their neighbours but one, or far below."""
    rows, columns = image.shape
    sick = np.zeros((rows, columns), np.bool_)
    for i in range(rows):
        for j in range(columns):
            if not good[i, j]:
                continue
            highest = second = -np.inf
            lowest = last = np.inf
            n = 0
            for k in range(max(i - 1, 0), min(i + 2, rows)):
                for m in range(max(j - 1, 0), min(j + 2, columns)):
                    if (k == i and m == j) or not good[k, m]:
                        continue
                    v = image[k, m]
                    n += 1
                    if v > highest:
                        second, highest = highest, v
                    elif v > second:
                        second = v
                    if v < lowest:
                        last, lowest = lowest, v
                    elif v < last:
                        last = v
            if n < 3:
                continue
            value = image[i, j]
            above = value - second
            # spots are as sharp as the camera allows, but their neighbours have a share
            if above > SICK * math.sqrt(gain * max(second, gain)) and above > 2 * (second - lowest):
                sick[i, j] = True
            below = last - value
            if below > SICK * math.sqrt(gain * max(last, gain)) * 0.6 and value < 0.3 * last:
                sick[i, j] = True
    return sick


def _shadow(image: NDArray[np.float32], good: Mask) -> Mask:
    """Behind the beam stop, its holder, an aperture's edge."""
    block = max(1, -(-max(image.shape) // BLOCKS))
    mean, part = block_mean(image, good, block)
    offset = min(0.0, float(np.percentile(mean, 1)))
    light = mean - offset
    # what is not good is as bright as may be: saturated pixels are no shadow
    light = np.where(part > 0.3, light, light.max())
    opened = grey_opening(light, size=(5, 5))
    size = max(7, int(WIDEST * min(light.shape)) | 1)
    filled = grey_closing(opened, size=(size, size))
    dark = (light < DARK * filled) & (filled * block**2 > LEAST_COUNTS)
    # single blocks are noise
    dark &= grey_opening(dark.astype(np.uint8), size=(2, 2)).astype(bool)
    shadow = np.zeros(image.shape, bool)
    if np.any(dark):
        dark = binary_dilation(dark, np.ones((3, 3), bool))
        large = np.kron(dark, np.ones((block, block), bool))
        shadow[: large.shape[0], : large.shape[1]] = large
    return shadow
