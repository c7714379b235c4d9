"""Drift of the specimen while the scan runs.

A steady drift v per scan row moves the shadow as a scan distortion would: ``v t = v (row + column /
columns)`` is linear in the scan position, and no shadow tells the two apart. What can be fitted is
the rest, Legendre polynomials of time from the second on; and the steady part, if the scan itself
is taken as free of shear (A is then a rotation or reflection times a scale).
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

DEGREES = (2, 3, 4)
#: A drift is kept if it moves the shadow so far, in binned pixels, and so many standard errors.
LEAST_PX, LEAST_SIGMA = 0.015, 4.0
#: No specimen drifts by so many binned pixels beside a steady drift; noise may seem to.
MOST_PX = 6.0


def polynomials(use: NDArray[np.intp], scan_shape: tuple[int, int]) -> Vectors:
    """(frame, degree) Legendre polynomials of time, free of a part linear in the scan position.

    `use` holds the numbers of the frames, scan row * columns + scan column.
    """
    rows, columns = scan_shape
    row, column = use // columns, use % columns
    time = 2 * (row + column / columns) / rows - 1
    out = np.column_stack([legendre.legval(time, np.eye(n + 1)[n]) for n in DEGREES])
    linear = np.column_stack([np.ones(len(use)), row, column])
    return np.asarray(out - linear @ np.linalg.lstsq(linear, out, rcond=None)[0])


def is_drifting(coefficients: Vectors, errors: Vectors) -> bool:
    """Whether (2, degree) coefficients in binned pixels are a drift, and no noise."""
    size = np.abs(coefficients)
    seen = (size > np.maximum(LEAST_PX, LEAST_SIGMA * np.abs(errors))).any()
    return bool(seen and (size < MOST_PX).all())


def steady_drift(scan_to_detector: Vectors, columns: int) -> tuple[Vectors, Vectors]:
    """(A without shear, drift per scan row) that together make up an A with shear.

    The shadow moves by ``G s + v (row + column / columns)``, so what is measured as A is
    ``A - (v, v / columns)``.
    """
    a = scan_to_detector
    sign = 1.0 if np.linalg.det(a) >= 0 else -1.0
    # A + (v, v/n) = ((p, q), (-sign q, sign p)): two equations for v
    n = columns
    left = np.array([[-sign, 1 / n], [1 / n, sign]])
    right = np.array([sign * a[0, 0] - a[1, 1], -(a[0, 1] + sign * a[1, 0])])
    v = np.linalg.solve(left, right)
    return a + np.column_stack([v, v / n]), v
