"""Rocking curves: their width, and the intensity of a reflection from its slices.

The slices of a reflection follow an exposure-averaged Gaussian in the excitation error of width
``sigma^2 = size^2 + (eta |g|)^2``; its intensity, its offset and its width are fitted together,
the last two held by priors learned from the strong reflections, so that a reflection cut by the
end of the series or by a blank frame carries the uncertainty of what was not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

# Real rocking curves follow a Gaussian to about this part of their top.
SHAPE_ERROR = 0.15


@dataclass(frozen=True)
class RockingCurve:
    """Width of the rocking curve: sigma^2 = size^2 + (eta |g|)^2, in the excitation error.

    Attributes
    ----------
    size_per_A : part that does not grow with |g| (thickness, beam divergence).
    eta_rad : mosaic spread.
    """

    size_per_A: float = 2e-3
    eta_rad: float = 2e-3

    def sigma(self, length: Floats) -> Floats:
        """(n,) standard deviation in 1/Å at |g| = length."""
        return np.hypot(self.size_per_A, self.eta_rad * np.asarray(length, float))

    def swept(self, low: Floats, high: Floats, length: Floats) -> Floats:
        """(n,) part of the curve between two excitation errors."""
        sigma = self.sigma(length)
        part: Floats = ndtr(high / sigma) - ndtr(low / sigma)
        return part

    @classmethod
    def fit(cls, length: Floats, sigma: Floats, weight: Floats) -> RockingCurve | None:
        """Robust fit to observed widths, or None with fewer than 10."""
        good = np.isfinite(sigma) & (sigma > 0)
        if good.sum() < 10:
            return None
        g2, s2, w = length[good] ** 2, sigma[good] ** 2, weight[good]
        size2, eta2 = float(np.median(s2)), 0.0
        keep = np.ones(len(g2), bool)
        for _ in range(5):
            design = np.stack([np.ones(keep.sum()), g2[keep]], axis=1)
            # relative errors: a width is known to a fraction of itself
            expected = np.maximum(size2 + eta2 * g2[keep], 1e-12)
            v = np.sqrt(w[keep]) / expected
            size2, eta2 = np.linalg.lstsq(design * v[:, None], s2[keep] * v, rcond=None)[0]
            if eta2 < 0:
                size2, eta2 = float(np.average(s2[keep], weights=v**2)), 0.0
            elif size2 < 0:
                size2, eta2 = 0.0, float(np.average(s2[keep] / g2[keep], weights=w[keep]))
            ratio = s2 / np.maximum(size2 + eta2 * g2, 1e-12)
            keep = (ratio > 0.15) & (ratio < 4.0)
            if keep.sum() < 10:
                return None
        return cls(float(np.sqrt(max(size2, 1e-10))), float(np.sqrt(max(eta2, 0.0))))


@numba.njit(cache=True, nogil=True)
def _phi(x: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@numba.njit(cache=True, nogil=True)
def _density(x: float) -> float:
    """Standard normal density."""
    return 0.3989422804014327 * math.exp(-0.5 * x * x)


@numba.njit(cache=True, nogil=True)
def _shape(low: float, high: float, sigma: float, shift: float) -> float:
    """Fraction of a Gaussian rocking curve swept during an exposure."""
    return _phi((high - shift) / sigma) - _phi((low - shift) / sigma)


@numba.njit(cache=True, nogil=True)
def _inverse(h: Floats, ridge: float) -> Floats:
    """Inverse of a symmetric positive (3, 3), by cofactors of its correlations."""
    d0, d1, d2 = np.sqrt(h[0, 0] + 1e-300), np.sqrt(h[1, 1]), np.sqrt(h[2, 2])
    a, b, c = h[0, 1] / (d0 * d1), h[0, 2] / (d0 * d2), h[1, 2] / (d1 * d2)
    u = 1.0 + ridge
    i00, i11, i22 = u * u - c * c, u * u - b * b, u * u - a * a
    i01, i02, i12 = b * c - a * u, a * c - b * u, a * b - c * u
    det = u * i00 + a * i01 + b * i02
    out = np.empty((3, 3))
    out[0, 0], out[1, 1], out[2, 2] = i00 / (d0 * d0), i11 / (d1 * d1), i22 / (d2 * d2)
    out[0, 1] = out[1, 0] = i01 / (d0 * d1)
    out[0, 2] = out[2, 0] = i02 / (d0 * d2)
    out[1, 2] = out[2, 1] = i12 / (d1 * d2)
    return out / det


@numba.njit(cache=True, nogil=True)
def fit_rocking(
    start: NDArray[np.int64],
    low: Floats,
    high: Floats,
    value: Floats,
    variance: Floats,
    sigma: Floats,
    prior_shift: float,
    prior_width: float,
    free_above: float,
    out: Floats,
) -> None:
    """Intensity of each reflection from its slices.

    Fits ``I_f = I p_f(shift, width)`` with Gaussian priors on shift (sigma
    `prior_shift`, 1/Å) and ln width (`prior_width`); both stay at zero where the intensity is
    below `free_above` standard deviations or the curve is cut, but their uncertainty enters
    the variance.

    out (n, 10): I, variance, shift, ln width, recorded fraction, reduced chi-square, slices
    used, sum of slice intensities, variance of the shift, and the reduced
    chi-square when each slice may also be wrong by `SHAPE_ERROR` of the curve's top.
    """
    for i in range(len(start) - 1):
        a, b = start[i], start[i + 1]
        s0 = sigma[i]
        shift, width = 0.0, 0.0
        used = 0
        for f in range(a, b):
            if value[f] == value[f] and variance[f] > 0:
                used += 1
        out[i, :] = np.nan
        out[i, 6] = used
        if used == 0:
            continue
        # start: linear fit of the intensity with the expected shape
        top, bottom = 0.0, 0.0
        for f in range(a, b):
            if value[f] == value[f] and variance[f] > 0:
                p = _shape(low[f], high[f], s0, 0.0)
                top += p * value[f] / variance[f]
                bottom += p * p / variance[f]
        if bottom <= 1e-30:
            continue
        intensity = top / bottom
        covered = 0.0
        for f in range(a, b):
            if value[f] == value[f] and variance[f] > 0:
                covered += _shape(low[f], high[f], s0, 0.0)
        # a curve seen in part cannot tell its own centre: there the prior mean is kept
        strong = intensity > free_above / np.sqrt(bottom) and used >= 2 and covered > 0.9
        h = np.zeros((3, 3))
        for _ in range(8 if strong else 1):
            h[:] = 0.0
            g = np.zeros(3)
            sg = s0 * np.exp(width)
            for f in range(a, b):
                if not (value[f] == value[f] and variance[f] > 0):
                    continue
                z0, z1 = (low[f] - shift) / sg, (high[f] - shift) / sg
                g0, g1 = _density(z0), _density(z1)
                p = _phi(z1) - _phi(z0)
                dps = (g0 - g1) / sg
                dpw = z0 * g0 - z1 * g1
                w = 1.0 / variance[f]
                residual = value[f] - intensity * p
                j0, j1, j2 = p, intensity * dps, intensity * dpw
                h[0, 0] += w * j0 * j0
                h[0, 1] += w * j0 * j1
                h[0, 2] += w * j0 * j2
                h[1, 1] += w * j1 * j1
                h[1, 2] += w * j1 * j2
                h[2, 2] += w * j2 * j2
                g[0] += w * j0 * residual
                g[1] += w * j1 * residual
                g[2] += w * j2 * residual
            h[1, 0], h[2, 0], h[2, 1] = h[0, 1], h[0, 2], h[1, 2]
            h[1, 1] += 1.0 / prior_shift**2
            h[2, 2] += 1.0 / prior_width**2
            g[1] -= shift / prior_shift**2
            g[2] -= width / prior_width**2
            if h[0, 0] <= 0.0:
                break
            if not strong:
                break
            step = _inverse(h, 1e-9) @ g
            limit = max(abs(step[1]) / (1.5 * prior_shift), abs(step[2]) / (1.5 * prior_width))
            if limit > 1.0:
                step /= limit
            intensity += step[0]
            shift += step[1]
            width += step[2]
            if abs(step[1]) < 1e-3 * prior_shift and abs(step[2]) < 1e-3 * prior_width:
                break
        # the variance with shift and width marginalised
        covariance = _inverse(h, 1e-12)
        sg = s0 * np.exp(width)
        chi2, tolerant, fraction, total = 0.0, 0.0, 0.0, 0.0
        top = 0.0
        for f in range(a, b):
            top = max(top, intensity * _shape(low[f], high[f], sg, shift))
        for f in range(a, b):
            p = _shape(low[f], high[f], sg, shift)
            if value[f] == value[f] and variance[f] > 0:
                fraction += p
                total += value[f]
                squared = (value[f] - intensity * p) ** 2
                chi2 += squared / variance[f]
                tolerant += squared / (variance[f] + (SHAPE_ERROR * top) ** 2)
        out[i, 0] = intensity
        out[i, 1] = covariance[0, 0]
        out[i, 2] = shift
        out[i, 3] = width
        out[i, 4] = fraction
        out[i, 5] = chi2 / max(used - 1, 1)
        out[i, 7] = total
        out[i, 8] = covariance[1, 1]
        out[i, 9] = tolerant / max(used - 1, 1)
