"""The part of a map that repeats with the crystal, and what is left of it.

A periodic part is a Fourier series over reciprocal vectors h g1 + k g2. g1 and g2 are the two
strongest independent peaks of the map's power spectrum, refined by least squares, and the series
is fitted with the farthest points left out, so that a defect does not draw it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
ORDERS = 2  # of the Fourier series
LEAST_POWER = 30.0  # of a peak over the mean power, for a map to be periodic


def aperiodic(values: Floats) -> Floats:
    """A map (scan rows, scan columns) less its periodic part; NaN stay NaN.

    Less its median only if there is no lattice in it.
    """
    there = np.isfinite(values)
    middle = float(np.median(values[there]))
    filled = np.where(there, values - middle, 0.0)
    lattice = _lattice(filled)
    if lattice is None:
        return values - middle
    position = np.argwhere(there).astype(float)
    seen = filled[there]

    def loss(vectors: Floats) -> float:
        return float((seen - _fitted(_series(position, vectors.reshape(2, 2)), seen)) @ seen)

    # a hundredth of a period over the whole map is a step to begin with
    steps = 0.1 / np.array(values.shape)
    simplex = np.vstack([lattice.ravel()] * 5)
    simplex[1:] += np.diag(np.tile(steps, 2))
    options = {"initial_simplex": simplex, "maxfev": 120, "xatol": 1e-5, "fatol": 0.0}
    refined = minimize(loss, lattice.ravel(), method="Nelder-Mead", options=options).x
    design = _series(position, refined.reshape(2, 2))
    fitted = _fitted(design, seen)
    for _ in range(3):
        off = np.abs(seen - fitted)
        near = off <= 3 * 1.4826 * np.median(off)
        fitted = design @ np.linalg.lstsq(design[near], seen[near], rcond=None)[0]
    out = np.full(values.shape, np.nan)
    out[there] = seen - fitted
    return out


def _lattice(values: Floats) -> Floats | None:
    """(2, 2) two reciprocal vectors, cycles per scan point; None if there are no clear peaks."""
    window = np.outer(np.hanning(values.shape[0]), np.hanning(values.shape[1]))
    size = (4 * values.shape[0], 4 * values.shape[1])
    power = np.abs(np.fft.fft2(values * window, size)) ** 2
    frequency = np.stack(np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij"), axis=-1)
    periods = frequency * np.array(values.shape)
    # at least three periods in the map; of a pair ±g one
    power = np.where(np.hypot(periods[..., 0], periods[..., 1]) >= 3, power, 0.0)
    power[(frequency[..., 0] < 0) | ((frequency[..., 0] == 0) & (frequency[..., 1] < 0))] = 0
    least = LEAST_POWER * power[power > 0].mean()
    found: list[Floats] = []
    for _ in range(2):
        best = tuple(int(i) for i in np.unravel_index(int(power.argmax()), power.shape))
        if power[best] < least:
            return None
        vector = frequency[best]
        found.append(vector)
        across = np.abs(frequency[..., 0] * vector[1] - frequency[..., 1] * vector[0])
        power = np.where(across > 0.5 * vector @ vector, power, 0.0)
    return np.asarray(found)


def _series(position: Floats, vectors: Floats) -> Floats:
    """(n, terms) of the Fourier series at positions (n, 2)."""
    index = [
        (h, k) for h in range(ORDERS + 1) for k in range(-ORDERS, ORDERS + 1) if (h, k) > (0, 0)
    ]
    phase = 2 * np.pi * position @ (np.array(index) @ vectors).T
    return np.concatenate([np.ones((len(position), 1)), np.cos(phase), np.sin(phase)], axis=1)


def _fitted(design: Floats, values: Floats) -> Floats:
    normal = design.T @ design
    normal[np.diag_indices_from(normal)] *= 1 + 1e-9
    return np.asarray(design @ np.linalg.solve(normal, design.T @ values))
