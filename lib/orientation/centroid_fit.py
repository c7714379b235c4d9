"""Stage A: one rotation for the whole scan, from where reflections are brightest.

A reflection whose rocking curve is centred at the frame position z is on the Ewald sphere there, so

``minimise  sum_h rho( s_h(e(phi(z_h))) / sigma_h )``

over the direction of the axis and of e, the opening of the cone and the rotation scale (5
parameters; the sixth is the width of the Cauchy loss rho, from the median residual). ``sigma_h`` is
the error of the centroid times the speed ``|ds/dphi|`` at which the reflection passes. The problem
is so nearly linear that it ends at the same place from ten degrees away.

It sees nothing of how single frames deviate (stage B does), but needs no more than centroids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .geometry import SmoothRotation, along_perp, excitation
from .observations import Centroids, FrameIntensities

#: Centroids below this speed |ds/dphi| over |g| hardly tell where they passed.
SLOWEST = 0.1
#: A curve is cut off where it ends above this part of its peak.
CUT = 0.25
#: Centroids count from this signal-to-noise ratio of the peak on.
LEAST_SNR = 4.0


@dataclass(frozen=True)
class CentroidFit:
    """What stage A found.

    Attributes
    ----------
    smooth : the rotation.
    covariance : (5, 5) of its parameters (`SmoothRotation.tangents`).
    residual : (n,) s at the centroids, 1/Å.
    sigma : (n,) error expected of it, 1/Å.
    weight : (n,) robust weight, 0 (not used) to 1.
    loss : mean Cauchy loss in units of the expected error; compares starts of one series.
    spread_per_A : robust standard deviation of the residuals.
    """

    smooth: SmoothRotation
    covariance: Floats
    residual: Floats
    sigma: Floats
    weight: Floats
    loss: float
    spread_per_A: float

    @property
    def n_used(self) -> int:
        """Number of centroids that passed fast enough to count."""
        return int(np.count_nonzero(self.weight))

    @property
    def inliers(self) -> float:
        """Part of the centroids used that lie within four times the expected error."""
        used = self.weight > 0
        near = np.abs(self.residual[used]) < 4 * self.sigma[used]
        return float(np.mean(near)) if used.any() else 0.0


def centroids_from(
    intensities: FrameIntensities, used: NDArray[np.bool_]
) -> tuple[Centroids, NDArray[np.int64]]:
    """Centroids of the passages that are clear, and the passage (n,) each is of.

    A passage counts if its peak stands `LEAST_SNR` above noise and its flanks fall below `CUT` of
    the peak on frames that are used, on both sides.
    """
    order = np.lexsort((intensities.frame, intensities.crossing))
    crossing = intensities.crossing[order]
    frame = intensities.frame[order]
    first = np.nonzero(np.r_[True, np.diff(crossing) != 0])[0]
    bounds = np.append(first, len(crossing)).astype(np.int64)
    table = _centroids(
        bounds, frame, intensities.intensity[order], intensities.variance[order], used
    )
    good = np.isfinite(table[:, 0])
    table, first = table[good], first[good]
    peak = order[table[:, 3].astype(np.int64)]
    found = Centroids(
        intensities.hkl[peak],
        table[:, 0],
        np.hypot(table[:, 1], np.hypot(0.1 * table[:, 2], 0.05)),
        intensities.row[peak],
        intensities.column[peak],
        table[:, 4],
    )
    return found, crossing[first]


@numba.njit(cache=True, nogil=True)
def _centroids(
    bounds: NDArray[np.int64],
    frame: NDArray[np.int64],
    intensity: Floats,
    variance: Floats,
    used: NDArray[np.bool_],
) -> Floats:
    """(passages, 5): centroid, its sd from noise, rms width, row of the peak, sum; NaN: unclear."""
    out = np.full((len(bounds) - 1, 5), np.nan)
    for j in range(len(bounds) - 1):
        start, stop = bounds[j], bounds[j + 1]
        peak, best = start, -1.0
        for i in range(start, stop):
            if used[frame[i]] and intensity[i] > best:
                peak, best = i, intensity[i]
        if best <= 0 or best < LEAST_SNR * np.sqrt(variance[peak]):
            continue
        low = peak
        while low > start and frame[low - 1] == frame[low] - 1 and used[frame[low - 1]]:
            low -= 1
            if intensity[low] < CUT * best:
                break
        high = peak
        while high < stop - 1 and frame[high + 1] == frame[high] + 1 and used[frame[high + 1]]:
            high += 1
            if intensity[high] < CUT * best:
                break
        if low == peak or high == peak:
            continue
        if intensity[low] >= CUT * best or intensity[high] >= CUT * best:
            continue
        total = first = second = noise = 0.0
        for i in range(low, high + 1):
            total += intensity[i]
            first += intensity[i] * (frame[i] - frame[peak])
        if total <= 0:
            continue
        centre = first / total
        for i in range(low, high + 1):
            away = frame[i] - frame[peak] - centre
            second += max(intensity[i], 0.0) * away * away
            noise += variance[i] * away * away
        if abs(centre) > 1.0 + np.sqrt(second / total):
            continue
        out[j, 0] = frame[peak] + centre
        out[j, 1] = np.sqrt(noise) / total
        out[j, 2] = np.sqrt(second / total)
        out[j, 3] = peak
        out[j, 4] = total
    return out


def angle_at(position: Floats, angle_deg: Floats) -> Floats:
    """Read-outs (n,) at fractional frame positions (n,)."""
    return np.interp(position, np.arange(len(angle_deg)), angle_deg)


def fit_centroids(
    start: SmoothRotation,
    points: Floats,
    centroids: Centroids,
    angle_deg: Floats,
    wavelength_A: float,
    iterations: int = 40,
) -> CentroidFit:
    """Fit `start` to the centroids of reflections at `points` (n, 3) in 1/Å.

    Levenberg-Marquardt with analytic derivatives, Cauchy weights of a width taken anew from the
    median residual in every step.
    """
    angle = angle_at(centroids.frame, angle_deg)
    last = len(angle_deg) - 1
    before = np.clip(np.floor(centroids.frame).astype(int), 0, max(last - 1, 0))
    step_rad = np.deg2rad(np.abs(np.diff(angle_deg)))[before] if last else np.zeros(len(angle))
    sd_rad = np.maximum(centroids.frame_sd, 1e-3) * np.maximum(step_rad, 1e-9)
    length = np.linalg.norm(points, axis=1)
    own = np.arange(len(points))

    def look(smooth: SmoothRotation) -> tuple[Floats, Floats, Floats]:
        e = smooth.directions(angle)
        t1, t2 = along_perp(e, smooth.axis)
        s, slope = excitation(points, own, e, t1, t2, 1 / wavelength_A)
        design = np.einsum("nk,nkp->np", slope, smooth.tangents(angle))
        # speed of the passage, as the expected error goes with it
        return s, design, np.abs(slope[:, 0]) * np.linalg.norm(np.cross(smooth.axis, e), axis=1)

    smooth, damping = start, 1e-3
    s, design, speed = look(smooth)
    for _ in range(iterations):
        use = speed > SLOWEST * length
        if use.sum() < 6:
            break
        sigma = np.maximum(speed, SLOWEST * length) * sd_rad
        width = _cauchy_width(s[use] / sigma[use])
        weight = np.where(use, 1 / (1 + (s / (sigma * width)) ** 2), 0.0) / sigma**2
        normal = design.T @ (weight[:, None] * design)
        gradient = design.T @ (weight * s)
        cost = _cauchy_cost(s[use] / sigma[use], width)
        small = False
        for _ in range(8):
            step = np.linalg.solve(
                normal + np.diag(damping * np.diag(normal) + 1e-12 * np.trace(normal)), -gradient
            )
            step *= min(1.0, 0.1 / max(1e-12, float(np.abs(step).max())))
            trial = smooth.moved(step)
            s_new, design_new, speed_new = look(trial)
            if _cauchy_cost(s_new[use] / sigma[use], width) <= cost * (1 + 1e-12):
                small = float(np.abs(step).max()) < 1e-8
                smooth, s, design, speed = trial, s_new, design_new, speed_new
                damping = max(damping / 10, 1e-9)
                break
            damping = min(damping * 10, 1e6)
        else:
            break
        if small:
            break
    use = speed > SLOWEST * length
    sigma = np.maximum(speed, SLOWEST * length) * sd_rad
    if use.sum() < 6:
        none = np.zeros(len(s))
        return CentroidFit(smooth, np.full((5, 5), np.nan), s, sigma, none, np.inf, np.inf)
    width = _cauchy_width(s[use] / sigma[use])
    weight = np.where(use, 1 / (1 + (s / (sigma * width)) ** 2), 0.0)
    normal = design.T @ ((weight / sigma**2)[:, None] * design)
    scatter = (width / 2.385) ** 2
    covariance = np.linalg.pinv(normal) * max(1.0, scatter)
    spread = 1.4826 * float(np.median(np.abs(s[use])))
    loss = float(np.mean(np.log1p((s[use] / sigma[use]) ** 2)))
    return CentroidFit(smooth, covariance, s, sigma, weight, loss, spread)


def _cauchy_width(z: Floats) -> float:
    """2.385 robust standard deviations of residuals: 95 % efficient for Gaussian ones."""
    return 2.385 * max(0.2, 1.4826 * float(np.median(np.abs(z))))


def _cauchy_cost(z: Floats, width: float) -> float:
    return float(np.sum(np.log1p((z / width) ** 2)))
