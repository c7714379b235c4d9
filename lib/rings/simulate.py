"""Images of powder rings from a physical model, to test a calibration on.

Every pixel is followed backwards: through the distortion of the lenses, then, as a point of a
tilted plane in space, to its scattering angle, where the powder shines so much. The pixel is
integrated over its area by sub-pixels, blurred by the camera's point spread, shadowed by a beam
stop, and counted. Nothing of the fit is used here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ..formats.image import DiffractionImage
from .calibrant import Calibrant

Floats = NDArray[np.float64]

# Steps of the azimuth in which the brightness of a ring is tabulated.
_AZIMUTHS = 7200
# Beyond so many of its widths a ring is dark.
_REACH = 6.0


@dataclass(frozen=True)
class RingConditions:
    """An instrument, a powder and a dose.

    Attributes
    ----------
    shape : (rows, columns).
    centre_px : (row, column) of the direct beam; None: near the middle, drawn with the seed.
    wavelength_A, pixel_size_mm, distance_mm : the latter along the detector's normal.
    ratio, azimuth_deg : ellipse of the lenses.
    three_fold_per_px, radial_per_mm2, rot1_rad, rot2_rad : as in `RingCalibration`.
    peak : counts per pixel on the strongest ring.
    background : counts per pixel of diffuse scattering, relative to `peak`, near the centre.
    width_px : standard deviation of a ring along its radius, as by small grains: shells in
        reciprocal space that are as thick everywhere, cut by the Ewald sphere.
    spread_px : standard deviation of the camera's point spread.
    grains : spots on each ring; 0: smooth rings.
    texture : amplitude of a two-fold modulation of brightness along every ring.
    beam : counts per pixel of the direct beam, relative to `peak`; its radius is `beam_px`.
    stop_px, shaft_px : radius of the beam stop and width of its holder; 0: none.
    shaft_deg : direction of the holder from the beam.
    stop_offset_px : the stop's centre less the beam's.
    gap_deg : azimuths (from, to) where no electrons arrive.
    saturation : counts at which a pixel is full.
    hot, dead : how many pixels always say something, nothing.
    read_noise : standard deviation, counts.
    offset : added to all counts, as a dark level.
    margin_px : edge without data (zeros).
    stated_error : part by which the camera length stated by the file is wrong.
    states : whether the file states a camera length at all.
    """

    shape: tuple[int, int] = (2048, 2048)
    centre_px: tuple[float, float] | None = None
    wavelength_A: float = 0.025079340
    pixel_size_mm: float = 0.03
    distance_mm: float = 700.0
    ratio: float = 1.024
    azimuth_deg: float = 83.0
    three_fold_per_px: tuple[float, float] = (0.0, 0.0)
    radial_per_mm2: float = 0.0
    rot1_rad: float = 0.0
    rot2_rad: float = 0.0
    peak: float = 300.0
    background: float = 0.5
    width_px: float = 3.0
    spread_px: float = 0.7
    grains: int = 0
    texture: float = 0.0
    beam: float = 100.0
    beam_px: float = 5.0
    stop_px: float = 60.0
    shaft_px: float = 44.0
    shaft_deg: float = 200.0
    stop_offset_px: tuple[float, float] = (6.0, -4.0)
    gap_deg: tuple[float, float] = (0.0, 0.0)
    saturation: float = 60000.0
    hot: int = 50
    dead: int = 50
    read_noise: float = 0.0
    offset: float = 0.0
    margin_px: int = 0
    stated_error: float = 0.05
    states: bool = True


def simulate_rings(
    calibrant: Calibrant, conditions: RingConditions, seed: int
) -> tuple[DiffractionImage, tuple[float, float]]:
    """An image under `conditions` and the true beam centre (row, column) in it."""
    rng = np.random.default_rng(seed)
    c = conditions
    middle = (np.asarray(c.shape) - 1) / 2
    drawn = middle + rng.uniform(-0.02, 0.02, 2) * c.shape
    centre = np.asarray(c.centre_px if c.centre_px is not None else drawn, float)
    sine = c.wavelength_A / (2 * calibrant.d_A)
    exists = sine < 0.7
    radius = c.distance_mm / c.pixel_size_mm * np.tan(2 * np.arcsin(sine[exists]))
    # the whole of a ring is spread over its circumference
    height = calibrant.intensity[exists] / radius
    height = c.peak * height / height.max()
    brightness = _along_rings(len(radius), c, rng)
    expected = _render(
        c.shape[0], c.shape[1], 2, centre[0], centre[1], c.pixel_size_mm, c.distance_mm,
        c.ratio, math.radians(c.azimuth_deg), np.asarray(c.three_fold_per_px, float),
        c.radial_per_mm2, _plane(c.rot1_rad, c.rot2_rad), radius, height, brightness,
        c.width_px, c.peak * c.background, c.peak * c.beam, c.beam_px,
    )  # fmt: skip
    from scipy.ndimage import gaussian_filter

    if c.spread_px > 0:
        expected = gaussian_filter(expected, c.spread_px, mode="nearest")
    expected *= _shadow(c, centre)
    counts = rng.poisson(expected).astype(float) + c.offset
    if c.read_noise > 0:
        counts += rng.normal(0, c.read_noise, c.shape)
    sick = rng.choice(counts.size, c.hot + c.dead, replace=False)
    counts.flat[sick[: c.hot]] = rng.uniform(5, 200, c.hot) * (c.peak + 20)
    counts.flat[sick[c.hot :]] = 0.0
    counts = np.minimum(counts, c.saturation)
    if c.margin_px:
        edge = np.ones(c.shape, bool)
        edge[c.margin_px : -c.margin_px, c.margin_px : -c.margin_px] = False
        counts[edge] = 0.0
    whole = c.read_noise == 0
    image = DiffractionImage(
        f"rings-{calibrant.name}-{seed}",
        counts.astype(np.uint32) if whole else counts.astype(np.float32),
        wavelength_A=c.wavelength_A,
        pixel_size_mm=c.pixel_size_mm,
        camera_length_mm=c.distance_mm * (1 + c.stated_error) if c.states else None,
        saturation=c.saturation,
    )
    return image, (float(centre[0]), float(centre[1]))


def _along_rings(n: int, c: RingConditions, rng: np.random.Generator) -> NDArray[np.float32]:
    """Brightness along each of `n` rings, mean 1: texture, and grains of uneven size."""
    azimuth = np.arange(_AZIMUTHS) * 2 * np.pi / _AZIMUTHS
    table = np.ones((n, _AZIMUTHS)) * (1 + c.texture * np.cos(2 * (azimuth - 0.7)))
    if c.grains:
        wide = np.exp(-(np.minimum(azimuth, 2 * np.pi - azimuth) ** 2) / (2 * 0.006**2))
        for ring in table:
            spots = np.zeros(_AZIMUTHS)
            where = rng.integers(0, _AZIMUTHS, c.grains)
            np.add.at(spots, where, rng.lognormal(0.0, 1.0, c.grains))
            spots = np.fft.irfft(np.fft.rfft(spots) * np.fft.rfft(wide), _AZIMUTHS)
            ring *= np.maximum(spots, 0) / spots.mean()
    return table.astype(np.float32)


def _plane(rot1: float, rot2: float) -> Floats:
    """Columns: the detector's row axis, column axis and normal in the laboratory (pyFAI)."""
    about_1 = np.array(
        [
            [1, 0, 0],
            [0, math.cos(rot1), math.sin(rot1)],
            [0, -math.sin(rot1), math.cos(rot1)],
        ]
    )
    about_2 = np.array(
        [
            [math.cos(rot2), 0, -math.sin(rot2)],
            [0, 1, 0],
            [math.sin(rot2), 0, math.cos(rot2)],
        ]
    )
    return np.asarray(about_2 @ about_1, float)


def _shadow(c: RingConditions, centre: Floats) -> NDArray[np.float64]:
    """What part of the electrons passes the beam stop, and the gap."""
    row = np.arange(c.shape[0])[:, None] - centre[0]
    column = np.arange(c.shape[1])[None, :] - centre[1]
    passes = np.ones(c.shape)
    if c.stop_px or c.shaft_px:
        y, x = row - c.stop_offset_px[0], column - c.stop_offset_px[1]
        along_y, along_x = math.sin(math.radians(c.shaft_deg)), math.cos(math.radians(c.shaft_deg))
        along, across = x * along_x + y * along_y, np.abs(y * along_x - x * along_y)
        depth = c.stop_px - np.hypot(x, y)
        depth = np.maximum(depth, np.where(along > 0, c.shaft_px / 2 - across, -np.inf))
        passes *= 0.002 + 0.998 / (1 + np.exp(np.clip(depth / 0.7, -50, 50)))
    first, last = c.gap_deg
    if last > first:
        azimuth = (np.degrees(np.arctan2(row, column)) - first) % 360
        passes[azimuth < last - first] = 0.0
    return passes


@numba.njit(cache=True, nogil=True)
def _render(
    rows: int,
    columns: int,
    parts: int,
    row_0: float,
    column_0: float,
    pixel_mm: float,
    distance_mm: float,
    ratio: float,
    azimuth: float,
    three_fold: Floats,
    radial: float,
    plane: Floats,
    radius: Floats,
    height: Floats,
    brightness: NDArray[np.float32],
    width: float,
    diffuse: float,
    beam: float,
    beam_px: float,
) -> Floats:
    """Expected counts (rows, columns) without stop, noise and point spread."""
    image = np.zeros((rows, columns))
    root = math.sqrt(ratio)
    cosine, sine = math.cos(azimuth), math.sin(azimuth)
    # where the beam meets the plane, from its foot: solve plane (a, b, L) = (0, 0, t)
    det = plane[0, 0] * plane[1, 1] - plane[0, 1] * plane[1, 0]
    to_1 = -(plane[0, 2] * plane[1, 1] - plane[0, 1] * plane[1, 2]) / det * distance_mm
    to_2 = -(plane[0, 0] * plane[1, 2] - plane[0, 2] * plane[1, 0]) / det * distance_mm
    steps = brightness.shape[1]
    for row in range(rows):
        first = 0
        for column in range(columns):
            total = 0.0
            for part in range(parts * parts):
                y = row + (part // parts + 0.5) / parts - 0.5 - row_0
                x = column + (part % parts + 0.5) / parts - 0.5 - column_0
                major = (x * cosine + y * sine) / root
                minor = (y * cosine - x * sine) * root
                x, y = major * cosine - minor * sine, major * sine + minor * cosine
                observed = math.hypot(x, y)
                a = math.atan2(y, x)
                wave = three_fold[0] * math.cos(3 * a) + three_fold[1] * math.sin(3 * a)
                before = observed
                for _ in range(6):  # r = before + wave before^2
                    before = observed - wave * before * before
                ideal = before * pixel_mm
                for _ in range(6):
                    ideal = before * pixel_mm - radial * ideal**3
                if observed > 0:
                    x, y = x * ideal / observed, y * ideal / observed
                d_1, d_2 = y + to_1, x + to_2
                t_1 = plane[0, 0] * d_1 + plane[0, 1] * d_2 + plane[0, 2] * distance_mm
                t_2 = plane[1, 0] * d_1 + plane[1, 1] * d_2 + plane[1, 2] * distance_mm
                t_3 = plane[2, 0] * d_1 + plane[2, 1] * d_2 + plane[2, 2] * distance_mm
                r = math.hypot(t_1, t_2) / t_3 * distance_mm / pixel_mm
                chi = math.atan2(t_1, t_2)
                step = int(chi / (2 * math.pi) * steps) % steps
                scale = radius[0]
                total += diffuse * (0.6 * math.exp(-r / (0.7 * scale)) + 0.1)
                total += 3 * diffuse / (1 + (r / (0.12 * scale)) ** 2) ** 1.5
                total += beam / (1 + math.exp(min(50.0, (r - beam_px) / 0.6)))
                while first > 0 and radius[first - 1] > r - _REACH * width:
                    first -= 1
                while first < len(radius) and radius[first] < r - _REACH * width:
                    first += 1
                ring = first
                while ring < len(radius) and radius[ring] < r + _REACH * width:
                    off = (r - radius[ring]) / width
                    shell = radius[ring] / r * math.exp(-off * off / 2)
                    total += height[ring] * brightness[ring, step] * shell
                    ring += 1
            image[row, column] = total / (parts * parts)
    return image
