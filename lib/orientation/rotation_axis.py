"""Calibration of the rotation axis from indexed series: a sequential search, then refinement.

*Search*, as PETS does it (Palatinus; thesis, section 2.2.3.1.2): for each trial direction of the
axis in the detector's plane the spots are rotated back, the lattice is fitted to them anew, and the
spots that then fall where the lattice predicts them are counted, each by
``exp(-(d / t)^2 / 2)`` of its distance d in reciprocal space, in pixels. (On the detector alone
a wrong axis hardly shows: what it does to the excitation the lattice would take up.) Finer
grids follow about the best.

*Refinement*: the engine's least squares (`lib.reduction.refinement`) on positions and excitation
errors, with azimuth and elevation of the axis free beside orientation, cell, beam centre and
rotation scale.

Series are combined with a scatter tau among them, ``weight = 1 / (sd^2 + tau^2)`` with tau from
DerSimonian & Laird, Controlled Clinical Trials 7 (1986) 177: errors of a single refinement are of
counting alone, while stage and lenses differ from day to day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats, cell_from_reciprocal_basis
from ..crystal.lattice_symmetry import strain_basis
from ..errors import UserError
from ..geometry import Geometry, rotated, rotation_about
from ..reduction.model import Model
from ..reduction.refinement import Observations, refine
from .centroid_fit import centroids_from
from .observations import Centroids, OrientationData

#: Fewer indexed spots than this tell no axis.
LEAST_SPOTS = 30
#: Beyond this reach of the search the lattice was hardly indexed with the right axis.
REACH_DEG = 10.0
#: Steps of the grids in degrees and the tolerance t of each in px.
_GRIDS = ((1.0, 3.0), (0.2, 2.0), (0.04, 1.0))
_FREE = ("orientation", "strain", "centre", "axis", "rotation_scale")
_PRIORS = {"centre": 1.5, "axis": 0.1, "rotation_scale": 0.03}
#: A spot's position, and its excitation error, are never known better than this.
_LEAST_PX, _LEAST_PER_A = 0.25, 4e-4
_OUTLIER = 5.0


@dataclass(frozen=True)
class AxisGrid:
    """One grid of the search.

    Attributes
    ----------
    azimuth_deg : (n,) directions tried.
    matched : (n,) part of the spots that the lattice predicts, 0 to 1.
    """

    azimuth_deg: Floats
    matched: Floats


@dataclass(frozen=True)
class SeriesAxis:
    """The rotation axis by one series.

    Attributes
    ----------
    name : of the series.
    said_deg : azimuth of the axis it was reduced with, from +x (columns) towards +y (rows).
    searched_deg : best azimuth of the search.
    grids : the search, coarse to fine.
    matched : part of the spots matched at `searched_deg`.
    reversed : the opposite sense of rotation matches more.
    azimuth_deg, azimuth_sd_deg : refined.
    elevation_deg, elevation_sd_deg : refined angle out of the detector's plane, along the beam.
    n_spots : indexed spots used.
    rms_px : of their positions after refinement.
    """

    name: str
    said_deg: float
    searched_deg: float
    grids: tuple[AxisGrid, ...]
    matched: float
    reversed: bool
    azimuth_deg: float
    azimuth_sd_deg: float
    elevation_deg: float
    elevation_sd_deg: float
    n_spots: int
    rms_px: float


@dataclass(frozen=True)
class AxisCalibration:
    """The rotation axis of an instrument.

    Attributes
    ----------
    azimuth_deg, elevation_deg : from +x (columns) towards +y (rows), and along the beam.
    azimuth_sd_deg, elevation_sd_deg : standard errors, scatter among series included.
    scatter_deg : tau of the azimuth; NaN for one series.
    series : what it comes from.
    notes : one sentence each.
    """

    azimuth_deg: float
    elevation_deg: float
    azimuth_sd_deg: float
    elevation_sd_deg: float
    scatter_deg: float
    series: tuple[SeriesAxis, ...]
    notes: tuple[str, ...]

    @property
    def axis(self) -> tuple[float, float, float]:
        """Unit vector in the laboratory frame, as `Geometry.axis` and XDS' ROTATION_AXIS."""
        return _vector(self.azimuth_deg, self.elevation_deg)

    @property
    def instamatic_rad(self) -> float:
        """Angle of the axis as instamatic is configured."""
        return float(np.deg2rad((-self.azimuth_deg + 180) % 360 - 180))

    @property
    def pets_omega_deg(self) -> float:
        """omega of a PETS2 project, 0 to 360 degrees."""
        return float(-self.azimuth_deg % 360)


def calibrate_axis(data: OrientationData, reach_deg: float = REACH_DEG) -> SeriesAxis:
    """The rotation axis from one indexed series.

    Parameters
    ----------
    data : of any source (`from_reduction`, `from_dials`, `from_pets`, `from_xds`).
    reach_deg : half range of the search about the axis that `data` has.

    Raises
    ------
    UserError : no orientation, too few indexed spots with positions, too little rotation, or the
        best axis lies at the end of the search.
    """
    spots, model = _spots(data), _model(data)
    said = azimuth_deg(model.geometry)
    best, grids = 0.0, []
    for k, (step, tolerance) in enumerate(_GRIDS):
        half = reach_deg if k == 0 else 1.5 * _GRIDS[k - 1][0]
        turns = best + np.arange(-np.round(half / step), np.round(half / step) + 0.5) * step
        matched = np.array([_matched(_turned(model, one), spots, tolerance)[0] for one in turns])
        best = float(turns[np.argmax(matched)])
        grids.append(AxisGrid(said + turns, matched))
        if k == 0 and abs(best) > reach_deg - step / 2:
            raise UserError(
                f"{data.name}: rotation axis",
                f"the best direction at the end of the search, {best:+g} degrees away",
                f"one within {reach_deg:g} degrees", "reduce the series with a better axis first",
            )  # fmt: skip
    found = _turned(model, best)
    part, orientation = _matched(found, spots, _GRIDS[-1][1])
    ahead = _matched(found, spots, _GRIDS[0][1])[0]
    axis = tuple(-v for v in found.geometry.axis)
    behind = _matched(replace(found, geometry=found.geometry.with_(axis=axis)), spots,
                      _GRIDS[0][1])[0]  # fmt: skip
    refined, esd, n, rms = _refined(replace(found, orientation=orientation), spots, data)
    return SeriesAxis(
        name=data.name,
        said_deg=said,
        searched_deg=said + best,
        grids=tuple(grids),
        matched=part,
        reversed=bool(behind > ahead),
        azimuth_deg=_near(azimuth_deg(refined), said),
        azimuth_sd_deg=esd["axis_azimuth_deg"],
        elevation_deg=float(np.rad2deg(np.arcsin(refined.axis[2]))),
        elevation_sd_deg=esd["axis_elevation_deg"],
        n_spots=n,
        rms_px=rms,
    )


def combine_axes(series: Sequence[SeriesAxis]) -> AxisCalibration:
    """One axis from those of several series of an instrument.

    Raises
    ------
    UserError : none is given, or they are not of one instrument: more than 30 degrees apart.
    """
    if not series:
        raise UserError("rotation axis", "no series", "one or more", "reduce one first")
    notes = []
    first = series[0].azimuth_deg
    azimuth = np.array([_near(one.azimuth_deg, first) for one in series])
    elevation = np.array([one.elevation_deg for one in series])
    # an axis and its opposite are one axis, told by series that turn the other way
    opposite = np.abs(azimuth - first) > 90
    if opposite.any():
        azimuth[opposite] = [_near(value + 180, first) for value in azimuth[opposite]]
        elevation[opposite] *= -1
        names = ", ".join(one.name for one, turned in zip(series, opposite, strict=True) if turned)
        notes.append(f"the axis of {names} was reversed to that of {series[0].name}")
    if np.ptp(azimuth) > 30:
        raise UserError(
            "rotation axis", f"directions {np.ptp(azimuth):.0f} degrees apart",
            "series of one instrument", "give those of one instrument and image orientation",
        )  # fmt: skip
    at, sd, scatter = _mean(azimuth, np.array([one.azimuth_sd_deg for one in series]))
    up, up_sd, _ = _mean(elevation, np.array([one.elevation_sd_deg for one in series]))
    if len(series) == 1:
        notes.append(
            "one series: the errors are those of counting alone; give several to see how much the "
            "axis differs among them"
        )
    notes += [
        f"{one.name}: the opposite sense of rotation matches more spots; check the sign of its "
        "oscillation"
        for one in series
        if one.reversed
    ]
    return AxisCalibration(at, up, sd, up_sd, scatter, tuple(series), tuple(notes))


def azimuth_deg(geometry: Geometry) -> float:
    """Direction of the rotation axis in the detector's plane, from +x towards +y."""
    return float(np.rad2deg(np.arctan2(geometry.axis[1], geometry.axis[0])))


def _vector(azimuth: float, elevation: float) -> tuple[float, float, float]:
    a, e = np.deg2rad([azimuth, elevation])
    return float(np.cos(a) * np.cos(e)), float(np.sin(a) * np.cos(e)), float(np.sin(e))


def _near(angle: float, reference: float) -> float:
    """`angle` plus whole turns, as near to `reference` as can be."""
    return reference + (angle - reference + 180) % 360 - 180


def _mean(value: Floats, sd: Floats) -> tuple[float, float, float]:
    """Mean, its standard error, and the scatter that is not in `sd`."""
    sd = np.maximum(sd, 1e-6)
    if len(value) == 1:
        return float(value[0]), float(sd[0]), float("nan")
    weight = 1 / sd**2
    mean = np.average(value, weights=weight)
    excess = weight @ (value - mean) ** 2 - (len(value) - 1)
    tau2 = max(excess / (weight.sum() - (weight**2).sum() / weight.sum()), 0.0)
    weight = 1 / (sd**2 + tau2)
    return (
        float(np.average(value, weights=weight)),
        float(weight.sum() ** -0.5),
        float(np.sqrt(tau2)),
    )


def _spots(data: OrientationData) -> Centroids:
    """Spots with indices and positions."""
    if data.intensities is not None:
        all_, _ = centroids_from(data.intensities, data.used)
    else:
        assert data.centroids is not None
        all_ = data.centroids
    inside = (all_.frame > -0.5) & (all_.frame < data.n_frames - 0.5)
    good = inside & np.isfinite(all_.row) & np.isfinite(all_.column) & (all_.hkl != 0).any(axis=1)
    n = int(good.sum())
    if data.orientation is None or n < LEAST_SPOTS:
        raise UserError(
            f"{data.name}: rotation axis",
            "no orientation" if data.orientation is None else f"{n} indexed spots with positions",
            f"an indexed series with at least {LEAST_SPOTS}", "give a better series",
        )  # fmt: skip
    if np.ptp(data.angle_deg[data.used]) < 2:
        raise UserError(
            f"{data.name}: rotation axis", f"{np.ptp(data.angle_deg[data.used]):.2g} degrees of "
            "rotation", "several", "give a longer series",
        )  # fmt: skip
    return Centroids(
        all_.hkl[good], all_.frame[good], all_.frame_sd[good], all_.row[good], all_.column[good],
        all_.intensity[good],
    )  # fmt: skip


def _model(data: OrientationData) -> Model:
    assert data.orientation is not None
    step = float(np.median(np.diff(data.angle_deg)))
    return Model(
        data.orientation, data.geometry, np.stack([data.beam_row, data.beam_column], axis=1),
        data.angle_deg, step,
    )  # fmt: skip


def _turned(model: Model, azimuth: float) -> Model:
    """The model with its axis turned about the beam."""
    axis = rotation_about((0, 0, 1), azimuth) @ np.asarray(model.geometry.axis)
    return replace(model, geometry=model.geometry.with_(axis=tuple(axis)))


def _matched(model: Model, spots: Centroids, tolerance_px: float) -> tuple[float, Floats]:
    """Part of the spots that a lattice fitted with the model's axis predicts, and that lattice."""
    angle = model.angle_deg(spots.frame)
    q = model.geometry.to_q(spots.row, spots.column, model.centre_px(spots.frame))
    points = rotated(q, model.geometry.axis, -angle)
    hkl = spots.hkl.astype(float)
    weight = np.ones(len(hkl))
    for _ in range(4):  # few wrong indices must not lead the fit
        root = np.sqrt(weight)[:, None]
        basis, *_ = np.linalg.lstsq(hkl * root, points * root, rcond=None)
        off = np.linalg.norm(points - hkl @ basis, axis=1)
        weight = 1 / (1 + (off / max(1.5 * np.median(off), 1e-9)) ** 2)
    orientation: NDArray[np.float64] = basis.T
    distance2 = (off / model.geometry.per_A_per_px) ** 2
    return float(np.mean(np.exp(-distance2 / (2 * tolerance_px**2)))), orientation


def _refined(
    model: Model, spots: Centroids, data: OrientationData
) -> tuple[Geometry, dict[str, float], int, float]:
    """Geometry, standard errors, spots used and r.m.s. in px, after two rounds of refinement."""
    strains = strain_basis(_system(cell_from_reciprocal_basis(data.reciprocal_basis)))
    # the search leaves the cell free; what symmetry fixes is what the series was reduced with
    model = replace(model, orientation=_as_symmetric(model.orientation, data.reciprocal_basis))
    observations = _observations(model, spots)
    for last in (False, True):
        refined = refine(model, observations, _FREE, strains, priors=_PRIORS)
        model = refined.model
        if not last:
            sigma = np.stack([observations.sigma_px] * 2 + [observations.sigma_excitation], axis=1)
            off = np.abs(refined.residuals) / sigma
            good = np.all(off < _OUTLIER * np.maximum(1.4826 * np.median(off, axis=0), 1), axis=1)
            observations = Observations(
                *(getattr(observations, name)[good]
                  for name in ("hkl", "row", "column", "frame", "sigma_px", "sigma_excitation"))
            )  # fmt: skip
    return model.geometry, refined.esd, len(observations.hkl), refined.rms_px


def _observations(model: Model, spots: Centroids) -> Observations:
    q = model.diffracted(spots.hkl, spots.frame)
    speed = np.abs(np.cross(model.geometry.axis, q)[:, 2])
    sd_rad = np.maximum(spots.frame_sd, 0.05) * np.deg2rad(abs(model.angle_step_deg))
    return Observations(
        spots.hkl, spots.row, spots.column, spots.frame, np.full(len(spots.hkl), _LEAST_PX),
        np.hypot(_LEAST_PER_A, speed * sd_rad),
    )  # fmt: skip


def _as_symmetric(orientation: Floats, basis: Floats) -> Floats:
    """U B with the rotation of `orientation` nearest to it and the cell of `basis`."""
    left, _, right = np.linalg.svd(orientation @ np.linalg.inv(basis))
    return np.asarray(left @ right @ basis)


def _system(cell: Cell) -> str:
    """A Bravais type with the constraints that a refined cell shows."""
    a, b, c, alpha, beta, gamma = cell

    def same(x: float, y: float) -> bool:
        return abs(x - y) < 1e-4 * abs(y)

    if same(alpha, 90) and same(beta, 90):
        if same(gamma, 120) and same(a, b):
            return "hP"
        if same(gamma, 90):
            return ("cP" if same(b, c) else "tP") if same(a, b) else "oP"
    return "mP" if same(alpha, 90) and same(gamma, 90) else "aP"
