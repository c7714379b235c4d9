"""The published method of orientation fitting, kept as the reference.

From the text of B. Wang's thesis (Stockholm University, 2019), chapter 6, equations 8 to 17: for
each frame the centre e of the Ewald sphere, ``|e| = r = 1/wavelength``, minimises

    sum_i w_i (|P_i - e| - r)^2,   P = B h,   w = 1/d                            (eqs. 12 to 14)

over the reflections seen on it. The rotation axis n is the normal of the plane through all e. A
reflection is taken to be in Bragg position on the frame where it is strongest; on others it is
turned, about n, by as much as the goniometer was between (eq. 15). Fit, plane and correction
repeat until the axis stands still. The figure of merit of a frame is the mean of
``(|P_corr - e| - r)^2`` (eq. 16).

What the text leaves open is chosen here: the global search on the first frame runs over evenly
spread directions instead of by simulated annealing; every minimum it finds (a frame of few rows
has two, mirror images) is followed through the scan, and the one with the smallest sum wins; a
frame of fewer than `MIN_SPOTS` is left unknown, and the next starts from the last known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..errors import UserError
from ..geometry import rotated
from .geometry import SmoothRotation, along_perp, lab_rotations, small_angles
from .observations import FrameIntensities, FrameOrientations, OrientationData

MIN_SPOTS = 4
MIN_FRAMES = 4  # a plane through three is exact, and tells nothing
MAX_CYCLES = 40
STILL_DEG = 1e-4  # the axis has settled when a cycle moves it less
FIRST_DIRECTIONS = 2000  # of the global search, about 4 degrees apart
RIVALS = 4  # minima followed through the scan, at most
WEAK_DEG = 0.3  # a frame known no better in one direction says so
RIVAL_COST = 25.0  # and no worse on the first frame than so many times the best


def published_orientations(
    data: OrientationData, *, correct: bool = True, detected: float = 3.0
) -> FrameOrientations:
    """Orient every frame by the published method.

    Parameters
    ----------
    data : with intensities frame by frame; its orientation is not used.
    correct : False leaves out the positional correction (Table 7 of the thesis).
    detected : a reflection is seen on a frame where its intensity is above so many standard
        deviations.

    Returns
    -------
    FrameOrientations with ``method="published"``. There is no prior, so shrunk and unshrunk are
    the same; covariances are of the least squares, scaled by the scatter of the frame. Rotations
    about the beam are those of a perfect goniometer.

    Raises
    ------
    UserError : no frame-by-frame intensities, too few frames with enough spots, or no rotation.
    """
    frames = _Frames.seen(data, detected)
    if len(frames.known) < MIN_FRAMES:
        raise UserError(
            data.name, f"{len(frames.known)} frames with {MIN_SPOTS} spots or more",
            f"at least {MIN_FRAMES}", "index more frames, or take a longer series",
        )  # fmt: skip
    if np.ptp(data.angle_deg[frames.known]) == 0:
        raise UserError(
            data.name, "all frames at one angle", "a rotation series",
            "give the angles at which the frames were taken",
        )  # fmt: skip
    solutions = [_cycles(data, frames, start, correct) for start in _first(frames)]
    best = min(solutions, key=lambda solution: solution.cost)
    return _as_orientations(data, frames, best, len(solutions), detected)


@dataclass(frozen=True)
class _Frames:
    """Spots by frame, in the order of the goniometer's angle.

    Attributes
    ----------
    name, radius : of the series, r in 1/Å.
    point, weight : (n, 3) P and (n,) 1/d.
    away_deg : (n,) angle of the frame less that where the reflection is strongest.
    known : (k,) frames with enough spots, by angle.
    start : (k + 1,) where the spots of each begin.
    n_spots : (frames,) spots seen on all frames.
    """

    radius: float
    point: Floats
    weight: Floats
    away_deg: Floats
    known: NDArray[np.int64]
    start: NDArray[np.int64]
    n_spots: NDArray[np.int64]

    @classmethod
    def seen(cls, data: OrientationData, detected: float) -> _Frames:
        rows = data.intensities
        if rows is None:
            raise UserError(
                data.name, "centroids only", "intensities frame by frame",
                "use stage A, or a source that tells on which frames a reflection was seen",
            )  # fmt: skip
        seen = (rows.intensity > detected * np.sqrt(rows.variance)) & data.used[rows.frame]
        some = np.flatnonzero(seen)
        n_spots = np.bincount(rows.frame[some], minlength=data.n_frames)
        order = np.argsort(data.angle_deg, kind="stable")
        place = np.argsort(order)
        some = some[n_spots[rows.frame[some]] >= MIN_SPOTS]
        some = some[np.argsort(place[rows.frame[some]], kind="stable")]
        known = order[n_spots[order] >= MIN_SPOTS]
        point = rows.hkl[some] @ data.reciprocal_basis.T
        strongest = data.angle_deg[_frame_of_maximum(rows, np.flatnonzero(seen))]
        return cls(
            1 / data.geometry.wavelength_A,
            point,
            np.linalg.norm(point, axis=1),
            data.angle_deg[rows.frame[some]] - strongest[some],
            known,
            np.concatenate([[0], np.cumsum(n_spots[known])]),
            n_spots,
        )


def _frame_of_maximum(rows: FrameIntensities, seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(rows,) the frame on which the passage of each row is strongest, of the rows `seen`."""
    frame = rows.frame.copy()
    by_passage = seen[np.lexsort((rows.intensity[seen], rows.crossing[seen]))]
    last = np.diff(rows.crossing[by_passage], append=-1) != 0
    strongest = np.full(rows.crossing.max(initial=-1) + 1, -1)
    strongest[rows.crossing[by_passage[last]]] = rows.frame[by_passage[last]]
    frame[seen] = strongest[rows.crossing[seen]]
    return frame


@dataclass(frozen=True)
class _Solution:
    """e (k, 3) of the known frames, axis, P_corr, sum of the weighted squares, cycles run."""

    centre: Floats
    axis: Floats
    point: Floats
    cost: float
    cycles: int


def _first(frames: _Frames) -> list[Floats]:
    """Every minimum on the first frame that may be the true one, the best first."""
    spots = slice(frames.start[0], frames.start[1])
    point, weight = frames.point[spots], frames.weight[spots]
    # a spiral of even density over the sphere
    i = np.arange(FIRST_DIRECTIONS) + 0.5
    z, turn = 1 - 2 * i / FIRST_DIRECTIONS, i * np.pi * (1 + 5**0.5)
    rho = np.sqrt(1 - z * z)
    e = frames.radius * np.stack([rho * np.cos(turn), rho * np.sin(turn), z], axis=1)
    r = frames.radius
    s = np.sqrt(np.sum(point**2, axis=1) - 2 * e @ point.T + r * r) - r
    tried = e[np.argsort(s * s @ weight)[:100]]
    ends = np.array([_fit_frame(point, weight, r, start) for start in tried])
    s = np.linalg.norm(point - ends[:, None], axis=2) - r
    cost = s * s @ weight
    minima: list[Floats] = []
    for k in np.argsort(cost):
        new = all(np.linalg.norm(ends[k] - other) > 0.01 * r for other in minima)
        if new and cost[k] < RIVAL_COST * cost.min() and len(minima) < RIVALS:
            minima.append(ends[k])
    return minima


def _cycles(data: OrientationData, frames: _Frames, start: Floats, correct: bool) -> _Solution:
    """Fit all frames; then correct and fit again until the axis stands still."""
    starts = np.tile(start, (len(frames.known), 1))
    centre = _fit_frames(frames.point, frames.weight, frames.start, frames.radius, starts, True)
    angle = data.angle_deg[frames.known]
    axis, point, cycle = _axis(centre, angle), frames.point, 1
    while correct and cycle < MAX_CYCLES:
        # e goes back about n as the crystal goes on: so does P, to keep |P - e| = r
        point = rotated(frames.point, axis, -frames.away_deg)
        centre = _fit_frames(point, frames.weight, frames.start, frames.radius, centre, False)
        before, axis, cycle = axis, _axis(centre, angle), cycle + 1
        if np.linalg.norm(axis - before) < np.deg2rad(STILL_DEG):
            break
    s = _deviations(frames, point, centre)
    return _Solution(centre, axis, point, float(np.sum(frames.weight * s * s)), cycle)


def _deviations(frames: _Frames, point: Floats, centre: Floats) -> Floats:
    e = np.repeat(centre, np.diff(frames.start), axis=0)
    s: Floats = np.linalg.norm(point - e, axis=1) - frames.radius
    return s


def _axis(centre: Floats, angle_deg: Floats) -> Floats:
    """Normal of the plane through e (k, 3), so that e turns by minus the angle about it."""
    axis: Floats = np.linalg.svd(centre - centre.mean(axis=0))[2][2]
    return axis if _turned(centre, axis, angle_deg)[0] < 0 else -axis


def _turned(centre: Floats, axis: Floats, angle_deg: Floats) -> tuple[float, float, Floats]:
    """Angle that e (k, 3) turns about the axis per angle read out, the mean read-out, e there."""
    along = centre @ axis
    across = centre - np.outer(along, axis)
    zero = across[0] / np.linalg.norm(across[0])
    turned = np.unwrap(np.arctan2(across @ np.cross(axis, zero), across @ zero))
    middle_deg = float(angle_deg.mean())
    slope, offset = np.polyfit(angle_deg - middle_deg, np.rad2deg(turned), 1)
    e = zero * np.linalg.norm(across, axis=1).mean() + axis * along.mean()
    return float(slope), middle_deg, rotated(e[None], axis, np.array([offset]))[0]


def _as_orientations(
    data: OrientationData, frames: _Frames, best: _Solution, n_rivals: int, detected: float
) -> FrameOrientations:
    slope, middle_deg, e = _turned(best.centre, best.axis, data.angle_deg[frames.known])
    smooth = SmoothRotation(best.axis, e / np.linalg.norm(e), middle_deg, -slope)
    direction = best.centre / frames.radius
    small = small_angles(direction, smooth.directions(data.angle_deg[frames.known]), best.axis)
    s = _deviations(frames, best.point, best.centre)
    merit = np.add.reduceat(s * s, frames.start[:-1]) / np.diff(frames.start)
    n = data.n_frames

    def every(value: Floats) -> Floats:
        out = np.full((n, *value.shape[1:]), np.nan)
        out[frames.known] = value
        return out

    small_deg = every(np.rad2deg(small))
    covariance = every(np.rad2deg(np.rad2deg(_covariance(frames, best, direction, s))))
    return FrameOrientations(
        method="published",
        rotation=every(lab_rotations(direction, best.axis, data.geometry)),
        centre=every(best.centre),
        small_deg=small_deg,
        small_unshrunk_deg=small_deg.copy(),
        covariance_deg2=covariance,
        covariance_unshrunk_deg2=covariance.copy(),
        about_beam_deg=np.full(n, np.nan),
        about_beam_sd_deg=np.full(n, np.nan),
        frame_scale=np.full(n, np.nan),
        n_spots=frames.n_spots,
        merit=every(merit),
        flag=_flags(data.used, frames.n_spots, covariance),
        axis=best.axis,
        rotation_scale=-slope,
        figures={
            "cycles": float(best.cycles),
            "rms_per_A": float(np.sqrt(np.mean(s * s))),
            "minima_followed": float(n_rivals),
        },
        notes=_notes(best, detected),
    )


def _flags(
    used: NDArray[np.bool_], n_spots: NDArray[np.int64], covariance_deg2: Floats
) -> tuple[str, ...]:
    flags = []
    for u, n, covariance in zip(used, n_spots, covariance_deg2, strict=True):
        if not u:
            flags.append("not used")
        elif n < MIN_SPOTS:
            flags.append(f"{n} spots, fewer than {MIN_SPOTS}")
        else:
            sd = float(np.sqrt(np.linalg.eigvalsh(covariance)[1]))
            flags.append(f"known to {sd:.1f} degrees in one direction" if sd > WEAK_DEG else "")
    return tuple(flags)


def _notes(best: _Solution, detected: float) -> tuple[str, ...]:
    notes = [f"Seen is what is above {detected:g} standard deviations."]
    if best.cycles == MAX_CYCLES:
        notes.append(f"The axis still moved after {MAX_CYCLES} cycles.")
    return tuple(notes)


def _covariance(frames: _Frames, best: _Solution, direction: Floats, s: Floats) -> Floats:
    """(k, 2, 2) rad^2 of (along, perp) of each frame, from the scatter of its own spots."""
    t1, t2 = along_perp(direction, best.axis)
    count = np.diff(frames.start)
    back = best.point - np.repeat(best.centre, count, axis=0)
    back *= -frames.radius / np.linalg.norm(back, axis=1, keepdims=True)
    tangents = np.repeat(np.stack([t1, t2], axis=1), count, axis=0)
    slope = np.einsum("nij,nj->ni", tangents, back)
    outer = slope[:, :, None] * slope[:, None, :]
    w = frames.weight
    first = frames.start[:-1]
    normal = np.add.reduceat(w[:, None, None] * outer, first)
    spread = np.add.reduceat((w * w)[:, None, None] * outer, first)
    scatter = np.add.reduceat(s * s, first) / (count - 2)
    inverse = np.linalg.pinv(normal, hermitian=True)
    covariance: Floats = scatter[:, None, None] * inverse @ spread @ inverse
    return covariance


@numba.njit(cache=True, nogil=True)
def _fit_frames(
    point: Floats,
    weight: Floats,
    start: NDArray[np.int64],
    radius: float,
    starts: Floats,
    follow: bool,
) -> Floats:
    """e (k, 3) of each frame, from its own start or (`follow`) from the frame before."""
    out = np.empty_like(starts)
    e = starts[0]
    for k in range(len(start) - 1):
        if not follow:
            e = starts[k]
        e = _fit_frame(point[start[k] : start[k + 1]], weight[start[k] : start[k + 1]], radius, e)
        out[k] = e
    return out


@numba.njit(cache=True, nogil=True)
def _fit_frame(point: Floats, weight: Floats, radius: float, begin: Floats) -> Floats:
    """The minimum of eq. 13 next to `begin`, on the sphere, by Levenberg and Marquardt."""
    e = begin.copy()
    damping = 1e-6
    cost = _cost(point, weight, radius, e)
    for _ in range(200):
        # two directions across e, the first across the coordinate it is least along
        u = np.zeros(3)
        u[np.argmin(np.abs(e))] = 1.0
        u = np.cross(e, u)
        u /= np.sqrt(np.sum(u * u))
        v = np.cross(e, u) / radius
        huu, huv, hvv, gu, gv = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(len(point)):
            d = point[i] - e
            length = np.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
            s = length - radius
            ju = -(d[0] * u[0] + d[1] * u[1] + d[2] * u[2]) / length
            jv = -(d[0] * v[0] + d[1] * v[1] + d[2] * v[2]) / length
            huu += weight[i] * ju * ju
            huv += weight[i] * ju * jv
            hvv += weight[i] * jv * jv
            gu += weight[i] * ju * s
            gv += weight[i] * jv * s
        step_length = 0.0
        for _ in range(30):
            a = huu + damping * (huu + hvv)
            c = hvv + damping * (huu + hvv)
            det = a * c - huv * huv
            su, sv = -(c * gu - huv * gv) / det, -(a * gv - huv * gu) / det
            moved = e + su * u + sv * v
            moved *= radius / np.sqrt(np.sum(moved * moved))
            new = _cost(point, weight, radius, moved)
            if new <= cost:
                e, cost = moved, new
                step_length = np.sqrt(su * su + sv * sv)
                damping = max(damping / 10, 1e-12)
                break
            damping *= 10
        if step_length < 1e-10 * radius:
            break
    return e


@numba.njit(cache=True, nogil=True)
def _cost(point: Floats, weight: Floats, radius: float, e: Floats) -> float:
    """Eq. 13."""
    total = 0.0
    for i in range(len(point)):
        x, y, z = point[i, 0] - e[0], point[i, 1] - e[1], point[i, 2] - e[2]
        s = np.sqrt(x * x + y * y + z * z) - radius
        total += weight[i] * s * s
    return total
