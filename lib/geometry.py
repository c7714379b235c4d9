"""The diffraction geometry: where a reciprocal-space point meets the detector.

Lab frame, right-handed: x along increasing column, y along increasing row, z along the
beam from source to detector. ``s0 = z / lambda``; ``q = s - s0`` lies on the Ewald sphere
``|q + s0| = 1 / lambda``. A reflection h of a crystal with basis ``A = U B`` sits, at
goniometer angle phi, at ``q(phi) = R(axis, phi) A h`` (right-handed rotation).

Pixel ``(row, column)`` has its *centre* at integer coordinates. The detector is normal to
the beam and meets it at ``beam_centre_px``; an incident beam that other programs describe
as tilted is, in this frame, a shifted centre.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EllipticalDistortion:
    """Projector-lens ellipticity: circles about the beam centre appear as ellipses.

    ``observed = D ideal`` with ``D = R(az) diag(sqrt(ratio), 1/sqrt(ratio)) R(az)^T``, which
    keeps areas, so it does not mix with the camera length.

    Attributes
    ----------
    ratio : major over minor axis, >= 1.
    azimuth_deg : direction of the major axis, from +x (columns) towards +y (rows), mod 180.
    """

    ratio: float = 1.0
    azimuth_deg: float = 0.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.ratio < 2.0:
            raise ValueError(f"distortion ratio: found {self.ratio}, expected 1 <= ratio < 2")

    @property
    def matrix(self) -> Floats:
        """D, shape (2, 2), acting on ideal (x, y) about the beam centre."""
        azimuth = np.deg2rad(self.azimuth_deg)
        c, s = np.cos(azimuth), np.sin(azimuth)
        rotation = np.array([[c, -s], [s, c]])
        root = np.sqrt(self.ratio)
        return rotation @ np.diag([root, 1 / root]) @ rotation.T

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> EllipticalDistortion:
        """The distortion whose D is the symmetric, area-free part of a (2, 2) matrix."""
        m = np.asarray(matrix, float)
        left, singular, _ = np.linalg.svd(m)
        azimuth = np.rad2deg(np.arctan2(left[1, 0], left[0, 0])) % 180.0
        ratio = float(singular[0] / singular[1])
        return cls(ratio, float(azimuth) if ratio > 1 + 1e-12 else 0.0)


@dataclass(frozen=True)
class Geometry:
    """Beam, detector and rotation axis of one experiment.

    Attributes
    ----------
    wavelength_A : electron wavelength.
    pixel_size_mm : edge of the (square) pixel.
    distance_mm : effective camera length.
    beam_centre_px : (row, column) of the direct beam.
    axis : unit vector of the rotation axis in the lab frame; normalised on construction.
    distortion : elliptical distortion about the beam centre.
    radial_per_mm2 : third-order radial distortion of the projector lens about the beam
        centre: an ideal point at r mm appears at ``r (1 + radial r^2)``; positive for a
        pincushion, negative for a barrel. It acts before the elliptical distortion.
    """

    wavelength_A: float
    pixel_size_mm: float
    distance_mm: float
    beam_centre_px: tuple[float, float]
    axis: tuple[float, float, float]
    distortion: EllipticalDistortion = field(default_factory=EllipticalDistortion)
    radial_per_mm2: float = 0.0

    def __post_init__(self) -> None:
        for name in ("wavelength_A", "pixel_size_mm", "distance_mm"):
            value = float(getattr(self, name))
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}: found {value}, expected a positive number")
            object.__setattr__(self, name, value)
        axis = np.asarray(self.axis, float)
        norm = np.linalg.norm(axis)
        if axis.shape != (3,) or not (np.isfinite(norm) and norm > 0):
            raise ValueError(f"axis: found {self.axis}, expected three numbers, not all zero")
        if abs(norm - 1) > 1e-15:  # else dividing again would only change the last digit
            axis = axis / norm
        object.__setattr__(self, "axis", tuple(float(v) for v in axis))
        row, column = self.beam_centre_px
        object.__setattr__(self, "beam_centre_px", (float(row), float(column)))

    @property
    def per_A_per_px(self) -> float:
        """Reciprocal-space size of a pixel at the centre, 1/Å."""
        return self.pixel_size_mm / (self.distance_mm * self.wavelength_A)

    @property
    def s0(self) -> Floats:
        """Incident beam vector in 1/Å."""
        return np.array([0.0, 0.0, 1.0 / self.wavelength_A])

    def with_(self, **changes: Any) -> Geometry:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_q(self, row: ArrayLike, column: ArrayLike, centre: ArrayLike | None = None) -> Floats:
        """Scattering vectors in the lab frame, (n, 3) in 1/Å, of detector positions in px.

        `centre`: beam centre(s) (row, column) to use instead, shape (2,) or (n, 2).
        """
        rc = np.stack(np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float)), -1)
        offset = rc - np.asarray(self.beam_centre_px if centre is None else centre, float)
        xy = offset[..., ::-1] @ np.linalg.inv(self.distortion.matrix).T * self.pixel_size_mm
        if self.radial_per_mm2:
            xy = xy * _without_radial(np.sum(xy * xy, axis=-1), self.radial_per_mm2)[..., None]
        direction = np.concatenate([xy, np.full((*xy.shape[:-1], 1), self.distance_mm)], -1)
        s = direction / np.linalg.norm(direction, axis=-1, keepdims=True) / self.wavelength_A
        q: Floats = s - self.s0
        return q

    def to_pixel(self, q: ArrayLike, centre: ArrayLike | None = None) -> Floats:
        """Detector (row, column) of scattering vectors (n, 3) in 1/Å; shape (n, 2) in px.

        The ray ``s0 + q`` is followed as it is, whether or not it ends on the Ewald sphere.
        """
        s = np.asarray(q, float) + self.s0
        xy = s[..., :2] / s[..., 2:3] * self.distance_mm
        xy = xy * (1 + self.radial_per_mm2 * np.sum(xy * xy, axis=-1, keepdims=True))
        rc = (xy @ self.distortion.matrix.T)[..., ::-1] / self.pixel_size_mm
        pixel: Floats = rc + np.asarray(self.beam_centre_px if centre is None else centre, float)
        return pixel


def _without_radial(r2_mm2: Floats, radial_per_mm2: float) -> Floats:
    """Ideal over observed radius u/r, where ``r = u (1 + radial u^2)``: the cubic solved by angles.

    NaN beyond the fold of a lens that compresses, 4/27 = -radial r^2: nothing is imaged there.
    """
    x = radial_per_mm2 * r2_mm2
    root = np.sqrt(3 * np.maximum(abs(x), 1e-14))
    if radial_per_mm2 > 0:
        exact = 2 / root * np.sinh(np.arcsinh(1.5 * root) / 3)
    else:
        with np.errstate(invalid="ignore"):
            exact = 2 / root * np.sin(np.arcsin(1.5 * root) / 3)
    factor: Floats = np.where(abs(x) < 1e-8, 1 - x, exact)
    return factor


def rotation_about(axis: ArrayLike, angle_deg: ArrayLike) -> Floats:
    """Right-handed rotation matrices about a unit `axis`: shape (..., 3, 3) (Rodrigues)."""
    x, y, z = np.asarray(axis, float)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(np.asarray(angle_deg, float))[..., None, None]
    rotation: Floats = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)
    return rotation


def rotated(vectors: ArrayLike, axis: ArrayLike, angle_deg: ArrayLike) -> Floats:
    """Vectors (n, 3), each rotated about the unit `axis` by its own angle (n,).

    The same as with the matrices of `rotation_about`, which need not be made for it.
    """
    v, a = np.asarray(vectors, float), np.asarray(axis, float)
    angle = np.deg2rad(np.asarray(angle_deg, float))[:, None]
    along = np.outer(a, a)
    turned: Floats = v @ along
    turned += np.cos(angle) * (v @ (np.eye(3) - along))
    turned += np.sin(angle) * (v @ np.array([[0, a[2], -a[1]], [-a[2], 0, a[0]], [a[1], -a[0], 0]]))
    return turned


def to_dials_frame(vector: ArrayLike) -> Floats:
    """An XDS-frame vector (ours) in the frame DIALS and dxtbx use: (x, -y, -z)."""
    return np.asarray(vector, float) * np.array([1.0, -1.0, -1.0])


def instamatic_axis(theta_rad: float) -> Floats:
    """Rotation axis in the lab frame from instamatic's axis angle: (cos, -sin, 0)."""
    return np.array([np.cos(theta_rad), -np.sin(theta_rad), 0.0])


def centre_from_corner(x_px: float, y_px: float) -> tuple[float, float]:
    """(row, column) of a point counted from the detector's corner, as DIALS and pyFAI count.

    There the centre of the first pixel is at (0.5, 0.5); here it is at (0, 0).
    """
    return y_px - 0.5, x_px - 0.5


def centre_to_corner(beam_centre_px: tuple[float, float]) -> tuple[float, float]:
    """(x, y) in pixels from the detector's corner of a (row, column) of ours."""
    row, column = beam_centre_px
    return column + 0.5, row + 0.5


def centre_from_xds(
    orgx: float,
    orgy: float,
    distance_px: float = 0.0,
    beam: ArrayLike = (0.0, 0.0, 1.0),
) -> tuple[float, float]:
    """(row, column) where the direct beam meets the detector, from XDS' ORGX and ORGY.

    ORGX and ORGY count from 1 and are the foot of the perpendicular from the crystal; a
    tilted `beam` (INCIDENT_BEAM_DIRECTION) arrives beside it by ``distance_px *
    beam_xy / beam_z`` where `distance_px` is the detector distance in pixels.
    """
    x, y, z = np.asarray(beam, float)
    return float(orgy - 1 + distance_px * y / z), float(orgx - 1 + distance_px * x / z)


def centre_to_xds(beam_centre_px: tuple[float, float]) -> tuple[float, float]:
    """(ORGX, ORGY) of a beam centre (row, column), for an untilted beam."""
    row, column = beam_centre_px
    return column + 1, row + 1


def to_beam_frame(vector: ArrayLike, beam: ArrayLike) -> Floats:
    """`vector` after the shortest rotation that takes the direction `beam` to z."""
    b = np.asarray(beam, float) / np.linalg.norm(np.asarray(beam, float))
    axis = np.cross(b, [0.0, 0.0, 1.0])
    sine = np.linalg.norm(axis)
    v = np.asarray(vector, float)
    if sine < 1e-12:
        return v
    turned: Floats = rotation_about(axis / sine, np.rad2deg(np.arctan2(sine, b[2]))) @ v
    return turned
