"""A kinematic simulation of a continuous-rotation electron diffraction series.

Every point of the reciprocal lattice carries its rocking curve through the Ewald sphere
(`rocking`), which yields electrons on frames (`expose`); the detector then reads them, with
the background, as counts (`frames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ..geometry import EllipticalDistortion, Geometry, rotation_about
from ..series.rotation_series import RotationSeries
from .conditions import Background, Beam, Crystal, Detector, HeaderErrors
from .expose import Scan, Spots, alien_points, expose, lattice_points, orientation_of
from .frames import add_spots, paint_radial, radial_background, read_out
from .truth import TrueLattice, TrueReflections, Truth

Floats = NDArray[np.float64]

# Random streams, so that one part of a simulation does not change with another.
DRIFT, HEADER, LEAKAGE, ALIENS, NOISE = range(5)

# An event is marked saturated only by frames that hold at least this part of it.
NOTABLE_PART = 0.02


def simulate_series(
    crystals: Sequence[Crystal],
    *,
    geometry: Geometry,
    n_frames: int,
    step_deg: float,
    seed: int,
    angle_start_deg: float = 0.0,
    shape: tuple[int, int] = (516, 516),
    beam: Beam | None = None,
    background: Background | None = None,
    detector: Detector | None = None,
    header: HeaderErrors | None = None,
    blank_every: int = 0,
    missing_every: int = 0,
    alien_fraction: float = 0.0,
    d_min_A: float = 0.8,
    name: str = "simulated",
) -> tuple[RotationSeries, Truth]:
    """Simulate a rotation series; the same arguments give the same counts to the bit.

    Parameters
    ----------
    crystals : what is in the beam; none gives frames of background alone.
    geometry : the true one, its beam centre that of the first exposure.
    n_frames, step_deg, angle_start_deg : exposures, without pause between them; 360 degrees at
        most in all.
    seed : of drift, header errors, leakage, alien points and noise.
    shape : (rows, columns).
    beam, background, detector, header : see `conditions`; None takes the defaults there.
    blank_every : every so manieth frame reads zero (0: none).
    missing_every : every so manieth frame is left out of the series (0: none).
    alien_fraction : this part of all scattering points belongs to no lattice.
    d_min_A : resolution to which the crystals scatter.

    Returns
    -------
    The series as a reader would hand it over (uint16 counts, nominal geometry), and the truth.
    """
    if n_frames < 1 or not 0 < n_frames * step_deg <= 360:
        raise ValueError(
            f"n_frames, step_deg: found {n_frames} x {step_deg}, expected up to 360 degrees"
        )
    if not 0 <= alien_fraction < 1 or (alien_fraction > 0 and not crystals):
        raise ValueError("alien_fraction: expected 0 to below 1, and a crystal to copy from")
    beam, background = beam or Beam(), background or Background()
    detector, header = detector or Detector(), header or HeaderErrors()

    index = np.arange(n_frames)
    illumination = 1 - 0.5 * beam.illumination_change * np.cos(np.pi * (index + 0.5) / n_frames)
    # the part of each exposure that saw the crystal
    illumination *= np.clip(beam.crystal_stays_deg / step_deg - index, 0, 1)
    blank, missing = _every(blank_every, n_frames), _every(missing_every, n_frames)
    scan = Scan(
        geometry=geometry,
        start_deg=angle_start_deg,
        step_deg=step_deg,
        taken=~(blank | missing),
        centres_px=geometry.beam_centre_px + drift_path(n_frames, beam.drift_px, [seed, DRIFT]),
        illumination=illumination,
        beam=beam,
    )
    points = [lattice_points(crystal, d_min_A) for crystal in crystals]
    if alien_fraction > 0:
        points.append(alien_points(points, alien_fraction, [seed, ALIENS]))
    exposed = [expose(p, scan, [seed, LEAKAGE, i]) for i, p in enumerate(points)]
    frames, tables = _draw(exposed, scan, shape, background, detector, [seed, NOISE])

    kept = np.flatnonzero(~missing)
    elapsed = kept.astype(np.float64)  # exposures
    truth = Truth(
        lattices=tuple(
            TrueLattice(
                name=crystal.structure.name,
                space_group=crystal.structure.spacegroup.xhm(),
                orientation=orientation_of(crystal),
                weight=crystal.weight,
                reflections=_in_series(table, kept, n_frames, shape),
            )
            for crystal, table in zip(crystals, tables, strict=False)
        ),
        geometry=geometry,
        angle_start_deg=angle_start_deg + step_deg * elapsed,
        angle_width_deg=np.full(len(kept), step_deg),
        beam_centres_px=scan.centres_px[kept],
        illumination=scan.illumination[kept],
        blank=blank[kept],
        gain=detector.gain,
        n_aliens=len(points[-1].hkl) if alien_fraction > 0 else 0,
        seed=seed,
    )
    nominal_step_deg = step_deg * (1 + header.step_percent / 100)
    series = RotationSeries(
        name=name,
        frames=da.from_array(frames[kept], chunks=(16, *shape)),
        frame_number=(kept + 1).astype(np.int64),
        angle_start_deg=angle_start_deg + nominal_step_deg * elapsed,
        angle_width_deg=np.full(len(kept), nominal_step_deg),
        geometry=nominal_geometry(geometry, header, [seed, HEADER]),
        mask=detector.mask(shape),
        gain=detector.gain if header.knows_gain else None,
        pedestal=detector.pedestal,
        saturation=detector.saturation,
        instrument="simulated",
        notes=(f"Simulated kinematically with seed {seed}.",),
    )
    return series, truth


def drift_path(n_frames: int, largest_px: float, seed: Sequence[int]) -> Floats:
    """A smooth random walk (n_frames, 2) of the beam from (0, 0); it gets `largest_px` away."""
    path = np.zeros((n_frames, 2))
    if largest_px > 0 and n_frames > 1:
        steps = np.random.default_rng(seed).normal(size=(n_frames, 2))
        path = np.cumsum(gaussian_filter1d(steps, 0.15 * n_frames, axis=0), axis=0)
        path -= path[0]
        path *= largest_px / np.linalg.norm(path, axis=1).max()
    return path


def nominal_geometry(true: Geometry, header: HeaderErrors, seed: Sequence[int]) -> Geometry:
    """The geometry that headers with these errors tell."""
    direction = 2 * np.pi * np.random.default_rng(seed).random()
    row, column = true.beam_centre_px
    return true.with_(
        axis=tuple(rotation_about((0, 0, 1), header.axis_deg) @ np.array(true.axis)),
        beam_centre_px=(
            row + header.beam_px * np.sin(direction),
            column + header.beam_px * np.cos(direction),
        ),
        distance_mm=true.distance_mm * (1 + header.distance_percent / 100),
        distortion=true.distortion if header.knows_distortion else EllipticalDistortion(),
    )


def _every(manieth: int, n_frames: int) -> NDArray[np.bool_]:
    """(n_frames,) True at every so manieth frame; nowhere for 0."""
    if manieth < 0 or manieth == 1:
        raise ValueError(f"every manieth frame: found {manieth}, expected 0, or 2 and more")
    number = np.arange(1, n_frames + 1)
    return number % manieth == 0 if manieth else np.zeros(n_frames, bool)


def _draw(
    exposed: Sequence[tuple[Spots, TrueReflections]],
    scan: Scan,
    shape: tuple[int, int],
    background: Background,
    detector: Detector,
    seed: Sequence[int],
) -> tuple[NDArray[np.uint16], list[TrueReflections]]:
    """Frames (n_frames, rows, columns), and the tables with `saturated` filled in."""
    drawn = [spots for spots, _ in exposed]
    saturated = [np.zeros(len(table), bool) for _, table in exposed]
    frames = np.zeros((len(scan.taken), *shape), np.uint16)
    dose_e = scan.beam.electrons_per_deg * scan.step_deg
    farthest_px = scan.geometry.distortion.ratio * 3 * float(np.hypot(*shape))
    profile = radial_background(background, scan.geometry, farthest_px) * dose_e / 1e6
    undistort: Floats = np.linalg.inv(scan.geometry.distortion.matrix).astype(np.float64)
    shadow = detector.beam_stop.shadow(shape) if detector.beam_stop else None
    expected = np.empty(shape)
    for i in np.flatnonzero(scan.taken):
        centre = scan.centres_px[i]
        paint_radial(expected, profile, centre, undistort)
        if scan.beam.visible:
            add_spots(expected, centre[:1], centre[1:], np.array([dose_e]), scan.beam)
        here = [slice(spots.first[i], spots.first[i + 1]) for spots in drawn]
        for spots, rows in zip(drawn, here, strict=True):
            row, column = spots.row[rows] + centre[0], spots.column[rows] + centre[1]
            add_spots(expected, row, column, spots.electrons[rows], scan.beam)
        if shadow is not None:
            expected[shadow] = 0.0
        frames[i] = read_out(expected, detector, np.random.default_rng([*seed, int(i)]))
        overloaded = np.pad(frames[i] >= np.floor(detector.saturation), 2)
        for spots, rows, flag in zip(drawn, here, saturated, strict=True):
            row = np.rint(spots.row[rows] + centre[0]).astype(int) + 2
            column = np.rint(spots.column[rows] + centre[1]).astype(int) + 2
            seen = (spots.part[rows] >= NOTABLE_PART) & np.all(
                [row >= 1, row <= shape[0] + 2, column >= 1, column <= shape[1] + 2], axis=0
            )
            for y in (-1, 0, 1):
                for x in (-1, 0, 1):
                    hit = overloaded[row[seen] + y, column[seen] + x]
                    flag[spots.event[rows][seen][hit]] = True
    tables = [
        replace(table, saturated=flag) for (_, table), flag in zip(exposed, saturated, strict=True)
    ]
    return frames, tables


def _in_series(
    table: TrueReflections, kept: NDArray[np.int64], n_frames: int, shape: tuple[int, int]
) -> TrueReflections:
    """Events that cross on the detector and within the exposures, counted in series frames."""
    exposure = table.frame
    frame = np.interp(exposure, kept, np.arange(len(kept)))
    frame += np.minimum(exposure - kept[0], 0) + np.maximum(exposure - kept[-1], 0)
    inside = np.all(
        [
            (exposure >= -0.5) & (exposure <= n_frames - 0.5),
            (table.row > -0.5) & (table.row < shape[0] - 0.5),
            (table.column > -0.5) & (table.column < shape[1] - 0.5),
        ],
        axis=0,
    )
    return replace(table, frame=frame)[inside]
