"""From pixels to scattering angles and back, with everything that a ring calibration may fit.

In the order in which a ray meets it, all about the beam centre, lengths in pixels:

1. angle ``2 theta`` and azimuth f: the point ``rho = L tan 2 theta`` of a plane normal to the beam;
2. the tilted plane of the detector (rot1, rot2 and L as in a PONI of pyFAI, rot3 = 0);
3. third-order radial distortion ``r -> r (1 + k r^2)``;
4. three-fold distortion ``r -> r + r^2 (c cos 3a + s sin 3a)``;
5. the ellipse ``exp([[a, b], [b, -a]])``, which keeps areas: its ratio is ``exp(2 hypot(a, b))``,
   its major axis at ``atan2(b, a) / 2``.

The lenses act before the camera does; here they act on the camera's plane. The two orders differ by
the product of tilt and distortion, and this one lets tilt and distortion be handed on apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import EllipticalDistortion
from .calibration import RingCalibration

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PixelMap:
    """The geometry of one image, lengths in pixels.

    Attributes
    ----------
    centre_px : (row, column) of the direct beam.
    distance_px : along the detector's normal.
    stretch : (a, b) of the ellipse.
    rot1_rad, rot2_rad : tilt.
    three_fold_per_px : (cosine, sine).
    radial_per_px2 : third-order radial distortion.
    """

    centre_px: tuple[float, float]
    distance_px: float
    stretch: tuple[float, float] = (0.0, 0.0)
    rot1_rad: float = 0.0
    rot2_rad: float = 0.0
    three_fold_per_px: tuple[float, float] = (0.0, 0.0)
    radial_per_px2: float = 0.0

    def with_(self, **changes: Any) -> PixelMap:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def distortion(self) -> EllipticalDistortion:
        """The ellipse."""
        a, b = self.stretch
        azimuth = math.degrees(math.atan2(b, a)) / 2 % 180.0
        return EllipticalDistortion(math.exp(2 * math.hypot(a, b)), azimuth)

    @property
    def plane(self) -> Floats:
        """(3, 3): detector axes (rows, columns, normal) in the laboratory (rows, columns, beam)."""
        c1, s1 = math.cos(self.rot1_rad), math.sin(self.rot1_rad)
        c2, s2 = math.cos(self.rot2_rad), math.sin(self.rot2_rad)
        return np.array([[c2, s1 * s2, -c1 * s2], [0.0, c1, s1], [s2, -c2 * s1, c1 * c2]])

    @property
    def foot_px(self) -> Floats:
        """(rows, columns) from the foot of the normal to where the beam meets the detector."""
        t1 = math.tan(self.rot1_rad)
        t2 = math.tan(self.rot2_rad) / math.cos(self.rot1_rad)
        return self.distance_px * np.array([t2, -t1])

    def packed(self) -> Floats:
        """All of it in the order in which `_ideal` takes it."""
        inverse = np.linalg.inv(self.distortion.matrix)
        return np.concatenate([
            self.centre_px, [inverse[0, 0], inverse[0, 1], inverse[1, 1]], self.three_fold_per_px,
            [self.radial_per_px2, self.distance_px], self.foot_px, self.plane.ravel(),
        ])  # fmt: skip

    def to_ideal(self, row: ArrayLike, column: ArrayLike) -> tuple[Floats, Floats]:
        """``rho = L tan 2 theta`` in px and azimuth in radians of pixel positions."""
        row, column = np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float))
        rho, azimuth = _ideal_of(row.ravel(), column.ravel(), self.packed())
        return rho.reshape(row.shape), azimuth.reshape(row.shape)

    def to_pixel(self, rho: ArrayLike, azimuth: ArrayLike) -> tuple[Floats, Floats]:
        """(row, column) of points at ``rho = L tan 2 theta`` in px and azimuth in radians."""
        rho, azimuth = np.broadcast_arrays(np.asarray(rho, float), np.asarray(azimuth, float))
        ray = np.stack(
            [rho * np.sin(azimuth), rho * np.cos(azimuth), np.full(rho.shape, self.distance_px)], -1
        )
        on = ray @ self.plane
        y, x = np.moveaxis(on[..., :2] / on[..., 2:] * self.distance_px - self.foot_px, -1, 0)
        r2 = x * x + y * y
        grow = 1 + self.radial_per_px2 * r2
        a = np.arctan2(y, x)
        c, s = self.three_fold_per_px
        grow = grow + np.sqrt(r2) * grow**2 * (c * np.cos(3 * a) + s * np.sin(3 * a))
        d = self.distortion.matrix
        return (
            self.centre_px[0] + grow * (d[1, 0] * x + d[1, 1] * y),
            self.centre_px[1] + grow * (d[0, 0] * x + d[0, 1] * y),
        )


def map_of(calibration: RingCalibration) -> PixelMap:
    """The map of a calibration."""
    pixel = calibration.pixel_size_mm
    d = calibration.distortion
    size, turn = math.log(d.ratio) / 2, 2 * math.radians(d.azimuth_deg)
    return PixelMap(
        calibration.beam_centre_px,
        calibration.distance_mm / pixel,
        (size * math.cos(turn), size * math.sin(turn)),
        calibration.rot1_rad,
        calibration.rot2_rad,
        calibration.three_fold_per_px,
        calibration.radial_per_mm2 * pixel**2,
    )


def ring_curve(calibration: RingCalibration, d_A: float, n: int = 360) -> tuple[Floats, Floats]:
    """(row, column) of `n` points around the ring of spacing `d_A`, to draw it over an image."""
    angle = 2 * math.asin(calibration.wavelength_A / (2 * d_A))
    rho = calibration.distance_mm / calibration.pixel_size_mm * math.tan(angle)
    return map_of(calibration).to_pixel(rho, np.linspace(-np.pi, np.pi, n))


@numba.njit(cache=True, nogil=True, inline="always")
def _ideal(row: float, column: float, p: Floats) -> tuple[float, float]:
    """(rows, columns) on the plane normal to the beam, px, of one pixel position."""
    y0, x0 = row - p[0], column - p[1]
    x, y = p[2] * x0 + p[3] * y0, p[3] * x0 + p[4] * y0
    if p[5] != 0.0 or p[6] != 0.0 or p[7] != 0.0:
        r = math.sqrt(x * x + y * y)
        if r > 0:
            cosine, sine = x / r, y / r
            wave = p[5] * (4 * cosine**3 - 3 * cosine) + p[6] * (3 * sine - 4 * sine**3)
            v = 2 * r / (1 + math.sqrt(max(1 + 4 * wave * r, 0.0)))
            u = v
            for _ in range(4):
                u -= (u + p[7] * u**3 - v) / (1 + 3 * p[7] * u * u)
            x, y = cosine * u, sine * u
    d_1, d_2 = y + p[9], x + p[10]
    scale = p[8] / (p[17] * d_1 + p[18] * d_2 + p[19] * p[8])
    t_1 = p[11] * d_1 + p[12] * d_2 + p[13] * p[8]
    t_2 = p[14] * d_1 + p[15] * d_2 + p[16] * p[8]
    return t_1 * scale, t_2 * scale


@numba.njit(cache=True, nogil=True)
def _ideal_of(row: Floats, column: Floats, p: Floats) -> tuple[Floats, Floats]:
    rho, azimuth = np.empty(len(row)), np.empty(len(row))
    for i in range(len(row)):
        y, x = _ideal(row[i], column[i], p)
        rho[i] = math.sqrt(x * x + y * y)
        azimuth[i] = math.atan2(y, x)
    return rho, azimuth


@numba.njit(cache=True, nogil=True)
def ideal_profiles(
    image: NDArray[np.float32],
    good: NDArray[np.bool_],
    p: Floats,
    n_sectors: int,
    n_bins: int,
    bin_px: float,
    wanted: NDArray[np.bool_],
) -> tuple[Floats, Floats, Floats]:
    """Profiles along the ideal radius, sector by sector, straight from the pixels.

    Returns (n_sectors, n_bins) each: sum of counts, number of pixels, sum of radii in px. Sectors
    begin at -180 degrees. Only bins that are `wanted` are filled.
    """
    total = np.zeros((n_sectors, n_bins))
    number = np.zeros((n_sectors, n_bins))
    radii = np.zeros((n_sectors, n_bins))
    per_radian = n_sectors / (2 * math.pi)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            if not good[i, j]:
                continue
            y, x = _ideal(i, j, p)
            rho = math.sqrt(x * x + y * y)
            k = int(rho / bin_px)
            if k >= n_bins or not wanted[k]:
                continue
            s = int((math.atan2(y, x) + math.pi) * per_radian) % n_sectors
            total[s, k] += image[i, j]
            number[s, k] += 1.0
            radii[s, k] += rho
    return total, number, radii
