"""The specimen as the twin's camera sees it, in every mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .diffraction import defocused_pattern, focused_pattern
from .imaging import picture
from .specimen import Specimen
from .view import View

Floats = NDArray[np.float64]


def expected_electrons(specimen: Specimen, view: View) -> Floats:
    """Electrons expected in every pixel during an exposure, (rows, columns).

    Deterministic; in all no more than the beam's electrons, to a part in a thousand (smooth
    profiles are sampled at the pixels' centres), and linear in them (but for the faint tails of
    spots, which are drawn with the core).
    """
    if view.electrons <= 0:
        return np.zeros(view.shape)
    if view.mode == "imaging":
        return picture(specimen, view)
    if view.defocused:
        return defocused_pattern(specimen, view)
    return focused_pattern(specimen, view)


@dataclass(frozen=True)
class Scene:
    """`expected_electrons` of one specimen, as the twin's camera takes it."""

    specimen: Specimen

    def __call__(self, view: View) -> Floats:
        """Electrons expected in every pixel of a view."""
        return expected_electrons(self.specimen, view)
