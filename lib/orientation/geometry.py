"""Where the Ewald sphere's centre is in the crystal, frame by frame, and how it moves.

With ``q_lab = R B h`` and the beam along z, the centre of the Ewald sphere in the crystal's
Cartesian frame is ``e = -R^T z / lambda``: a reflection ``P = B h`` is on the sphere where
``|P - e| = |e| = r``. As the crystal turns by phi about an axis, e turns by -phi about the same
axis as the crystal sees it, so a perfect goniometer moves e on a cone. Two small angles say how a
frame differs from that: ``w1`` along ``t1 = n x e`` (more or less rotation about the axis:
*along*), and ``w2`` along ``t2 = e x t1`` (towards the axis, out of the plane of rotation: *perp*).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Floats
from ..errors import UserError
from ..geometry import Geometry, rotation_about

#: Number of parameters of a perfect goniometer: see `SmoothRotation.tangents`.
N_TANGENTS = 5


@dataclass(frozen=True)
class SmoothRotation:
    """A perfect goniometer: e turns about a fixed axis in proportion to the read-out.

    Attributes
    ----------
    axis : (3,) unit vector n in the crystal's Cartesian frame.
    direction : (3,) unit vector of e at `angle_deg`.
    angle_deg : read-out at which `direction` holds; the middle of the scan, so that the errors of
        direction and scale do not mix.
    scale : true rotation over the read-out.
    """

    axis: Floats
    direction: Floats
    angle_deg: float
    scale: float = 1.0

    def directions(self, angle_deg: ArrayLike) -> Floats:
        """Unit vectors of e, (n, 3), at read-outs (n,)."""
        turn = -self.scale * (np.asarray(angle_deg, float) - self.angle_deg)
        out: Floats = rotation_about(self.axis, turn) @ self.direction
        return out

    def tangents(self, angle_deg: ArrayLike) -> Floats:
        """T, (n, 2, 5): (w1, w2) in rad per unit of each global parameter.

        Parameters are a rotation of axis and direction together (3, rad), the opening of the cone
        (1, rad) and the rotation scale (1, per rad, so that all are of one size).
        """
        angle = np.asarray(angle_deg, float)
        t1, t2 = along_perp(self.directions(angle), self.axis)
        sine = np.sqrt(max(1e-12, 1 - float(self.axis @ self.direction) ** 2))
        out = np.zeros((len(angle), 2, N_TANGENTS))
        out[:, 0, :3], out[:, 1, :3] = t2, -t1
        out[:, 1, 3] = 1.0
        out[:, 0, 4] = -np.deg2rad(angle - self.angle_deg) * sine
        return out

    def moved(self, step: ArrayLike) -> SmoothRotation:
        """This rotation after a step (5,) of the parameters of `tangents`."""
        p = np.asarray(step, float)
        turn = rotation_by(p[:3])
        axis, direction = turn @ self.axis, turn @ self.direction
        _, t2 = along_perp(direction[None], axis)
        direction = np.cos(p[3]) * direction + np.sin(p[3]) * t2[0]
        return replace(
            self,
            axis=axis / np.linalg.norm(axis),
            direction=direction / np.linalg.norm(direction),
            scale=self.scale + float(p[4]),
        )


def along_perp(directions: Floats, axis: Floats) -> tuple[Floats, Floats]:
    """Unit vectors t1 = n x e and t2 = e x t1, each (n, 3), for unit e (n, 3)."""
    t1 = np.cross(axis, directions)
    length = np.linalg.norm(t1, axis=1, keepdims=True)
    t1 = t1 / np.where(length > 1e-9, length, 1.0)
    return t1, np.cross(directions, t1)


def rotation_by(vector: ArrayLike) -> Floats:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) in rad."""
    v = np.asarray(vector, float)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    k = np.zeros((*v.shape[:-1], 3, 3))
    k[..., 0, 1], k[..., 0, 2], k[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    k[..., 1, 0], k[..., 2, 0], k[..., 2, 1] = v[..., 2], -v[..., 1], v[..., 0]
    half = np.sinc(angle / (2 * np.pi))
    out: Floats = np.eye(3) + np.sinc(angle / np.pi) * k + 0.5 * half**2 * (k @ k)
    return out


def displaced(directions: Floats, axis: Floats, small: Floats) -> Floats:
    """Unit vectors e (n, 3) moved by (w1, w2) (n, 2) in rad, along great circles."""
    t1, t2 = along_perp(directions, axis)
    return np.einsum("nij,nj->ni", rotation_by(small[:, :1] * t2 - small[:, 1:] * t1), directions)


def small_angles(directions: Floats, reference: Floats, axis: Floats) -> Floats:
    """(w1, w2), (n, 2) in rad, that take unit vectors `reference` to `directions`, both (n, 3)."""
    t1, t2 = along_perp(reference, axis)
    across = np.stack([np.sum(directions * t1, axis=1), np.sum(directions * t2, axis=1)], axis=1)
    sine = np.linalg.norm(across, axis=1)
    angle = np.arctan2(sine, np.sum(directions * reference, axis=1))
    out: Floats = across * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 1.0)[:, None]
    return out


@numba.njit(cache=True, nogil=True)
def excitation(
    points: Floats, frame: NDArray[np.int64], e: Floats, t1: Floats, t2: Floats, radius: float
) -> tuple[Floats, Floats]:
    """Excitation errors s (n,) in 1/Å and ds/dw (n, 2) in 1/Å per rad.

    ``s = |P - e| - r = q / (sqrt(r^2 + q) + r)``, ``q = P.P - 2 P.e``, free of cancellation;
    ``ds/dw_k = -r P.t_k / |P - e|``.

    Parameters
    ----------
    points : (n, 3) P in 1/Å.
    frame : (n,) row of e, t1, t2 each point is looked at from.
    e, t1, t2 : (frames, 3) unit vectors.
    radius : r = 1/wavelength.
    """
    n = len(frame)
    s, slope = np.empty(n), np.empty((n, 2))
    for i in range(n):
        f = frame[i]
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        q = x * x + y * y + z * z - 2 * radius * (x * e[f, 0] + y * e[f, 1] + z * e[f, 2])
        length = np.sqrt(max(radius * radius + q, 0.0))
        s[i] = q / (length + radius)
        slope[i, 0] = -radius * (x * t1[f, 0] + y * t1[f, 1] + z * t1[f, 2]) / length
        slope[i, 1] = -radius * (x * t2[f, 0] + y * t2[f, 1] + z * t2[f, 2]) / length
    return s, slope


def from_engine(
    name: str, orientation: Floats, basis: Floats, geometry: Geometry, angle_deg: Floats
) -> SmoothRotation:
    """The rotation an engine's ``A = U B`` and axis describe.

    Raises
    ------
    UserError : A and B do not describe one cell in one setting (or A is of the other hand).
    """
    u = np.asarray(orientation, float) @ np.linalg.inv(basis)
    left, singular, right = np.linalg.svd(u)
    if np.linalg.det(u) < 0:
        raise UserError(
            f"{name}: orientation",
            "a left-handed one",
            "A = U B with U a rotation",
            "index again, or change the sign of one axis of the lattice and of its indices",
        )
    if np.abs(singular - 1).max() > 0.03 or np.abs(u - left @ right).max() > 0.03:
        raise UserError(
            f"{name}: orientation",
            f"A = U B with U stretching by {100 * np.abs(singular - 1).max():.1f} %",
            "an orientation and a cell of one lattice in one setting",
            "give the cell in the setting the indices are in",
        )
    u = left @ right
    middle = float(np.median(angle_deg))
    axis = u.T @ np.asarray(geometry.axis)
    start = SmoothRotation(axis, -u.T @ np.array([0.0, 0.0, 1.0]), 0.0)
    return SmoothRotation(axis, start.directions([middle])[0], middle)


def lab_rotations(directions: Floats, axis: Floats, geometry: Geometry) -> Floats:
    """R, (n, 3, 3), with ``R e = -z`` and the crystal's axis over the lab's, as seen along z.

    What indices do not tell, the rotation about the beam, is taken from the lab axis of `geometry`.
    """
    lab = np.array([geometry.axis[0], geometry.axis[1], 0.0])
    length = np.linalg.norm(lab)
    if length < 1e-3:
        raise UserError(
            "geometry: axis", "one along the beam", "one across it", "give the axis of the tilt"
        )
    lab /= length
    z = np.array([0.0, 0.0, 1.0])
    t1, t2 = along_perp(directions, axis)  # t2 is the axis as seen along the beam; t1 = t2 x e
    ours = np.stack([t2, t1, directions], axis=2)
    theirs = np.stack([lab, np.cross(lab, -z), -z], axis=1)
    out: Floats = np.einsum("ij,nkj->nik", theirs, ours)
    return out
