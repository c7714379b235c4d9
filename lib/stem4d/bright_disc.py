"""Where the bright-field disc lies in a mean pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError

Floats = NDArray[np.float64]

ROUND = 0.08  # r.m.s. deviation of the edge from a circle, of its radius, beyond which it is none


@dataclass(frozen=True)
class BrightDisc:
    """A circle fitted to the edge of the bright-field disc.

    Attributes
    ----------
    centre_px : (row, column).
    radius_px : of the circle.
    residual_px : r.m.s. distance of the edge from it.
    """

    centre_px: tuple[float, float]
    radius_px: float
    residual_px: float


def find_disc(mean: Floats, mask: NDArray[np.bool_], name: str = "mean pattern") -> BrightDisc:
    """Fit a circle to the contour at half the level inside the largest bright region.

    Parameters
    ----------
    mean : (rows, columns), the mean pattern.
    mask : (rows, columns) bool, True where it must not be used; filled from the nearest pixel.
    name : of what it is the mean, for the error.

    Raises
    ------
    UserError : no bright region, or its edge is no circle.
    """
    import skimage.filters
    import skimage.measure

    if mask.any():
        nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
        mean = mean[tuple(nearest)]
    smooth = ndimage.median_filter(mean, 3)
    if not smooth.max() > smooth.min():
        raise _no_disc(name, "the same value everywhere")
    labels, count = ndimage.label(smooth > skimage.filters.threshold_otsu(smooth))
    sizes = ndimage.sum_labels(np.ones_like(mean), labels, np.arange(1, count + 1))
    region = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    outside = ~ndimage.binary_dilation(region, iterations=3)
    dark = float(np.median(smooth[outside])) if outside.any() else 0.0
    level = (float(np.median(smooth[region])) + dark) / 2
    filled = np.where(
        ndimage.binary_erosion(region, iterations=3), np.maximum(smooth, level), smooth
    )
    contours = skimage.measure.find_contours(filled, level)
    if not contours:
        raise _no_disc(name, "no edge")
    edge = max(contours, key=len)
    centre, radius = edge.mean(0), 0.0
    keep = np.ones(len(edge), bool)
    for _ in range(4):  # outliers are pieces of scattered beams that touch the disc
        solution = np.linalg.lstsq(
            np.column_stack([2 * edge[keep], np.ones(keep.sum())]),
            (edge[keep] ** 2).sum(1),
            rcond=None,
        )[0]
        centre = solution[:2]
        radius = float(np.sqrt(max(solution[2] + centre @ centre, 0.0)))
        off = np.linalg.norm(edge - centre, axis=1) - radius
        keep = np.abs(off) <= max(3 * 1.4826 * float(np.median(np.abs(off))), 0.5)
    residual = float(np.sqrt(np.mean(off[keep] ** 2)))
    if radius < 2 or residual > max(ROUND * radius, 0.5) or keep.mean() < 0.5:
        raise _no_disc(name, f"an edge {residual:.1f} px off a circle of radius {radius:.1f} px")
    return BrightDisc((float(centre[0]), float(centre[1])), radius, residual)


def _no_disc(name: str, found: str) -> UserError:
    return UserError(
        name, found, "a bright disc with a round edge", "state the centre of the patterns (centre)"
    )
