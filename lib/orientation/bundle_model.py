"""Stage B's model of the intensities: rows, weights, and the normal equations of the frames.

``I_hf = k_f A_h W(s_hf; sigma_h, delta_hf)`` with variance
``v = gain k A W + background + (kappa k A W)^2``. The last term stands for all that makes strong
spots wrong in proportion (multiple scattering, flicker); without it they would invent jitter.
Residuals follow Student's t with four degrees of freedom. Each passage has an amplitude A of its
own and, where the data ask for it, a shift u of its curve in units of its width (rocking curves of
real crystals lean to one side or the other), with a prior of a width the data tell. Both are
eliminated as they are met (variable projection), so that only frames couple.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .bundle_band import PER_FRAME
from .observations import FrameIntensities

#: Longer passages are cut, with an amplitude for each piece: it keeps the equations banded, and
#: what ties frames this far apart is the smooth rotation, not one reflection's amplitude.
LONGEST = 48
#: Degrees of freedom of Student's t.
STUDENT = 4.0
#: Amplitudes below this many standard deviations only add noise.
LEAST_SNR = 2.0


@dataclass(frozen=True)
class Rows:
    """Observations in the order of passages, then frames.

    Attributes
    ----------
    points : (n, 3) P in 1/Å.
    length : (n,) \\|P|.
    frame : (n,) int64.
    intensity, background : (n,) intensity, and what of its variance is not its own counting.
    gain : variance per intensity.
    bounds : (pieces + 1,) int64: rows of piece j are bounds[j]:bounds[j + 1].
    hkl : (pieces, 3).
    passage : (pieces,) number of the passage each piece is of.
    row, column : (n,) observed, px.
    source : (n,) row of the table they came from.
    """

    points: Floats
    length: Floats
    frame: NDArray[np.int64]
    intensity: Floats
    background: Floats
    gain: float
    bounds: NDArray[np.int64]
    hkl: NDArray[np.int32]
    passage: NDArray[np.int64]
    row: Floats
    column: Floats
    source: NDArray[np.int64]


def rows_from(
    intensities: FrameIntensities,
    basis: Floats,
    used: NDArray[np.bool_],
    left_out: NDArray[np.int64],
) -> Rows:
    """The rows of used frames, without passages `left_out`, and with two frames or more."""
    keep = used[intensities.frame] & np.isfinite(intensities.intensity)
    keep &= np.isfinite(intensities.variance) & (intensities.variance > 0)
    keep &= ~np.isin(intensities.crossing, left_out)
    index = np.nonzero(keep)[0]
    order = index[np.lexsort((intensities.frame[index], intensities.crossing[index]))]
    crossing, frame = intensities.crossing[order], intensities.frame[order]
    new = np.r_[True, np.diff(crossing) != 0] if len(order) else np.zeros(0, bool)
    begin = frame[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    piece = (frame - begin) // LONGEST
    new |= np.r_[True, np.diff(piece) != 0] if len(order) else new
    number = np.cumsum(new) - 1
    enough = (np.bincount(number) >= 2)[number] if len(order) else new
    order, new = order[enough], new[enough]
    starts = np.nonzero(new)[0].astype(np.int64)
    intensity, variance = intensities.intensity[order], intensities.variance[order]
    gain = _gain(intensity, variance)
    points = intensities.hkl[order] @ basis.T
    return Rows(
        points,
        np.linalg.norm(points, axis=1),
        intensities.frame[order],
        intensity,
        _background(intensity, variance, gain, starts),
        gain,
        np.append(starts, len(order)).astype(np.int64),
        intensities.hkl[order[starts]],
        intensities.crossing[order[starts]],
        intensities.row[order],
        intensities.column[order],
        order,
    )


def some_of(rows: Rows, pieces: NDArray[np.bool_]) -> Rows:
    """The rows of some of the pieces (pieces,)."""
    number = np.diff(rows.bounds)
    keep = np.repeat(pieces, number)
    return Rows(
        rows.points[keep],
        rows.length[keep],
        rows.frame[keep],
        rows.intensity[keep],
        rows.background[keep],
        rows.gain,
        np.concatenate([[0], np.cumsum(number[pieces])]).astype(np.int64),
        rows.hkl[pieces],
        rows.passage[pieces],
        rows.row[keep],
        rows.column[keep],
        rows.source[keep],
    )


def _background(
    intensity: Floats, variance: Floats, gain: float, starts: NDArray[np.int64]
) -> Floats:
    """Variance not of the reflection's own counting: the median of each piece.

    Row by row it would follow the noise, and weigh those that happen to be low the most.
    """
    if not len(intensity):
        return variance
    rest = variance - gain * np.maximum(intensity, 0)
    number = np.diff(np.append(starts, len(rest)))
    which = np.repeat(np.arange(len(starts)), number)
    in_order = rest[np.lexsort((rest, which))]
    low, high = in_order[starts + (number - 1) // 2], in_order[starts + number // 2]
    least = 0.05 * float(np.median(variance))
    return np.repeat(np.maximum(0.5 * (low + high), least), number)


def _gain(intensity: Floats, variance: Floats) -> float:
    """Variance per intensity of strong rows: 1 for counted electrons."""
    if not len(intensity):
        return 1.0
    strong = intensity > np.maximum(5 * np.sqrt(variance), np.quantile(intensity, 0.9))
    if strong.sum() < 30:
        return 1.0
    weak = float(np.median(variance[intensity < np.sqrt(variance)]))
    gain = float(np.median((variance[strong] - weak) / intensity[strong]))
    return gain if 0.01 < gain < 100 else 1.0


@numba.njit(cache=True, nogil=True)
def weigh(
    bounds: NDArray[np.int64],
    frame: NDArray[np.int64],
    intensity: Floats,
    background: Floats,
    gain: float,
    kappa: float,
    curve: Floats,
    shift_slope: Floats,
    scale: Floats,
    weight: Floats,
    shift: Floats,
    shift_sd: float,
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Amplitudes by the weights so far, then variances, weights and amplitudes anew.

    `shift_slope` is dW/du of each row, u the passage's `shift` in units of its width.

    Returns
    -------
    amplitude : (pieces,), 0 where it is less than `LEAST_SNR` standard deviations.
    weight : (n,) Student weight over variance.
    residual : (n,) I - k A W.
    leverage : (n,) part of each residual's variance that the amplitude took.
    score, information : (pieces,) first derivative and curvature of the log-likelihood by u, the
        amplitude eliminated, the prior not yet in.
    """
    pieces, n = len(bounds) - 1, len(frame)
    amplitude, score, information = np.zeros(pieces), np.zeros(pieces), np.zeros(pieces)
    new, residual, leverage = np.empty(n), np.empty(n), np.zeros(n)
    for j in range(pieces):
        top = bottom = 0.0
        for i in range(bounds[j], bounds[j + 1]):
            a = scale[frame[i]] * curve[i]
            top += weight[i] * a * intensity[i]
            bottom += weight[i] * a * a
        first = top / bottom if bottom > 0 else 0.0
        top = bottom = 0.0
        for i in range(bounds[j], bounds[j + 1]):
            a = scale[frame[i]] * curve[i]
            model = first * a
            known = max(model, 0.0)
            variance = gain * known + background[i] + (kappa * known) ** 2
            z2 = (intensity[i] - model) ** 2 / variance
            new[i] = (STUDENT + 1) / (STUDENT + z2) / variance
            top += new[i] * a * intensity[i]
            bottom += new[i] * a * a
        own = top / bottom if bottom > 0 else 0.0
        for i in range(bounds[j], bounds[j + 1]):
            a = scale[frame[i]] * curve[i]
            residual[i] = intensity[i] - own * a
            if bottom > 0:
                leverage[i] = new[i] * a * a / bottom
        if own * np.sqrt(bottom) > LEAST_SNR:
            amplitude[j] = own
            mixed = 0.0
            for i in range(bounds[j], bounds[j + 1]):
                k = scale[frame[i]]
                moved = own * k * shift_slope[i]
                score[j] += new[i] * moved * residual[i]
                information[j] += new[i] * moved * moved
                mixed += new[i] * moved * k * curve[i]
            information[j] = max(information[j] - mixed * mixed / bottom, 0.0)
            if shift_sd > 0:
                for i in range(bounds[j], bounds[j + 1]):
                    moved = own * scale[frame[i]] * shift_slope[i]
                    taken = new[i] * moved * moved / (information[j] + 1 / shift_sd**2)
                    leverage[i] = min(leverage[i] + taken, 1.0)
    return amplitude, new, residual, leverage, score, information


@numba.njit(cache=True, nogil=True)
def normal_equations(
    bounds: NDArray[np.int64],
    frame: NDArray[np.int64],
    curve: Floats,
    curve_slope: Floats,
    shift_slope: Floats,
    small_slope: Floats,
    scale: Floats,
    amplitude: Floats,
    weight: Floats,
    residual: Floats,
    shift: Floats,
    shift_sd: float,
    n_frames: int,
    width: int,
) -> tuple[Floats, Floats]:
    """S as a lower band (width, 3 frames) and b (3 frames,), amplitudes and shifts eliminated.

    Per passage ``S = J^T w J - C H^-1 C^T``, Schur's complement, with H the (2, 2) curvature of
    amplitude and shift (the prior of the shift in it) and C what couples them to the frames.
    Without `shift_sd` there are no shifts.
    """
    size = PER_FRAME * n_frames
    band, right = np.zeros((width, size)), np.zeros(size)
    c = np.zeros((2, PER_FRAME * (LONGEST + 1)))
    jacobian = np.zeros(PER_FRAME)
    for j in range(len(bounds) - 1):
        if amplitude[j] <= 0:
            continue
        start, stop = bounds[j], bounds[j + 1]
        aa = au = uu = ar = ur = 0.0
        for i in range(start, stop):
            k, w = scale[frame[i]], weight[i]
            a, u = k * curve[i], k * amplitude[j] * shift_slope[i]
            along = k * amplitude[j] * curve_slope[i]
            jacobian[0] = along * small_slope[i, 0]
            jacobian[1] = along * small_slope[i, 1]
            jacobian[2] = a * amplitude[j]
            aa += w * a * a
            au += w * a * u
            uu += w * u * u
            ar += w * a * residual[i]
            ur += w * u * residual[i]
            for p in range(PER_FRAME):
                place = PER_FRAME * frame[i] + p
                c[0, PER_FRAME * (i - start) + p] = w * a * jacobian[p]
                c[1, PER_FRAME * (i - start) + p] = w * u * jacobian[p]
                right[place] += w * jacobian[p] * residual[i]
                for q in range(p + 1):
                    band[p - q, place - (p - q)] += w * jacobian[p] * jacobian[q]
        # H = L L^T, and C L^-T in place of C: two updates of rank one
        first = np.sqrt(aa)
        both = au / first
        second = 0.0
        if shift_sd > 0:
            second = 1 / np.sqrt(uu + 1 / shift_sd**2 - both * both)
            ur -= shift[j] / shift_sd**2
        number = PER_FRAME * (stop - start)
        for m in range(number):
            c[0, m] /= first
            c[1, m] = (c[1, m] - both * c[0, m]) * second
        ar /= first
        ur = (ur - both * ar) * second
        for i in range(start, stop):
            for p in range(PER_FRAME):
                place = PER_FRAME * frame[i] + p
                x = c[0, PER_FRAME * (i - start) + p]
                y = c[1, PER_FRAME * (i - start) + p]
                if x == 0.0 and y == 0.0:
                    continue
                right[place] -= x * ar + y * ur
                for h in range(start, i + 1):
                    other = PER_FRAME * frame[h]
                    near = PER_FRAME * (h - start)
                    last = p + 1 if h == i else PER_FRAME
                    for q in range(last):
                        band[place - other - q, other + q] -= (
                            x * c[0, near + q] + y * c[1, near + q]
                        )
    return band, right


@numba.njit(cache=True, nogil=True)
def width_equations(
    bounds: NDArray[np.int64],
    frame: NDArray[np.int64],
    curve: Floats,
    width_slope: Floats,
    mosaic_part: Floats,
    scale: Floats,
    amplitude: Floats,
    weight: Floats,
    residual: Floats,
) -> tuple[Floats, Floats]:
    """Normal matrix (2, 2) and right side (2,) of ln s0 and ln eta, amplitudes eliminated.

    `mosaic_part` : (n,) part of sigma_h^2 that is mosaic.
    """
    normal, right = np.zeros((2, 2)), np.zeros(2)
    g, c = np.zeros(2), np.zeros(2)
    for j in range(len(bounds) - 1):
        if amplitude[j] <= 0:
            continue
        own = cross = 0.0
        c[:] = 0.0
        for i in range(bounds[j], bounds[j + 1]):
            a = scale[frame[i]] * curve[i]
            both = scale[frame[i]] * amplitude[j] * width_slope[i]
            g[0], g[1] = both * (1 - mosaic_part[i]), both * mosaic_part[i]
            own += weight[i] * a * a
            cross += weight[i] * a * residual[i]
            for p in range(2):
                c[p] += weight[i] * a * g[p]
                right[p] += weight[i] * g[p] * residual[i]
                for q in range(2):
                    normal[p, q] += weight[i] * g[p] * g[q]
        for p in range(2):
            right[p] -= c[p] * cross / own
            for q in range(2):
                normal[p, q] -= c[p] * c[q] / own
    return normal, right


def band_width(rows: Rows) -> int:
    """Rows of the band that holds all couplings."""
    if len(rows.bounds) < 2:
        return PER_FRAME
    span = rows.frame[rows.bounds[1:] - 1] - rows.frame[rows.bounds[:-1]]
    return int(PER_FRAME * (span.max() + 1))


def proportional_error(
    residual: Floats, leverage: Floats, variance: Floats, model: Floats
) -> float:
    """kappa, from the median of the squared residuals of the strongest rows.

    `variance` is that of counting alone.
    """
    strength = model / np.sqrt(variance)
    strong = strength > max(5.0, float(np.quantile(strength, 0.9)) if len(strength) else 5.0)
    strong &= leverage < 0.8
    if strong.sum() < 30:
        return 0.0
    z2 = residual[strong] ** 2 / (1 - leverage[strong])
    v, m2 = variance[strong], model[strong] ** 2
    low, high = 0.0, 1.0
    if np.median(z2 / v) <= 0.4549:
        return 0.0
    for _ in range(30):
        kappa = 0.5 * (low + high)
        low, high = (kappa, high) if np.median(z2 / (v + kappa**2 * m2)) > 0.4549 else (low, kappa)
    return high
