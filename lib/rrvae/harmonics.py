r"""Patterns as circular harmonics, in which a rotation is an exact phase.

A pattern, divided by the noise of its pixels, is written as

    y(r, θ) = Σ_q c_0q u_0q(r) + √2 Re Σ_{m>0} Σ_q c_mq u_mq(r) exp(imθ);

turned by α, c_mq becomes c_mq exp(-imα). The radial functions u_mq are those of steerable
principal components: eigenvectors of <c_m c_m*>, which is the covariance of the patterns and all
their rotations (Zhao, Shkolnisky & Singer, 2016, IEEE Trans. Comput. Imaging 2, 1). The noise of
real and imaginary parts has variance 1, so components that noise alone would give are known from
random matrices (Marchenko & Pastur, 1967) and left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from ..errors import UserError
from .patterns import Patterns

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex64]

EDGE_MARGIN = 1.1  # times the largest eigenvalue expected of noise
WEAKEST_REFERENCE = 0.1  # of the strongest order's power, for the order that turns patterns upright


@dataclass(frozen=True)
class HarmonicBasis:
    """Steerable principal components of some patterns.

    Attributes
    ----------
    order : (K,) int64, m of each component, ascending; those of m = 0 have real coefficients.
    eigenvalue : (K,) mean |c|² over the patterns, of noise: 2 (1 for m = 0).
    functions : (K, P) complex64, so that y = Re(c @ functions) at the pixels used.
    analysis : (P, K) complex64, so that c = y @ analysis.
    pixels : (P,) int64, the pixels used, in a flattened pattern.
    sigma : (P,) float32, noise of the pixels, electrons; depends on the radius only.
    shape : (rows, columns) of a pattern.
    centre_px : (row, column) about which patterns are turned.
    reference : index of the component whose phase turns patterns upright.
    power : (M + 1,) signal power per order, electrons over noise squared, before any is left out.
    """

    order: NDArray[np.int64]
    eigenvalue: Floats
    functions: Complexes
    analysis: Complexes
    pixels: NDArray[np.int64]
    sigma: NDArray[np.float32]
    shape: tuple[int, int]
    centre_px: tuple[float, float]
    reference: int
    power: Floats

    @property
    def fold(self) -> int:
        """Angles are known modulo 360/fold degrees: the order of the reference component."""
        return int(self.order[self.reference])

    def whitened(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, P) patterns (n, rows, columns) over their noise, at the pixels used."""
        return data.reshape(len(data), -1)[:, self.pixels] / self.sigma

    def coefficients(self, data: NDArray[np.float32]) -> Complexes:
        """(n, K) complex64 of patterns (n, rows, columns) in electrons, the mean subtracted."""
        flat = self.whitened(data)
        found = flat @ self.analysis.real + np.complex64(1j) * (flat @ self.analysis.imag)
        return np.asarray(found, np.complex64)

    def patterns(self, coefficients: Complexes) -> NDArray[np.float32]:
        """(n, P) float32: what coefficients (n, K) stand for, over the noise."""
        return np.ascontiguousarray((coefficients @ self.functions).real)

    def turned(self, coefficients: Complexes, angle_rad: NDArray[np.floating]) -> Complexes:
        """(n, K): patterns turned by angles (n,) or one, from the row axis to the column axis."""
        phase = np.exp(-1j * np.multiply.outer(np.asarray(angle_rad), self.order))
        return (coefficients * phase).astype(np.complex64)

    def upright(self, coefficients: Complexes) -> tuple[Complexes, NDArray[np.float32]]:
        """Patterns turned so that the reference is real and positive, and by which angles (n,).

        ``turned(upright, angle)`` are the patterns again.
        """
        angle = -np.angle(coefficients[:, self.reference]) / self.fold
        return self.turned(coefficients, -angle), angle.astype(np.float32)


def used_pixels(patterns: Patterns) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Pixels (P,) in the largest circle about the centre, their radii and angles (P,).

    The angle is counted from the row axis to the column axis.

    Raises
    ------
    UserError : if the centre is outside, or the circle too small for harmonics.
    """
    rows, columns = patterns.shape
    centre = patterns.centre_px
    y = np.arange(rows)[:, None] - centre[0]
    x = np.arange(columns)[None] - centre[1]
    radius = np.hypot(y, x)
    reach = min(centre[0], rows - 1 - centre[0], centre[1], columns - 1 - centre[1])
    if patterns.disc_radius_px is not None and reach < patterns.disc_radius_px - 1:
        raise UserError(
            "centre_px", f"{reach:.1f} px from the disc's centre to the edge of the pattern",
            f"at least the disc's radius of {patterns.disc_radius_px:.1f} px",
            "correct the centre of the patterns, or crop them less",
        )  # fmt: skip
    inside = (radius <= reach + 0.5) & ~patterns.mask
    if inside.sum() < 50:
        raise UserError(
            "patterns", f"{int(inside.sum())} usable pixels about the centre", "at least 50",
            "look at the mask, the centre and the binning",
        )  # fmt: skip
    pixels = np.flatnonzero(inside.ravel())
    return pixels, radius.ravel()[pixels], np.arctan2(x, y + 0 * x).ravel()[pixels]


def radial_noise(patterns: Patterns, pixels: NDArray[np.int64], radius: Floats) -> Floats:
    """(P,) noise of the pixels, electrons: their mean variance on rings one pixel wide."""
    variance = patterns.variance.reshape(len(patterns.variance), -1)[:, pixels].mean(0, np.float64)
    ring = np.rint(radius).astype(int)
    mean = np.bincount(ring, variance) / np.maximum(np.bincount(ring), 1)
    return np.sqrt(mean[ring])


def harmonic_basis(
    patterns: Patterns,
    highest_order: int = 8,
    ring_px: float = 2.0,
    most_components: int = 48,
) -> HarmonicBasis:
    """Steerable principal components that stand out of the noise.

    Raises
    ------
    UserError : if there are none that a rotation changes.
    """
    pixels, radius, angle = used_pixels(patterns)
    sigma = radial_noise(patterns, pixels, radius)
    rings = _hats(radius, ring_px) / sigma[:, None]
    # orthonormal functions of all orders, and what finds their coefficients by least squares
    orders, functions = [], []
    for m in range(highest_order + 1):
        # a ring shorter than a few pixels per period tells nothing of the order
        rows = rings[:, (np.arange(rings.shape[1]) * ring_px >= m / 3)]
        unit = rows @ _inverse_root(rows.T @ rows)
        functions.append(unit * (np.sqrt(2) * np.exp(1j * m * angle)[:, None] if m else 1.0))
        orders.append(np.full(unit.shape[1], m))
    order, function = np.concatenate(orders), np.concatenate(functions, axis=1)
    analysis = _least_squares(function, order)

    n, flat = len(patterns), patterns.data.reshape(len(patterns), -1)
    found = np.empty((n, len(order)), np.complex64)
    scaled = (analysis / sigma[:, None]).astype(np.complex64)
    for start in range(0, n, 4096):
        part = flat[start : start + 4096][:, pixels]
        found[start : start + 4096] = part @ scaled.real + 1j * (part @ scaled.imag)

    kept: list[tuple[int, float, Complexes, Complexes]] = []
    power = np.zeros(highest_order + 1)
    for m in range(highest_order + 1):
        which = np.flatnonzero(order == m)
        noise = 2.0 if m else 1.0
        covariance = found[:, which].T @ found[:, which].conj() / n
        # noise is not quite even: pixels are no continuous plane
        given = analysis[:, which]
        uneven = given.T @ given.conj() / noise
        values, vectors = eigh(covariance.astype(complex), uneven)
        edge = noise * (1 + np.sqrt(len(values) / n)) ** 2 * EDGE_MARGIN
        power[m] = max(float(values.sum()) - noise * len(values), 0.0)
        for value, vector in zip(values, vectors.T, strict=True):
            if value > edge:
                finds, makes = np.zeros((2, len(order)), complex)
                finds[which], makes[which] = vector, uneven @ vector
                kept.append((m, float(value), finds, makes))
    kept = sorted(sorted(kept, key=lambda one: -one[1])[:most_components], key=lambda one: one[0])
    if not any(one[0] for one in kept):
        raise UserError(
            "patterns", "none that noise at the given dose could not have made",
            "a signal that turns with the pattern",
            "use the COM, record more electrons, or look at dose and gain",
        )  # fmt: skip
    components = np.asarray([one[0] for one in kept], np.int64)
    values = np.asarray([one[1] for one in kept])
    finds = np.stack([one[2] for one in kept], axis=1)
    makes = np.stack([one[3] for one in kept], axis=1)
    return HarmonicBasis(
        order=components,
        eigenvalue=values,
        functions=(function @ makes).T.astype(np.complex64),
        analysis=(analysis @ finds.conj()).astype(np.complex64),
        pixels=pixels,
        sigma=sigma.astype(np.float32),
        shape=patterns.shape,
        centre_px=patterns.centre_px,
        reference=_reference(components, values),
        power=power,
    )


def _hats(radius: Floats, step: float) -> Floats:
    """(P, J) linear hat functions of the radius, a step apart, that sum to 1."""
    count = int(np.ceil(radius.max() / step)) + 1
    return np.asarray(np.clip(1 - np.abs(radius[:, None] / step - np.arange(count)), 0, None))


def _inverse_root(gram: Floats) -> Floats:
    """(J, I) that makes functions with this Gram matrix orthonormal, dependent ones left out."""
    values, vectors = np.linalg.eigh(gram)
    firm = values > 1e-6 * values[-1]
    return np.asarray(vectors[:, firm] / np.sqrt(values[firm]))


def _least_squares(
    function: NDArray[np.complexfloating], order: NDArray[np.int64]
) -> NDArray[np.complexfloating]:
    """(P, K) that finds c in y = Re(c @ function.T) from y; c real where the order is 0."""
    turns = order > 0
    real = np.concatenate([function.real, -function.imag[:, turns]], axis=1)
    inverse = np.linalg.pinv(real.T @ real, rcond=1e-6, hermitian=True)
    solved = real @ inverse
    analysis = solved[:, : len(order)].astype(complex)
    analysis[:, turns] += 1j * solved[:, len(order) :]
    return analysis


def _reference(order: NDArray[np.int64], eigenvalue: Floats) -> int:
    """The strongest component of the lowest order that is not weak."""
    turning = np.where(order > 0, eigenvalue, 0.0)
    lowest = order[turning > WEAKEST_REFERENCE * turning.max()].min()
    return int(np.argmax(np.where(order == lowest, turning, 0.0)))
