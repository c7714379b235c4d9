"""What a count is worth: gain, saturation and blank frames from the frames themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def estimate_gain(
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    valid: NDArray[np.bool_],
    pedestal: float = 0.0,
    block: int = 8,
) -> float:
    """Counts per electron from a pair of consecutive frames (photon-transfer method).

    For Poisson electrons, var = gain * mean; half the squared difference of two frames of the
    same scene is their variance. The ratio is taken per block of pixels and the lower half of
    the blocks decides, because spots that come and go only add variance.

    Parameters
    ----------
    first, second : (rows, columns) raw counts.
    valid : (rows, columns) bool.
    pedestal : counts at zero electrons.
    block : edge of a block, px.

    Returns
    -------
    The gain, or NaN where the frames hold too few counts to tell.
    """
    a = np.asarray(first, np.float64) - pedestal
    b = np.asarray(second, np.float64) - pedestal
    rows, columns = (n // block * block for n in a.shape)
    mean, variance = 0.5 * (a + b), 0.5 * (a - b) ** 2
    # a global change of the beam between the frames is not noise
    mean[~valid] = variance[~valid] = 0.0

    def blocks(x: Floats) -> Floats:
        tiles = x[:rows, :columns].reshape(rows // block, block, columns // block, block)
        sums: Floats = tiles.sum(axis=(1, 3)).ravel()
        return sums

    counts = blocks(mean)
    pixels = blocks(valid.astype(float))
    useful = (pixels > block * block / 2) & (counts > 0.25 * pixels * _unit(mean, variance))
    if useful.sum() < 50:
        return float("nan")
    ratio = blocks(variance)[useful] / counts[useful]
    # a block's ratio scatters by sqrt(2 / pixels): the median of the calm blocks
    return float(np.median(ratio[ratio <= 1.5 * np.median(ratio)]))


def _unit(mean: Floats, variance: Floats) -> float:
    """A rough gain, to tell blocks that hold electrons from empty ones whatever the scale."""
    total = float(mean.sum())
    return (
        float(np.median(variance[mean > 0]) / max(np.median(mean[mean > 0]), 1e-12))
        if (total > 0 and (mean > 0).any())
        else 1.0
    )


def estimate_saturation(maxima: NDArray[np.generic], counts: NDArray[np.generic]) -> float | None:
    """The detector's ceiling, if the frames show one.

    A ceiling is a value that many frames share as their maximum and that several pixels reach
    at once; a maximum that differs from frame to frame is only a bright pixel.

    Parameters
    ----------
    maxima : (n,) largest count of each frame.
    counts : (n,) number of pixels at that count.
    """
    maxima = np.asarray(maxima, float)
    if len(maxima) == 0:
        return None
    ceiling = float(maxima.max())
    at = maxima == ceiling
    if ceiling > 0 and at.sum() >= 3 and np.asarray(counts)[at].sum() >= 2 * at.sum():
        return ceiling
    return None
