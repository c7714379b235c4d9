"""The crystal in the beam as published: the four steps of Figure 15 in Bin Wang's thesis.

(a) The sums over rows and columns, above their mean, give centre and radius of the disc. (b) The
image is cropped to the square within the disc. (c) Intensities between two levels of the crop's
histogram make a binary image. (d) A Gaussian filter; its largest peak is the crystal. Levels and
width are those of the program of 2019 (bins 1 to 8 of 20, 5 px).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .disc import Disc
from .shadow import Sighting

Image = NDArray[Any]

BINS, LOWEST_BIN, HIGHEST_BIN = 20, 1, 8
SIGMA_PX = 5.0


def sight_crystal_as_published(image: Image, valid: NDArray[np.bool_]) -> Sighting:
    """Disc and crystal by the four steps; see `shadow.Sighting`.

    It has no figure of confidence (1 wherever there is a disc) and none of its error (taken as
    the filter's width). Pixels that are not valid are passed over.
    """
    counts = image.astype(np.float64)
    rows, columns = valid.any(1), valid.any(0)
    whole_rows, whole_columns = valid.mean(1) > 0.5, valid.mean(0) > 0.5
    lines = counts[:, whole_columns].mean(1), counts[whole_rows].mean(0)
    good = whole_rows & rows, whole_columns & columns
    centre, radius = np.zeros(2), np.zeros(2)
    for axis in (0, 1):
        above = np.flatnonzero((lines[axis] > lines[axis][good[axis]].mean()) & good[axis])
        if above.size < 4:
            return _lost()
        centre[axis] = (above[0] + above[-1]) / 2
        radius[axis] = (above[-1] - above[0]) / 2
    half = int(radius.min() / math.sqrt(2))
    middle = np.round(centre).astype(int)
    box = tuple(slice(max(m - half, 0), m + half + 1) for m in middle)
    crop, kept = counts[box], valid[box]
    inside = crop[kept]
    if inside.size < 16:
        return _lost()
    edges = np.histogram_bin_edges(inside, BINS)
    binary = (crop > edges[LOWEST_BIN]) & (crop < edges[HIGHEST_BIN]) & kept
    peaks = gaussian_filter(binary.astype(float), SIGMA_PX)
    peak = np.array(np.unravel_index(int(np.argmax(peaks)), peaks.shape), float)
    disc = Disc(centre, float(radius.mean()), np.zeros(2), float(inside.mean()), 0.0, 1.0)
    return Sighting(
        disc,
        peak - (np.array(crop.shape) - 1) / 2,
        SIGMA_PX,
        1.0,
        float(inside.var()),
        float(inside.mean()),
        None,
    )


def _lost() -> Sighting:
    return Sighting(None, np.full(2, np.nan), math.inf, 0.0, math.nan, math.nan, None)
