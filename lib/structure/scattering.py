"""Electron scattering factors as SHELX takes them: four Gaussians and a constant.

gemmi holds five Gaussians, ``sum a exp(-b s^2)`` with s = sin(theta)/lambda, good to
s = 2 1/Å (Peng, Ren, Dudarev & Whelan (1996), Acta Cryst. A52, 257). SHELX reads four and a
constant, so they are fitted here by least squares.
"""

from __future__ import annotations

from functools import lru_cache

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Floats = NDArray[np.float64]

# Largest sin(theta)/lambda of the fit, 1/Å: d = 0.4 Å; finer than any hand-over.
S_MAX_PER_A = 1.25


def electron_factor(element: str, s_per_A: ArrayLike) -> Floats:
    """Factor of a neutral atom, Å, at s = sin(theta)/lambda = 1/(2 d).

    Raises
    ------
    ValueError : no such element, or none known for it.
    """
    found = gemmi.Element(element)
    if found.atomic_number == 0:
        raise ValueError(f"element: found '{element}', expected a chemical symbol")
    table = found.c4322
    if table is None:
        raise ValueError(f"element: found no electron scattering factor for {element}")
    coefficients = np.array(table.get_coefs())
    a, b = coefficients[:5], coefficients[5:]
    s = np.asarray(s_per_A, float)
    result: Floats = np.exp(-np.multiply.outer(s**2, b)) @ a
    return result


@lru_cache(maxsize=128)
def four_gaussians(element: str) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """(a1..a4), (b1..b4), c closest to `electron_factor` over 0 to `S_MAX_PER_A`."""
    s = np.linspace(0, S_MAX_PER_A, 201)
    target = electron_factor(element, s)
    weight = 1 / np.sqrt(target * target[0])
    table = np.array(gemmi.Element(element).c4322.get_coefs())
    order = np.argsort(table[5:])
    a, b = table[:5][order], np.maximum(table[5:][order], 1e-3)
    # begin from the five, the two narrowest bells joined
    first = np.concatenate([[a[0] + a[1], *a[2:]], np.log([(b[0] * b[1]) ** 0.5, *b[2:]]), [0.0]])

    def misfit(p: Floats) -> Floats:
        model = np.exp(-np.multiply.outer(s**2, np.exp(p[4:8]))) @ p[:4] + p[8]
        return np.asarray((model - target) * weight, float)

    p = least_squares(misfit, first, xtol=1e-12, ftol=1e-12, max_nfev=2000).x
    order = np.argsort(-np.exp(p[4:8]))
    return (
        tuple(float(v) for v in p[:4][order]),
        tuple(float(v) for v in np.exp(p[4:8])[order]),
        float(p[8]),
    )
