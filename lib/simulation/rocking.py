"""When lattice points cross the Ewald sphere, and how much they scatter into each frame.

With ``q(phi) = R(axis, phi) q0`` and ``k = 1/lambda``, Rodrigues' formula gives

    |q(phi) + s0|^2 = k^2 + C + R cos(phi - phi0),
    C = |q0|^2 + 2 s0.q_par,  R cos(phi0) = 2 s0.q_perp,  R sin(phi0) = 2 s0.(axis x q0),

q_par and q_perp being the parts of q0 along and normal to the axis. The excitation error
``s = k - |q + s0|`` is thus known in closed form, and zero at ``phi0 +- arccos(-C/R)``. It is
monotone on each half turn about phi0; a half turn that brings the point within reach of the
sphere is one *event*. A rocking curve P(s) of unit area gives an event the integral
``W = int P(s(phi)) dphi``, which is the Lorentz factor ``1 / |ds/dphi|`` wherever the crossing
is quick; nothing else puts the Lorentz factor in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, sici

from ..geometry import Geometry, rotation_about
from .conditions import RockingShape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Standard deviations of the Gaussian to the half width at half maximum.
HALF_WIDTH = float(np.sqrt(2 * np.log(2)))

# How far each curve is followed, in standard deviations of the Gaussian of its width.
REACH: dict[RockingShape, float] = {"gaussian": 5.0, "lorentzian": 20.0, "sinc2": 20.0}

# Pieces of a frame over which the excitation error is taken to be linear in the angle.
PIECES = 4

# sinc^2(pi T s) has its full width at half maximum at 0.885893 / T.
SINC2_WIDTH = 0.885893


@dataclass(frozen=True)
class Events:
    """Passages of lattice points through the Ewald sphere.

    Attributes
    ----------
    point : (m,) index of the lattice point.
    angle_deg : (m,) of the crossing; of the closest approach where there is none.
    window_deg : (m, 2) the range of angles in which the point scatters.
    grazing : (m,) True where the point turns back within reach of the sphere, so that its two
        passages run into each other.
    """

    point: Ints
    angle_deg: Floats
    window_deg: Floats
    grazing: NDArray[np.bool_]


@dataclass(frozen=True)
class Recordings:
    """What each event scatters into each frame; a row per event and frame.

    Attributes
    ----------
    event : (r,) index into the events.
    frame : (r,) exposure number from 0; may lie before the first or after the last.
    integral : (r,) ``int P(s(phi)) dphi`` over the exposure, Å rad.
    row, column : (r,) mean position on the detector relative to the beam centre, px.
    """

    event: Ints
    frame: Ints
    integral: Floats
    row: Floats
    column: Floats


def cumulative(shape: RockingShape, x: Floats) -> Floats:
    """Integral from 0 to `x` (in standard deviations) of a rocking curve of unit area."""
    if shape == "gaussian":
        return 0.5 * erf(x / np.sqrt(2))
    if shape == "lorentzian":
        return np.arctan(x / HALF_WIDTH) / np.pi
    u = np.pi * SINC2_WIDTH / (2 * HALF_WIDTH) * x
    safe = np.where(u == 0, 1.0, u)
    integral: Floats = (sici(2 * u)[0] - np.where(u == 0, 0.0, np.sin(u) ** 2 / safe)) / np.pi
    return integral


def _cosine_law(q0: Floats, geometry: Geometry) -> tuple[Floats, Floats, Floats]:
    """C, R (1/Å^2) and phi0 (rad) of the points `q0` (n, 3); see the module's equations."""
    axis, s0 = np.array(geometry.axis), geometry.s0
    along = (q0 @ axis)[:, None] * axis
    cosine, sine = 2 * (q0 - along) @ s0, 2 * np.cross(axis, q0) @ s0
    constant = np.sum(q0**2, axis=1) + 2 * along @ s0
    return constant, np.hypot(cosine, sine), np.arctan2(sine, cosine)


def excitation_error(q0: Floats, angle_deg: Floats, geometry: Geometry) -> Floats:
    """``s = 1/lambda - |R(axis, phi) q0 + s0|`` in 1/Å, (n, ...) for points (n, 3).

    `angle_deg` : (n, ...) goniometer angles, the first axis running over the points.
    """
    extra = (1,) * (angle_deg.ndim - 1)
    constant, radius, start = (v.reshape(-1, *extra) for v in _cosine_law(q0, geometry))
    k = 1 / geometry.wavelength_A
    # k - sqrt(k^2 + x) without the cancellation
    x = constant + radius * np.cos(np.deg2rad(angle_deg) - start)
    s: Floats = -x / (k + np.sqrt(k**2 + x))
    return s


def find_events(
    q0: Floats, reach_per_A: Floats, geometry: Geometry, first_deg: float, last_deg: float
) -> Events:
    """Events of lattice points (n, 3) whose scattering overlaps a range of angles.

    `reach_per_A` (n,) : excitation error up to which a point scatters.
    """
    constant, radius, start = _cosine_law(q0, geometry)
    k = 1 / geometry.wavelength_A
    # a point on the axis has no radius and never moves
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near = ((k + reach_per_A) ** 2 - k**2 - constant) / radius
        far = ((k - reach_per_A) ** 2 - k**2 - constant) / radius
        crossing = -constant / radius
    within = (near > -1) & (far < 1) & (radius > 0)
    point = np.flatnonzero(within)
    low, high, at = (
        np.rad2deg(np.arccos(np.clip(value[point], -1, 1))) for value in (near, far, crossing)
    )
    grazing = (near[point] > 1) | (far[point] < -1)
    origin = np.rad2deg(start[point])
    middle = 0.5 * (first_deg + last_deg)
    angles, windows = [], []
    for side in (1, -1):
        angle = origin + side * at
        turns = 360 * np.rint((middle - angle) / 360)
        window = np.sort(np.stack([origin + side * low, origin + side * high], 1), axis=1)
        angles.append(angle + turns)
        windows.append(window + turns[:, None])
    angle, window = np.concatenate(angles), np.concatenate(windows)
    touched = np.flatnonzero((window[:, 1] > first_deg) & (window[:, 0] < last_deg))
    twice = np.concatenate([point, point])
    rows = touched[np.lexsort((angle[touched], twice[touched]))]
    return Events(twice[rows], angle[rows], window[rows], np.concatenate([grazing, grazing])[rows])


def record(
    events: Events,
    q0: Floats,
    sigma_per_A: Floats,
    shape: RockingShape,
    geometry: Geometry,
    start_deg: float,
    step_deg: float,
) -> Recordings:
    """Spread events over the frames they touch, those outside the series included.

    `q0` (m, 3) and `sigma_per_A` (m,) are per event. Within each of `PIECES` pieces of a frame
    the excitation error is linear in the angle, so the integral of P over the piece is exact.
    """
    first = np.floor((events.window_deg[:, 0] - start_deg) / step_deg).astype(np.int64)
    last = np.ceil((events.window_deg[:, 1] - start_deg) / step_deg).astype(np.int64)
    count = np.maximum(last - first, 1)
    event = np.repeat(np.arange(len(count)), count)
    frame = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)

    edge = start_deg + step_deg * (frame[:, None] + np.linspace(0, 1, PIECES + 1))
    edge = np.clip(edge, events.window_deg[event, :1], events.window_deg[event, 1:])
    x = excitation_error(q0[event], edge, geometry) / sigma_per_A[event, None]
    dx = np.diff(x, axis=1)
    # Where x stands still (a turning point) the quotient is taken over a small step about it.
    small = np.abs(dx) < 1e-4
    centre = 0.5 * (x[:, 1:] + x[:, :-1])
    left = np.where(small, centre - 5e-5, x[:, :-1])
    right = np.where(small, centre + 5e-5, x[:, 1:])
    density = (cumulative(shape, right) - cumulative(shape, left)) / (right - left)
    piece = density / sigma_per_A[event, None] * np.deg2rad(np.diff(edge, axis=1))

    integral = piece.sum(axis=1)
    middle = 0.5 * (edge[:, 1:] + edge[:, :-1])
    share = np.where(integral[:, None] > 0, piece, 1.0)
    share = share / share.sum(axis=1, keepdims=True)
    # A spot moves little within a frame: its place is that of the mean angle.
    angle = np.sum(share * middle, axis=1)
    rc = positions(q0[event], angle, geometry)
    return Recordings(event, frame, integral, rc[:, 0], rc[:, 1])


def positions(q0: Floats, angle_deg: Floats, geometry: Geometry) -> Floats:
    """(n, 2) row and column, relative to the beam centre, of points (n, 3) at angles (n,)."""
    turned = np.einsum("nij,nj->ni", rotation_about(geometry.axis, angle_deg), q0)
    return geometry.to_pixel(turned, centre=(0.0, 0.0))
