"""What is known of a powder before its rings are looked at: spacings and electron intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibrant:
    """The rings of a powder, by decreasing spacing.

    Attributes
    ----------
    name : of the substance.
    d_A : (n,) spacings, strictly decreasing.
    hkl : (n, 3) int, one reflection of each ring.
    multiplicity : (n,) int, how many reflections fall on the ring.
    intensity : (n,) kinematic electron intensity ``m |F|^2`` (with ``d`` as the Lorentz factor of
        small angles), the strongest 1.
    source : where cell and atoms come from.
    """

    name: str
    d_A: NDArray[np.float64]
    hkl: NDArray[np.int64]
    multiplicity: NDArray[np.int64]
    intensity: NDArray[np.float64]
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.d_A) == 0 or not np.all(np.diff(self.d_A) < 0):
            raise ValueError("d_A: expected strictly decreasing spacings, at least one")
