"""What needs no network: two linear measures of rotation, always reported beside one.

On simulated graphene both follow the centre of mass more closely than an autoencoder does, so
agreement with the centre of mass tells that a network works, not that it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .denoise import components
from .patterns import Floats32, Patterns

Floats = NDArray[np.float64]

BLOCK = 2048  # patterns at a time


@dataclass(frozen=True)
class Baseline:
    """A magnitude and an angle of every pattern.

    Attributes
    ----------
    name : what it is.
    modulus : (n,) float64.
    angle_rad : (n,) float64; its offset and sense of rotation are arbitrary for components.
    explained : part of the patterns' variance, in units of the noise, that it holds.
    """

    name: str
    modulus: Floats
    angle_rad: Floats
    explained: float


def rotational_pair(patterns: Patterns) -> Baseline:
    """Modulus and angle of the two leading principal components, which rotation mixes."""
    basis = components(patterns, 2)
    scores = np.empty((len(patterns), len(basis.eigenvalues)))
    power = 0.0
    for first, white in _whitened(patterns, basis.pixels, basis.sigma):
        scores[first : first + len(white)] = white @ basis.vectors.T
        power += float((white.astype(float) ** 2).sum())
    if scores.shape[1] < 2:
        raise ValueError(f"patterns: found {len(patterns)}, expected at least 2")
    explained = float((scores**2).sum() / power) if power > 0 else 0.0
    return Baseline(
        "leading pair of principal components",
        np.hypot(scores[:, 0], scores[:, 1]),
        np.arctan2(scores[:, 0], scores[:, 1]),
        explained,
    )


def first_harmonic(patterns: Patterns, ring_px: float = 1.0) -> Baseline:
    """The leading first-order (m = 1) circular harmonic.

    The first angular Fourier coefficient of each ring about the centre, weighted by its noise;
    over all patterns these have a leading (complex) principal component, whose coefficient is
    the result. Its angle is from columns towards rows, up to a constant.
    """
    row, column = (
        np.arange(n) - c for n, c in zip(patterns.shape, patterns.centre_px, strict=True)
    )
    y, x = (a.ravel() for a in np.broadcast_arrays(row[:, None], column[None]))
    radius = np.hypot(y, x)
    reach = min(
        *patterns.centre_px,
        *(n - 1 - c for n, c in zip(patterns.shape, patterns.centre_px, strict=True)),
    )
    pixels = np.flatnonzero(~patterns.mask.ravel() & (radius <= reach + 0.5) & (radius > 0))
    ring = (radius[pixels] / ring_px).astype(int)
    variance = patterns.variance.reshape(patterns.variance.shape[0], -1)[:, pixels].mean(0)
    count = int(ring.max()) + 1
    noise = np.bincount(ring, variance, count)
    turn = np.exp(-1j * np.arctan2(y[pixels], x[pixels]))
    analysis = np.zeros((len(pixels), count), np.complex64)
    analysis[np.arange(len(pixels)), ring] = turn / np.sqrt(np.maximum(noise[ring], 1e-30))
    coefficients = np.empty((len(patterns), count), np.complex64)
    total = 0.0
    for first, white in _whitened(patterns, pixels, np.ones(len(pixels), np.float32)):
        coefficients[first : first + len(white)] = white @ analysis
        total += float((white.astype(float) ** 2 / variance).sum())
    values, vectors = np.linalg.eigh(coefficients.conj().T @ coefficients)
    leading = coefficients @ vectors[:, -1]
    explained = 2 * float(values[-1]) / total if total > 0 else 0.0
    return Baseline(
        "first circular harmonic",
        np.abs(leading).astype(float),
        np.angle(leading).astype(float),
        explained,
    )


def _whitened(
    patterns: Patterns, pixels: NDArray[np.int64], sigma: Floats32
) -> Iterator[tuple[int, Floats32]]:
    flat = patterns.data.reshape(len(patterns), -1)
    for first in range(0, len(flat), BLOCK):
        yield first, flat[first : first + BLOCK, pixels] / sigma
