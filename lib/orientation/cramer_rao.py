"""The least error any unbiased estimator of orientations can have (Cramér and Rao).

Counts are Poisson with mean ``mu = A W(s) + background``; the amplitude A of each passage is not
known beforehand, profile, background and frame scales are. Per observation the information is
``(dmu/dtheta)(dmu/dtheta)^T / mu``; amplitudes are eliminated exactly. Two bounds: each frame with
two angles of its own (*free*), and a perfect goniometer with five parameters for the scan
(*smooth*). An estimator that learns how much frames deviate may come out below the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ellipe

from ..crystal.cell import Floats
from ..errors import UserError
from .bundle_band import PER_FRAME, band_times, solve
from .bundle_model import LONGEST, normal_equations
from .bundle_profile import RockingShape, averaged
from .geometry import SmoothRotation, along_perp, excitation
from .observations import OrientationData


@dataclass(frozen=True)
class CramerRao:
    """Bounds on the covariance of (w1, w2) of each frame.

    Attributes
    ----------
    free_deg2, smooth_deg2 : (frames, 2, 2); infinite where a frame tells nothing.
    """

    free_deg2: Floats
    smooth_deg2: Floats

    @property
    def free_mean_deg(self) -> float:
        """Mean angle by which the best unbiased estimator with free frames is off."""
        return float(np.mean(mean_angle(self.free_deg2)))

    @property
    def smooth_mean_deg(self) -> float:
        """The same where rotation is known to be smooth."""
        return float(np.mean(mean_angle(self.smooth_deg2)))


def cramer_rao(
    crossing: NDArray[np.int64],
    frame: NDArray[np.int64],
    expected: Floats,
    slope: Floats,
    variance: Floats,
    tangents: Floats,
) -> CramerRao:
    """Bounds for a series whose truth is known.

    Parameters
    ----------
    crossing, frame : (n,) passage and frame of each observation.
    expected : (n,) mean intensity above background, electrons.
    slope : (n, 2) its derivative by the frame's (w1, w2), electrons per rad.
    variance : (n,) of the observation: expected + background for counts.
    tangents : (frames, 2, 5) of the true smooth rotation (`SmoothRotation.tangents`).
    """
    n_frames = len(tangents)
    order = np.lexsort((frame, crossing))
    c, f = crossing[order], frame[order].astype(np.int64)
    new = np.r_[True, np.diff(c) != 0]
    begin = f[np.maximum.accumulate(np.where(new, np.arange(len(f)), 0))]
    # the cut of stage B into pieces loses almost nothing, but the bound is of whole passages
    if len(f) and int((f - begin).max()) >= LONGEST:
        return _dense(new, f, expected[order], slope[order], variance[order], tangents)
    bounds = np.append(np.nonzero(new)[0], len(f)).astype(np.int64)
    width = PER_FRAME * (int((f - begin).max(initial=0)) + 1)
    mu = expected[order]
    ones = np.ones(len(f))
    band, _ = normal_equations(
        bounds, f, mu, ones, ones, slope[order], np.ones(n_frames), np.ones(len(bounds) - 1),
        1 / variance[order], np.zeros(len(f)), np.zeros(len(bounds) - 1), 0.0,
        n_frames, width,
    )  # fmt: skip
    band = _angles_only(band)
    padded = np.zeros((n_frames, PER_FRAME, tangents.shape[2]))
    padded[:, :2] = tangents
    t = padded.reshape(-1, tangents.shape[2])
    smooth = np.linalg.inv(t.T @ band_times(band, t))
    nothing = np.zeros(PER_FRAME * n_frames)
    # (nearly) no prior; the border takes up what it leaves
    weak = np.full(PER_FRAME * n_frames, 1e-3)
    of_no_prior = np.zeros(t.shape[1])
    free = solve(band, nothing, t, weak, nothing, of_no_prior, of_no_prior).total[:, :2, :2]
    of_smooth = np.einsum("fip,pq,fjq->fij", tangents, smooth, tangents)
    return CramerRao(np.rad2deg(np.rad2deg(free)), np.rad2deg(np.rad2deg(of_smooth)))


def bounds_of_series(
    data: OrientationData,
    centre: Floats,
    axis: Floats,
    expected: Floats,
    background: float,
    shape: RockingShape,
) -> CramerRao:
    """Bounds for a simulated series.

    Parameters
    ----------
    data : with frame-by-frame intensities.
    centre : (frames, 3) true e; only its direction counts.
    axis : (3,) true axis in the crystal's Cartesian frame.
    expected : (rows,) true mean intensities, without background.
    background : electrons per row.
    shape : true width of the rocking curves.
    """
    rows = data.intensities
    if rows is None:
        raise UserError(data.name, "no intensities by frame", "some", "simulate them")
    frame = rows.frame.astype(np.int64)
    e = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    t1, t2 = along_perp(e, axis)
    points = rows.hkl @ data.reciprocal_basis.T
    s, small = excitation(points, frame, e, t1, t2, 1 / data.geometry.wavelength_A)
    sine = np.linalg.norm(np.cross(axis, e), axis=1)
    delta = np.abs(small[:, 0]) * (np.deg2rad(data.exposure_deg) / 2 * sine)[frame]
    sigma = shape.sigma(np.linalg.norm(points, axis=1))
    curve, slope, _ = averaged(s, delta, sigma, shape.table)
    relative = np.where(curve > 1e-12, slope / np.maximum(curve, 1e-12), 0.0)
    # a perfect goniometer has these tangents wherever it started: sign and scale of p do not count
    middle = float(np.median(data.angle_deg))
    nearest = int(np.argmin(np.abs(data.angle_deg - middle)))
    smooth = SmoothRotation(axis, e[nearest], float(data.angle_deg[nearest]))
    return cramer_rao(
        rows.crossing, frame, expected, (expected * relative)[:, None] * small,
        expected + background, smooth.tangents(data.angle_deg),
    )  # fmt: skip


def _angles_only(band: Floats) -> Floats:
    """The band with the frame scales known: their rows and columns those of the unit matrix."""
    out = band.copy()
    width, n = out.shape
    for d in range(width):
        index = np.arange(n - d)
        scale = (index % PER_FRAME == 2) | ((index + d) % PER_FRAME == 2)
        out[d, index[scale]] = 1.0 if d == 0 else 0.0
    return out


def _dense(
    new: NDArray[np.bool_],
    frame: NDArray[np.int64],
    expected: Floats,
    slope: Floats,
    variance: Floats,
    tangents: Floats,
) -> CramerRao:
    """The same with a full matrix, for passages of any length."""
    n_frames = len(tangents)
    full = np.zeros((2 * n_frames, 2 * n_frames))
    starts = np.append(np.nonzero(new)[0], len(frame))
    for begin, end in pairwise(starts.tolist()):
        part = slice(begin, end)
        index = (2 * frame[part][:, None] + np.arange(2)).ravel()
        weight = 1 / variance[part]
        own = float(np.sum(weight * expected[part] ** 2))
        if own <= 0:
            continue
        j = slope[part]
        block = np.zeros((len(index), len(index)))
        for k in range(end - begin):
            block[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = weight[k] * np.outer(j[k], j[k])
        c = ((weight * expected[part])[:, None] * j).ravel()
        full[np.ix_(index, index)] += block - np.outer(c, c) / own
    t = tangents.reshape(2 * n_frames, -1)
    of_p = np.linalg.inv(t.T @ full @ t)
    inverse = np.linalg.pinv(full + 1e-3 * np.eye(len(full)), hermitian=True)
    first = 2 * np.arange(n_frames)[:, None, None]
    down, across = np.arange(2)[:, None], np.arange(2)[None, :]
    blocks = inverse[first + down, first + across]
    of_smooth = np.einsum("fip,pq,fjq->fij", tangents, of_p, tangents)
    return CramerRao(np.rad2deg(np.rad2deg(blocks)), np.rad2deg(np.rad2deg(of_smooth)))


def mean_angle(covariance: Floats) -> Floats:
    """Mean length (n,) of Gaussian vectors of covariance (n, 2, 2), in the root of its unit.

    ``sqrt(2 major / pi) E(1 - minor / major)``, E the complete elliptic integral.
    """
    values = np.linalg.eigvalsh(covariance)
    minor, major = np.maximum(values[:, 0], 0), np.maximum(values[:, 1], 1e-300)
    out: Floats = np.sqrt(2 * major / np.pi) * ellipe(1 - minor / major)
    return out
