"""Kinematic sRED and cRED series whose orientations are known, for accuracy tables.

Andradite (Ia-3d), to the resolutions and with the steps of Tables 6 and 7 of the thesis of
B. Wang (Stockholm University, 2019). With P = B h and e the centre of the Ewald sphere in the
crystal's frame, ``s = |P - e| - 1/lambda``; a reflection of amplitude A gives ``A W(s)`` to a
still (sRED), and the mean over substeps of 0.01 degrees to an exposure during rotation (cRED, as
the thesis made its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, reciprocal_basis
from ..geometry import Geometry, rotation_about
from ..simulation.conditions import random_rotation
from ..simulation.structures import cell_of, garnet, structure_factors
from .observations import FrameIntensities, OrientationData

FINEST_D_A = 0.625  # of the thesis' tables
WEAKEST = 1e-4  # reflections below this part of the largest |F|^2 are as good as absent
SUBSTEP_DEG = 0.01
WAVELENGTH_A = 0.02508  # 200 kV
LISTED_PER_A = 0.0055  # spots so close to the sphere give the tables of the thesis best
DETECTED = 3.0  # standard deviations above which a spot has a place

# Random streams, so that one part of a simulation does not change with another.
DIRECTION, AXIS, START_ERROR, JITTER, ASYMMETRY, SCALE, MULTIPLIED, NOISE, PLACE = range(9)


@dataclass(frozen=True)
class Rotation:
    """How the crystal turns.

    Attributes
    ----------
    kind : sRED (stills at steps) or cRED (each exposure lasts a step).
    step_deg, range_deg : read-out step between frames, and from the first frame to the last.
    scale : true rotation over the read-out.
    jitter_deg : standard deviations of white small rotations of each frame, along and perp.
    sinusoid_deg, sinusoid_period_deg : amplitudes along and perp, of one smooth wobble.
    about_beam_deg : standard deviation of white rotations about the beam.
    """

    kind: Literal["sRED", "cRED"] = "cRED"
    step_deg: float = 0.1
    range_deg: float = 30.0
    scale: float = 1.0
    jitter_deg: tuple[float, float] = (0.0, 0.0)
    sinusoid_deg: tuple[float, float] = (0.0, 0.0)
    sinusoid_period_deg: float = 3.0
    about_beam_deg: float = 0.0


@dataclass(frozen=True)
class Diffraction:
    """How the crystal scatters, and what is counted.

    Attributes
    ----------
    d_min_A : resolution.
    curve : gaussian, of variance ``sigma_s^2 + (mosaic g)^2``; or sinc2, ``sinc^2(thickness s)``
        smeared by the mosaic spread.
    sigma_s_per_A, mosaic_deg, thickness_A : of the curve.
    asymmetry : the curve of a passage is wider on one side and narrower on the other by a part
        drawn evenly from -asymmetry to asymmetry.
    frame_scale_sd : standard deviation of the logarithm of each frame's scale.
    multiplicative_noise : standard deviation of the factor on each intensity.
    median_peak : electrons of the median reflection on a still in Bragg position.
    background : electrons per spot and frame.
    noise : False leaves out the counting (not the variances).
    window_per_A : rows are given where the rotation without jitter brings a reflection so near.
    """

    d_min_A: float = FINEST_D_A
    curve: Literal["gaussian", "sinc2"] = "gaussian"
    sigma_s_per_A: float = 0.002
    mosaic_deg: float = 0.03
    thickness_A: float = 400.0
    asymmetry: float = 0.0
    frame_scale_sd: float = 0.0
    multiplicative_noise: float = 0.0
    median_peak: float = 100.0
    background: float = 30.0
    noise: bool = True
    window_per_A: float = 0.007


@dataclass(frozen=True)
class SimulatedOrientation:
    """A series and its truth.

    Attributes
    ----------
    data : what a method is given.
    centre : (frames, 3) e at mid-exposure, 1/Å, in the crystal's Cartesian frame.
    rotation : (frames, 3, 3) R with ``q_lab = R B h``.
    small_deg : (frames, 2) e off the smooth rotation, jitter and sinusoid together: along
        ``n x e`` (n the axis), and perp, along ``e x (n x e)``.
    about_beam_deg : (frames,) rotation about the beam, off the smooth one.
    frame_scale : (frames,).
    axis : (3,) unit vector of the rotation axis in the crystal's Cartesian frame.
    rotation_scale : true rotation over the read-out.
    nearest_per_A : (rows,) smallest \\|s\\| during the exposure, of each row of the data.
    expected : (rows,) intensity without noise of counting, electrons.
    """

    data: OrientationData
    centre: Floats
    rotation: Floats
    small_deg: Floats
    about_beam_deg: Floats
    frame_scale: Floats
    axis: Floats
    rotation_scale: float
    nearest_per_A: Floats
    expected: Floats

    def listed(self, within_per_A: float = LISTED_PER_A) -> OrientationData:
        """The series as a list of spots without noise, all within so much of the sphere.

        The thesis had such lists from its simulator. Variances are those of a part in a
        thousand, so that every spot counts as seen.
        """
        some = np.flatnonzero(self.nearest_per_A < within_per_A)
        rows = self.data.intensities
        assert rows is not None
        intensity = self.expected[some]
        kept = FrameIntensities(
            rows.hkl[some], rows.crossing[some], rows.frame[some], intensity,
            (1e-3 * intensity) ** 2, rows.row[some], rows.column[some],
        )  # fmt: skip
        return _with_intensities(self.data, kept)


def simulate_orientation(
    rotation: Rotation | None = None,
    diffraction: Diffraction | None = None,
    *,
    seed: int,
    crystal_seed: int | None = None,
    axis_error_deg: float = 0.0,
    direction_error_deg: float = 0.0,
) -> SimulatedOrientation:
    """A series of a randomly oriented crystal; the same arguments give the same numbers.

    Parameters
    ----------
    rotation, diffraction : None takes the defaults.
    seed : of everything random but the orientation.
    crystal_seed : of the orientation and the axis, which is normal to the beam; None: `seed`.
    axis_error_deg, direction_error_deg : how far off the axis and the orientation at angle zero
        are in the data handed over.

    Raises
    ------
    ValueError : fewer than one frame, or reflections finer than `FINEST_D_A` asked for.
    """
    rotation, diffraction = rotation or Rotation(), diffraction or Diffraction()
    if not (rotation.step_deg > 0 and rotation.range_deg >= 0):
        raise ValueError(
            f"step_deg, range_deg: found {rotation.step_deg}, {rotation.range_deg}, expected > 0"
        )
    if diffraction.d_min_A < FINEST_D_A:
        raise ValueError(f"d_min_A: found {diffraction.d_min_A}, expected >= {FINEST_D_A}")
    streams = [np.random.default_rng([seed, stream]) for stream in range(PLACE + 1)]
    crystal = seed if crystal_seed is None else crystal_seed
    turned = random_rotation([crystal, DIRECTION])
    tilt = np.random.default_rng([crystal, AXIS]).uniform(0, 2 * np.pi)
    geometry = Geometry(
        wavelength_A=WAVELENGTH_A, pixel_size_mm=0.055, distance_mm=337.0,
        beam_centre_px=(257.5, 257.5), axis=(np.cos(tilt), np.sin(tilt), 0.0),
    )  # fmt: skip
    motion = _move(rotation, geometry, turned, streams[JITTER])
    hkl, strength = _reflections(diffraction.d_min_A)
    basis = reciprocal_basis(cell_of(garnet()))
    point = hkl @ basis.T
    row = _rows(point, motion, diffraction.window_per_A)
    crossing = row.crossing
    p, g = point[row.reflection], np.linalg.norm(point, axis=1)[row.reflection]
    s = excitation_errors(p, motion.centre[row.frame], motion.axis, motion.substep_deg)

    lean = streams[ASYMMETRY].uniform(-1, 1, crossing.max(initial=-1) + 1)[crossing]
    curve = _curve(s, g, diffraction.asymmetry * lean, diffraction).mean(axis=1)
    frame_scale = np.exp(diffraction.frame_scale_sd * streams[SCALE].normal(size=motion.n_frames))
    peak = diffraction.median_peak * strength / np.median(strength)
    expected = frame_scale[row.frame] * peak[row.reflection] * curve
    expected = expected * np.maximum(
        1 + diffraction.multiplicative_noise * streams[MULTIPLIED].normal(size=len(expected)), 0
    )
    counted = expected + diffraction.background
    if diffraction.noise:
        counted = streams[NOISE].poisson(counted).astype(float)
    intensity = counted - diffraction.background
    variance = np.maximum(intensity, 0) + diffraction.background

    # a spot is about 1 px wide: that is how well each of its electrons tells its place
    rc = geometry.to_pixel(np.einsum("nij,nj->ni", motion.rotation[row.frame], p))
    sd_px = np.sqrt(variance) / np.maximum(intensity, 1e-9)
    rc = rc + np.minimum(sd_px, 2.0)[:, None] * streams[PLACE].normal(size=rc.shape)
    rc[intensity < DETECTED * np.sqrt(variance)] = np.nan
    given, orientation = _off(
        geometry, turned @ basis, axis_error_deg, direction_error_deg, streams[START_ERROR]
    )
    n = motion.n_frames
    data = OrientationData(
        name=f"{rotation.kind} {diffraction.d_min_A:g} A {rotation.step_deg:g} deg seed {seed}",
        orientation=orientation,
        reciprocal_basis=basis,
        geometry=given,
        angle_deg=motion.angle_deg,
        exposure_deg=np.full(n, rotation.step_deg if rotation.kind == "cRED" else 0.0),
        used=np.ones(n, bool),
        beam_row=np.full(n, geometry.beam_centre_px[0]),
        beam_column=np.full(n, geometry.beam_centre_px[1]),
        intensities=FrameIntensities(
            hkl[row.reflection], crossing, row.frame, intensity, variance, rc[:, 0], rc[:, 1]
        ),
    )  # fmt: skip
    return SimulatedOrientation(
        data, motion.centre, motion.rotation, motion.small_deg, motion.about_beam_deg, frame_scale,
        motion.axis, rotation.scale, np.abs(s).min(axis=1), expected,
    )  # fmt: skip


def mean_error_deg(found: Floats, truth: Floats) -> float:
    """Mean angle between directions (frames, 3) and (frames, 3), as in the thesis' tables.

    Frames that a method left out (NaN) do not count; NaN if there are no others.
    """
    error = error_deg(found, truth)
    return float(np.nanmean(error)) if np.isfinite(error).any() else float("nan")


def error_deg(found: Floats, truth: Floats) -> Floats:
    """(frames,) angles between directions (frames, 3) and (frames, 3), degrees."""
    sine = np.linalg.norm(np.cross(found, truth), axis=1)
    angle: Floats = np.rad2deg(np.arctan2(sine, np.sum(found * truth, axis=1)))
    return angle


def excitation_errors(point: Floats, centre: Floats, axis: Floats, substep_deg: Floats) -> Floats:
    """``|P - e| - |e|``, (n, m) in 1/Å, of points (n, 3) and centres (n, 3).

    The crystal is turned about the `axis` (in its own frame) by each `substep_deg` (m,), which
    turns e the other way.
    """
    along = (point @ axis) * (centre @ axis)
    across = np.sum(point * np.cross(axis, centre), axis=1)
    substep = np.deg2rad(substep_deg)
    dot = along[:, None] + (np.sum(point * centre, axis=1) - along)[:, None] * np.cos(substep)
    dot -= across[:, None] * np.sin(substep)
    radius = np.linalg.norm(centre, axis=1)[:, None]
    q = np.sum(point * point, axis=1)[:, None] - 2 * dot
    # |P - e| - r without the cancellation
    s: Floats = q / (np.sqrt(radius**2 + q) + radius)
    return s


@dataclass(frozen=True)
class _Motion:
    """Where the crystal is: read-out angles, R, e, the smooth e, and what it does meanwhile."""

    angle_deg: Floats
    rotation: Floats
    centre: Floats
    smooth_centre: Floats
    small_deg: Floats
    about_beam_deg: Floats
    axis: Floats
    substep_deg: Floats

    @property
    def n_frames(self) -> int:
        return len(self.angle_deg)


def _move(
    rotation: Rotation, geometry: Geometry, turned: Floats, rng: np.random.Generator
) -> _Motion:
    n = round(rotation.range_deg / rotation.step_deg) + 1
    angle = (np.arange(n, dtype=np.float64) - (n - 1) / 2) * rotation.step_deg
    phase = 2 * np.pi * angle / rotation.sinusoid_period_deg + rng.uniform(0, 2 * np.pi, (2, 1))
    white = rng.normal(size=(n, 3))
    small = white[:, :2] * rotation.jitter_deg + rotation.sinusoid_deg * np.sin(phase).T
    about_beam = rotation.about_beam_deg * white[:, 2]
    axis = np.array(geometry.axis)
    across = np.cross(geometry.s0, axis)
    smooth = rotation_about(axis, rotation.scale * angle) @ turned
    true: Floats = (  # along: e goes back as the crystal goes on
        rotation_about([0, 0, 1], about_beam)
        @ rotation_about(across / np.linalg.norm(across), small[:, 1])
        @ rotation_about(axis, -small[:, 0])
        @ smooth
    )
    substep = np.zeros(1)
    if rotation.kind == "cRED":
        exposed = rotation.step_deg * rotation.scale
        m = max(round(exposed / SUBSTEP_DEG), 1)
        substep = ((np.arange(m) + 0.5) / m - 0.5) * exposed
    return _Motion(
        angle, true, -geometry.s0 @ true, -geometry.s0 @ smooth, small, about_beam,
        axis @ turned, substep,
    )  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    """Reflection, frame and passage of each row."""

    reflection: NDArray[np.int64]
    frame: NDArray[np.int64]
    crossing: NDArray[np.int64]


def _rows(point: Floats, motion: _Motion, window_per_A: float) -> _Rows:
    """All that the smooth rotation brings within the window, by reflection, then frame.

    A passage is a run of frames through which s moves one way.
    """
    centre, axis = motion.smooth_centre, motion.axis
    length2 = np.sum(point * point, axis=1)
    radius = np.linalg.norm(centre[0])
    q = length2[:, None] - 2 * point @ centre.T
    # s is q / 2r to a few parts in a thousand; during the exposure it moves by g times the angle
    half = np.deg2rad(np.abs(motion.substep_deg).max())
    wide = 2 * radius * (1.05 * window_per_A + half * np.sqrt(length2))
    reflection, frame = np.nonzero(np.abs(q) < wide[:, None])
    s = excitation_errors(point[reflection], centre[frame], axis, motion.substep_deg)
    near = np.abs(s).min(axis=1) < window_per_A
    reflection, frame = reflection[near], frame[near]
    rising = np.sum(point[reflection] * np.cross(axis, centre[frame]), axis=1) > 0
    new = (
        (np.diff(reflection, prepend=-1) != 0)
        | (np.diff(frame, prepend=-2) != 1)
        | (np.diff(rising.astype(int), prepend=0) != 0)
    )
    return _Rows(reflection, frame, np.cumsum(new) - 1)


def _curve(s: Floats, length: Floats, lean: Floats, diffraction: Diffraction) -> Floats:
    """W (n, m), 1 at its top before any smearing, at excitation errors (n, m)."""
    x = s / (1 + lean[:, None] * np.sign(s))
    spread = (np.deg2rad(diffraction.mosaic_deg) * length)[:, None]
    if diffraction.curve == "gaussian":
        bell: Floats = np.exp(-0.5 * x * x / (diffraction.sigma_s_per_A**2 + spread**2))
        return bell
    nodes, weights = np.polynomial.hermite_e.hermegauss(11)
    smeared = np.zeros_like(x)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        smeared += weight * np.sinc(diffraction.thickness_A * (x + node * spread)) ** 2
    return smeared


@lru_cache(maxsize=8)
def _reflections(d_min_A: float) -> tuple[NDArray[np.int32], Floats]:
    """hkl (n, 3) and |F|^2 (n,) of andradite, absences left out."""
    structure = garnet()
    if d_min_A == FINEST_D_A:
        hkl, factor = structure_factors(structure, d_min_A)
        strength = np.abs(factor) ** 2
        present = strength > WEAKEST * strength.max()
        return hkl[present], strength[present]
    hkl, strength = _reflections(FINEST_D_A)
    length = np.linalg.norm(hkl @ reciprocal_basis(cell_of(structure)).T, axis=1)
    return hkl[length <= 1 / d_min_A], strength[length <= 1 / d_min_A]


def _off(
    geometry: Geometry,
    orientation: Floats,
    axis_deg: float,
    direction_deg: float,
    rng: np.random.Generator,
) -> tuple[Geometry, Floats]:
    """Geometry and orientation as handed over: the axis and the crystal turned off the true."""
    about = rng.normal(size=(2, 3))
    about[0] -= (about[0] @ geometry.axis) * np.array(geometry.axis)
    about[1, 2] = 0.0  # turned about the beam, the direction would stay
    about /= np.linalg.norm(about, axis=1, keepdims=True)
    axis = rotation_about(about[0], axis_deg) @ np.array(geometry.axis)
    given = geometry.with_(axis=tuple(axis)) if axis_deg else geometry
    return given, rotation_about(about[1], direction_deg) @ orientation


def _with_intensities(data: OrientationData, rows: FrameIntensities) -> OrientationData:
    return OrientationData(**{**vars(data), "intensities": rows})
