"""Drawing a frame: expected electrons of spots and background, then the detector's reading."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from ..geometry import Geometry
from .conditions import Background, Beam, Detector

Floats = NDArray[np.float64]

# A spot's tail is tapered to nothing at this many of its own widths.
TAIL_REACH = 4.0

# Tails of fewer electrons than this are drawn with the core.
FAINTEST_TAIL_E = 0.05

# Sampling of the radial background, px.
RADIAL_STEP_PX = 0.25


@numba.njit(cache=True)
def _tail(r2: float) -> float:
    """Moffat function of the squared radius in its own widths, tapered."""
    value = max(0.0, 1.0 - r2 / TAIL_REACH**2) / (1.0 + r2)
    return value * value


@numba.njit(cache=True)
def _stamp(
    image: Floats,
    row: Floats,
    column: Floats,
    electrons: Floats,
    sigma: float,
    tail_fraction: float,
    tail_px: float,
    faintest_tail_e: float,
) -> None:
    rows, columns = image.shape
    core_half = math.ceil(5.0 * sigma + 1.0)
    tail_half = max(core_half, math.ceil(TAIL_REACH * tail_px + 1.0))
    across, down = np.zeros(2 * tail_half + 1), np.zeros(2 * tail_half + 1)
    root = 1.0 / (sigma * math.sqrt(2.0))
    tail_total = 0.0
    for i in range(-tail_half, tail_half + 1):
        for j in range(-tail_half, tail_half + 1):
            tail_total += _tail((i * i + j * j) / tail_px**2)
    for n in range(len(row)):
        in_tail = electrons[n] * tail_fraction
        if in_tail < faintest_tail_e:
            in_tail = 0.0
        in_core = electrons[n] - in_tail
        half = tail_half if in_tail > 0 else core_half
        top, left = round(row[n]) - half, round(column[n]) - half
        width = 2 * half + 1
        for i in range(width):  # the core, integrated over the pixels
            y, x = top + i - row[n], left + i - column[n]
            down[i] = 0.5 * (math.erf((y + 0.5) * root) - math.erf((y - 0.5) * root))
            across[i] = 0.5 * (math.erf((x + 0.5) * root) - math.erf((x - 0.5) * root))
        for i in range(max(0, -top), min(width, rows - top)):
            y = top + i - row[n]
            for j in range(max(0, -left), min(width, columns - left)):
                value = in_core * down[i] * across[j]
                if in_tail > 0:
                    x = left + j - column[n]
                    value += in_tail * _tail((x * x + y * y) / tail_px**2) / tail_total
                image[top + i, left + j] += value


def add_spots(
    image: Floats,
    row: Floats,
    column: Floats,
    electrons: Floats,
    beam: Beam,
    faintest_tail_e: float = FAINTEST_TAIL_E,
) -> None:
    """Add spots to `image` (rows, columns), in place; all other arrays (n,).

    Every electron of a spot that lies within the detector arrives on it. Tails of fewer than
    `faintest_tail_e` electrons are drawn with the core.
    """
    sigma = beam.fwhm_px / (2 * math.sqrt(2 * math.log(2)))
    _stamp(image, row, column, electrons, sigma, beam.tail_fraction, beam.tail_px, faintest_tail_e)


def radial_background(background: Background, geometry: Geometry, longest_px: float) -> Floats:
    """Electrons per pixel and 1e6 beam electrons at radii 0, `RADIAL_STEP_PX`, ... in px."""
    radius = np.arange(0.0, longest_px + 2 * RADIAL_STEP_PX, RADIAL_STEP_PX)
    angle = np.arctan(radius * geometry.pixel_size_mm / geometry.distance_mm)
    q = 2 * np.sin(angle / 2) / geometry.wavelength_A
    profile = np.full(len(radius), background.uniform, float)
    for height, decay_px in background.halo:
        profile += height * np.exp(-radius / decay_px)
    for height, d_A, sigma_per_A in background.rings:
        profile += height * np.exp(-0.5 * ((q - 1 / d_A) / sigma_per_A) ** 2)
    return profile


@numba.njit(cache=True)
def paint_radial(image: Floats, profile: Floats, centre: Floats, undistort: Floats) -> None:
    """Fill `image` with a radial `profile` about `centre` (row, column).

    `undistort` (2, 2) takes observed (x, y) to ideal ones, so that circles become ellipses.
    """
    for i in range(image.shape[0]):
        y = i - centre[0]
        for j in range(image.shape[1]):
            x = j - centre[1]
            u = undistort[0, 0] * x + undistort[0, 1] * y
            v = undistort[1, 0] * x + undistort[1, 1] * y
            place = math.sqrt(u * u + v * v) / RADIAL_STEP_PX
            low = min(int(place), len(profile) - 2)
            image[i, j] = profile[low] + (place - low) * (profile[low + 1] - profile[low])


def read_out(
    expected_e: Floats, detector: Detector, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Counts (rows, columns) of a frame in which `expected_e` electrons were due per pixel."""
    electrons = rng.poisson(expected_e)
    if detector.zingers_per_frame > 0:
        number = rng.poisson(detector.zingers_per_frame)
        place = rng.integers(0, electrons.size, number)
        electrons.ravel()[place] += rng.integers(20, 500, number)
    counts = float(detector.gain) * electrons
    if detector.wide_cross:
        for axis in (0, 1):
            lines = np.moveaxis(counts, axis, 0)
            middle = lines.shape[0] // 2
            for wide in (slice(middle - 3, middle), slice(middle, middle + 3)):
                lines[wide] = lines[wide].mean(axis=0)
    counts += detector.pedestal
    if detector.read_noise > 0:
        counts += rng.normal(0.0, detector.read_noise, counts.shape)
    return np.clip(np.rint(counts), 0, detector.saturation).astype(np.uint16)
