"""Orientation refinement of a reduced series, all the way: what an artefact holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats
from ..errors import UserError
from ..geometry import Geometry
from ..reduction.result import Reduction
from ..series import RotationSeries
from .config import OrientationConfig
from .feed_back import reintegrate
from .from_reduction import from_reduction
from .geometry import along_perp
from .goniometer import GoniometerStudy, study_goniometer
from .half_sets import halves
from .observations import FrameIntensities, FrameOrientations, OrientationData
from .published import published_orientations
from .refine import refine_orientations

Method = Callable[[OrientationData], FrameOrientations]


@dataclass(frozen=True)
class Precision:
    """How well two halves of the reflections agree, degrees; NaN where it could not be told.

    Attributes
    ----------
    method : whose orientations.
    half_along_deg, half_perp_deg : precision of a half: the robust standard deviation of the
        difference between the halves, over root 2. Errors that both halves share do not show, nor
        what a method smooths away in both.
    said_along_deg, said_perp_deg : the median error that the method claims for a half.
    """

    method: str
    half_along_deg: float
    half_perp_deg: float
    said_along_deg: float
    said_perp_deg: float


@dataclass(frozen=True)
class OrientedLattice:
    """One lattice with the orientation of every frame.

    Attributes
    ----------
    cell : its cell.
    reciprocal_basis : B.
    geometry : as refined by the engine.
    angle_deg, exposure_deg, used : (frames,) as in `OrientationData`.
    found : by the default method.
    published : by the published one; None if not asked for, or it failed (see notes).
    precision : of each method.
    study : of the goniometer; None where single frames are not known.
    notes : one sentence each, those of the orientations among them.
    """

    cell: Cell
    reciprocal_basis: Floats
    geometry: Geometry
    angle_deg: Floats
    exposure_deg: Floats
    used: NDArray[np.bool_]
    found: FrameOrientations
    published: FrameOrientations | None
    precision: tuple[Precision, ...]
    study: GoniometerStudy | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class OrientedSeries:
    """A series with the orientation of every frame, for each of its lattices.

    Attributes
    ----------
    name, instrument : of the series.
    frame_number : (frames,) as in the series.
    shape : (rows, columns) of a frame.
    lattices : in the order of the reduction.
    """

    name: str
    instrument: str
    frame_number: NDArray[np.int64]
    shape: tuple[int, int]
    lattices: tuple[OrientedLattice, ...]


def orient_series(
    series: RotationSeries,
    reduction: Reduction,
    config: OrientationConfig | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[OrientedSeries, tuple[OrientationData, ...]]:
    """Refine the orientations of every lattice, and study the goniometer by them.

    Returns
    -------
    The orientations, and the data of each lattice in them. A lattice that cannot be refined is left
    out, with a note on the first.

    Raises
    ------
    UserError : nothing could be refined; the reason of the first lattice.
    """
    config = config or OrientationConfig()
    data = from_reduction(series, reduction, window_per_A=config.window_per_A, progress=progress)
    oriented, kept = [], []
    failed: list[UserError] = []
    for one, lattice in zip(data, reduction.lattices, strict=True):
        try:
            oriented.append(orient_lattice(one, lattice.cell, config))
            kept.append(one)
        except UserError as error:
            failed.append(error)
    if not oriented:
        raise failed[0]
    if failed:
        first = oriented[0]
        left = (f"a lattice was left out: {error}" for error in failed)
        oriented[0] = replace(first, notes=(*first.notes, *left))
    result = OrientedSeries(
        series.name, series.instrument, series.frame_number, series.shape, tuple(oriented)
    )
    return result, tuple(kept)


def integrate_again(
    series: RotationSeries,
    reduction: Reduction,
    config: OrientationConfig | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Reduction:
    """The reduction integrated with the orientations refined on it.

    Raises
    ------
    UserError : a lattice cannot be refined.
    """
    config = config or OrientationConfig()
    data = from_reduction(series, reduction, window_per_A=config.window_per_A, progress=progress)
    found = [refine_orientations(one, seed=config.seed) for one in data]
    return reintegrate(series, reduction, found, progress)


def orient_lattice(data: OrientationData, cell: Cell, config: OrientationConfig) -> OrientedLattice:
    """Orientations of one lattice by the default and the published method, and the study."""

    def default(one: OrientationData) -> FrameOrientations:
        return refine_orientations(one, seed=config.seed)

    found = default(data)
    notes = list(found.notes)
    split = split_in_halves(data, config.seed)
    both = _tried(default, split, notes, "the half-set test")
    precision = []
    if both is not None:
        precision.append(precision_of(found.method, *both))
        if found.method == "stage B":
            precision.append(precision_of("stage B, frames alone", *both, alone=True))
    published = None
    if config.published and data.intensities is not None:
        one = _tried(published_orientations, (data,), notes, "the published method")
        if one is not None:
            published = one[0]
            pair = _tried(published_orientations, split, notes, "the published method's half-sets")
            if pair is not None:
                precision.append(precision_of("published", *pair))
    study = None
    try:
        two = None if both is None else (both[0], both[1])
        study = study_goniometer(data, found, halves=two, seed=config.seed)
        notes += study.notes
    except UserError as error:
        notes.append(f"no study of the goniometer: {error}")
    return OrientedLattice(
        cell=cell,
        reciprocal_basis=data.reciprocal_basis,
        geometry=data.geometry,
        angle_deg=data.angle_deg,
        exposure_deg=data.exposure_deg,
        used=data.used,
        found=found,
        published=published,
        precision=tuple(precision),
        study=study,
        notes=tuple(notes),
    )


def _tried(
    method: Method, data: tuple[OrientationData, ...], notes: list[str], what: str
) -> list[FrameOrientations] | None:
    """The method on each, or None and a note."""
    if not data:
        return None
    try:
        return [method(one) for one in data]
    except UserError as error:
        notes.append(f"{what} failed: {error}")
        return None


def split_in_halves(data: OrientationData, seed: int = 0) -> tuple[OrientationData, ...]:
    """The data of two halves of the reflections; none without frame intensities."""
    rows = data.intensities
    if rows is None or not len(rows):
        return ()
    first = halves(rows.hkl, seed)
    parts = []
    for half in (first, ~first):
        some = FrameIntensities(*(np.asarray(column)[half] for column in vars(rows).values()))
        parts.append(replace(data, intensities=some))
    return tuple(parts)


def precision_of(
    method: str, first: FrameOrientations, second: FrameOrientations, *, alone: bool = False
) -> Precision:
    """Compare the orientations of two halves.

    Parameters
    ----------
    alone : those without prior, in which no frame learns from its neighbours.
    """
    e = _directions(first, alone)
    difference = e - _directions(second, alone)
    half, said = [], []
    for k, along in enumerate(along_perp(e, first.axis)):
        off = np.rad2deg(np.sum(difference * along, axis=1))
        off = off[np.isfinite(off)]
        half.append(_robust(off) / float(np.sqrt(2)) if len(off) > 4 else float("nan"))
        covariances = [
            one.covariance_unshrunk_deg2 if alone else one.covariance_deg2
            for one in (first, second)
        ]
        variance = np.concatenate([one[:, k, k] for one in covariances])
        variance = variance[np.isfinite(variance)]
        said.append(float(np.sqrt(np.median(variance))) if len(variance) else float("nan"))
    return Precision(method, half[0], half[1], said[0], said[1])


def _directions(found: FrameOrientations, alone: bool) -> Floats:
    """Unit e of each frame (n, 3); without prior, moved on by what was shrunk."""
    e: Floats = found.centre / np.linalg.norm(found.centre, axis=1, keepdims=True)
    if not alone:
        return e
    t1, t2 = along_perp(e, found.axis)
    more = np.deg2rad(found.small_unshrunk_deg - found.small_deg)
    return np.asarray(e + more[:, :1] * t1 + more[:, 1:] * t2, np.float64)


def _robust(values: Floats) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
