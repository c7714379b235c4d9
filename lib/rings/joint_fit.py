"""One least squares over all rings of all images: geometry, its covariance, and what is left over.

What is minimised is observed less calculated radius on the plane normal to the beam, over its
standard error, ``(rho(point) - L tan 2 theta) / sigma``, with a loss that grows but linearly for
outliers (soft L1) first, then by plain least squares without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from .pixel_map import PixelMap
from .ring_points import RingPoints

Floats = NDArray[np.float64]

# A point is an outlier beyond so many standard deviations.
OUTLIER = 4.5
# Octants and rings are left out in turn to see how far the fit depends on each.
OCTANTS = 8

PER_IMAGE = ("row_px", "column_px", "log_distance")
STRETCH = ("stretch_a", "stretch_b")
TILT = ("rot1_rad", "rot2_rad")
THREE_FOLD = ("three_fold_cosine_per_px", "three_fold_sine_per_px")
RADIAL = ("radial_per_px2",)
HEIGHT = ("height_per_um",)
# Nothing beyond is believed: an ellipse of 1.35, a tilt of 20 degrees.
LARGEST = {"stretch_a": 0.15, "stretch_b": 0.15, "rot1_rad": 0.35, "rot2_rad": 0.35}


@dataclass(frozen=True)
class JointFit:
    """What the least squares gave.

    Attributes
    ----------
    maps : one for each image.
    height_per_um : relative change of distance with sample height; 0 if not fitted.
    names : of the parameters; those of an image end in its number.
    covariance : (p, p), the larger of least squares' own and of leaving parts out.
    points : with residuals of this fit, outliers not `used`.
    chi2 : reduced chi squared.
    """

    maps: tuple[PixelMap, ...]
    height_per_um: float
    names: tuple[str, ...]
    covariance: Floats
    points: RingPoints
    chi2: float

    def sd(self, name: str) -> float:
        """Standard error of a parameter; NaN if it was not fitted."""
        if name not in self.names:
            return float("nan")
        i = self.names.index(name)
        return float(np.sqrt(self.covariance[i, i]))


def fit_jointly(
    points: RingPoints,
    maps: Sequence[PixelMap],
    tangent: Floats,
    shared: Sequence[str],
    heights_um: Sequence[float] = (),
) -> JointFit:
    """Refine `maps` on the points of all their images.

    Parameters
    ----------
    points : of all images, measured with `measure_rings`.
    maps : where to begin, one for each image; what is not fitted stays as in the first.
    tangent : tan(2 theta) of the calibrant's rings.
    shared : names of the parameters, other than centre and distance, to fit: of `STRETCH`, `TILT`,
        `THREE_FOLD`, `RADIAL`. They are common to all images.
    heights_um : of each image; with them there is one distance, for the first, and its change.
    """
    scale = _scales(points, maps[0])
    names = _names(len(maps), shared, bool(heights_um))
    unit = np.array([scale[n.split(":")[0]] for n in names])
    begin = _vector(names, maps) / unit

    def residuals(x: Floats, kept: RingPoints) -> Floats:
        trial, _ = _maps(names, x * unit, maps, heights_um)
        return _residuals(kept, trial, tangent) / kept.sigma_px

    most = np.array([LARGEST.get(n.split(":")[0], np.inf) for n in names]) / unit
    bounds = (-most, most)
    begin = np.clip(begin, -0.99 * most, 0.99 * most)
    robust = least_squares(
        residuals, begin, loss="soft_l1", f_scale=1.5, args=(points,), bounds=bounds
    )
    off = np.abs(residuals(robust.x, points))
    spread = max(1.0, 1.4826 * float(np.median(off)))
    weighed = _reweighed(points, residuals(robust.x, points) * points.sigma_px)
    used = off * points.sigma_px / weighed.sigma_px < OUTLIER * spread
    kept = _chosen(weighed, used)
    found = least_squares(residuals, robust.x, args=(kept,), bounds=bounds)
    chi2 = 2 * float(found.cost) / max(len(kept.ring) - len(names), 1)
    covariance = _covariance(found.jac, found.fun, chi2, kept)
    trial, height = _maps(names, found.x * unit, maps, heights_um)
    rest = _residuals(weighed, trial, tangent)
    return JointFit(
        tuple(trial), height, names, covariance * np.outer(unit, unit),
        replace(weighed, residual_px=rest, used=used), chi2,
    )  # fmt: skip


def _names(n_images: int, shared: Sequence[str], heights: bool) -> tuple[str, ...]:
    own = [
        f"{name}:{i}"
        for i in range(n_images)
        for name in PER_IMAGE
        if not (heights and i > 0 and name == "log_distance")
    ]
    return (*own, *shared, *(HEIGHT if heights else ()))


def _scales(points: RingPoints, first: PixelMap) -> dict[str, float]:
    """A step of each parameter that moves the outer rings by about a pixel."""
    rho = max(float(np.max(np.hypot(
        points.row_px - first.centre_px[0], points.column_px - first.centre_px[1]
    ))), 1.0)  # fmt: skip
    tilt = first.distance_px / rho**2
    return {
        "row_px": 1.0, "column_px": 1.0, "log_distance": 1 / rho,
        "stretch_a": 1 / rho, "stretch_b": 1 / rho, "rot1_rad": tilt, "rot2_rad": tilt,
        "three_fold_cosine_per_px": rho**-2, "three_fold_sine_per_px": rho**-2,
        "radial_per_px2": rho**-3, "height_per_um": 1e-3 / rho,
    }  # fmt: skip


def _vector(names: Sequence[str], maps: Sequence[PixelMap]) -> Floats:
    values = []
    for name in names:
        kind, _, image = name.partition(":")
        m = maps[int(image or 0)]
        values.append(
            {
                "row_px": m.centre_px[0],
                "column_px": m.centre_px[1],
                "log_distance": np.log(m.distance_px),
                "stretch_a": m.stretch[0],
                "stretch_b": m.stretch[1],
                "rot1_rad": m.rot1_rad,
                "rot2_rad": m.rot2_rad,
                "three_fold_cosine_per_px": m.three_fold_per_px[0],
                "three_fold_sine_per_px": m.three_fold_per_px[1],
                "radial_per_px2": m.radial_per_px2,
                "height_per_um": 0.0,
            }[kind]
        )
    return np.array(values, float)


def _maps(
    names: Sequence[str], x: Floats, maps: Sequence[PixelMap], heights_um: Sequence[float]
) -> tuple[list[PixelMap], float]:
    value = dict(zip(names, (float(v) for v in x), strict=True))
    common = maps[0]
    height = value.get("height_per_um", 0.0)
    result = []
    for i in range(len(maps)):
        log = value.get(f"log_distance:{i}", value["log_distance:0"])
        rise = height * (heights_um[i] - heights_um[0]) if len(heights_um) else 0.0
        result.append(
            PixelMap(
                (value[f"row_px:{i}"], value[f"column_px:{i}"]),
                float(np.exp(log) * (1 + rise)),
                (
                    value.get("stretch_a", common.stretch[0]),
                    value.get("stretch_b", common.stretch[1]),
                ),
                value.get("rot1_rad", common.rot1_rad),
                value.get("rot2_rad", common.rot2_rad),
                (
                    value.get("three_fold_cosine_per_px", common.three_fold_per_px[0]),
                    value.get("three_fold_sine_per_px", common.three_fold_per_px[1]),
                ),
                value.get("radial_per_px2", common.radial_per_px2),
            )
        )
    return result, height


def _residuals(points: RingPoints, maps: Sequence[PixelMap], tangent: Floats) -> Floats:
    rest = np.empty(len(points.ring))
    for i, m in enumerate(maps):
        here = points.image == i
        rho, _ = m.to_ideal(points.row_px[here], points.column_px[here])
        rest[here] = rho - m.distance_px * tangent[points.ring[here]]
    return rest


def _chosen(points: RingPoints, which: NDArray[np.bool_]) -> RingPoints:
    return RingPoints(*[getattr(points, n)[which] for n in RingPoints.__dataclass_fields__])


def _reweighed(points: RingPoints, rest: Floats) -> RingPoints:
    """Standard errors enlarged, ring by ring, to what the ring scatters (spots do more).

    A ring that as a whole leaves the others by far more than they leave each other counts little.
    """
    sigma = points.sigma_px.copy()
    whole: dict[tuple[int, int], tuple[float, float]] = {}
    for image in np.unique(points.image):
        for ring in np.unique(points.ring[points.image == image]):
            here = (points.image == image) & (points.ring == ring)
            if np.count_nonzero(here) >= 8:
                off = rest[here] - np.median(rest[here])
                spread = 1.4826 * float(np.median(np.abs(off) / sigma[here]))
                sigma[here] *= max(1.0, spread)
                error = float(np.median(sigma[here])) / np.sqrt(np.count_nonzero(here))
                whole[int(image), int(ring)] = (float(np.median(rest[here])), error)
    if len(whole) >= 5:
        usual = 1.4826 * float(np.median([abs(mean) for mean, _ in whole.values()]))
        for (image, ring), (mean, error) in whole.items():
            if abs(mean) > OUTLIER * max(usual, error):
                here = (points.image == image) & (points.ring == ring)
                sigma[here] = np.hypot(sigma[here], abs(mean) * np.sqrt(np.count_nonzero(here)))
    return replace(points, sigma_px=sigma)


def _covariance(jacobian: Floats, rest: Floats, chi2: float, points: RingPoints) -> Floats:
    """Of the parameters: from least squares, enlarged where leaving parts out says so.

    Leaving out each ring, and each octant of the azimuth, in turn (jackknife, in one linear step)
    shows errors that are common to their points, which least squares believes independent.
    """
    normal = jacobian.T @ jacobian
    formal = np.linalg.pinv(normal, hermitian=True) * max(chi2, 1.0)
    largest = np.diag(formal).copy()
    octant = ((points.azimuth_deg % 360) // (360 / OCTANTS)).astype(int)
    for label in (octant, points.ring + 1000 * points.image):
        groups = np.unique(label)
        if len(groups) < 3:
            continue
        moved = []
        for group in groups:
            here = label == group
            less = normal - jacobian[here].T @ jacobian[here]
            if np.linalg.cond(less) > 1e10:
                continue
            moved.append(np.linalg.solve(less, jacobian[here].T @ rest[here]))
        if len(moved) >= 3:
            spread = np.asarray(moved) - np.mean(moved, axis=0)
            n = len(moved)
            largest = np.maximum(largest, (n - 1) / n * np.sum(spread**2, axis=0))
    grow = np.sqrt(largest / np.maximum(np.diag(formal), 1e-300))
    covariance: Floats = formal * np.outer(grow, grow)
    return covariance
