"""The ellipse of one ring, of an image that nothing is known about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ..geometry import EllipticalDistortion
from .assignment import find_rings
from .centre_start import RoundStart, find_round_start
from .masking import find_mask
from .pixel_map import PixelMap
from .recentre import NoRings
from .ring_points import RingPoints, measure_rings

Floats = NDArray[np.float64]
_DISTANCE_PX = 1e4  # of no consequence: radii are what is fitted


def fit_ellipse_to_ring(
    image: NDArray[np.generic], threshold_rel: float = 0.5, min_size: int = 50
) -> tuple[float, float, float, float, float]:
    """(cx, cy, a, b, angle) of the most extended bright ring of an image.

    Stop, hot and full pixels are found and left out; the ring is followed in sectors, its radius
    fitted in each, and an ellipse fitted to these points by robust least squares. Rings may be
    spotty or in part hidden.

    Parameters
    ----------
    image : (rows, columns), any real dtype.
    threshold_rel : a ring must be so high relative to the highest, 0 to 1. Of those the longest
        one is fitted; 1 gives the highest.
    min_size : fewest pixels of the ring that must be seen.

    Returns
    -------
    cx, cy : column and row of the centre, px, pixel centres at integers.
    a, b : semi-major and semi-minor axis, px.
    angle : of the major axis in radians, from +x (columns) towards +y (rows), 0 to pi.

    Raises
    ------
    NoRings : no ring, or too little of it (also a ValueError).
    ValueError : `threshold_rel` not from 0 to 1, or no image.
    """
    if not 0 <= threshold_rel <= 1:
        raise ValueError(f"threshold_rel: found {threshold_rel}, expected 0 to 1")
    pixels = np.asarray(image)
    if pixels.ndim != 2:
        raise ValueError(f"image: found shape {pixels.shape}, expected (rows, columns)")
    counts, good, start = _seen(pixels)
    peaks = find_rings(start)
    bright = np.flatnonzero(peaks.height >= threshold_rel * np.max(peaks.height, initial=0.0))
    if len(bright) == 0:
        raise NoRings("image", "no ring", "a powder ring", "check the image, or expose longer")
    ring = int(bright[np.argmax(peaks.radius_px[bright])])
    map_ = PixelMap(start.centre_px, _DISTANCE_PX, start.stretch)
    radius, width = float(peaks.radius_px[ring]), peaks.fwhm_px / 2.355
    points = None
    for _ in range(3):  # the ring is straight under the map it is measured with
        radii = np.array([radius])
        points = measure_rings(counts, good, map_, radii / _DISTANCE_PX, np.ones(1), width).points
        if len(points.ring) < 8:
            raise NoRings(
                "image", "a ring that cannot be followed", "one seen in most directions",
                "lower threshold_rel, or check the image",
            )  # fmt: skip
        map_, radius = _fit(points, map_, radius)
    assert points is not None
    ratio = map_.distortion.ratio
    arc = len(points.ring) * 2 * np.pi * radius / max(1, _sectors(points))
    if arc * max(1.0, peaks.fwhm_px) < min_size:
        raise NoRings(
            "image", f"a ring of about {arc * peaks.fwhm_px:.0f} pixels",
            f"min_size = {min_size}", "lower min_size",
        )  # fmt: skip
    return (
        float(map_.centre_px[1]),
        float(map_.centre_px[0]),
        float(radius * np.sqrt(ratio)),
        float(radius / np.sqrt(ratio)),
        float(np.deg2rad(map_.distortion.azimuth_deg)),
    )


def distortion_of_image(image: NDArray[np.generic]) -> EllipticalDistortion:
    """The ellipse that makes the rings of an image sharpest (to about 0.001 in its ratio)."""
    _, _, start = _seen(np.asarray(image))
    return PixelMap(start.centre_px, _DISTANCE_PX, start.stretch).distortion


def _seen(
    pixels: NDArray[np.generic],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], RoundStart]:
    good = find_mask(pixels).good
    counts = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if np.count_nonzero(good) < 1000 or np.ptp(counts[good]) == 0:
        raise NoRings("image", "a blank image", "a powder ring", "check the image")
    return counts, good, find_round_start(counts, good)


def _fit(points: RingPoints, first: PixelMap, radius: float) -> tuple[PixelMap, float]:
    """Centre, ellipse and radius through points, few outliers heeded."""

    def map_of(p: Floats) -> PixelMap:
        return first.with_(centre_px=(p[0], p[1]), stretch=(p[2], p[3]))

    def residuals(p: Floats) -> Floats:
        rho, _ = map_of(p).to_ideal(points.row_px, points.column_px)
        scaled: Floats = (rho - p[4]) / np.hypot(points.sigma_px, 0.02)
        return scaled

    begin = np.array([*first.centre_px, *first.stretch, radius])
    found = least_squares(
        residuals, begin, x_scale=[1, 1, 1e-3, 1e-3, 1], loss="soft_l1", f_scale=2.0
    )
    return map_of(found.x), float(found.x[4])


def _sectors(points: RingPoints) -> int:
    """How many points a whole ring would have, from the closest spacing of azimuths."""
    steps = np.diff(np.sort(points.azimuth_deg % 360))
    steps = steps[steps > 1e-3]
    return round(360 / float(np.median(steps))) if len(steps) else len(points.ring)
