"""Exposing crystals: which electrons their lattice points send where, frame by frame.

In kinematic theory a crystal of thickness t scatters, of the electrons that pass it, the
fraction ``(lambda |F| / V)^2 t P(s)`` at excitation error s, with a rocking curve P of unit
area (Williams & Carter, Transmission Electron Microscopy, ch. 13, for ``t << xi_g``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import cell_volume, reciprocal_basis
from ..geometry import Geometry
from .conditions import Beam, Crystal
from .rocking import REACH, find_events, positions, record
from .structures import cell_of, structure_factors
from .truth import TrueReflections

Floats = NDArray[np.float64]

# Spots of fewer electrons than this are not drawn.
FAINTEST_E = 1e-3

RESOLUTION_SHELLS = 20


@dataclass(frozen=True)
class Points:
    """Points of reciprocal space that scatter: hkl (n, 3), q0 (n, 3) in 1/Å, |F|^2 (n,)."""

    crystal: Crystal
    hkl: NDArray[np.int32]
    q0: Floats
    f2: Floats


@dataclass(frozen=True)
class Spots:
    """Spots to draw, one row per event and frame, in the order of the frames.

    Attributes
    ----------
    event : (r,) index of the passage through the Ewald sphere.
    row, column : (r,) relative to the beam centre, px.
    electrons : (r,) expected in the frame.
    part : (r,) of the event's intensity that falls into the frame.
    first : (n_frames + 1,) the rows of frame i are ``first[i]:first[i + 1]``.
    """

    event: NDArray[np.int64]
    row: Floats
    column: Floats
    electrons: Floats
    part: Floats
    first: NDArray[np.int64]


@dataclass(frozen=True)
class Scan:
    """The rotation: angles, and what varies with them.

    Attributes
    ----------
    geometry : the true one.
    start_deg, step_deg : of the exposures, without pause.
    taken : (n_frames,) True where the detector recorded.
    centres_px : (n_frames, 2) beam centres (row, column).
    illumination : (n_frames,) relative crystal volume in the beam.
    beam : of all exposures.
    """

    geometry: Geometry
    start_deg: float
    step_deg: float
    taken: NDArray[np.bool_]
    centres_px: Floats
    illumination: Floats
    beam: Beam


def orientation_of(crystal: Crystal) -> Floats:
    """``A = U B`` (3, 3), 1/Å."""
    basis: Floats = crystal.rotation @ reciprocal_basis(cell_of(crystal.structure))
    return basis


def lattice_points(crystal: Crystal, d_min_A: float) -> Points:
    """All points of the crystal's reciprocal lattice to `d_min_A`."""
    hkl, factor = structure_factors(crystal.structure, d_min_A)
    return Points(crystal, hkl, hkl @ orientation_of(crystal).T, np.abs(factor) ** 2)


def alien_points(lattices: Sequence[Points], fraction: float, seed: Sequence[int]) -> Points:
    """So many points of no lattice that they are `fraction` of all.

    Each has the |g| and |F|^2 of some reflection of the first lattice and any direction.
    """
    rng = np.random.default_rng(seed)
    like = lattices[0]
    number = round(sum(len(p.hkl) for p in lattices) * fraction / (1 - fraction))
    copied = rng.integers(0, len(like.hkl), number)
    direction = rng.normal(size=(number, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    q0 = direction * np.linalg.norm(like.q0[copied], axis=1, keepdims=True)
    return Points(like.crystal, np.zeros((number, 3), np.int32), q0, like.f2[copied])


def expose(points: Points, scan: Scan, seed: Sequence[int]) -> tuple[Spots, TrueReflections]:
    """The spots of `points` on the frames, and the table of their events.

    In the table `frame` counts exposures and `saturated` is not known yet.
    """
    crystal, n_frames = points.crystal, len(scan.taken)
    length = np.linalg.norm(points.q0, axis=1)
    sigma = np.hypot(crystal.size_per_A, np.deg2rad(crystal.mosaicity_deg) * length)
    end_deg = scan.start_deg + n_frames * scan.step_deg
    events = find_events(
        points.q0, REACH[crystal.rocking] * sigma, scan.geometry, scan.start_deg, end_deg
    )
    point = events.point
    q0, f2 = points.q0[point], points.f2[point]
    rows = record(
        events, q0, sigma[point], crystal.rocking, scan.geometry, scan.start_deg, scan.step_deg
    )
    lorentz = np.bincount(rows.event, rows.integral, len(point)).astype(np.float64)

    scattering_f2 = f2
    if crystal.leakage > 0:
        chance = np.random.default_rng(seed).exponential(size=len(point))
        scattering_f2 = f2 + crystal.leakage * _shell_mean(length, points.f2)[point] * chance
    strength = (  # electrons per Å rad of rocking integral
        np.rad2deg(scan.beam.electrons_per_deg)
        * crystal.weight
        * crystal.thickness_A
        * (scan.geometry.wavelength_A / cell_volume(cell_of(crystal.structure))) ** 2
        * scattering_f2
    )

    within = (rows.frame >= 0) & (rows.frame < n_frames)
    frame = np.clip(rows.frame, 0, n_frames - 1)
    electrons = strength[rows.event] * rows.integral * scan.illumination[frame]
    recorded = np.where(within & scan.taken[frame], rows.integral, 0.0)
    drawn = np.flatnonzero(within & scan.taken[frame] & (electrons > FAINTEST_E))
    drawn = drawn[np.argsort(frame[drawn], kind="stable")]
    spots = Spots(
        event=rows.event[drawn],
        row=rows.row[drawn],
        column=rows.column[drawn],
        electrons=electrons[drawn],
        part=rows.integral[drawn] / lorentz[rows.event[drawn]],
        first=np.searchsorted(frame[drawn], np.arange(n_frames + 1)),
    )

    exposure = (events.angle_deg - scan.start_deg) / scan.step_deg - 0.5
    centre = _between_frames(exposure, scan.centres_px)
    pixel = positions(q0, events.angle_deg, scan.geometry) + centre
    table = TrueReflections(
        hkl=points.hkl[point],
        f2=f2,
        angle_deg=events.angle_deg,
        frame=exposure,
        row=pixel[:, 0],
        column=pixel[:, 1],
        intensity=strength * lorentz * _between_frames(exposure, scan.illumination),
        lorentz=lorentz,
        recorded=np.bincount(rows.event, recorded, len(point)) / lorentz,
        saturated=np.zeros(len(point), bool),
        grazing=events.grazing,
    )
    return spots, table


def _between_frames(exposure: Floats, values: Floats) -> Floats:
    """Values (n_frames, ...) at fractional exposure numbers; constant beyond the ends."""
    at = np.arange(len(values))
    columns = [np.interp(exposure, at, column) for column in values.reshape(len(values), -1).T]
    return np.stack(columns, axis=-1).reshape(len(exposure), *values.shape[1:])


def _shell_mean(length: Floats, f2: Floats) -> Floats:
    """Mean |F|^2 of the allowed reflections in the resolution shell of each point, (n,)."""
    edges = np.quantile(length, np.linspace(0, 1, RESOLUTION_SHELLS + 1)[1:-1])
    shell = np.searchsorted(edges, length)
    allowed = f2 > 1e-6 * f2.max()
    total = np.bincount(shell[allowed], f2[allowed], RESOLUTION_SHELLS)
    number = np.bincount(shell[allowed], minlength=RESOLUTION_SHELLS)
    mean: Floats = (total / np.maximum(number, 1))[shell]
    return mean
