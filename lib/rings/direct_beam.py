"""The direct beam itself, where no stop hides it: saturated or not, hot pixels or not."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label, median_filter, uniform_filter

from ..formats.image import DiffractionImage

_STANDS_OUT = 20.0  # standard deviations of the background that a beam must exceed
_HOW_MUCH = 5.0  # times the usual background


def direct_beam_centre(image: DiffractionImage) -> tuple[tuple[float, float], float] | None:
    """((row, column), standard error) of the direct beam, px; None if there is none.

    The brightest spot after a median of 3 x 3 pixels, which no hot pixel survives; then the
    centroid of everything connected to it above half its height. The error is a tenth of the
    spot's radius, since beams are rarely round, and at least 0.1 px.
    """
    pixels = np.nan_to_num(np.asarray(image.pixels, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    calm = median_filter(pixels, 3, mode="nearest")
    smooth = uniform_filter(calm, 3, mode="nearest")
    usual = float(np.median(calm))
    spread = 1.4826 * float(np.median(np.abs(calm - usual)))
    top = float(smooth.max())
    if not top - usual > max(_STANDS_OUT * spread, _HOW_MUCH * abs(usual), 1e-30):
        return None
    bright, _ = label(calm > usual + 0.5 * (top - usual))
    place = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    which = bright[place]
    if which == 0:
        return None
    row, column = np.nonzero(bright == which)
    if len(row) > 0.02 * pixels.size or len(row) < 4:
        return None  # a haze, or what a median should not have left
    weight = calm[row, column] - usual
    centre = float(np.average(row, weights=weight)), float(np.average(column, weights=weight))
    return centre, max(0.1, 0.1 * float(np.sqrt(len(row) / np.pi)))
