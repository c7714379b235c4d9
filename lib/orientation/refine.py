"""Orientation of every frame: stages 0, A and B and the third angle, in one call.

    frames = refine_orientations(data)

`closed_form` finds a start where there is none, `centroid_fit` the rotation of the scan,
`bundle_fit` the deviations of every frame from it, `third_angle` the turn about the beam. What the
data do not bear is refused, flagged or noted (`trust`), not made up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..geometry import rotation_about
from .bundle_fit import WIDE_DEG, BundleFit, fit_bundle
from .bundle_model import Rows, rows_from
from .centroid_fit import CentroidFit, centroids_from, fit_centroids
from .closed_form import closed_form_start
from .geometry import SmoothRotation, displaced, from_engine, lab_rotations
from .observations import Centroids, FrameOrientations, OrientationData
from .third_angle import ThirdAngle, third_angle
from .trust import (
    check_scan,
    check_stage_a,
    check_third_angle,
    flags,
    notes_on_bundle,
    notes_on_stage_a,
    notes_on_third_angle,
    outlying,
)


@dataclass(frozen=True)
class _StageA:
    """Stage A's result and what it was fitted to."""

    fit: CentroidFit
    centroids: Centroids
    points: Floats
    passage: NDArray[np.int64]


def refine_orientations(
    data: OrientationData,
    *,
    stage_b: bool = True,
    from_closed_form: bool = False,
    seed: int = 0,
) -> FrameOrientations:
    """Orientations by the default method.

    Parameters
    ----------
    data : a series; with centroids only, stage A is all there is, and single frames' deviations
        stay unknown.
    stage_b : False ends with stage A.
    from_closed_form : do without the orientation the data came with.
    seed : of the division into half-sets.

    Raises
    ------
    UserError : a still, fewer than five frames, angles out of order or the wrong way round, too few
        reflections, or reflections that do not follow any rotation of this cell.
    """
    check_scan(data)
    a = _stage_a(data, from_closed_form)
    outside = outlying(data, a.fit, a.points, a.centroids)
    notes = notes_on_stage_a(a.fit, outside)
    rows = None
    if stage_b and data.intensities is not None:
        rows = rows_from(data.intensities, data.reciprocal_basis, data.used, a.passage[outside])
    if rows is None or len(rows.bounds) < 20:
        return _only_stage_a(data, a, notes)
    fit = fit_bundle(
        rows, a.fit.smooth, data.angle_deg, data.exposure_deg, data.geometry.wavelength_A, seed
    )
    return _with_stage_b(data, rows, fit, notes)


def _stage_a(data: OrientationData, from_closed_form: bool) -> _StageA:
    basis, wavelength = data.reciprocal_basis, data.geometry.wavelength_A
    if data.intensities is not None:
        centroids, passage = centroids_from(data.intensities, data.used)
    else:
        assert data.centroids is not None  # by check_scan
        last = data.n_frames - 1
        position = np.clip(np.rint(data.centroids.frame), 0, last).astype(int)
        good = np.isfinite(data.centroids.frame) & (data.centroids.frame >= 0)
        good &= (data.centroids.frame <= last) & data.used[position]
        good &= np.isfinite(data.centroids.frame_sd) & (data.centroids.frame_sd > 0)
        centroids = Centroids(
            *(np.asarray(column)[good] for column in vars(data.centroids).values())
        )
        passage = np.nonzero(good)[0]
    points = centroids.hkl @ basis.T
    if data.orientation is None or from_closed_form:
        p, frame, weight = _spots(data, centroids)
        fit = closed_form_start(
            data.name, p, frame, weight, centroids, points, data.angle_deg, wavelength
        )
    else:
        start = from_engine(data.name, data.orientation, basis, data.geometry, data.angle_deg)
        fit = fit_centroids(start, points, centroids, data.angle_deg, wavelength)
    check_stage_a(data, fit, points, centroids)
    return _StageA(fit, centroids, points, passage)


def _spots(data: OrientationData, centroids: Centroids) -> tuple[Floats, NDArray[np.int64], Floats]:
    """P (n, 3), frame (n,) and weight (n,) of what is seen on each frame."""
    if data.intensities is None:
        frame = np.rint(centroids.frame).astype(np.int64)
        return centroids.hkl @ data.reciprocal_basis.T, frame, np.ones(len(frame))
    rows = data.intensities
    seen = (rows.intensity > 3 * np.sqrt(rows.variance)) & data.used[rows.frame]
    # bright ones are near the top of their curve
    return (
        rows.hkl[seen] @ data.reciprocal_basis.T,
        rows.frame[seen].astype(np.int64),
        rows.intensity[seen],
    )


def _only_stage_a(data: OrientationData, a: _StageA, notes: list[str]) -> FrameOrientations:
    smooth, n = a.fit.smooth, data.n_frames
    e = smooth.directions(data.angle_deg)
    tangents = smooth.tangents(data.angle_deg)
    covariance = np.rad2deg(
        np.rad2deg(np.einsum("fip,pq,fjq->fij", tangents, a.fit.covariance, tangents))
    )
    frame = np.clip(np.rint(a.centroids.frame), 0, n - 1).astype(np.int64)
    observed = np.stack([a.centroids.row, a.centroids.column], axis=1)
    # of a passage the place is known, of its intensity often only the order
    turn = _turn(data, e, smooth, a.points, frame, observed, np.full(len(frame), 5.0))
    spots = np.bincount(frame, minlength=n)
    squared = np.bincount(frame, a.fit.residual**2, minlength=n)
    notes = [*notes, *notes_on_third_angle(turn)]
    notes.append("stage A: the smooth rotation alone; how single frames deviate is not known")
    unknown = np.full((n, 2), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        merit = squared / spots
    return FrameOrientations(
        method="stage A",
        rotation=_rotations(data, e, smooth, turn),
        centre=e / data.geometry.wavelength_A,
        small_deg=np.zeros((n, 2)),
        small_unshrunk_deg=unknown,
        covariance_deg2=covariance,
        covariance_unshrunk_deg2=np.full((n, 2, 2), np.nan),
        about_beam_deg=turn.angle_deg - turn.offset_deg,
        about_beam_sd_deg=turn.sd_deg,
        frame_scale=np.ones(n),
        n_spots=spots,
        merit=merit,
        flag=flags(data.used, spots, None, WIDE_DEG),
        axis=smooth.axis,
        rotation_scale=smooth.scale,
        figures=_figures_a(a.fit) | _figures_turn(turn),
        notes=tuple(notes),
    )


def _with_stage_b(
    data: OrientationData, rows: Rows, fit: BundleFit, notes: list[str]
) -> FrameOrientations:
    n = data.n_frames
    e = displaced(fit.smooth.directions(data.angle_deg), fit.smooth.axis, fit.small)
    observed = np.stack([rows.row, rows.column], axis=1)
    noise = rows.background + rows.gain * np.maximum(rows.intensity, 0)
    turn = _turn(
        data, e, fit.smooth, rows.points, rows.frame, observed, rows.intensity / np.sqrt(noise)
    )
    seen = np.bincount(rows.frame, minlength=n) > 0
    unshrunk = np.where(seen[:, None], np.rad2deg(fit.small_unshrunk), np.nan)
    free = np.rad2deg(np.rad2deg(fit.covariance_unshrunk))
    free = np.where(seen[:, None, None], free, np.nan)
    figures = {
        "jitter_along_deg": float(fit.sd_deg[0]),
        "jitter_perp_deg": float(fit.sd_deg[1]),
        "drift_along_deg": float(fit.drift_sd_deg[0]),
        "drift_perp_deg": float(fit.drift_sd_deg[1]),
        "frame_scale_sd": float(fit.sd_deg[2]),
        "sigma_s_per_A": fit.shape.size_per_A,
        "mosaic_deg": float(np.rad2deg(fit.shape.mosaic_rad)),
        "proportional_error": fit.kappa,
        "lean_of_curves": fit.shift_sd,
        "chi_square": fit.chi_square,
        "half_set_factor_along": float(fit.half_set_factor[0]),
        "half_set_factor_perp": float(fit.half_set_factor[1]),
        "half_set_factor_smooth_along": float(fit.smooth_factor[0]),
        "half_set_factor_smooth_perp": float(fit.smooth_factor[1]),
        "observations": float(len(rows.frame)),
        "reflections": float(np.count_nonzero(fit.amplitude)),
    }
    notes = [*notes, *notes_on_bundle(data, fit), *notes_on_third_angle(turn)]
    return FrameOrientations(
        method="stage B",
        rotation=_rotations(data, e, fit.smooth, turn),
        centre=e / data.geometry.wavelength_A,
        small_deg=np.rad2deg(fit.small),
        small_unshrunk_deg=unshrunk,
        covariance_deg2=np.rad2deg(np.rad2deg(fit.covariance)),
        covariance_unshrunk_deg2=free,
        about_beam_deg=turn.angle_deg - turn.offset_deg,
        about_beam_sd_deg=turn.sd_deg,
        frame_scale=np.where(seen, fit.frame_scale, np.nan),
        n_spots=fit.spots,
        merit=fit.frame_chi_square,
        flag=flags(data.used, fit.spots, free, WIDE_DEG),
        axis=fit.smooth.axis,
        rotation_scale=fit.smooth.scale,
        figures=figures | _figures_turn(turn),
        notes=tuple(notes),
    )


def _turn(
    data: OrientationData,
    e: Floats,
    smooth: SmoothRotation,
    points: Floats,
    frame: NDArray[np.int64],
    observed: Floats,
    snr: Floats,
) -> ThirdAngle:
    plain = lab_rotations(e, smooth.axis, data.geometry)
    q = np.einsum("nij,nj->ni", plain[frame], points)
    centre = np.stack([data.beam_row, data.beam_column], axis=1)[frame]
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    by_strain = np.zeros((len(frame), 2, 6))
    for k, (i, j) in enumerate(pairs):
        moved = plain[frame][:, :2, i] * points[:, j, None]
        if i != j:
            moved = moved + plain[frame][:, :2, j] * points[:, i, None]
        by_strain[:, :, k] = moved[:, ::-1] / data.geometry.per_A_per_px
    predicted = data.geometry.to_pixel(q, centre)
    turn = third_angle(observed, predicted, frame, snr, data.n_frames, by_strain)
    check_third_angle(data, turn)
    return turn


def _rotations(
    data: OrientationData, e: Floats, smooth: SmoothRotation, turn: ThirdAngle
) -> Floats:
    about_beam = rotation_about([0.0, 0.0, 1.0], turn.shrunk_deg)
    out: Floats = about_beam @ lab_rotations(e, smooth.axis, data.geometry)
    return out


def _figures_a(fit: CentroidFit) -> dict[str, float]:
    return {
        "centroids": float(fit.n_used),
        "inliers": fit.inliers,
        "spread_s_per_A": fit.spread_per_A,
        "rotation_scale_sd": float(np.sqrt(fit.covariance[4, 4])),
    }


def _figures_turn(turn: ThirdAngle) -> dict[str, float]:
    return {
        "axis_azimuth_off_deg": turn.offset_deg,
        "jitter_about_beam_deg": turn.jitter_deg,
        "spots_off_px": turn.rms_px,
    }
