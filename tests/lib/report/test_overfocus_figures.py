from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from numpy.typing import NDArray

from ewaldflow.lib.report.overfocus_figures import search_path

RNG = np.random.default_rng(3)


def path(rotation: NDArray[np.float64], overfocus: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([rotation, overfocus, (rotation - 10) ** 2 + (overfocus * 1e6 - 2) ** 2])


@pytest.mark.parametrize(
    ("rotation", "overfocus", "surface"),
    [
        (RNG.uniform(0, 20, 40), RNG.uniform(1e-6, 3e-6, 40), True),
        (np.linspace(0, 20, 40), np.linspace(1e-6, 3e-6, 40), False),  # on a line
        (RNG.uniform(0, 20, 40), np.full(40, 2e-6), False),  # one overfocus
        (np.array([1.0, 2.0]), np.array([1e-6, 2e-6]), False),  # too few
        (np.full(40, 5.0), np.full(40, 1e-6), False),  # one place
    ],
)
def test_a_surface_of_the_loss_where_points_span_one(
    rotation: NDArray[np.float64], overfocus: NDArray[np.float64], surface: bool
) -> None:
    drawing = search_path(path(rotation, overfocus), (0, 1e-6), (10, 2e-6))
    drawing.canvas.draw()
    filled = [one for one in drawing.axes[0].collections if not isinstance(one, PathCollection)]
    assert bool(filled) is surface
