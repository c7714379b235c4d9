"""Rays through particles: how long their paths are, and how much of the beam takes them.

A ray through the pixel (row, column) is ``p + w d`` in a particle's own frame, p linear in row
and column. Its path within the body ``n . r <= c`` runs from the largest of
``(c - n . p) / n . d`` over the faces that it enters by to the smallest over those it leaves by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .view import Pose, View

Floats = NDArray[np.float64]

# Faces whose normal and the ray are at right angles within this are not met.
PARALLEL = 1e-9

GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)


@dataclass(frozen=True)
class BeamProfile:
    """Current density over the beam's disc, the same at all sizes.

    ``(1 + gradient x / R - dome r^2 / R^2) erfc((r - R) / (sqrt(2) soft R)) / 2``, up to a factor;
    in a defocused disc times ``1 + rim cos(2 pi u) exp(-u)``, ``u = (R - r) / (width R)``, like
    the first Fresnel fringes of the aperture's edge.
    """

    soft: float = 0.03
    gradient: float = 0.12
    gradient_azimuth_deg: float = 40.0
    dome: float = 0.2
    rim: float = 0.25
    rim_width: float = 0.05

    def parameters(self, view: View) -> Floats:
        """What the compiled functions take: centre x, y, R, soft R, gradient, dome, rim, width,
        and the squares of the radii where the edge begins and ends."""
        radius, azimuth = view.beam_radius_um, math.radians(self.gradient_azimuth_deg)
        rim = self.rim if view.mode == "diffraction" and view.defocused else 0.0
        edge = 4 * max(self.soft, self.rim_width if rim else 0.0) * radius
        return np.array(
            [
                *view.beam_centre_um,
                radius,
                self.soft * radius,
                self.gradient * math.cos(azimuth) / radius,
                self.gradient * math.sin(azimuth) / radius,
                self.dome / radius**2,
                rim,
                self.rim_width * radius,
                max(radius - edge, 0.0) ** 2,
                self.reach_um(radius) ** 2,
            ]
        )

    def reach_um(self, radius_um: float) -> float:
        """Beyond this distance from its centre there is no beam."""
        return radius_um * (1 + 4 * self.soft)

    def integral_um2(self, radius_um: float) -> float:
        """Over the whole beam, without the rim; the erfc is a disc blurred by ``s = soft R``:

        ``pi (R^2 + s^2) - dome / R^2 pi / 2 (R^4 + 6 R^2 s^2 + 3 s^4)``.
        """
        s2, r2 = (self.soft * radius_um) ** 2, radius_um**2
        dome = self.dome / r2 * math.pi / 2 * (r2**2 + 6 * r2 * s2 + 3 * s2**2)
        return math.pi * (r2 + s2) - dome


BEAM = BeamProfile()


@njit(cache=True)
def density_at(x: float, y: float, beam: Floats) -> float:
    """Of the beam at lab (x, y), um; see `BeamProfile`."""
    dx, dy = x - beam[0], y - beam[1]
    r2 = dx * dx + dy * dy
    if r2 > beam[10]:
        return 0.0
    value = 1.0 + beam[4] * dx + beam[5] * dy - beam[6] * r2
    if r2 < beam[9]:
        return value
    r = math.sqrt(r2)
    if beam[7] != 0.0:
        u = (beam[2] - r) / beam[8]
        value *= 1.0 + beam[7] * math.cos(2.0 * math.pi * u) * math.exp(-abs(u))
    if beam[3] > 0.0:
        if r > beam[2] - 4.0 * beam[3]:
            value *= 0.5 * math.erfc((r - beam[2]) / (math.sqrt(2.0) * beam[3]))
    elif r > beam[2]:
        value = 0.0
    return max(value, 0.0)


@dataclass(frozen=True)
class Rays:
    """Rays through the pixels of some raster, in the specimen's frame.

    Attributes
    ----------
    origin : (3,) where the ray of pixel (0, 0) meets the plane lab z = 0, um.
    per_row, per_column : (3,) how that moves with row and column.
    direction : (3,) of all rays.
    rotation, translation_um : of the pose.
    px_per_um : (2, 2), and `origin_px` (2,): lab (x, y) to (row, column).
    """

    origin: Floats
    per_row: Floats
    per_column: Floats
    direction: Floats
    rotation: Floats
    translation_um: Floats
    px_per_um: Floats
    origin_px: Floats

    def to_lab(self, specimen_um: Floats) -> Floats:
        """(..., 3) points of the specimen in the lab frame, um."""
        lab: Floats = specimen_um @ self.rotation.T + self.translation_um
        return lab

    def on_film(self, lab_xy_um: Floats) -> Floats:
        """(2,) where the ray through lab (x, y) meets the plane z = 0 of the specimen."""
        p = self.rotation.T @ (np.append(lab_xy_um, 0.0) - self.translation_um)
        met: Floats = p[:2] - p[2] / self.direction[2] * self.direction[:2]
        return met

    def to_px(self, specimen_um: Floats) -> Floats:
        """(..., 2) (row, column) of points (..., 3) of the specimen."""
        px: Floats = self.to_lab(specimen_um)[..., :2] @ self.px_per_um.T + self.origin_px
        return px


def middle(view: View) -> Pose:
    """The mean pose of an exposure: right to second order in its short way."""
    if view.start is view.end:
        return view.start
    return Pose(
        0.5 * (view.start.rotation + view.end.rotation),
        0.5 * (view.start.translation_um + view.end.translation_um),
    )


def rays_through(pose: Pose, px_per_um: Floats, origin_px: Floats) -> Rays:
    """The rays of a raster that shows lab (x, y) at ``origin_px + px_per_um @ (x, y)``."""
    back = pose.rotation.T
    to_lab = np.linalg.inv(px_per_um)
    corner = np.append(-to_lab @ origin_px, 0.0) - pose.translation_um
    return Rays(
        back @ corner,
        back[:, :2] @ to_lab[:, 0],
        back[:, :2] @ to_lab[:, 1],
        back[:, 2].copy(),
        pose.rotation,
        pose.translation_um,
        px_per_um,
        origin_px,
    )


@njit(cache=True)
def planes_of(
    faces: Floats, centre: Floats, origin: Floats, per_row: Floats, per_column: Floats, d: Floats
) -> Floats:
    """(f, 4) for each face: +1 if rays leave by it, -1 if they enter, 0 if they run along it;
    and a, b, c of where on the ray: ``a + b row + c column``, um."""
    planes = np.empty((len(faces), 4))
    for f in range(len(faces)):
        n0, n1, n2, c = faces[f, 0], faces[f, 1], faces[f, 2], faces[f, 3]
        slope = n0 * d[0] + n1 * d[1] + n2 * d[2]
        start = (
            c
            - n0 * (origin[0] - centre[0])
            - n1 * (origin[1] - centre[1])
            - n2 * (origin[2] - centre[2])
        )
        row = -(n0 * per_row[0] + n1 * per_row[1] + n2 * per_row[2])
        column = -(n0 * per_column[0] + n1 * per_column[1] + n2 * per_column[2])
        if abs(slope) < PARALLEL:
            planes[f, 0], slope = 0.0, 1.0
        else:
            planes[f, 0] = 1.0 if slope > 0 else -1.0
        planes[f, 1], planes[f, 2], planes[f, 3] = start / slope, row / slope, column / slope
    return planes


@njit(cache=True)
def path_um(planes: Floats, row: float, column: float) -> float:
    """Of the ray of one pixel within a body; 0 if it misses."""
    low, high = -1e9, 1e9
    for f in range(len(planes)):
        bound = planes[f, 1] + planes[f, 2] * row + planes[f, 3] * column
        if planes[f, 0] > 0.0:
            if bound < high:
                high = bound
        elif planes[f, 0] < 0.0:
            if bound > low:
                low = bound
        elif bound < 0.0:
            return 0.0
        if low >= high:
            return 0.0
    return high - low


@njit(cache=True)
def attenuate(image: Floats, planes: Floats, box: NDArray[np.int64], per_um: float) -> None:
    """Multiply by ``exp(-per_um path)`` within a box of pixels (top, bottom, left, right)."""
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            if image[i, j] > 0.0:
                path = path_um(planes, float(i), float(j))
                if path > 0.0:
                    image[i, j] *= math.exp(-per_um * path)


@njit(cache=True)
def dark_field(
    image: Floats, planes: Floats, box: NDArray[np.int64], beam: Floats, to_lab: Floats,
    origin_px: Floats, moved: Floats, scale: float,
) -> float:  # fmt: skip
    """Add ``scale density path`` of a body, `moved` px (row, column); returns what was due."""
    total = 0.0
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            row, column = i - moved[0], j - moved[1]
            u, v = row - origin_px[0], column - origin_px[1]
            x = to_lab[0, 0] * u + to_lab[0, 1] * v
            y = to_lab[1, 0] * u + to_lab[1, 1] * v
            value = scale * density_at(x, y, beam)
            if value > 0.0:
                path = path_um(planes, row, column)
                image[i, j] += value * path
                total += value * path
    return total


@njit(cache=True)
def sample_beam(planes: Floats, beam: Floats, n: int) -> tuple[float, float]:
    """Share of the beam that passes a body, and the mean path of that share, um.

    `planes` : of a raster of n x n pixels that spans the beam with its soft edge; as many points
    are looked at.
    """
    step = 2.0 * (beam[2] + 4.0 * beam[3]) / n
    total, hit, length = 0.0, 0.0, 0.0
    for k in range(n * n):  # a Fibonacci lattice: no row of points runs along an edge
        row = (k + 0.5) / n - 0.5
        turn = k * GOLDEN
        column = (turn - math.floor(turn)) * n - 0.5
        x, y = column - 0.5 * (n - 1), row - 0.5 * (n - 1)
        w = density_at(beam[0] + x * step, beam[1] + y * step, beam)
        if w > 0.0:
            total += w
            path = path_um(planes, row, column)
            if path > 0.0:
                hit += w
                length += w * path
    if hit == 0.0:
        return 0.0, 0.0
    return hit / total, length / hit


def box_of(corners_px: Floats, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Pixels (top, bottom, left, right), ends excluded, that hold all corners (n, 2)."""
    low = np.floor(corners_px.min(axis=0)).astype(np.int64)
    high = np.ceil(corners_px.max(axis=0)).astype(np.int64) + 1
    rows, columns = shape
    return np.array(
        [
            min(max(low[0], 0), rows), max(min(high[0], rows), 0),
            min(max(low[1], 0), columns), max(min(high[1], columns), 0),
        ]
    )  # fmt: skip
