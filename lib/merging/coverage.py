"""Which beam directions were recorded, and which part of reciprocal space that leaves out.

Nothing but the reflections is needed for it. Where hkl diffracts, the beam u (unit vector from
source to detector) has ``q . u = -lambda q^2 / 2``. In the crystal the beam turns about the
rotation axis, ``u = p + r cos(phi) + t sin(phi)``: nine numbers, linear in these equations, which
the thousands of positions in `frame`, or better in `angle_deg`, determine. That the result has
unit length is not imposed, so that it shows whether indices, cell and frames are consistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Floats, reciprocal_basis
from .data_set import DataSet

_MIN_REFLECTIONS = 20
# The beam's length may be off by this before it is not believed.
_LENGTH_TOLERANCE = 0.03


@dataclass(frozen=True)
class BeamPath:
    """The beam in the Cartesian frame of a crystal: ``p + r cos(phi) + t sin(phi)``, phi from 0.

    Attributes
    ----------
    p, r, t : (3,).
    range_deg : phi at the end.
    """

    p: Floats
    r: Floats
    t: Floats
    range_deg: float

    @property
    def axis(self) -> Floats:
        """Unit vector of the rotation axis; its sense is that of r x t."""
        normal = np.cross(self.r, self.t)
        axis: Floats = normal / np.linalg.norm(normal)
        return axis

    def at(self, phi_deg: ArrayLike) -> Floats:
        """(n, 3) unit vectors."""
        phi = np.deg2rad(np.atleast_1d(np.asarray(phi_deg, float)))[:, None]
        u = self.p + self.r * np.cos(phi) + self.t * np.sin(phi)
        result: Floats = u / np.linalg.norm(u, axis=1, keepdims=True)
        return result

    def recorded(self, q: Floats, wavelength_A: float) -> NDArray[np.bool_]:
        """(n,) whether points q (n, 3) in 1/Å, or their inverses, met the Ewald sphere."""
        met = np.zeros(len(q), bool)
        end = np.deg2rad(self.range_deg)
        along, cosine, sine = q @ self.p, q @ self.r, q @ self.t
        reach, peak = np.hypot(cosine, sine), np.arctan2(sine, cosine) % (2 * np.pi)
        half = 0.5 * wavelength_A * np.sum(q**2, axis=1)
        ends = cosine * np.cos(end) + sine * np.sin(end)
        for sense in (1.0, -1.0):
            # highest and lowest of q . u over the rotation, at its ends or between
            first, last = sense * cosine, sense * ends
            at_peak = peak if sense > 0 else (peak + np.pi) % (2 * np.pi)
            top = np.where(at_peak <= end, reach, np.maximum(first, last))
            bottom = np.where(
                (at_peak + np.pi) % (2 * np.pi) <= end, -reach, np.minimum(first, last)
            )
            level = -half - sense * along
            met |= (bottom <= level) & (level <= top)
        return met


@dataclass(frozen=True)
class OrientationCoverage:
    """Directions of the beam in the crystal, and of reciprocal space recorded.

    Attributes
    ----------
    names : of the data sets.
    beam : per data set, (k, 3) unit vectors of the beam in the Cartesian frame of the cell, about
        one per degree of rotation; (0, 3) where it could not be told.
    axis : (sets, 3) unit vectors of the rotation axis likewise; NaN where unknown.
    directions : (n, 3) unit vectors evenly over a hemisphere of reciprocal space.
    times : (n,) data sets that recorded a reflection at `d_A` in this direction or an equivalent.
    d_A : resolution that this holds for.
    covered, covered_without_symmetry : fractions of the directions recorded at least once.
    missing_cone_deg : half angle of the largest cone with no recorded direction; 0 if there is
        none.
    missing_direction : (3,) its axis; NaN likewise.
    unknown : data sets whose beam directions could not be told, and why.
    """

    names: tuple[str, ...]
    beam: tuple[Floats, ...]
    axis: Floats
    directions: Floats
    times: NDArray[np.int64]
    d_A: float
    covered: float
    covered_without_symmetry: float
    missing_cone_deg: float
    missing_direction: Floats
    unknown: dict[str, str]


def beam_path(data: DataSet) -> BeamPath | str:
    """The beam in a crystal from the reflections' positions; or the reason why it is unknown."""
    if len(data) < _MIN_REFLECTIONS:
        return f"{len(data)} observations, {_MIN_REFLECTIONS} needed"
    if not (np.isfinite(data.range_deg) and data.range_deg > 0 and data.n_frames > 0):
        return f"rotation range {data.range_deg:.1f} degrees"
    q = data.hkl @ reciprocal_basis(data.cell).T
    if data.angle_deg is None:
        phi = np.deg2rad((data.frame + 0.5) * data.range_deg / data.n_frames)
        range_deg = data.range_deg
    else:
        phi = np.deg2rad(data.angle_deg - data.angle_deg.min())
        range_deg = float(np.ptp(data.angle_deg))
    rest = -0.5 * data.wavelength_A * np.sum(q**2, axis=1)
    design = np.concatenate([q, q * np.cos(phi)[:, None], q * np.sin(phi)[:, None]], axis=1)
    # p and r cannot be told apart over a small range: the smaller one is as good
    damping = 1e-4 * np.sqrt(np.mean(np.sum(q**2, axis=1))) * np.sqrt(len(q)) * np.eye(9)
    lhs, rhs = np.concatenate([design, damping]), np.concatenate([rest, np.zeros(9)])
    weight = np.ones(len(q))
    solution = np.zeros(9)
    for _ in range(4):
        solution = np.linalg.lstsq(
            lhs * np.concatenate([weight, np.ones(9)])[:, None],
            rhs * np.concatenate([weight, np.ones(9)]),
            rcond=None,
        )[0]
        residual = np.abs(design @ solution - rest)
        limit = 3 * 1.4826 * float(np.median(residual)) + 1e-12
        weight = np.sqrt(np.minimum(1.0, limit / np.maximum(residual, 1e-300)))
    # the null vector of q.u ~ 0 is no beam: its length tells
    return _checked(BeamPath(solution[:3], solution[3:6], solution[6:], range_deg))


def _checked(path: BeamPath) -> BeamPath | str:
    phi = np.deg2rad(np.linspace(0, path.range_deg, 9))[:, None]
    length = np.linalg.norm(path.p + path.r * np.cos(phi) + path.t * np.sin(phi), axis=1)
    if np.abs(length - 1).max() > _LENGTH_TOLERANCE:
        return f"frames and indices are not consistent (beam of length {length.mean():.2f})"
    return path


def hemisphere(n: int = 1000) -> Floats:
    """(n, 3) directions evenly over the hemisphere z >= 0 (Fibonacci lattice)."""
    k = np.arange(n) + 0.5
    z = k / n
    azimuth = np.pi * (1 + np.sqrt(5)) * k
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)


def stereogram(directions: ArrayLike) -> Floats:
    """(n, 2) stereographic projection of unit vectors, those with z < 0 inverted first."""
    v = np.asarray(directions, float).reshape(-1, 3)
    v = np.where(v[:, 2:] < 0, -v, v)
    result: Floats = v[:, :2] / (1 + v[:, 2:])
    return result


def orientation_coverage(
    data_sets: Sequence[DataSet],
    operators: ArrayLike,
    *,
    d_A: float | None = None,
    n_directions: int = 1000,
) -> OrientationCoverage:
    """Coverage of reciprocal space at one resolution.

    Parameters
    ----------
    data_sets : in one setting of one cell.
    operators : (m, 3, 3) rotations of the Laue class, acting on columns of indices.
    d_A : resolution, by default the finest of the data.
    n_directions : over the hemisphere; 1000 are 4.6 degrees apart.
    """
    d_A = d_A or min((float(d.d_A.min()) for d in data_sets if len(d)), default=1.0)
    directions = hemisphere(n_directions)
    names, beams, axes, unknown = [], [], [], {}
    times = np.zeros(n_directions, np.int64)
    plain = np.zeros(n_directions, bool)
    for data in data_sets:
        path = beam_path(data)
        names.append(data.name)
        if isinstance(path, str):
            unknown[data.name] = path
            beams.append(np.zeros((0, 3)))
            axes.append(np.full(3, np.nan))
            continue
        beams.append(path.at(np.linspace(0, path.range_deg, int(path.range_deg) + 2)))
        axes.append(path.axis)
        # equivalents of the directions, in Cartesian coordinates of this crystal
        basis = reciprocal_basis(data.cell)
        rotations = basis @ np.asarray(operators, float) @ np.linalg.inv(basis)
        q = np.einsum("mij,nj->mni", rotations, directions / d_A)
        met = path.recorded(q.reshape(-1, 3), data.wavelength_A).reshape(len(rotations), -1)
        times += met.any(axis=0)
        plain |= path.recorded(directions / d_A, data.wavelength_A)
    angle, direction = _largest_cone(directions, times > 0)
    return OrientationCoverage(
        names=tuple(names),
        beam=tuple(beams),
        axis=np.array(axes).reshape(-1, 3),
        directions=directions,
        times=times,
        d_A=d_A,
        covered=float(np.mean(times > 0)),
        covered_without_symmetry=float(plain.mean()),
        missing_cone_deg=angle,
        missing_direction=direction,
        unknown=unknown,
    )


def _largest_cone(directions: Floats, covered: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Half angle and axis of the largest cone about a direction with none recorded in it."""
    if covered.all():
        return 0.0, np.full(3, np.nan)
    if not covered.any():
        return 90.0, directions[-1]
    missing = directions[~covered]
    nearest = np.abs(missing @ directions[covered].T).max(axis=1)
    widest = int(np.argmin(nearest))
    return float(np.rad2deg(np.arccos(np.clip(nearest[widest], 0, 1)))), missing[widest]
