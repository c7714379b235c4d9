"""The conventional cell that belongs to a lattice's rotation group, built from its axes."""

from __future__ import annotations

import numpy as np

from .cell import Floats, Integers
from .two_folds import two_folds


def conventional_cell(group: list[int], metric: Floats) -> tuple[str, Integers] | None:
    """(Bravais symbol, transform) of the conventional cell of a group's averaged metric.

    None where the group is not the full holohedry of that metric: three of the six two-folds
    normal to the six-fold of a primitive hexagonal lattice.
    """
    table = two_folds()
    rows = table.row[group]
    length = np.einsum("ni,ij,nj->n", rows, metric, rows)
    commuting = np.array([sum(table.product[i][j] >= 0 for j in group if j != i) for i in group])
    count = len(group)
    if count == 0:
        return "aP", np.eye(3, dtype=np.int64)
    if count == 1:
        return _monoclinic(rows[0], table.plane[group[0]], metric)
    if count == 3 and np.all(commuting == 2):
        return _orthorhombic(rows[np.argsort(length, kind="stable")])
    if count == 9:
        axes = rows[commuting == 4]
        return _centred("c", _right_handed(axes.T))
    # One principal axis is left, c; its two-fold, where there is one, commutes with all others.
    if count == 3:
        c = np.cross(table.plane[group[0]], table.plane[group[1]])
        c //= np.gcd.reduce(c)
        axes = rows
    else:
        principal = commuting == count - 1
        c, axes = rows[principal][0], rows[~principal]
        length = length[~principal]
    a = axes[np.argmin(length)]
    cosine = (
        axes @ metric @ a / np.sqrt(np.einsum("ni,ij,nj->n", axes, metric, axes) * (a @ metric @ a))
    )
    if count == 5:
        b = axes[np.argmin(np.abs(cosine))]
        return _centred("t", _right_handed(np.stack([a, b, c], axis=1)))
    sixty = np.argmin(np.abs(np.abs(cosine) - 0.5))
    b = axes[sixty] if cosine[sixty] < 0 else -axes[sixty]
    transform = _right_handed(np.stack([a, b, c], axis=1))
    if count == 7:
        return "hP", transform
    if not np.any(transform @ [2, 1, 1] % 3):
        return "hR", transform
    if not np.any(transform @ [1, 2, 1] % 3):  # reverse: turn by 180 degrees about c
        return "hR", transform * np.array([-1, -1, 1])
    return None


def _right_handed(transform: Integers) -> Integers:
    """The same axes with c turned round if that makes the determinant positive."""
    if np.linalg.det(transform) < 0:
        transform = transform * np.array([1, 1, -1])
    return transform


def _centred(system: str, transform: Integers) -> tuple[str, Integers]:
    """Symbol by the number of lattice points in the cell, where P, I and F are the choice."""
    return system + {1: "P", 2: "I", 4: "F"}[round(np.linalg.det(transform))], transform


def _orthorhombic(rows: Integers) -> tuple[str, Integers]:
    """From the three axes (rows), shortest first; a <= b <= c, but C-centred a <= b."""
    a, b, c = rows
    if round(abs(np.linalg.det(rows))) == 2 and np.any((a + b + c) % 2):
        if not np.any((b + c) % 2):
            a, b, c = b, c, a
        elif not np.any((a + c) % 2):
            a, b, c = a, c, b
        return "oC", _right_handed(np.stack([a, b, c], axis=1))
    return _centred("o", _right_handed(np.stack([a, b, c], axis=1)))


def _monoclinic(b: Integers, plane: Integers, metric: Floats) -> tuple[str, Integers]:
    """Unique axis b; a and c the shortest in its plane that make mP or C-centred mC."""
    grid = np.indices((7, 7, 7)).reshape(3, -1).T - 3
    grid = grid[(grid @ plane == 0) & np.any(grid != 0, axis=1)]
    grid = grid[np.argsort(np.einsum("ni,ij,nj->n", grid, metric, grid), kind="stable")]
    p = grid[0]
    q = grid[np.argmax(np.any(np.cross(grid, p) != 0, axis=1))]
    a, c, centred = p, q, True
    if not np.any((b + p) % 2):
        pass
    elif not np.any((b + q) % 2):
        a, c = q, p
    elif not np.any((b + p + q) % 2):
        a, c = (p + q if p @ metric @ q < 0 else p - q), p
    else:
        centred = False
    if a @ metric @ c > 0:
        c = -c
    transform = np.stack([a, b, c], axis=1)
    if np.linalg.det(transform) < 0:
        transform = transform * np.array([1, -1, 1])
    return ("mC" if centred else "mP"), transform
