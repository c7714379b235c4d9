"""Principal components of patterns whose noise is known, to tell signal from noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .patterns import Floats32, Patterns

Floats = NDArray[np.float64]

BLOCK = 2048  # patterns at a time
FIRST = 16  # components looked for at first
SPARE = 8  # more in the subspace
ITERATIONS = 6
MARGIN = 1.02  # over the edge of the noise's eigenvalues


@dataclass(frozen=True)
class Components:
    """Principal components of whitened patterns.

    Attributes
    ----------
    vectors : (k, pixels used) float32, orthonormal, of patterns divided by their noise.
    eigenvalues : (k,) their variances; noise alone gives at most `edge`.
    edge : largest eigenvalue of pure noise of unit variance, (1 + sqrt(pixels / patterns))²
        (Marchenko and Pastur, 1967).
    pixels : (pixels used,) int64 in the flattened pattern.
    sigma : (pixels used,) float32, noise in electrons.
    """

    vectors: Floats32
    eigenvalues: Floats
    edge: float
    pixels: NDArray[np.int64]
    sigma: Floats32


def components(patterns: Patterns, count: int | Literal["noise"]) -> Components:
    """The first `count` components, or all that stand out of the noise.

    Subspace iteration (Halko, Martinsson and Tropp, SIAM Rev. 53, 217, 2011) over blocks of
    patterns, from a fixed start. The mean over patterns is not subtracted again.
    """
    pixels = np.flatnonzero(~patterns.mask)
    variance = patterns.variance.reshape(patterns.variance.shape[0], -1)[:, pixels].mean(0)
    sigma = np.sqrt(variance).astype(np.float32)
    n, p = len(patterns), len(pixels)
    edge = float((1 + np.sqrt(p / n)) ** 2)
    flat = patterns.data.reshape(n, -1)

    def covariance(basis: Floats32) -> Floats32:
        out = np.zeros_like(basis)
        for first in range(0, n, BLOCK):
            white = flat[first : first + BLOCK, pixels] / sigma
            out += white.T @ (white @ basis)
        return out / np.float32(n)

    most = min(n, p)
    wanted = min(FIRST if count == "noise" else count, most)
    while True:
        start = np.random.default_rng(0).standard_normal((p, min(wanted + SPARE, most)))
        basis = start.astype(np.float32)
        for _ in range(ITERATIONS):
            basis = np.linalg.qr(covariance(basis))[0]
        values, mixing = np.linalg.eigh(basis.T @ covariance(basis))
        order = np.argsort(values)[::-1][:wanted]
        if count != "noise" or wanted == most or values[order[-1]] <= MARGIN * edge:
            break
        wanted = min(2 * wanted, most)
    if count == "noise":
        order = order[values[order] > MARGIN * edge]
    vectors = (basis @ mixing[:, order]).T
    return Components(vectors, values[order].astype(float), edge, pixels, sigma)


def project(patterns: Patterns, basis: Components) -> None:
    """Replace the data, in place, by what the components hold of them."""
    flat = patterns.data.reshape(len(patterns), -1)
    for first in range(0, len(flat), BLOCK):
        block = flat[first : first + BLOCK]
        scores = (block[:, basis.pixels] / basis.sigma) @ basis.vectors.T
        block[:, basis.pixels] = (scores @ basis.vectors) * basis.sigma
