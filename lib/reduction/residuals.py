"""Residuals of a refinement and their derivatives.

Each indexed spot gives three residuals at its observed rotation angle: the detector position
(row, column) of ``q = R(axis, scale phi) exp(w) U (1 + S) B h`` and its excitation error
``|q + s0| - 1/lambda``. The excitation error is used rather than the predicted angle because
it stays finite where a reflection grazes the Ewald sphere (small Lorentz denominators).

Parameters, each with an analytic derivative:

=============== ===================================================================
orientation     rotation vector w (3); its derivative uses the left Jacobian of SO(3)
strain          coefficients of symmetric strain tensors that keep the lattice's
                symmetry (1 cubic ... 6 triclinic); S acts in the crystal's Cartesian
                frame, so the constraint is exact and the model linear in it
centre          row and column offset of the beam at knots along the series
                (piecewise linear; one knot: a constant)
axis            tilt of the rotation axis in its azimuth (in the detector plane) and
                elevation (towards the beam)
rotation_scale  true over nominal rotation
distortion      the two elements of the area-free symmetric distortion matrix
radial          third-order radial distortion, 1/mm^2
distance        relative change of the camera length
=============== ===================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import orthogonalisation
from ..geometry import EllipticalDistortion, rotation_about
from .model import Model

Floats = NDArray[np.float64]

# The radial distortion's parameter is scaled to be of order one.
RADIAL_UNIT = 1e-4


@dataclass(frozen=True)
class Observations:
    """Indexed spots: (n, 3) hkl, (n,) row, column, frame and their standard deviations."""

    hkl: NDArray[np.int32]
    row: Floats
    column: Floats
    frame: Floats
    sigma_px: Floats
    sigma_excitation: Floats


def _cross(v: Floats) -> Floats:
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def _rotation(w: Floats) -> Floats:
    angle = float(np.linalg.norm(w))
    return rotation_about(w / angle, np.rad2deg(angle)) if angle > 0 else np.eye(3)


def _left_jacobian(w: Floats) -> Floats:
    """J with exp(w + dw) = exp(J dw) exp(w) to first order."""
    angle = float(np.linalg.norm(w))
    k = _cross(w)
    if angle < 1e-6:
        return np.eye(3) + 0.5 * k
    a = (1 - np.cos(angle)) / angle**2
    b = (angle - np.sin(angle)) / angle**3
    jacobian: Floats = np.eye(3) + a * k + b * (k @ k)
    return jacobian


def _distortion_matrix(e1: float, e2: float) -> Floats:
    """Area-free symmetric matrix [[1 + e1, e2], [e2, 1 - e1]] / sqrt(1 - e1^2 - e2^2)."""
    return np.array([[1 + e1, e2], [e2, 1 - e1]]) / np.sqrt(1 - e1 * e1 - e2 * e2)


def _distortion_elements(matrix: Floats) -> tuple[float, float]:
    trace = matrix[0, 0] + matrix[1, 1]
    return float((matrix[0, 0] - matrix[1, 1]) / trace), float(2 * matrix[0, 1] / trace)


# Blocks whose derivatives the kernel writes, in the order of its `starts`.
_IN_KERNEL = (
    "orientation", "strain", "axis", "axis_azimuth", "rotation_scale", "distance", "radial",
    "distortion",
)  # fmt: skip


@numba.njit(cache=True, nogil=True)
def residuals(
    h: Floats,
    angle: Floats,
    swing: Floats,
    to_q0: Floats,
    axis: Floats,
    wavenumber: float,
    reach_px: float,
    stretch: float,
    radial: float,
    radial_unit: float,
    e1: float,
    e2: float,
    centre: Floats,
    row: Floats,
    column: Floats,
    weight_px: Floats,
    weight_e: Floats,
    d_to_q0: Floats,
    tilts: Floats,
    starts: NDArray[np.int64],
    residual: Floats,
    jacobian: Floats,
) -> None:
    """Residuals (3 n,) and, where they are asked for, derivatives (p, 3 n), observation by
    observation.

    Parameters
    ----------
    h : (n, 3) reflections in the crystal's Cartesian frame, ``q0 = to_q0 h``.
    angle, swing : (n,) rotation angle and its derivative by the rotation scale, radians.
    reach_px : camera length in pixels, of which `stretch` has been refined.
    radial, radial_unit : radial distortion, and the unit of its parameter, 1/px^2.
    e1, e2 : elements of the elliptical distortion.
    centre : (n, 2) row and column of the beam.
    weight_px, weight_e : (n,) reciprocal standard deviations.
    d_to_q0 : (d, 3, 3) derivatives of `to_q0` by orientation and strain, in this order.
    tilts : (t, 3) directions about which the axis is tilted.
    starts : first row of each block of `_IN_KERNEL` in the Jacobian, or -1.
    """
    n, n_linear, n_tilts = len(h), len(d_to_q0), len(tilts)
    n_turns = 3 if starts[0] >= 0 else 0
    norm = 1.0 / np.sqrt(1.0 - e1 * e1 - e2 * e2)
    xx, xy, yy = (1.0 + e1) * norm, e2 * norm, (1.0 - e1) * norm
    n_through = n_linear + n_tilts + (1 if starts[4] >= 0 else 0)
    if len(jacobian) == 0:
        n_through = 0
    at = np.empty(n_through, np.int64)
    for k in range(n_through):
        if k < n_turns:
            at[k] = starts[0] + k
        elif k < n_linear:
            at[k] = starts[1] + k - n_turns
        elif k < n_linear + n_tilts:
            at[k] = max(starts[2], starts[3]) + k - n_linear
        else:
            at[k] = starts[4]
    a0, a1, a2 = axis
    for i in range(n):
        x, y, z = h[i]
        p0 = to_q0[0, 0] * x + to_q0[0, 1] * y + to_q0[0, 2] * z
        p1 = to_q0[1, 0] * x + to_q0[1, 1] * y + to_q0[1, 2] * z
        p2 = to_q0[2, 0] * x + to_q0[2, 1] * y + to_q0[2, 2] * z
        c, s = np.cos(angle[i]), np.sin(angle[i])
        v = 1.0 - c
        # the rotation matrix (Rodrigues)
        r00, r01, r02 = c + v * a0 * a0, v * a0 * a1 - s * a2, v * a0 * a2 + s * a1
        r10, r11, r12 = v * a0 * a1 + s * a2, c + v * a1 * a1, v * a1 * a2 - s * a0
        r20, r21, r22 = v * a0 * a2 - s * a1, v * a1 * a2 + s * a0, c + v * a2 * a2
        q0 = r00 * p0 + r01 * p1 + r02 * p2
        q1 = r10 * p0 + r11 * p1 + r12 * p2
        q2 = r20 * p0 + r21 * p1 + r22 * p2
        s2 = q2 + wavenumber
        length = np.sqrt(q0 * q0 + q1 * q1 + s2 * s2)
        # detector, in px from the beam: gnomonic, then radial, then elliptical
        u0, u1 = q0 / s2, q1 / s2
        ideal0, ideal1 = reach_px * u0, reach_px * u1
        rr = ideal0 * ideal0 + ideal1 * ideal1
        bulge = 1.0 + radial * rr
        lens0, lens1 = ideal0 * bulge, ideal1 * bulge
        wp, we = weight_px[i], weight_e[i]
        residual[i] = (xy * lens0 + yy * lens1 + centre[i, 0] - row[i]) * wp
        residual[n + i] = (xx * lens0 + xy * lens1 + centre[i, 1] - column[i]) * wp
        residual[2 * n + i] = (length - wavenumber) * we
        if len(jacobian) == 0:
            continue
        for k in range(n_through):
            if k < n_linear:
                m = d_to_q0[k]
                f0 = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z
                f1 = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z
                f2 = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z
                d0 = r00 * f0 + r01 * f1 + r02 * f2
                d1 = r10 * f0 + r11 * f1 + r12 * f2
                d2 = r20 * f0 + r21 * f1 + r22 * f2
            elif k < n_linear + n_tilts:
                t0, t1, t2 = tilts[k - n_linear]
                f0, f1, f2 = t1 * p2 - t2 * p1, t2 * p0 - t0 * p2, t0 * p1 - t1 * p0
                d0 = t1 * q2 - t2 * q1 - (r00 * f0 + r01 * f1 + r02 * f2)
                d1 = t2 * q0 - t0 * q2 - (r10 * f0 + r11 * f1 + r12 * f2)
                d2 = t0 * q1 - t1 * q0 - (r20 * f0 + r21 * f1 + r22 * f2)
            else:
                d0 = swing[i] * (a1 * q2 - a2 * q1)
                d1 = swing[i] * (a2 * q0 - a0 * q2)
                d2 = swing[i] * (a0 * q1 - a1 * q0)
            i0, i1 = reach_px * (d0 - u0 * d2) / s2, reach_px * (d1 - u1 * d2) / s2
            along = 2.0 * radial * (ideal0 * i0 + ideal1 * i1)
            l0, l1 = i0 * bulge + along * ideal0, i1 * bulge + along * ideal1
            j = at[k]
            jacobian[j, i] = (xy * l0 + yy * l1) * wp
            jacobian[j, n + i] = (xx * l0 + xy * l1) * wp
            jacobian[j, 2 * n + i] = (q0 * d0 + q1 * d1 + s2 * d2) / length * we
        if starts[5] >= 0:  # distance
            factor = (1.0 + 3.0 * radial * rr) / stretch * wp
            jacobian[starts[5], i] = (xy * ideal0 + yy * ideal1) * factor
            jacobian[starts[5], n + i] = (xx * ideal0 + xy * ideal1) * factor
        if starts[6] >= 0:  # radial
            factor = radial_unit * rr * wp
            jacobian[starts[6], i] = (xy * ideal0 + yy * ideal1) * factor
            jacobian[starts[6], n + i] = (xx * ideal0 + xy * ideal1) * factor
        if starts[7] >= 0:  # distortion
            g1, g2 = e1 * norm * norm, e2 * norm * norm
            jacobian[starts[7], i] = (-norm * lens1 + g1 * (xy * lens0 + yy * lens1)) * wp
            jacobian[starts[7], n + i] = (norm * lens0 + g1 * (xx * lens0 + xy * lens1)) * wp
            jacobian[starts[7] + 1, i] = (norm * lens0 + g2 * (xy * lens0 + yy * lens1)) * wp
            jacobian[starts[7] + 1, n + i] = (norm * lens1 + g2 * (xx * lens0 + xy * lens1)) * wp


class Problem:
    """Residuals and Jacobian of one least-squares problem about a starting model."""

    def __init__(
        self, model: Model, obs: Observations, free: Sequence[str], strain_basis: Floats
    ) -> None:
        self.model, self.obs, self.free = model, obs, tuple(free)
        self.strain = strain_basis
        g = model.geometry
        self.real0 = orthogonalisation(model.cell)
        self.b0 = np.linalg.inv(self.real0).T.astype(np.float64)
        self.u0 = model.orientation @ np.linalg.inv(self.b0)
        self.h_cartesian = np.ascontiguousarray(obs.hkl @ self.b0.T)
        nominal = np.deg2rad(model.nominal_angle_deg(obs.frame))
        middle = np.deg2rad(0.5 * (model.angle_mid_deg[0] + model.angle_mid_deg[-1]))
        self.swing = nominal - middle
        self.middle = middle
        self.track = replace(model, knots=np.zeros(1), centre_offset_px=np.zeros((1, 2))).centre_px(
            obs.frame
        )
        self.hats = np.stack(
            [np.interp(obs.frame, model.knots, row) for row in np.eye(len(model.knots))], axis=1
        )
        axis = np.asarray(g.axis)
        # tilting about the beam turns the azimuth; about (beam x axis) lifts the axis
        azimuth = np.array([0.0, 0.0, 1.0]) - axis[2] * axis
        azimuth = (
            azimuth / np.linalg.norm(azimuth)
            if np.linalg.norm(azimuth) > 1e-6
            else (np.array([1.0, 0.0, 0.0]))
        )
        self.tilts = np.stack([azimuth, np.cross(axis, azimuth)], axis=1)
        self.e0 = _distortion_elements(g.distortion.matrix)
        sizes = {
            "orientation": 3, "strain": len(self.strain), "centre": 2 * len(model.knots),
            "axis": 2, "axis_azimuth": 1, "rotation_scale": 1, "distortion": 2, "distance": 1,
            "radial": 1,
        }  # fmt: skip
        self.slices: dict[str, slice] = {}
        start = 0
        for name in self.free:
            self.slices[name] = slice(start, start + sizes[name])
            start += sizes[name]
        self.n = start

    def _get(self, x: Floats, name: str, size: int) -> Floats:
        part: Floats = x[self.slices[name]] if name in self.slices else np.zeros(size)
        return part

    def _tilt(self, x: Floats) -> Floats:
        if "axis_azimuth" in self.slices:
            tilt: Floats = self.tilts[:, :1] @ x[self.slices["axis_azimuth"]]
            return tilt
        full: Floats = self.tilts @ self._get(x, "axis", 2)
        return full

    def _radial_step(self, x: Floats) -> float:
        """Change of the radial coefficient; its parameter counts in 1e-4 / mm^2."""
        return RADIAL_UNIT * float(self._get(x, "radial", 1)[0])

    def updated(self, x: Floats) -> Model:
        """The model at x."""
        m, g = self.model, self.model.geometry
        turn = _rotation(self._get(x, "orientation", 3)) @ self.u0
        orientation = turn @ self.strained(x) @ self.b0
        de = self._get(x, "distortion", 2)
        matrix = _distortion_matrix(self.e0[0] + de[0], self.e0[1] + de[1])
        axis = _rotation(self._tilt(x)) @ np.asarray(g.axis)
        geometry = g.with_(
            axis=tuple(axis),
            distance_mm=g.distance_mm * (1 + float(self._get(x, "distance", 1)[0])),
            radial_per_mm2=g.radial_per_mm2 + self._radial_step(x),
            distortion=EllipticalDistortion.from_matrix(matrix)
            if "distortion" in self.slices
            else g.distortion,
        )
        offsets = m.centre_offset_px + self._get(x, "centre", 2 * len(m.knots)).reshape(2, -1).T
        return replace(
            m,
            orientation=orientation,
            geometry=geometry,
            centre_offset_px=offsets,
            rotation_scale=m.rotation_scale + float(self._get(x, "rotation_scale", 1)[0]),
        )

    def strained(self, x: Floats) -> Floats:
        """1 + S at x."""
        coefficients = self._get(x, "strain", len(self.strain))
        strain: Floats = np.eye(3) + np.tensordot(coefficients, self.strain, axes=1)
        return strain

    def evaluate(self, x: Floats, derivatives: bool) -> tuple[Floats, Floats]:
        """Residuals (3 n,) in units of their sigma, and the Jacobian (3 n, p)."""
        m, g, obs = self.model, self.model.geometry, self.obs
        n = len(obs.hkl)
        w, tilt = self._get(x, "orientation", 3), self._tilt(x)
        turn = _rotation(w) @ self.u0
        to_q0 = turn @ self.strained(x)
        axis = _rotation(tilt) @ np.asarray(g.axis)
        scale = m.rotation_scale + float(self._get(x, "rotation_scale", 1)[0])
        stretch = 1 + float(self._get(x, "distance", 1)[0])
        de = self._get(x, "distortion", 2)
        e1, e2 = self.e0[0] + de[0], self.e0[1] + de[1]
        offsets = m.centre_offset_px + self._get(x, "centre", 2 * len(m.knots)).reshape(2, -1).T
        residual = np.empty(3 * n)
        jacobian = np.zeros((self.n if derivatives else 0, 3 * n))
        # derivatives of q0 are linear in h; a tilt of the axis is R(exp(u) a) = exp(u) R(a) exp(-u)
        d_to_q0, tilts = np.empty((0, 3, 3)), np.empty((0, 3))
        starts = np.full(len(_IN_KERNEL), -1)
        if derivatives:
            parts = []
            if "orientation" in self.slices:
                parts += [_cross(direction) @ to_q0 for direction in _left_jacobian(w).T]
            if "strain" in self.slices:
                parts += [turn @ tensor for tensor in self.strain]
            d_to_q0 = np.array(parts).reshape(-1, 3, 3)
            n_tilts = 1 if "axis_azimuth" in self.slices else 2 * ("axis" in self.slices)
            tilts = np.ascontiguousarray((_left_jacobian(tilt) @ self.tilts).T[:n_tilts])
            for k, name in enumerate(_IN_KERNEL):
                if name in self.slices:
                    starts[k] = self.slices[name].start
        residuals(
            self.h_cartesian, self.middle + scale * self.swing, self.swing, to_q0, axis,
            1 / g.wavelength_A, g.distance_mm * stretch / g.pixel_size_mm, stretch,
            (g.radial_per_mm2 + self._radial_step(x)) * g.pixel_size_mm**2,
            RADIAL_UNIT * g.pixel_size_mm**2, e1, e2, self.track + self.hats @ offsets,
            obs.row, obs.column, 1 / obs.sigma_px, 1 / obs.sigma_excitation,
            d_to_q0, tilts, starts, residual, jacobian,
        )  # fmt: skip
        if derivatives and "centre" in self.slices:
            k, knots = self.slices["centre"].start, len(m.knots)
            jacobian[k : k + knots, :n] = self.hats.T / obs.sigma_px
            jacobian[k + knots : k + 2 * knots, n : 2 * n] = jacobian[k : k + knots, :n]
        return residual, jacobian.T
