"""From a joint fit to the calibration of one image: numbers outward, rings, what is left over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..formats.image import DiffractionImage
from .assignment import Assignment
from .background import Mask
from .calibrant import Calibrant
from .calibration import Ring, RingCalibration
from .config import RingConfig
from .joint_fit import HEIGHT, RADIAL, THREE_FOLD, TILT, JointFit
from .verdict import LeftOver, Stated, judge

Floats = NDArray[np.float64]

# What is left over counts beyond so many standard errors.
SEEN_SIGMA = 5.0


@dataclass(frozen=True)
class Fitted:
    """One image, what was assumed of it, and the fit of all.

    Attributes
    ----------
    number : of the image in the fit.
    image, counts, good : the image and its usable pixels.
    stated : the distance that it was to be near, if any.
    scales : scales that were possible, best first; the first was taken.
    fit : of all images.
    """

    number: int
    image: DiffractionImage
    counts: NDArray[np.float32]
    good: Mask
    stated: Stated | None
    scales: Sequence[Assignment]
    fit: JointFit


def left_over(fit: JointFit, number: int, tangent: Floats) -> LeftOver:
    """What the map cannot take up, at the outermost ring of an image.

    Tilt shifts rings by ``rho^2 tilt / L``: a linear fit of that, and of an ellipse, to the
    residuals, beside centre and distance.
    """
    p = fit.points
    used = p.used & (p.image == number)
    if len(np.unique(p.ring[used])) < 3:
        return LeftOver(0.0, 0.0)
    rho = tangent[p.ring[used]] / tangent[p.ring[used]].max()
    a = np.radians(p.azimuth_deg[used])
    columns = np.stack(
        [rho**2 * np.cos(a), rho**2 * np.sin(a), rho * np.cos(2 * a), rho * np.sin(2 * a),
         np.cos(a), np.sin(a), rho], axis=1
    ) / p.sigma_px[used, None]  # fmt: skip
    covariance = np.linalg.pinv(columns.T @ columns)
    found = covariance @ (columns.T @ (p.residual_px[used] / p.sigma_px[used]))
    sizes = []
    for part in (slice(0, 2), slice(2, 4)):
        variance = covariance[part, part] * max(fit.chi2, 1.0)
        clear = found[part] @ np.linalg.pinv(variance) @ found[part] > SEEN_SIGMA**2
        sizes.append(float(np.hypot(*found[part])) if clear else 0.0)
    return LeftOver(sizes[0], sizes[1])


def outcome(
    fitted: Fitted,
    calibrant: Calibrant,
    tangent: Floats,
    config: RingConfig,
    known: tuple[float, float],
) -> RingCalibration:
    """What the fit says of an image, judged; `known`: wavelength in Å, pixel size in mm."""
    wavelength, pixel = known
    i, view, fit = fitted.number, fitted, fitted.fit
    m = fit.maps[i]
    names, covariance = _outward(i, fit, pixel)
    plain = RingCalibration(
        name=view.image.name,
        shape=view.image.shape,
        calibrant=calibrant.name,
        wavelength_A=wavelength,
        pixel_size_mm=pixel,
        distance_mm=m.distance_px * pixel,
        beam_centre_px=m.centre_px,
        distortion=m.distortion,
        three_fold_per_px=m.three_fold_per_px,
        radial_per_mm2=m.radial_per_px2 / pixel**2,
        rot1_rad=m.rot1_rad,
        rot2_rad=m.rot2_rad,
        parameters=names,
        covariance=covariance,
        rings=_rings(i, fit, calibrant),
        camera_length_mm=view.image.camera_length_mm or config.camera_length_mm,
        height_um=config.heights_um[0] if config.heights_um else None,
        height_per_um=fit.height_per_um,
    )
    verdict, reasons = judge(
        plain, view.scales, view.stated, config, left_over(fit, i, tangent), _lengths(fit)
    )
    return replace(plain, verdict=verdict, reasons=reasons)


def _lengths(fit: JointFit) -> int:
    """How many different camera lengths were fitted together."""
    distances = sorted(m.distance_px for m in fit.maps)
    return 1 + sum(b > 1.15 * a for a, b in pairwise(distances))


def _rings(i: int, fit: JointFit, calibrant: Calibrant) -> tuple[Ring, ...]:
    rings = []
    p = fit.points
    for k in np.unique(p.ring[p.image == i]):
        here = (p.image == i) & (p.ring == k)
        used = here & p.used
        if not np.any(used):
            continue
        rest, weight = p.residual_px[used], p.sigma_px[used] ** -2.0
        azimuths = np.unique(np.floor(p.azimuth_deg[used] / 12))
        h, k_, l_ = (int(v) for v in calibrant.hkl[k])
        rings.append(
            Ring(
                (h, k_, l_),
                float(calibrant.d_A[k]),
                int(np.count_nonzero(used)),
                int(np.count_nonzero(here & ~p.used)),
                len(azimuths) / 30,
                float(np.sqrt(np.mean(rest**2))),
                float(np.sum(weight * rest) / np.sum(weight)),
            )
        )
    return tuple(rings)


def _outward(i: int, fit: JointFit, pixel: float) -> tuple[tuple[str, ...], Floats]:
    """Names and covariance in the terms of a `RingCalibration`."""
    m = fit.maps[i]
    own = f":{i}" if f"log_distance:{i}" in fit.names else ":0"
    a, b = m.stretch
    size = max(math.hypot(a, b), 1e-9)
    ratio = math.exp(2 * size)
    half = math.degrees(0.5) / size**2
    rows: list[tuple[str, dict[str, float]]] = [
        ("beam_row_px", {f"row_px:{i}": 1.0}),
        ("beam_column_px", {f"column_px:{i}": 1.0}),
        ("distance_mm", {f"log_distance{own}": m.distance_px * pixel}),
        ("ratio", {"stretch_a": 2 * ratio * a / size, "stretch_b": 2 * ratio * b / size}),
        ("azimuth_deg", {"stretch_a": -b * half, "stretch_b": a * half}),
        *[(name, {name: 1.0}) for name in (*TILT, *THREE_FOLD)],
        ("radial_per_mm2", {RADIAL[0]: pixel**-2}),
        (HEIGHT[0], {HEIGHT[0]: 1.0}),
    ]
    rows = [row for row in rows if next(iter(row[1])) in fit.names]
    matrix = np.zeros((len(rows), len(fit.names)))
    for r, (_, parts) in enumerate(rows):
        for name, value in parts.items():
            matrix[r, fit.names.index(name)] = value
    return tuple(name for name, _ in rows), matrix @ fit.covariance @ matrix.T
