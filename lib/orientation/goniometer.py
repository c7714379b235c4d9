"""What the orientations of the frames tell of the goniometer.

The crystal's rotation about its axis (*in plane*) and the tilt of the beam's path out of the plane
of rotation, frame by frame, from the solution without prior: a prior would make any goniometer
look better than it is. The scatter of the estimates themselves is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..errors import UserError
from .goniometer_steps import (
    StepClusters,
    StepSpread,
    dead_travel,
    spread_of_steps,
    step_clusters,
)
from .lomb_scargle import Periodogram, excess_variance, lomb_scargle
from .observations import FrameOrientations, OrientationData

#: Fewer frames than this make no study.
LEAST_FRAMES = 10


@dataclass(frozen=True)
class GoniometerStudy:
    """The goniometer in one series.

    Attributes
    ----------
    name : of the series.
    frame : (n,) frames told of.
    read_out_deg, fitted_deg, expected_deg : (n,) angle as read out; as found, with the zero that
        makes the two agree in the mean; and of equal steps.
    in_plane_deg, in_plane_sd_deg : (n,) rotation about the axis beyond the scaled read-out.
    out_of_plane_deg, out_of_plane_sd_deg : (n,) beam out of the plane of rotation, towards the
        axis.
    step_deg, step_sd_deg : (m,) rotation between frames that follow each other, and its error.
    step_frame : (m,) the earlier frame of each.
    spread : the steps' scatter.
    clusters : of stepwise series with beam tilt; None elsewhere.
    offset_deg : read-out at mid-scan less that of equal steps.
    scale, scale_sd : true rotation over the read-out.
    backlash_deg, backlash_sd_deg : read-out travelled at the start before the crystal follows.
    in_plane, out_of_plane : their periodograms.
    jitter_along_deg, jitter_perp_deg : standard deviation from frame to frame, of the estimate's
        prior, or else of the curves with the errors taken off; the headline.
    half_jitter_along_deg, half_jitter_perp_deg : the same by two halves of the reflections, from
        steps between frames: what both halves see, whatever the errors are; NaN without them.
    notes : one sentence each.
    """

    name: str
    frame: NDArray[np.int64]
    read_out_deg: Floats
    fitted_deg: Floats
    expected_deg: Floats
    in_plane_deg: Floats
    in_plane_sd_deg: Floats
    out_of_plane_deg: Floats
    out_of_plane_sd_deg: Floats
    step_deg: Floats
    step_sd_deg: Floats
    step_frame: NDArray[np.int64]
    spread: StepSpread
    clusters: StepClusters | None
    offset_deg: float
    scale: float
    scale_sd: float
    backlash_deg: float
    backlash_sd_deg: float
    in_plane: Periodogram
    out_of_plane: Periodogram
    jitter_along_deg: float
    jitter_perp_deg: float
    half_jitter_along_deg: float
    half_jitter_perp_deg: float
    notes: tuple[str, ...]


def study_goniometer(
    data: OrientationData,
    found: FrameOrientations,
    *,
    halves: tuple[FrameOrientations, FrameOrientations] | None = None,
    next_covariance_deg2: Floats | None = None,
    seed: int = 0,
) -> GoniometerStudy:
    """Study the goniometer by the orientations of one series.

    Parameters
    ----------
    data, found : the series and its orientations.
    halves : orientations from two halves of its reflections.
    next_covariance_deg2 : (frames,) covariance of the errors along of each frame and the next;
        None takes 0.
    seed : of the permutations behind p-values.

    Raises
    ------
    UserError : fewer than ten frames whose own deviation is known.
    """
    sine = _sine(found)
    along, perp = found.small_unshrunk_deg.T
    told = data.used & np.isfinite(along) & np.isfinite(perp)
    told &= np.isfinite(found.covariance_unshrunk_deg2).all(axis=(1, 2))
    frame = np.flatnonzero(told)
    if len(frame) < LEAST_FRAMES:
        raise UserError(
            data.name, f"{len(frame)} frames whose own deviation is known",
            f"{LEAST_FRAMES} or more",
            "a study of the goniometer needs intensities frame by frame (stage B)",
        )  # fmt: skip
    read_out = data.angle_deg[frame]
    # e goes forward about its axis as the crystal goes back
    in_plane = -along[frame] / sine
    in_plane_sd = np.sqrt(found.covariance_unshrunk_deg2[frame, 0, 0]) / sine
    out_of_plane = perp[frame] - np.average(
        perp[frame], weights=1 / found.covariance_unshrunk_deg2[frame, 1, 1]
    )
    out_sd = np.sqrt(found.covariance_unshrunk_deg2[frame, 1, 1])
    scale = found.rotation_scale
    middle = 0.5 * (read_out[0] + read_out[-1])
    rotation = middle + scale * (read_out - middle) + in_plane
    fitted = rotation - np.mean(rotation - read_out)
    nominal = _equal_steps(data.angle_deg, data.used)
    steps = np.diff(rotation)
    follows = np.diff(frame) == 1
    variance = in_plane_sd**2
    between = np.zeros(len(frame) - 1)
    if next_covariance_deg2 is not None:
        between = next_covariance_deg2[frame[:-1]] / sine**2
    step_variance = variance[1:] + variance[:-1] - 2 * between
    notes: list[str] = []
    clusters = step_clusters(steps[follows], frame[:-1][follows], rotation, frame)
    own = ~clusters.at_goniometer if clusters else np.ones(int(follows.sum()), bool)
    spread = spread_of_steps(
        steps[follows][own],
        (data.angle_deg[frame[1:]] - data.angle_deg[frame[:-1]])[follows][own] * scale,
        step_variance[follows][own],
        _half_steps(halves, data, frame, follows, own, sine),
    )
    backlash, backlash_sd = dead_travel(read_out, in_plane, in_plane_sd)
    jitter = _jitter(found, in_plane, in_plane_sd, out_of_plane, out_sd, notes)
    fit_scale_sd = _slope_sd(read_out, in_plane, in_plane_sd)
    seen = _half_jitter(halves, frame, follows, own)
    for name, told, by_halves in zip(("along", "perpendicular"), jitter, seen, strict=True):
        if told > 2 * by_halves and told > 0.005:
            notes.append(
                f"two halves of the reflections agree on {by_halves:.3f} degrees of jitter {name}, "
                f"not on {told:.3f}: the rest may be errors that grow with intensity"
            )
    if spread.observed_sd < spread.estimation_sd:
        notes.append("steps scatter no more than the errors of the orientations explain")
    return GoniometerStudy(
        name=data.name,
        frame=frame,
        read_out_deg=read_out,
        fitted_deg=fitted,
        expected_deg=nominal[frame],
        in_plane_deg=in_plane,
        in_plane_sd_deg=in_plane_sd,
        out_of_plane_deg=out_of_plane,
        out_of_plane_sd_deg=out_sd,
        step_deg=steps[follows],
        step_sd_deg=np.sqrt(np.maximum(step_variance[follows], 0)),
        step_frame=frame[:-1][follows],
        spread=spread,
        clusters=clusters,
        offset_deg=float(np.mean(read_out - nominal[frame])),
        scale=scale,
        scale_sd=fit_scale_sd,
        backlash_deg=backlash,
        backlash_sd_deg=backlash_sd,
        in_plane=lomb_scargle(read_out, in_plane, in_plane_sd, seed=seed),
        out_of_plane=lomb_scargle(read_out, out_of_plane, out_sd, seed=seed),
        jitter_along_deg=jitter[0],
        jitter_perp_deg=jitter[1],
        half_jitter_along_deg=seen[0],
        half_jitter_perp_deg=seen[1],
        notes=tuple(notes),
    )


def _sine(found: FrameOrientations) -> float:
    """Sine of the angle between e and the axis: along is measured on the sphere, not about it."""
    known = np.isfinite(found.centre).all(axis=1)
    e = found.centre[known]
    if not len(e):
        return 1.0
    cosine = float(np.mean(e @ found.axis / np.linalg.norm(e, axis=1)))
    return float(np.sqrt(max(1 - cosine**2, 1e-6)))


def _equal_steps(angle_deg: Floats, used: NDArray[np.bool_]) -> Floats:
    """(frames,) what equal steps from the first frame to the last would have read."""
    n = len(angle_deg)
    step = float(np.median(np.diff(angle_deg))) if n > 1 else 0.0
    first = int(np.flatnonzero(used)[0]) if used.any() else 0
    steps: Floats = angle_deg[first] + step * (np.arange(n) - first)
    return steps


def _half_steps(
    halves: tuple[FrameOrientations, FrameOrientations] | None,
    data: OrientationData,
    frame: NDArray[np.int64],
    follows: NDArray[np.bool_],
    own: NDArray[np.bool_],
    sine: float,
) -> tuple[Floats, Floats] | None:
    """Deviations of the steps by each half."""
    if halves is None:
        return None
    a, b = (np.diff(-one.small_unshrunk_deg[frame, 0] / sine)[follows][own] for one in halves)
    return a, b


def _half_jitter(
    halves: tuple[FrameOrientations, FrameOrientations] | None,
    frame: NDArray[np.int64],
    follows: NDArray[np.bool_],
    own: NDArray[np.bool_],
) -> tuple[float, float]:
    """Jitter along and perp that both halves see: half the covariance of their steps."""
    if halves is None:
        return float("nan"), float("nan")
    found = []
    for k in (0, 1):
        a, b = (np.diff(one.small_unshrunk_deg[frame, k])[follows][own] for one in halves)
        both = np.isfinite(a) & np.isfinite(b)
        if both.sum() < LEAST_FRAMES:
            found.append(float("nan"))
            continue
        # steps far off the others say nothing of jitter
        near = both & (np.abs(a) < 5 * np.median(np.abs(a[both])) + 1e-9)
        near &= np.abs(b) < 5 * np.median(np.abs(b[both])) + 1e-9
        covariance = float(np.cov(a[near], b[near])[0, 1]) if near.sum() > 2 else 0.0
        found.append(float(np.sqrt(max(covariance, 0.0) / 2)))
    return found[0], found[1]


def _slope_sd(x: Floats, y: Floats, sd: Floats) -> float:
    """Error of the slope of y over x, from the scatter."""
    sd = np.sqrt(sd**2 + excess_variance(y, sd))
    weight = sd**-2
    centred = x - np.average(x, weights=weight)
    return float(1 / np.sqrt(np.maximum(np.sum(weight * centred**2), 1e-300)))


def _jitter(
    found: FrameOrientations,
    in_plane: Floats,
    in_sd: Floats,
    out: Floats,
    out_sd: Floats,
    notes: list[str],
) -> tuple[float, float]:
    along = found.figures.get("jitter_along_deg", float("nan"))
    perp = found.figures.get("jitter_perp_deg", float("nan"))
    if np.isfinite(along) and np.isfinite(perp):
        return along, perp
    notes.append("jitter from the scatter of the curves, for the method estimates none")
    return (
        float(np.sqrt(np.maximum(np.var(in_plane) - np.mean(in_sd**2), 0.0))),
        float(np.sqrt(np.maximum(np.var(out) - np.mean(out_sd**2), 0.0))),
    )
