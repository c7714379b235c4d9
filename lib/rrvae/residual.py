"""What a model cannot explain, per scan point, and how significant that is: defects.

The residual of a pattern, turned upright and summed up by circular harmonics on a few rings, and
its content are compared with those of the scan itself: the squared Mahalanobis distance to their
robust mean and covariance. Distances of neighbouring points are added with Gaussian weights of
the size of a defect as the probe sees it. The sum's distribution over the scan, which holds few
defects, is taken from the scan: median and spread of its cube root, which is near to normal
(Wilson & Hilferty, 1931, Proc. Natl Acad. Sci. 17, 684), and its p-value is that of the normal.

A missing atom leaves patterns that are not new, only elsewhere: so the leading content, less the
part of its map that repeats with the lattice, is added up and compared in the same way. The
p-value of a defect counts both maps and the places that are independent (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, maximum_position
from scipy.special import log_ndtr

from .lattice import aperiodic
from .patterns import Patterns
from .train import Ensemble

Floats = NDArray[np.float64]

RADIUS_A = 0.7  # of the Gaussian weight (its sigma): a bond is 1.4 Å
FOUND_SIGMA = 5.0
WHOLE = 0.98  # part of the Gaussian's weight below which a point lies at the edge
LEAST_LIKE = 50  # points whose spread is known
RINGS, HIGHEST = 5, 4  # rings and order of the harmonics that a residual is summed up by
ORDERS = np.repeat(np.arange(HIGHEST + 1), RINGS)


@dataclass(frozen=True)
class Defect:
    """A place of the scan that differs from the rest.

    Attributes
    ----------
    scan_row, scan_column : where the significance is greatest.
    sigma : standard deviations there.
    log10_p : logarithm of the probability that chance gives as much anywhere in the map.
    points : scan points of the connected region.
    """

    scan_row: int
    scan_column: int
    sigma: float
    log10_p: float
    points: int


@dataclass(frozen=True)
class Residual:
    """Maps of what is not explained.

    Attributes
    ----------
    chi2 : (scan rows, scan columns) squared residual over the noise, per degree of freedom; NaN
        where there is no pattern.
    sigma : the same shape; significance in standard deviations, the greater of that of the
        residual and that of the leading content less its periodic part.
    p : the same shape; probability of as much by chance at this point.
    defects : regions above `FOUND_SIGMA`, the most significant first.
    """

    chi2: Floats
    sigma: Floats
    p: Floats
    defects: tuple[Defect, ...]


def residual(
    ensemble: Ensemble,
    patterns: Patterns,
    seed: int = 0,
    scan_step_A: tuple[float, float] | None = None,
) -> Residual:
    """Maps of the residual of one of the seeds.

    Parameters
    ----------
    seed : which of the ensemble's.
    scan_step_A : (row, column) distance of scan points; one point is `RADIUS_A` if unknown.
    """
    latents = ensemble.encode(patterns)
    one = ensemble.seed(seed)
    features = _ring_harmonics(one)
    chi2 = np.empty(len(patterns))
    parts = []
    for start in range(0, len(patterns), 1024):
        part = slice(start, start + 1024)
        shown = one.decode(latents.part(seed, part))[0]
        off = one.model.whitened(patterns.data[part]) - shown
        chi2[part] = (off**2).mean(1)
        seen = off @ features.real + 1j * (off @ features.imag)
        seen *= np.exp(1j * np.multiply.outer(latents.angle_rad[seed, part], ORDERS))
        parts.append(np.concatenate([seen.real, seen.imag[:, ORDERS > 0]], axis=1))
    distance = _mahalanobis(np.concatenate([np.concatenate(parts), latents.content[seed]], axis=1))
    width = (1.0, 1.0) if scan_step_A is None else tuple(RADIUS_A / s for s in scan_step_A)
    sigma, independent = _significance(patterns.map_of(distance), width)
    leading = latents.leading_content[seed]
    sigma = np.fmax(sigma, _deviation(aperiodic(patterns.map_of(leading)), width))
    log_p = log_ndtr(-sigma) + np.log(2)  # of two maps the one that is farther off
    return Residual(
        patterns.map_of(chi2),
        sigma,
        np.exp(np.minimum(log_p, 0.0)),
        _defects(sigma, independent, width),
    )


def _ring_harmonics(one: Ensemble) -> NDArray[np.complex64]:
    """(P, features) that give a whitened pattern's circular harmonics on rings."""
    pixels = one.model.pixels
    row, column = np.unravel_index(pixels, one.model.shape)
    y, x = row - one.model.centre_px[0], column - one.model.centre_px[1]
    radius = np.hypot(y, x)
    # rings of equal area
    ring = np.minimum((radius / (radius.max() + 1e-9)) ** 2 * RINGS, RINGS - 1).astype(int)
    inside = (ring[:, None] == np.arange(RINGS)) / np.sqrt(np.bincount(ring, minlength=RINGS))
    turn = np.exp(1j * np.multiply.outer(np.arctan2(x, y), np.arange(HIGHEST + 1)))
    return (turn[:, :, None] * inside[:, None]).reshape(len(pixels), -1).astype(np.complex64)


def _mahalanobis(left: NDArray[np.floating]) -> Floats:
    """(n,) squared distance of residuals (n, D) from the mean of the most, 3 times trimmed."""
    left = left.astype(float)
    kept = np.ones(len(left), bool)
    distance = np.zeros(len(left))
    for _ in range(3):
        mean = left[kept].mean(0)
        values, vectors = np.linalg.eigh(np.cov((left[kept] - mean).T).reshape(left.shape[1], -1))
        firm = values > 1e-9 * values[-1]
        distance = (((left - mean) @ vectors[:, firm] / np.sqrt(values[firm])) ** 2).sum(1)
        kept = distance <= np.quantile(distance, 0.95)
    return distance


def _significance(distance: Floats, width: tuple[float, ...]) -> tuple[Floats, float]:
    """Standard deviations of locally added distances, and how many places are independent.

    At the edge of the scan fewer points are added and their mean scatters more, by `wider`.
    """
    there = np.isfinite(distance)
    weight = gaussian_filter(there.astype(float), width, mode="constant")
    added = gaussian_filter(np.where(there, distance, 0.0), width, mode="constant")
    mean = np.where(there, added / np.maximum(weight, 1e-6), np.nan)
    # of independent values the mean's spread goes with the root of the squared weights' sum
    squares = gaussian_filter(there.astype(float), _narrower(width), mode="constant")
    wider = np.sqrt(np.maximum(squares, 1e-6)) / np.maximum(weight, 1e-6)
    root = np.cbrt(mean)
    middle = np.median(root[there])
    root = middle + (root - middle) / wider
    values = root[there]
    # half the map may be far from normal above; the lower half tells the spread of pristine points
    low, lower = np.quantile(values, [0.1587, 0.0228])
    spread = max(middle - low, (middle - lower) / 2, 1e-12)
    area = max(4 * np.pi * width[0] * width[1], 1.0)
    return (root - middle) / spread, float(max(there.sum() / area, 1.0))


def _deviation(values: Floats, width: tuple[float, ...]) -> Floats:
    """Standard deviations of a locally added map about its median, either way.

    What is left of the lattice averages out inside the scan and less so at its edge: points that
    miss neighbours are held against the spread of their like, if that is greater.
    """
    there = np.isfinite(values)
    added = gaussian_filter(np.where(there, values, 0.0), width, mode="constant")
    squares = gaussian_filter(there.astype(float), _narrower(width), mode="constant")
    even = np.where(there, added / np.sqrt(np.maximum(squares, 1e-6)), np.nan)
    off = np.abs(even - np.nanmedian(even))
    spread = np.full(values.shape, max(float(1.4826 * np.nanmedian(off)), 1e-12))
    edge = there & (gaussian_filter(there.astype(float), width, mode="constant") < WHOLE)
    if np.count_nonzero(edge) >= LEAST_LIKE:
        spread[edge] = np.maximum(spread[edge], 1.4826 * np.median(off[edge]))
    sigma: Floats = off / spread
    return sigma


def _narrower(width: tuple[float, ...]) -> tuple[float, ...]:
    """Of the Gaussian that the square of a Gaussian of these widths is."""
    return tuple(w / np.sqrt(2) for w in width)


def _defects(sigma: Floats, independent: float, width: tuple[float, ...]) -> tuple[Defect, ...]:
    regions, count = label(np.nan_to_num(sigma, nan=-np.inf) > FOUND_SIGMA)
    found = []
    for number in range(1, count + 1):
        row, column = maximum_position(sigma, regions, number)
        best = float(sigma[row, column])
        log10_p = min((log_ndtr(-best) + np.log(2 * independent)) / np.log(10), 0.0)
        size = int((regions == number).sum())
        found.append(Defect(int(row), int(column), best, float(log10_p), size))
    return tuple(sorted(found, key=lambda one: -one.sigma))
