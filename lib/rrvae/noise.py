"""Whether counts scatter as the noise model says: what a wrong gain is told by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .patterns import Floats32

BLOCK = 2048  # patterns at a time
QUIET = 0.05  # share of the pixels, those with the least signal, that are taken for noise alone
BRIGHT_E = 1.0  # electrons a pixel must see to be compared


def noise_ratio(
    data: Floats32,
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    mask: NDArray[np.bool_],
) -> float | None:
    """Variance of the quietest bright pixels over the variance that the noise model gives them.

    Signal adds to the variance and nothing takes from it, so well below 1 the model is wrong, and
    above 1 it is wrong or every pixel has signal. Corrected for what the least of many estimates
    is below their mean. None with fewer than 50 patterns or 20 bright pixels.

    Parameters
    ----------
    data : (n, rows, columns), electrons, the mean `mean` (rows, columns) over n subtracted.
    variance : (rows, columns) of one pixel alone, electrons squared.
    mask : (rows, columns) bool, True where a pixel must not be used.
    """
    bright = ~mask & (mean >= BRIGHT_E)
    n = len(data)
    if n < 50 or bright.sum() < 20:
        return None
    squares = np.zeros(int(bright.sum()))
    for first in range(0, n, BLOCK):
        squares += (data[first : first + BLOCK][:, bright].astype(float) ** 2).sum(0)
    ratios = squares / (n - 1) / variance[bright]
    expected = 1 - 1.645 * np.sqrt(2 / n)  # the 5 % quantile of chi² / n
    return float(np.quantile(ratios, QUIET) / expected)
