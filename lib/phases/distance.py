"""How far apart two lattices are, whatever bases describe them.

A basis with metric tensor G is compared with one of metric H by the stretches that turn one
into the other: the eigenvalues of ``G^-1 H`` are their squares, and half their logarithms are the
principal strains e1, e2, e3. A lattice is the set of all its bases, so the distance of two
lattices is the least over all unimodular M,

    d^2 = min_M  (e1'^2 + e2'^2 + e3'^2) / 3 + (w s)^2,   e' = e - s,   s = (e1 + e2 + e3) / 3

with e of ``G^-1 M^T H M``. s, the common scale (a camera length that is off by 1 % gives 0.01),
does not depend on M and has a weight w of its own. The least is taken over the matrices that can
relate two reduced bases, the transforms at the boundaries of the reduced region included, so
nothing happens when a cell moves over such a boundary (gamma against 180 - gamma, a > b).

This does what the distances of Andrews & Bernstein in G6 and S6 do (1988, Acta Cryst. A44,
1009; 2014, J. Appl. Cryst. 47, 346; 2019, Acta Cryst. A75, 593), but in units that
mean something: 0.01 is a change of lengths by 1 %, as in `crystal.lattice_symmetry`, whatever
the size of the cell. It is a metric: zero for the same lattice only, symmetric, and with the
triangle inequality, for unimodular changes of basis leave the distance of two metric tensors as it
is (the affine-invariant distance; X. Pennec et al., Int. J. Comput. Vis. 66, 41, 2006).

The metric "thesis" is the Euclidean distance over the six numbers of the reduced cells, Å and
degrees (Bin Wang's thesis, eq. 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Floats, Integers, cell_from_real_basis
from ..crystal.niggli import niggli_reduce

Metric = Literal["lattice", "thesis"]

# The camera length of a series is known less well than the shape of its cell.
SCALE_WEIGHT = 0.5

_IJ = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@cache
def unimodular_matrices() -> Integers:
    """(4632, 3, 3) the integer matrices of determinant 1 that can relate two reduced bases.

    All with elements -1, 0 and 1, and their inverses, so that distances are symmetric.
    """
    small = np.array(list(product((-1, 0, 1), repeat=9)), dtype=np.int64).reshape(-1, 3, 3)
    small = small[np.rint(np.linalg.det(small)).astype(int) == 1]
    inverse = np.rint(np.linalg.inv(small)).astype(np.int64)
    rows = np.unique(np.concatenate([small, inverse]).reshape(-1, 9), axis=0)
    return rows.reshape(-1, 3, 3)


def strains(basis: ArrayLike, other: ArrayLike) -> Floats:
    """(..., 3) principal logarithmic strains from one basis (3, 3) to others (..., 3, 3)."""
    change = np.asarray(other, float) @ np.linalg.inv(np.asarray(basis, float))
    e: Floats = np.log(np.linalg.svd(change, compute_uv=False))
    return e


def rms_strain(e: Floats, scale_weight: float = SCALE_WEIGHT) -> Floats:
    """(...,) the distance that principal strains (..., 3) amount to."""
    scale = e.mean(axis=-1)
    shape = np.mean((e - scale[..., None]) ** 2, axis=-1)
    d: Floats = np.sqrt(shape + (scale_weight * scale) ** 2)
    return d


def lattice_distance(
    basis: ArrayLike, other: ArrayLike, scale_weight: float = SCALE_WEIGHT
) -> float:
    """Distance of two lattices, given by any primitive bases (3, 3), columns in Å."""
    reduced = [niggli_reduce(b)[0] for b in (basis, other)]
    return float(lattice_distances(reduced, scale_weight)[0, 1])


def lattice_distances(
    reduced_bases: Sequence[Floats], scale_weight: float = SCALE_WEIGHT
) -> Floats:
    """(n, n) distances of lattices given by reduced bases (3, 3), columns in Å."""
    n = len(reduced_bases)
    distance = np.zeros((n, n))
    bases = np.array(reduced_bases, float).reshape(n, 3, 3)
    metric, inverse = _unit_metrics(bases)
    standing = _standing(metric, inverse)
    for j in range(1, n):
        cost = standing[:j] @ _moving(metric[j], inverse[j]).T
        best = bases[j] @ unimodular_matrices()[np.argmin(cost, axis=1)]
        change = best @ np.linalg.inv(bases[:j])
        e = np.log(np.linalg.svd(change, compute_uv=False))
        distance[:j, j] = distance[j, :j] = rms_strain(e, scale_weight)
    return distance


def thesis_distances(reduced_bases: Sequence[Floats]) -> Floats:
    """(n, n) Euclidean distances over (a, b, c, alpha, beta, gamma) of the reduced cells."""
    cells = np.array([cell_from_real_basis(basis) for basis in reduced_bases]).reshape(-1, 6)
    d: Floats = np.linalg.norm(cells[:, None] - cells, axis=-1)
    return d


def best_transforms(
    basis: ArrayLike,
    other: ArrayLike,
    *,
    within: float = 1e-4,
    scale_weight: float = SCALE_WEIGHT,
) -> tuple[Integers, Floats]:
    """The M by which ``other @ M`` comes nearest to `basis`, both reduced bases (3, 3).

    Parameters
    ----------
    within : how much farther than the best others may be, as distance.

    Returns
    -------
    (k, 3, 3) matrices and (k,) distances, ascending.
    """
    pair = np.array([basis, other], float)
    metric, inverse = _unit_metrics(pair)
    cost = _moving(metric[1], inverse[1]) @ _standing(metric[:1], inverse[:1])[0]
    nearest = unimodular_matrices()[[int(np.argmin(cost))]]
    e = strains(pair[0], pair[1] @ nearest)
    farthest = float(rms_strain(e, scale_weight)[0]) + within
    shape = np.sqrt(max(farthest**2 - (scale_weight * float(e.mean())) ** 2, 0.0))
    # Most that strains of that r.m.s. can cost: all of it along one direction.
    matrices = unimodular_matrices()[cost <= 4.0 + 2.0 * np.cosh(2 * np.sqrt(3) * shape) + 1e-9]
    d = rms_strain(strains(pair[0], pair[1] @ matrices), scale_weight)
    order = np.argsort(d, kind="stable")
    order = order[d[order] <= float(d[order[0]]) + within]
    return matrices[order], d[order]


def _standing(metric: Floats, inverse: Floats) -> Floats:
    """(n, 12) what `_moving` is multiplied with."""
    twice = np.array([1, 1, 1, 2, 2, 2])  # off-diagonal elements stand for two
    return np.concatenate([twice * inverse, twice * metric], axis=1)


def _moving(metric: Floats, inverse: Floats) -> Floats:
    """(4632, 12) the metric tensors of a lattice on all bases.

    The product with `_standing` is the sum of the squared stretches and their inverses, which is
    least where the strain is.
    """
    return np.concatenate(
        [
            (_transform_of_metric() @ metric).reshape(-1, 6),
            (_of_inverse() @ inverse).reshape(-1, 6),
        ],
        axis=1,
    )


def _unit_metrics(bases: Floats) -> tuple[Floats, Floats]:
    """(n, 6), (n, 6) metric tensors of unit volume and their inverses, as `_IJ` orders them."""
    metric = bases.transpose(0, 2, 1) @ bases
    metric /= np.linalg.det(metric)[:, None, None] ** (1 / 3)
    i, j = np.array(_IJ).T
    inverse: Floats = np.linalg.inv(metric).astype(np.float64)
    return metric[:, i, j], inverse[:, i, j]


@cache
def _transform_of_metric() -> Floats:
    """(27792, 6) what ``M^T G M`` does to the six elements of G."""
    return _congruences(unimodular_matrices())


@cache
def _of_inverse() -> Floats:
    """(27792, 6) the same for ``M^-1 G^-1 M^-T``."""
    return _congruences(np.linalg.inv(unimodular_matrices()).transpose(0, 2, 1))


def _congruences(matrices: ArrayLike) -> Floats:
    m = np.rint(np.asarray(matrices, float))
    table = np.empty((len(m), 6, 6))  # rows of all matrices below one another: one product
    for row, (i, j) in enumerate(_IJ):
        for column, (k, n) in enumerate(_IJ):
            table[:, row, column] = m[:, k, i] * m[:, n, j]
            if k != n:
                table[:, row, column] += m[:, n, i] * m[:, k, j]
    return table.reshape(-1, 6)
