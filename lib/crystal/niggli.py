"""Reduced bases of a lattice.

A basis is a (3, 3) array whose *columns* are a, b, c. Reduction only ever changes it by an
integer matrix of determinant +1 or -1, so ``reduced = basis @ transform`` holds to rounding.
"""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from .cell import Floats, Integers, cell_from_real_basis

# Metric elements that differ by less than this part of volume^(2/3) are taken as equal. It
# is far above rounding, so that the many special cases of symmetric lattices are decided
# alike from every starting basis, and far below any measured difference.
_TOLERANCE = 1e-8
_TIE = 1e-12


def minkowski_reduce(real_basis: ArrayLike) -> tuple[Floats, Integers]:
    """The three shortest vectors that span the lattice: (basis, transform), right-handed.

    Semaev's algorithm: each vector in turn is shortened by the lattice point of the plane of
    the two others that lies nearest to it. Keeps full precision however skewed the start is.

    Parameters
    ----------
    real_basis : (3, 3) float, columns a, b, c in Å.

    Returns
    -------
    The reduced basis (3, 3), lengths ascending, and the integer (3, 3) transform with
    ``reduced = real_basis @ transform`` and ``det(reduced) > 0``.

    Raises
    ------
    ValueError : if the vectors are not finite or do not span space.

    Source: I. Semaev, Cryptography and Lattices (2001), LNCS 2146, 181.
    """
    start = np.asarray(real_basis, float)
    if start.shape != (3, 3) or not np.all(np.isfinite(start)):
        raise ValueError(f"real_basis: found {start.tolist()}, expected 3x3 finite numbers")
    volume = np.linalg.det(start)
    lengths = np.linalg.norm(start, axis=0)
    if not abs(volume) > 1e-12 * np.prod(lengths):
        raise ValueError(f"real_basis: found volume {volume}, expected three vectors not coplanar")

    transform = np.eye(3, dtype=np.int64)
    for _ in range(1000):
        basis = start @ transform
        transform = transform[:, np.argsort(np.linalg.norm(basis, axis=0), kind="stable")]
        a, b, c = (start @ transform).T
        step = _shortening(a, b, c)
        if step is None:
            break
        transform[:, step[0]] -= transform @ step[1]
    else:
        raise ValueError(f"real_basis: found {start.tolist()}, expected a basis that reduces")
    if np.linalg.det(start @ transform) < 0:
        transform = -transform
    return start @ transform, transform


def _shortening(a: Floats, b: Floats, c: Floats) -> tuple[int, Integers] | None:
    """Which of the length-ordered vectors can be shortened, and by which combination."""
    aa, bb, cc, ab, ca, cb = a @ a, b @ b, c @ c, a @ b, c @ a, c @ b
    n = round(float(ab / aa))
    # A tie (half a lattice vector) is no gain: without this test rounding would swap for ever.
    if bb - np.sum((b - n * a) ** 2) > _TIE * bb:
        return 1, np.array([n, 0, 0])
    gram = aa * bb - ab * ab
    corner = np.floor([(ca * bb - cb * ab) / gram, (cb * aa - ca * ab) / gram])
    mn = corner + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    left = np.sum((c - mn @ np.stack([a, b])) ** 2, axis=1)
    best = int(np.argmin(left))
    if cc - left[best] > _TIE * cc:
        return 2, np.array([*mn[best].astype(int), 0])
    return None


def niggli_reduce(real_basis: ArrayLike) -> tuple[Floats, Integers]:
    """The Niggli-reduced basis, the one basis that all descriptions of a lattice share.

    Minkowski reduction, then the steps of Krivy & Gruber (1976), Acta Cryst. A32, 297, with
    the tolerances of Grosse-Kunstleve et al. (2004), Acta Cryst. A60, 1, as gemmi does them.

    Parameters
    ----------
    real_basis : (3, 3) float, columns a, b, c in Å.

    Returns
    -------
    The reduced basis (3, 3) and the integer (3, 3) transform with
    ``reduced = real_basis @ transform`` and ``det(reduced) > 0``.

    Raises
    ------
    ValueError : if the vectors are not finite or do not span space.
    """
    basis, first = minkowski_reduce(real_basis)
    scale = np.linalg.det(basis) ** (1 / 3)
    unit_cell = gemmi.UnitCell(*cell_from_real_basis(basis / scale))
    vector = gemmi.GruberVector(unit_cell, "P", True)
    vector.niggli_reduce(_TOLERANCE, 1000)
    change = vector.change_of_basis
    second = np.array(change.rot, dtype=np.int64) // change.DEN
    transform = first @ second
    if np.linalg.det(basis @ second) < 0:
        transform = -transform
    return np.asarray(real_basis, float) @ transform, transform
