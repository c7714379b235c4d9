"""How blurred an image is (Crete et al. 2007), the published measure of a superposition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import blur_effect


def blur_of(image: NDArray[np.float64]) -> float:
    """The blur metric of Crete et al. of a 2-D image: 0 is sharp, 1 blurred.

    How much an image loses by being blurred once more. It knows nothing of coverage: a small
    superposition with a sharp border counts as sharp, so that its minimum proves nothing by itself.
    """
    if not np.ptp(image) > 0:  # no shadow lies on the grid: nothing is sharp there
        return 1.0
    return float(blur_effect(image))
