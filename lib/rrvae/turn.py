"""Turning patterns about their centre, by interpolation or, by right angles, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from .patterns import Patterns


def turned(patterns: Patterns, angle_deg: float) -> Patterns:
    """Patterns turned about `centre_px`, from the row axis to the column axis.

    Their variance and mask turn with them. Right angles about the middle of square patterns move
    pixels only; else they are interpolated with cubic splines.
    """
    rows, columns = patterns.shape
    middle = ((rows - 1) / 2, (columns - 1) / 2)
    quarters = angle_deg / 90.0
    if rows == columns and quarters == int(quarters) and patterns.centre_px == middle:
        k = int(quarters) % 4

        def turn(stack: NDArray[np.floating]) -> NDArray[np.float32]:
            return np.ascontiguousarray(np.rot90(stack, k, axes=(1, 2)), np.float32)

        mask = np.rot90(patterns.mask, k)
    else:
        a = np.deg2rad(angle_deg)
        # from where in the old pattern each pixel comes
        matrix = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        centre = np.asarray(patterns.centre_px)
        offset = centre - matrix @ centre

        def turn(stack: NDArray[np.floating]) -> NDArray[np.float32]:
            return np.stack([affine_transform(one, matrix, offset) for one in stack], dtype="f4")

        mask = affine_transform(patterns.mask.astype(float), matrix, offset, order=1) > 0.01
    variance = turn(patterns.variance)
    variance = np.where(variance > 0, variance, patterns.variance.min())
    return patterns.with_(
        data=turn(patterns.data) * ~mask, variance=variance.astype(np.float32), mask=mask
    )
