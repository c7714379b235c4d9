"""A known cell: its setting for the result and, if wanted, the camera length from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import cell_from_reciprocal_basis, reciprocal_basis
from .model import Model

Floats = NDArray[np.float64]


def _settings(bravais: str) -> list[NDArray[np.int64]]:
    """Integer matrices that permute the conventional axes and keep the lattice type's setting."""
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    unchanged = np.eye(3, dtype=np.int64)
    if bravais in ("aP", "oP", "oI", "oF"):
        found = []
        for order in permutations(range(3)):
            matrix = np.eye(3, dtype=np.int64)[:, list(order)]
            # an odd permutation needs a change of sign to stay right-handed
            found.append(matrix * int(np.sign(np.linalg.det(matrix))))
        return found
    if bravais in ("oC", "tP", "tI"):
        return [unchanged, swap]
    if bravais == "mP":
        return [unchanged, np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]])]
    return [unchanged]


def in_known_setting(
    model: Model, bravais: str, cell: ArrayLike, edge_tolerance: float = 0.05, angle_deg: float = 3
) -> Model | None:
    """The model with its axes in the order of the known cell, or None if it is another lattice.

    Parameters
    ----------
    cell : known conventional cell (a, b, c in Å; alpha, beta, gamma in degrees).
    edge_tolerance : relative; edges may also all be wrong by 15 % together (camera length).
    angle_deg : largest difference of angles.
    """
    known = np.asarray(cell, float)
    best: tuple[float, Model] | None = None
    for setting in _settings(bravais):
        # real axes mix by `setting`, so reciprocal ones by its inverse transposed
        orientation = model.orientation @ np.linalg.inv(setting).T
        found = np.array(cell_from_reciprocal_basis(orientation))
        ratio = found[:3] / known[:3]
        scale = float(np.exp(np.log(ratio).mean()))
        edges = float(np.abs(ratio / scale - 1).max())
        angles = float(np.abs(found[3:] - known[3:]).max())
        if abs(scale - 1) > 0.15 or edges > edge_tolerance or angles > angle_deg:
            continue
        misfit = edges + np.deg2rad(angles)
        if best is None or misfit < best[0]:
            best = (misfit, replace(model, orientation=orientation))
    return None if best is None else best[1]


def with_known_cell(model: Model, cell: ArrayLike) -> Model:
    """The model with exactly the known cell, its camera length scaled to match.

    Real-space edges are proportional to the camera length, so the mean ratio of known to found
    edges corrects it.
    """
    known = np.asarray(cell, float)
    found = np.array(model.cell)
    scale = float(np.exp(np.log(known[:3] / found[:3]).mean()))
    unscaled = model.orientation @ np.linalg.inv(reciprocal_basis(found))
    left, _, right = np.linalg.svd(unscaled)
    g = model.geometry
    return replace(
        model,
        orientation=left @ right @ reciprocal_basis(known),
        geometry=g.with_(distance_mm=g.distance_mm * scale),
    )
