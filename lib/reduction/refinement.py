"""Refinement of crystal and geometry against spot positions and rocking centroids.

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
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ..crystal.cell import (
    Cell,
    cell_from_reciprocal_basis,
    reciprocal_basis,
)
from ..geometry import EllipticalDistortion, Geometry, rotation_about

Floats = NDArray[np.float64]

# The radial distortion's parameter is scaled to be of order one.
_RADIAL_UNIT = 1e-4


@dataclass(frozen=True)
class Model:
    """What predicts where a reflection goes.

    Attributes
    ----------
    orientation : (3, 3) A = U B, 1/Å.
    geometry : beam, detector, axis.
    beam_track_px : (n, 2) measured direct beam per frame; `centre_offset_px` adds to it.
    knots : (k,) frame positions of the centre offsets.
    centre_offset_px : (k, 2) row, column.
    angle_mid_deg : (n,) nominal goniometer angle of each frame's middle.
    angle_step_deg : nominal rotation per frame.
    rotation_scale : true over nominal rotation, about the middle of the series.
    """

    orientation: Floats
    geometry: Geometry
    beam_track_px: Floats
    angle_mid_deg: Floats
    angle_step_deg: float
    knots: Floats = field(default_factory=lambda: np.zeros(1))
    centre_offset_px: Floats = field(default_factory=lambda: np.zeros((1, 2)))
    rotation_scale: float = 1.0

    @property
    def cell(self) -> Cell:
        """Cell parameters."""
        return cell_from_reciprocal_basis(self.orientation)

    def nominal_angle_deg(self, frame: Floats) -> Floats:
        """Nominal goniometer angle at frame positions, extended past both ends."""
        n = len(self.angle_mid_deg)
        inside = np.interp(frame, np.arange(n), self.angle_mid_deg)
        outside = np.minimum(frame, 0) + np.maximum(frame - (n - 1), 0)
        angle: Floats = inside + outside * self.angle_step_deg
        return angle

    def angle_deg(self, frame: Floats) -> Floats:
        """True rotation angle at frame positions."""
        middle = 0.5 * (self.angle_mid_deg[0] + self.angle_mid_deg[-1])
        angle: Floats = middle + self.rotation_scale * (self.nominal_angle_deg(frame) - middle)
        return angle

    def centre_px(self, frame: Floats) -> Floats:
        """(m, 2) beam centre at frame positions."""
        index = np.arange(len(self.beam_track_px))
        centre = np.stack(
            [
                np.interp(frame, index, self.beam_track_px[:, k])
                + np.interp(frame, self.knots, self.centre_offset_px[:, k])
                for k in (0, 1)
            ],
            axis=-1,
        )
        return centre

    def to_reciprocal(self, row: Floats, column: Floats, frame: Floats) -> Floats:
        """Positions at zero rotation, (m, 3) in 1/Å, of detector positions."""
        q = self.geometry.to_q(row, column, self.centre_px(frame))
        back = rotation_about(self.geometry.axis, -self.angle_deg(frame))
        r: Floats = np.einsum("nij,nj->ni", back, q)
        return r

    def diffracted(self, hkl: NDArray[np.int32], frame: Floats) -> Floats:
        """q of reflections at frame positions, (m, 3) in 1/Å, whatever their excitation error."""
        rotation = rotation_about(self.geometry.axis, self.angle_deg(frame))
        q: Floats = np.einsum("nij,nj->ni", rotation, hkl @ self.orientation.T)
        return q

    def with_knots(self, n_knots: int) -> Model:
        """The same model with the centre offset free at `n_knots` knots."""
        last = len(self.beam_track_px) - 1
        knots = np.linspace(0, last, n_knots) if n_knots > 1 else np.zeros(1)
        offsets = np.stack(
            [np.interp(knots, self.knots, self.centre_offset_px[:, k]) for k in (0, 1)], axis=1
        )
        return replace(self, knots=knots, centre_offset_px=offsets)


@dataclass(frozen=True)
class Refined:
    """Outcome of a refinement.

    Attributes
    ----------
    model : refined.
    esd : e.s.d. by parameter name: centre_row_px, centre_column_px, axis_azimuth_deg,
        axis_elevation_deg, rotation_scale, distortion_ratio, distortion_azimuth_deg,
        distance_percent, orientation_deg.
    cell_esd : e.s.d. of the six cell parameters.
    rms_px, rms_excitation : weighted r.m.s. residuals of the observations, px and 1/Å.
    residuals : (n, 3) row px, column px, excitation error 1/Å.
    """

    model: Model
    esd: dict[str, float]
    cell_esd: Cell
    rms_px: float
    rms_excitation: float
    residuals: Floats


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


class _Problem:
    """Residuals and Jacobian of one least-squares problem about a starting model."""

    def __init__(
        self, model: Model, obs: Observations, free: Sequence[str], strain_basis: Floats
    ) -> None:
        self.model, self.obs, self.free = model, obs, tuple(free)
        self.strain = strain_basis
        g = model.geometry
        self.b0 = reciprocal_basis(model.cell)
        self.u0 = model.orientation @ np.linalg.inv(self.b0)
        self.h_cartesian = obs.hkl @ self.b0.T
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
        return _RADIAL_UNIT * float(self._get(x, "radial", 1)[0])

    def updated(self, x: Floats) -> Model:
        """The model at x."""
        m, g = self.model, self.model.geometry
        strain = np.eye(3) + np.tensordot(
            self._get(x, "strain", len(self.strain)), self.strain, axes=1
        )
        orientation = _rotation(self._get(x, "orientation", 3)) @ self.u0 @ strain @ self.b0
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

    def evaluate(self, x: Floats, derivatives: bool) -> tuple[Floats, Floats]:
        """Residuals (3 n,) in units of their sigma, and the Jacobian (3 n, p)."""
        m, g, obs = self.model, self.model.geometry, self.obs
        n = len(obs.hkl)
        w = self._get(x, "orientation", 3)
        turn = _rotation(w)
        s_coefficients = self._get(x, "strain", len(self.strain))
        strain = np.eye(3) + np.tensordot(s_coefficients, self.strain, axes=1)
        q0 = self.h_cartesian @ (turn @ self.u0 @ strain).T
        tilt = self._tilt(x)
        tilt_rotation = _rotation(tilt)
        axis = tilt_rotation @ np.asarray(g.axis)
        scale = m.rotation_scale + float(self._get(x, "rotation_scale", 1)[0])
        rotation = rotation_about(axis, np.rad2deg(self.middle + scale * self.swing))
        q = np.einsum("nij,nj->ni", rotation, q0)
        s = q + g.s0
        length = np.linalg.norm(s, axis=1)
        excitation = length - 1 / g.wavelength_A
        de = self._get(x, "distortion", 2)
        e1, e2 = self.e0[0] + de[0], self.e0[1] + de[1]
        matrix = _distortion_matrix(e1, e2)
        reach = g.distance_mm * (1 + float(self._get(x, "distance", 1)[0]))
        pixel = g.pixel_size_mm
        ideal = reach * s[:, :2] / s[:, 2:3]
        radial = g.radial_per_mm2 + self._radial_step(x)
        r2 = np.einsum("ni,ni->n", ideal, ideal)[:, None]
        lens = ideal * (1 + radial * r2)
        xy = lens @ matrix.T / pixel
        offsets = m.centre_offset_px + self._get(x, "centre", 2 * len(m.knots)).reshape(2, -1).T
        rc = xy[:, ::-1] + self.track + self.hats @ offsets
        scale_px, scale_e = 1 / obs.sigma_px, 1 / obs.sigma_excitation
        residual = np.concatenate(
            [
                (rc[:, 0] - obs.row) * scale_px,
                (rc[:, 1] - obs.column) * scale_px,
                excitation * scale_e,
            ]
        )
        if not derivatives:
            return residual, np.empty((0, 0))
        jacobian = np.zeros((3 * n, self.n))

        def put_xy(column: int, d_xy: Floats) -> None:
            jacobian[:n, column] = d_xy[:, 1] * scale_px
            jacobian[n : 2 * n, column] = d_xy[:, 0] * scale_px

        def through_lens(d_ideal: Floats) -> Floats:
            along = np.einsum("ni,ni->n", ideal, d_ideal)[:, None]
            d_lens = d_ideal * (1 + radial * r2) + 2 * radial * along * ideal
            d_xy: Floats = d_lens @ matrix.T / pixel
            return d_xy

        def put(column: int, dq: Floats) -> None:
            d_ideal = reach * (dq[:, :2] - s[:, :2] / s[:, 2:3] * dq[:, 2:3]) / s[:, 2:3]
            put_xy(column, through_lens(d_ideal))
            jacobian[2 * n :, column] = np.einsum("ni,ni->n", s, dq) / length * scale_e

        for name, where in self.slices.items():
            k = where.start
            if name == "orientation":
                for direction in _left_jacobian(w).T:
                    put(k, np.einsum("nij,nj->ni", rotation, np.cross(direction, q0)))
                    k += 1
            elif name == "strain":
                for tensor in self.strain:
                    dq0 = self.h_cartesian @ (turn @ self.u0 @ tensor).T
                    put(k, np.einsum("nij,nj->ni", rotation, dq0))
                    k += 1
            elif name in ("axis", "axis_azimuth"):
                # R(exp(u) a) = exp(u) R(a) exp(-u)
                for direction in (_left_jacobian(tilt) @ self.tilts).T[: where.stop - k]:
                    back = np.einsum("nij,nj->ni", rotation, np.cross(direction, q0))
                    put(k, np.cross(direction, q) - back)
                    k += 1
            elif name == "rotation_scale":
                put(k, self.swing[:, None] * np.cross(axis, q))
            elif name == "centre":
                knots = len(m.knots)
                jacobian[:n, k : k + knots] = self.hats * scale_px[:, None]
                jacobian[n : 2 * n, k + knots : k + 2 * knots] = self.hats * scale_px[:, None]
            elif name == "distance":
                put_xy(k, through_lens(ideal / (1 + float(x[k]))))
            elif name == "radial":
                put_xy(k, _RADIAL_UNIT * (ideal * r2) @ matrix.T / pixel)
            elif name == "distortion":
                norm2 = 1 - e1 * e1 - e2 * e2
                for e, unit in (
                    (e1, np.array([[1.0, 0.0], [0.0, -1.0]])),
                    (e2, np.array([[0.0, 1.0], [1.0, 0.0]])),
                ):
                    put_xy(k, lens @ (unit / np.sqrt(norm2) + matrix * e / norm2).T / pixel)
                    k += 1
        return residual, jacobian


def refine(
    model: Model,
    observations: Observations,
    free: Sequence[str],
    strain_basis: Floats,
    *,
    priors: dict[str, float] | None = None,
    loss: str = "soft_l1",
    max_evaluations: int = 30,
) -> Refined:
    """Robust least squares of the `free` parameter blocks.

    Parameters
    ----------
    model : starting point.
    observations : indexed spots with standard deviations.
    free : names of the blocks in the module's table.
    strain_basis : (k, 3, 3) strains the lattice allows (crystal Cartesian frame).
    priors : sigma of a zero-mean Gaussian prior on each parameter of a block, about the
        starting model (px, radians or relative, as the block).
    loss : loss of scipy.optimize.least_squares.
    max_evaluations : of the model.
    """
    problem = _Problem(model, observations, free, strain_basis)
    prior_rows = np.zeros((0, problem.n))
    for name, sigma in (priors or {}).items():
        if name in problem.slices:
            where = problem.slices[name]
            rows = np.zeros((where.stop - where.start, problem.n))
            rows[np.arange(len(rows)), np.arange(where.start, where.stop)] = 1 / sigma
            prior_rows = np.concatenate([prior_rows, rows])

    def residuals(x: Floats) -> Floats:
        return np.concatenate([problem.evaluate(x, False)[0], prior_rows @ x])

    def jacobian(x: Floats) -> Floats:
        return np.concatenate([problem.evaluate(x, True)[1], prior_rows])

    solution = least_squares(
        residuals, np.zeros(problem.n), jacobian, method="trf", loss=loss, x_scale="jac",
        max_nfev=max_evaluations,
    )  # fmt: skip
    x = solution.x
    refined = problem.updated(x)
    n = len(observations.hkl)
    flat = problem.evaluate(x, False)[0]
    unit = flat.reshape(3, n).T
    residual = unit * np.stack(
        [observations.sigma_px, observations.sigma_px, observations.sigma_excitation], axis=1
    )
    # a robust chi-square scales the e.s.d.s: 1.4826 MAD is the sigma of a normal core
    spread = 1.4826 * np.median(np.abs(flat - np.median(flat)))
    information = solution.jac.T @ solution.jac
    covariance = np.linalg.pinv(information, rcond=1e-12) * max(spread, 1e-3) ** 2
    esd = _esds(problem, x, covariance)
    weight_px = 1 / (1 + (unit[:, :2] ** 2).sum(axis=1) / 9)
    weight_e = 1 / (1 + unit[:, 2] ** 2 / 9)
    return Refined(
        model=refined,
        esd=esd,
        cell_esd=_cell_esd(problem, x, covariance),
        rms_px=float(np.sqrt(np.average((residual[:, :2] ** 2).sum(axis=1), weights=weight_px))),
        rms_excitation=float(np.sqrt(np.average(residual[:, 2] ** 2, weights=weight_e))),
        residuals=residual,
    )


def _esds(problem: _Problem, x: Floats, covariance: Floats) -> dict[str, float]:
    sigma = np.sqrt(np.maximum(np.diag(covariance), 0))
    esd: dict[str, float] = {}
    for name, where in problem.slices.items():
        s = sigma[where]
        if name == "orientation":
            esd["orientation_deg"] = float(np.rad2deg(s.max()))
        elif name == "centre":
            half = len(s) // 2
            esd["centre_row_px"], esd["centre_column_px"] = (
                float(s[:half].max()),
                float(s[half:].max()),
            )
        elif name in ("axis", "axis_azimuth"):
            esd["axis_azimuth_deg"] = float(np.rad2deg(s[0]))
            if name == "axis":
                esd["axis_elevation_deg"] = float(np.rad2deg(s[1]))
        elif name == "rotation_scale":
            esd["rotation_scale"] = float(s[0])
        elif name == "radial":
            esd["radial_per_mm2"] = float(_RADIAL_UNIT * s[0])
        elif name == "distance":
            esd["distance_percent"] = float(100 * s[0])
        elif name == "distortion":
            # ratio = (1 + e) / (1 - e), azimuth = atan2(e2, e1) / 2
            e1, e2 = problem.e0[0] + x[where][0], problem.e0[1] + x[where][1]
            e = float(np.hypot(e1, e2))
            esd["distortion_ratio"] = float(2 * s.mean() / (1 - e) ** 2)
            esd["distortion_azimuth_deg"] = float(np.rad2deg(s.mean() / (2 * max(e, s.mean()))))
    return esd


def _cell_esd(problem: _Problem, x: Floats, covariance: Floats) -> Cell:
    """Propagate the strain's covariance to the cell by central differences."""
    if "strain" not in problem.slices:
        return (0.0,) * 6
    where = problem.slices["strain"]
    block = covariance[where, where]
    step = 1e-5
    gradient = np.zeros((6, where.stop - where.start))
    for k in range(where.stop - where.start):
        for sign in (1, -1):
            y = x.copy()
            y[where.start + k] += sign * step
            gradient[:, k] += sign * np.array(problem.updated(y).cell) / (2 * step)
    variance = np.einsum("ik,kl,il->i", gradient, block, gradient)
    # what the symmetry fixes has no error, whatever the rounding of the differences says
    sigma = np.sqrt(np.where(variance > 1e-16, variance, 0.0))
    a, b, c, alpha, beta, gamma = (float(v) for v in sigma)
    return a, b, c, alpha, beta, gamma


# Strains of a lattice without symmetry: an orthonormal basis of the symmetric tensors.
TRICLINIC_STRAINS: Floats = np.array(
    [
        np.diag([1.0, 0, 0]),
        np.diag([0, 1.0, 0]),
        np.diag([0, 0, 1.0]),
        np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) / np.sqrt(2),
        np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]]) / np.sqrt(2),
        np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]) / np.sqrt(2),
    ]
)
