"""What cannot be refined, and what is not to be believed: refusals, notes, and flags of frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..errors import UserError
from .bundle_fit import BundleFit
from .centroid_fit import CentroidFit, fit_centroids
from .geometry import SmoothRotation
from .observations import Centroids, OrientationData
from .third_angle import ThirdAngle

LEAST_FRAMES = 5
LEAST_CENTROIDS = 15
#: Spots below which a frame is flagged.
FEW_SPOTS = 4
#: Centroids of a right model scatter by less than this part of the width of the rocking curves;
#: those of indices that have nothing to do with the scan scatter over the window of the search.
SCATTER = 0.75
#: Correlation of observed with predicted places below which they are not the same spots.
LEAST_AGREEMENT = 0.8


def check_scan(data: OrientationData) -> None:
    """Refuse what is no rotation series.

    Raises
    ------
    UserError : says which.
    """
    used = np.flatnonzero(data.used)
    if len(used) >= 1 and np.ptp(data.angle_deg[used]) < 1e-6:
        raise UserError(
            f"{data.name}: angles",
            f"{len(used)} frame(s) at one angle",
            "a rotation series",
            "a still has no rocking curves: use the closed form (lib.orientation.closed_form)",
        )
    if len(used) < LEAST_FRAMES:
        raise UserError(
            f"{data.name}: frames",
            f"{len(used)} to use",
            f"{LEAST_FRAMES} or more",
            "use the engine's orientations for so short a series",
        )
    if not np.isfinite(data.angle_deg[used]).all():
        raise UserError(
            f"{data.name}: angles", "some that are not numbers", "one per frame", "read them again"
        )
    steps = np.diff(data.angle_deg[used])
    forward = steps > 0
    # a goniometer may step back a little at the start; a shuffled list goes back half the time
    if min(forward.mean(), 1 - forward.mean()) > 0.1:
        raise UserError(
            f"{data.name}: angles",
            f"{int(min(forward.sum(), (~forward).sum()))} of {len(steps)} steps against the others",
            "a rotation in one sense",
            "sort the frames by angle, or split the series where it turns round",
        )
    if data.intensities is None and data.centroids is None:
        raise UserError(
            data.name, "neither intensities by frame nor centroids", "one", "integrate first"
        )
    rows = data.intensities
    if rows is not None and len(rows):
        if rows.frame.min() < 0 or rows.frame.max() >= data.n_frames:
            raise UserError(
                f"{data.name}: intensities",
                f"frames {rows.frame.min()} to {rows.frame.max()}",
                f"0 to {data.n_frames - 1}",
                "give intensities of this series",
            )
        seen = np.isfinite(rows.intensity)
        if not (rows.variance[seen] > 0).all():
            raise UserError(
                f"{data.name}: intensities",
                f"{int(np.sum(~(rows.variance[seen] > 0)))} variances that are not positive",
                "positive ones",
                "give each intensity its variance",
            )


def check_stage_a(
    data: OrientationData, fit: CentroidFit, points: Floats, centroids: Centroids
) -> None:
    """Refuse reflections that follow no rotation of this cell by these angles.

    Raises
    ------
    UserError : too few of them, angles of the wrong sign, or no match.
    """
    if fit.n_used < LEAST_CENTROIDS:
        raise UserError(
            f"{data.name}: reflections",
            f"{fit.n_used} whose passage through the Ewald sphere is clear",
            f"{LEAST_CENTROIDS} or more",
            "check that the frames are indexed, in order and finer than the rocking curves, "
            "or use the engine's orientations",
        )
    width = curve_width(data, fit, points, centroids)
    scatter = fit.spread_per_A
    if scatter < SCATTER * width and fit.smooth.scale > 0:
        return
    turned = fit if fit.smooth.scale <= 0 else _other_way(data, fit, points, centroids)
    if turned.spread_per_A < SCATTER * width:
        raise UserError(
            f"{data.name}: angles",
            f"a crystal that turns against them (scale {turned.smooth.scale:.3f})",
            "angles that grow with right-handed rotation about the axis",
            "change the sign of the angles or of the axis",
        )
    raise UserError(
        f"{data.name}: reflections",
        f"peaks scattered by {scatter:.1e} 1/Å about the Ewald sphere",
        f"less than {SCATTER * width:.1e} 1/Å, as the rocking curves are wide",
        "check the cell, the wavelength, that indices and cell are of one setting and one crystal, "
        "and the order of the frames",
    )


def _other_way(
    data: OrientationData, fit: CentroidFit, points: Floats, centroids: Centroids
) -> CentroidFit:
    """The best fit in which the crystal turns against the angles.

    It may be begun anywhere on the path, as the angle at which the engine's orientation holds is
    then in doubt too.
    """
    best = fit
    smooth = fit.smooth
    for angle in np.linspace(data.angle_deg.min(), data.angle_deg.max(), 3):
        start = SmoothRotation(smooth.axis, smooth.directions([angle])[0], smooth.angle_deg, -1.0)
        one = fit_centroids(start, points, centroids, data.angle_deg, data.geometry.wavelength_A)
        if one.smooth.scale < 0 and one.spread_per_A < best.spread_per_A:
            best = one
    return best


def curve_width(
    data: OrientationData, fit: CentroidFit, points: Floats, centroids: Centroids
) -> float:
    """Half the width of a typical rocking curve as seen (exposure included), 1/Å."""
    step = np.deg2rad(float(np.median(np.abs(np.diff(data.angle_deg)))))
    length = float(np.median(np.linalg.norm(points, axis=1))) if len(points) else 1.0
    by_step = step * length
    rows = data.intensities
    if rows is None:
        # engines know a centroid to a tenth of the curve, more or less
        return max(float(np.median(fit.sigma)) * 5, by_step)
    seen = rows.intensity > np.maximum(3 * np.sqrt(rows.variance), 0)
    lasting = np.bincount(rows.crossing[seen])
    lasting = lasting[lasting > 0]
    frames = float(np.median(lasting)) if len(lasting) else 1.0
    speed = float(np.median(fit.sigma / np.maximum(centroids.frame_sd, 1e-3)))
    return max(0.25 * frames * speed, 0.5 * by_step)


def outlying(
    data: OrientationData, fit: CentroidFit, points: Floats, centroids: Centroids
) -> NDArray[np.bool_]:
    """(n,) whether a centroid is where its reflection cannot have been by this rotation."""
    width = curve_width(data, fit, points, centroids)
    out: NDArray[np.bool_] = np.abs(fit.residual) > max(8 * fit.spread_per_A, width)
    return out


def notes_on_stage_a(fit: CentroidFit, outside_per_centroid: NDArray[np.bool_]) -> list[str]:
    """What is odd about the rotation and the reflections, one sentence each."""
    notes = []
    outside = float(np.mean(outside_per_centroid[fit.weight > 0]))
    if outside > 0.03:
        notes.append(
            f"{100 * outside:.0f} % of the reflections do not follow the rotation of the others "
            "and are left out: a second crystal, or wrong indices"
        )
    sd = float(np.sqrt(fit.covariance[4, 4]))
    if abs(fit.smooth.scale - 1) > max(0.02, 5 * sd):
        notes.append(
            f"the crystal turns {fit.smooth.scale:.3f}({sd:.3f}) of what the angles say: check the "
            "step, and the cell"
        )
    return notes


def notes_on_bundle(data: OrientationData, fit: BundleFit) -> list[str]:
    """What limits stage B, one sentence each."""
    notes = []
    used = data.used & (fit.spots > 0)
    rocking = np.hypot(fit.shape.size_per_A, fit.shape.mosaic_rad * 0.5)
    step = np.deg2rad(float(np.median(np.abs(np.diff(data.angle_deg))))) * 0.5
    if step > 2 * rocking:
        notes.append(
            "steps are wider than the rocking curves (at 2 Å): amplitudes and orientations of "
            "single frames can hardly be told apart, the smooth rotation is what counts"
        )
    worst = float(np.max(fit.half_set_factor))
    if worst > 2:
        notes.append(
            f"two halves of the reflections differ {worst:.1f} times more than counting and model "
            "explain; all errors are scaled by it"
        )
    if fit.kappa > 0.3:
        notes.append(
            f"strong intensities are off the rocking curve by {100 * fit.kappa:.0f} %: multiple "
            "scattering, or a wrong cell or order of frames"
        )
    if used.mean() < 0.8:
        notes.append(f"{int((~used).sum())} of {len(used)} frames have no spots or are not used")
    return notes


def check_third_angle(data: OrientationData, turn: ThirdAngle) -> None:
    """Refuse orientations under which spots are elsewhere on the camera.

    Raises
    ------
    UserError : angles of the wrong sign, or indices that are not those of the spots.
    """
    if not np.isfinite(turn.agreement):
        return
    if turn.agreement > LEAST_AGREEMENT and abs(turn.offset_deg) > 150:
        raise UserError(
            f"{data.name}: angles",
            "a crystal that turns against them (spots lie on the other side of the beam)",
            "angles that grow with right-handed rotation about the axis",
            "change the sign of the angles or of the axis",
        )
    if turn.agreement < LEAST_AGREEMENT:
        raise UserError(
            f"{data.name}: spots",
            f"them elsewhere than the indices say (agreement {turn.agreement:.2f})",
            f"{LEAST_AGREEMENT} or more of 1",
            "check that indices and cell are of one setting and one hand, and the beam centre",
        )


def notes_on_third_angle(turn: ThirdAngle) -> list[str]:
    """What the places of the spots say against the orientation, one sentence each."""
    if not np.isfinite(turn.agreement):
        return ["no places of spots: the angle about the beam is the engine's axis' alone"]
    notes = []
    if abs(turn.offset_deg) > 5:
        notes.append(
            f"spots are turned by {turn.offset_deg:.1f} degrees about the beam from where the axis "
            "of the geometry puts them: check its direction"
        )
    shape, size = turn.strain - np.mean(turn.strain), float(np.mean(turn.strain))
    worst = float(np.abs(shape).max())
    if worst > max(3e-3, 5 * turn.strain_sd):
        notes.append(
            f"places of spots ask for axes changed by up to {100 * worst:.1f} % against each "
            "other: the cell's shape is wrong, or the camera's ellipticity; errors of orientations "
            "do not include it"
        )
    if abs(size) > max(0.02, 5 * turn.strain_sd):
        notes.append(
            f"places of spots ask for reciprocal axes {100 * size:+.1f} %: check the cell's size, "
            "the camera length and the wavelength"
        )
    return notes


def flags(
    used: NDArray[np.bool_], spots: NDArray[np.int64], covariance: Floats | None, wide_deg: float
) -> tuple[str, ...]:
    """Why a frame is not to be trusted, "" where it is.

    Parameters
    ----------
    covariance : (frames, 2, 2) without prior, deg^2; frames with one or two rows of spots are weak
        in one direction, which its eigenvectors tell.
    wide_deg : sd at which a frame tells nothing.
    """
    out = []
    for f in range(len(used)):
        if not used[f]:
            out.append("not used: the smooth rotation")
        elif spots[f] == 0:
            out.append("no spots: the smooth rotation")
        elif spots[f] < FEW_SPOTS:
            out.append(f"only {spots[f]} spots")
        elif covariance is not None and np.isfinite(covariance[f]).all():
            values, vectors = np.linalg.eigh(covariance[f])
            minor, major = np.sqrt(np.maximum(values, 0))
            way = "along" if abs(vectors[0, 1]) > abs(vectors[1, 1]) else "perp"
            if major > 0.5 * wide_deg or (major > 5 * minor and major > 0.02):
                out.append(f"weak {way}: sd {major:.3f} deg, {minor:.3f} across")
            else:
                out.append("")
        else:
            out.append("")
    return tuple(out)
