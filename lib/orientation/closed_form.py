"""Stage 0: where the sphere's centre is, frame by frame, without a start.

Reflections P on the sphere obey ``P . e = P^2 / 2``, which is linear in e, so

``minimise  sum_i w_i (P_i . e - P_i^2 / 2)^2   with |e| = r``

has a closed form: with the eigenvectors of ``M = sum w P P^T`` the multiplier mu of the constraint
is a root of the secular equation ``sum_k c_k^2 / (m_k - mu)^2 = r^2``, at most six. The spots of
one frame lie almost in a plane, so there are two good solutions, one on either side of it. Which
side is decided by the whole scan: both are followed from frame to frame, and stage A says which
fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..errors import UserError
from .centroid_fit import CentroidFit, fit_centroids
from .geometry import SmoothRotation
from .observations import Centroids

#: Spots that a frame needs for a solution of its own.
LEAST_SPOTS = 5


@dataclass(frozen=True)
class TwoCentres:
    """The best and the second-best direction of e for one frame.

    Attributes
    ----------
    directions : (2, 3) unit vectors; twice the same if there is only one.
    cost : (2,) of the sum minimised.
    """

    directions: Floats
    cost: Floats


def two_best(points: Floats, radius: float, weight: Floats | None = None) -> TwoCentres:
    """Both solutions for reflections at `points` (n, 3) in 1/Å on a sphere of `radius`.

    Raises
    ------
    ValueError : fewer than three reflections.
    """
    p = np.asarray(points, float)
    if len(p) < 3:
        raise ValueError(f"points: found {len(p)}, expected three or more")
    w = np.ones(len(p)) if weight is None else np.asarray(weight, float)
    half = 0.5 * np.sum(p * p, axis=1)
    values, vectors = np.linalg.eigh(p.T @ (w[:, None] * p))
    c = vectors.T @ (p.T @ (w * half))
    scale = max(float(values[-1]), 1e-300)
    values, c = values / scale, c / scale
    found = []
    for mu in _multipliers(values, c, radius):
        gap = values - mu
        y = np.where(np.abs(gap) > 1e-14, c / np.where(np.abs(gap) > 1e-14, gap, 1.0), 0.0)
        found.extend(_on_sphere(y, radius, np.abs(gap) <= 1e-14))
    # the plane's other side: where the multiplier is that of the smallest eigenvalue
    y = np.where(np.arange(3) > 0, c / np.maximum(values - values[0], 1e-12), 0.0)
    found.extend(_on_sphere(y, radius, np.arange(3) == 0))
    e = np.array(found) @ vectors.T
    cost = np.sum(w * (e @ p.T - half) ** 2, axis=1)
    order = np.argsort(cost)
    first = e[order[0]]
    # a second one is another direction, not the same root twice
    others = [k for k in order[1:] if e[k] @ first < radius**2 * np.cos(np.deg2rad(0.05))]
    second = others[0] if others else order[0]
    pick = [order[0], second]
    return TwoCentres(e[pick] / radius, cost[pick])


def _multipliers(values: Floats, c: Floats, radius: float) -> list[float]:
    """Real roots mu of ``sum c_k^2 / (m_k - mu)^2 = r^2``, a polynomial of sixth degree."""
    whole = np.poly1d([radius**2])
    total = np.poly1d([0.0])
    for k in range(3):
        rest = np.poly1d([c[k] ** 2])
        for j in range(3):
            if j != k:
                rest *= np.poly1d([-1.0, values[j]]) ** 2
        total += rest
        whole *= np.poly1d([-1.0, values[k]]) ** 2
    roots = (whole - total).roots
    return [float(z.real) for z in roots if abs(z.imag) < 1e-6 * (1 + abs(z.real))]


def _on_sphere(y: Floats, radius: float, free: NDArray[np.bool_]) -> list[Floats]:
    """Points of the sphere from components y, the `free` one (if any) made up either way."""
    if not free.any():
        length = float(np.linalg.norm(y))
        return [y * radius / length] if length > 0 else []
    fixed = float(np.sum(y[~free] ** 2))
    if fixed >= radius**2:
        return []
    rest = np.sqrt(radius**2 - fixed)
    return [y + sign * rest * free / np.sqrt(free.sum()) for sign in (1.0, -1.0)]


def closed_form_start(
    name: str,
    points: Floats,
    frame: NDArray[np.int64],
    weight: Floats,
    centroids: Centroids,
    centroid_points: Floats,
    angle_deg: Floats,
    wavelength_A: float,
) -> CentroidFit:
    """Stage A from closed forms: the hand by which the whole scan fits better.

    Parameters
    ----------
    points, frame, weight : (n, 3), (n,), (n,) spots seen, and how much each counts; those near the
        top of their curve should count most.
    centroids, centroid_points : what stage A fits, and their P in 1/Å.

    Raises
    ------
    UserError : fewer than three frames have `LEAST_SPOTS` spots.
    """
    radius = 1 / wavelength_A
    candidates, position = [], []
    for f in np.unique(frame):
        of = frame == f
        if of.sum() >= LEAST_SPOTS:
            candidates.append(two_best(points[of], radius, weight[of]).directions)
            position.append(int(f))
    if len(position) < 3:
        raise UserError(
            f"{name}: spots",
            f"{len(position)} frames with {LEAST_SPOTS} indexed spots or more",
            "at least three",
            "index more frames, or give an orientation to start from",
        )
    both = np.array(candidates)
    angle = np.asarray(angle_deg, float)[position]
    fits = []
    for side in (0, 1):
        smooth = _through(_followed(both, side), angle)
        if smooth is not None:
            fits.append(fit_centroids(smooth, centroid_points, centroids, angle_deg, wavelength_A))
    fits = [one for one in fits if np.isfinite(one.loss)]
    if not fits:
        raise UserError(
            f"{name}: spots", "no rotation through them", "one", "check the cell and the indices"
        )
    return min(fits, key=lambda one: one.loss)


def _followed(both: Floats, side: int) -> Floats:
    """(frames, 3) directions, of each frame the one nearer to the last; begun in the middle."""
    n = len(both)
    middle = n // 2
    out = np.empty((n, 3))
    out[middle] = both[middle, side]
    for step, rest in ((1, range(middle + 1, n)), (-1, range(middle - 1, -1, -1))):
        for f in rest:
            out[f] = both[f, int(np.argmax(both[f] @ out[f - step]))]
    return out


def _through(directions: Floats, angle_deg: Floats) -> SmoothRotation | None:
    """The cone through directions (n, 3): the axis is the normal of their plane.

    Steps that leap to the other side are outvoted: the axis is the median of many pairs.
    """
    n = len(directions)
    lag = max(1, n // 3)
    turn = np.deg2rad(angle_deg[lag:] - angle_deg[:-lag])
    axes = -np.cross(directions[:-lag], directions[lag:]) * np.sign(turn)[:, None]
    length = np.linalg.norm(axes, axis=1)
    if not (length > 1e-6).any():
        return None
    axes = axes[length > 1e-6] / length[length > 1e-6][:, None]
    best = np.argmin(np.sum(np.abs(axes @ axes.T - 1), axis=1))
    axis = axes[best]
    middle = float(np.median(angle_deg))
    smooth = SmoothRotation(axis, directions[n // 2], float(angle_deg[n // 2]))
    return SmoothRotation(axis, smooth.directions([middle])[0], middle)
