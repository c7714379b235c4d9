"""Where the shadow moves, with no start value: cross-spectra of scan pairs, summed over the scan.

All pairs of frames that lie a lag apart along a scan axis show the same movement, so their
cross-spectra are summed coherently before anything is searched. A movement v per scan point puts
peaks at ``L v`` in the correlation C_L of every lag L, and the sum over lags along that line,
``z(v) = sum_L C_L(L v) / sqrt(sum_L var C_L(L v))``, is a matched filter for v. Short lags reach
far, long ones are sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.fft import fft2, ifft2, irfft2, next_fast_len, rfft2
from scipy.ndimage import maximum_filter

Floats = NDArray[np.float32]
Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
#: Shifts are looked for up to this share of the disc's diameter.
REACH = 0.8
#: Movement at the longest lag, in pixels, below which it cannot be told from standing still.
LEAST_PX = 0.3
_CANDIDATES = 6


@dataclass(frozen=True)
class Candidate:
    """A movement per scan point, (row, column) pixels, and its signal-to-noise ratio z."""

    movement: tuple[float, float]
    snr: float


@dataclass(frozen=True)
class Spectra:
    """Fourier transforms of the frames' contrast.

    Attributes
    ----------
    real, imaginary : (scan_row, scan_column, frequency) float32.
    size : of the zero-padded frames, so that shifts do not wrap.
    overlap : (2 reach + 1, 2 reach + 1) pixels that two frames share at each shift.
    reach : largest shift looked at, pixels.
    """

    real: Floats
    imaginary: Floats
    size: tuple[int, int]
    overlap: Vectors
    reach: int


@dataclass(frozen=True)
class Correlations:
    """Summed correlations of the pairs of frames along one scan axis.

    Attributes
    ----------
    lags : (lag,) scan points apart.
    maps, variance : (lag, 2 reach + 1, 2 reach + 1) correlation at each shift, and that of noise.
    """

    lags: NDArray[np.int64]
    maps: Vectors
    variance: Vectors


def contrast_of(frames: Floats, beam: Floats, layer: Floats, mask: Mask) -> Floats:
    """(frame, row, column) over the static layer, less 1, of mean 0 within the mask, 0 outside."""
    inverse = np.zeros_like(layer)
    np.divide(1, layer, out=inverse, where=mask & (layer > 0))
    inside = (inverse > 0).astype(np.float32)
    out = frames * inverse
    out /= np.maximum(beam, 1e-6)[:, None, None]
    out -= (out.sum((1, 2)) / max(float(inside.sum()), 1))[:, None, None] * inside
    return np.asarray(out, np.float32)


def spectra_of(contrast: Floats, mask: Mask) -> Spectra:
    """Spectra of (scan_row, scan_column, row, column) contrast that is known in `mask`."""
    reach = max(2, int(REACH * max(mask.any(0).sum(), mask.any(1).sum())))
    size = [next_fast_len(n + reach + 1, real=True) for n in mask.shape]
    values = rfft2(contrast, size)
    values = values.reshape(*contrast.shape[:2], -1)
    shared = ifft2(np.abs(fft2(mask.astype(float), size)) ** 2).real
    return Spectra(
        np.ascontiguousarray(values.real),
        np.ascontiguousarray(values.imag),
        (size[0], size[1]),
        np.maximum(_centred(shared, reach), 0.5),
        reach,
    )


def correlations(spectra: Spectra, use: Mask, axis: int) -> Correlations | None:
    """Correlations of pairs apart along a scan axis (0: of different rows) where both are in `use`.

    None if there is no such pair.
    """
    points = spectra.real.shape[axis]
    lags, maps, variance = [], [], []
    for lag in LAGS:
        if lag > max(1, points // 2) or lag >= points:
            break
        total, pairs = _cross(spectra.real, spectra.imaginary, use, lag, axis)
        if pairs == 0:
            continue
        full = irfft2(total.reshape(spectra.size[0], -1), spectra.size)
        map_ = _centred(full, spectra.reach)
        ratio = map_ / np.sqrt(spectra.overlap)
        # of white noise the ratio's spread is the same everywhere; its middle half is mostly noise
        spread = 1.4826 * float(np.median(np.abs(ratio - np.median(ratio))))
        lags.append(lag)
        maps.append(map_)
        variance.append(max(spread, 1e-12) ** 2 * spectra.overlap)
    if not lags:
        return None
    return Correlations(np.array(lags), np.array(maps), np.array(variance))


def _centred(full: Vectors, reach: int) -> Vectors:
    """Shifts from -reach to reach of a correlation whose shift 0 is its first element."""
    index = np.arange(-reach, reach + 1)
    return np.asarray(full[np.ix_(index % full.shape[0], index % full.shape[1])])


def candidates(found: Correlations, overlap: Vectors) -> list[Candidate]:
    """The best movements per scan point along one axis, by decreasing signal to noise."""
    reach = (found.maps.shape[1] - 1) // 2
    out: list[Candidate] = []
    longest = int(found.lags[-1])
    for most in found.lags:
        lags = found.lags[found.lags <= most]
        step = 0.4 / float(most)
        half = int(reach / float(most) / step)
        z = _stack(found.maps, found.variance, lags, step, half)
        tops = np.argwhere((z == maximum_filter(z, 5)) & (z > 0))
        tops = tops[np.argsort(-z[tuple(tops.T)])][:_CANDIDATES]
        out += [
            Candidate((float((y - half) * step), float((x - half) * step)), float(z[y, x]))
            for y, x in tops
            if np.hypot(y - half, x - half) * step * longest > LEAST_PX
        ]
    out.sort(key=lambda one: -one.snr)
    kept: list[Candidate] = []
    for one in out:
        if len(kept) < _CANDIDATES and all(not _same(one, other) for other in kept):
            kept.append(one)
    out = sorted((polished(found, overlap, one) for one in kept), key=lambda one: -one.snr)
    return [one for n, one in enumerate(out) if all(not _same(one, other) for other in out[:n])]


def _same(one: Candidate, other: Candidate) -> bool:
    apart = np.subtract(one.movement, other.movement)
    return bool(np.hypot(*apart) < 0.15 * np.hypot(*other.movement))


def polished(found: Correlations, overlap: Vectors, start: Candidate) -> Candidate:
    """The candidate moved to the peaks of each lag in turn, from short to long.

    Peaks are those of the correlation over the overlap (the overlap pulls them inwards), of a
    parabola through 3 x 3 points; each is looked for within reach of what shorter lags predict.
    """
    reach = (found.maps.shape[1] - 1) // 2
    v = np.array(start.movement)
    moment, total = np.zeros(2), 0.0
    for n, lag in enumerate(found.lags):
        if np.abs(lag * v).max() > reach - 2:
            break
        snr = found.maps[n] / np.sqrt(found.variance[n])
        peak = _peak(found.maps[n] / overlap, lag * v + reach)
        if peak is None:
            continue
        at, (y, x) = peak
        weight = max(float(snr[y, x]), 0.0) ** 2
        # a peak within half a pixel of the prediction counts fully
        weight /= 1 + float(np.hypot(*(at - reach - lag * v))) ** 4
        moment += weight * lag * (at - reach)
        total += weight * lag * lag
        v = moment / total if total > 0 else v
    z = _z(found.maps, found.variance, found.lags, v[0], v[1])
    return Candidate((float(v[0]), float(v[1])), float(z))


def _peak(map_: Vectors, near: Vectors) -> tuple[Vectors, tuple[int, int]] | None:
    """Top of the hill that a point (row, column) lies on, and the pixel it is in."""
    y, x = (int(n) for n in np.rint(near))
    last = map_.shape[0] - 2
    for _ in range(4):
        if not (1 <= y <= last and 1 <= x <= last):
            return None
        around = map_[y - 1 : y + 2, x - 1 : x + 2]
        dy, dx = (int(n) - 1 for n in np.unravel_index(int(around.argmax()), (3, 3)))
        if dy == dx == 0:
            break
        y, x = y + dy, x + dx
    else:
        return None
    offset = []
    for line in (around[:, 1], around[1]):
        bend = line[0] - 2 * line[1] + line[2]
        offset.append(0.5 * (line[0] - line[2]) / bend if bend < 0 else 0.0)
    return np.array([y + offset[0], x + offset[1]]), (y, x)


@njit(cache=True, nogil=True, fastmath=True)
def _cross(real, imaginary, use, lag, axis):  # type: ignore[no-untyped-def]
    """Sum over pairs of conj(first) * second, and how many pairs."""
    rows, columns, n = real.shape
    down, right = (lag, 0) if axis == 0 else (0, lag)
    total = np.zeros(n, np.complex128)
    re, im = np.empty(n, np.float32), np.empty(n, np.float32)
    pairs = 0
    for i in range(rows - down):
        re[:] = 0
        im[:] = 0
        for j in range(columns - right):
            if not (use[i, j] and use[i + down, j + right]):
                continue
            pairs += 1
            a, b = real[i, j], imaginary[i, j]
            c, d = real[i + down, j + right], imaginary[i + down, j + right]
            for k in range(n):
                re[k] += a[k] * c[k] + b[k] * d[k]
                im[k] += a[k] * d[k] - b[k] * c[k]
        for k in range(n):
            total[k] += re[k] + 1j * im[k]
    return total, pairs


@njit(cache=True, nogil=True)
def _z(maps, variance, lags, vy, vx):  # type: ignore[no-untyped-def]
    """The matched filter at one movement."""
    reach = (maps.shape[1] - 1) // 2
    signal, noise = 0.0, 0.0
    for n in range(len(lags)):
        y, x = reach + lags[n] * vy, reach + lags[n] * vx
        if y < 0 or x < 0 or y >= 2 * reach or x >= 2 * reach:
            continue
        top, left = int(y), int(x)
        fy, fx = y - top, x - left
        a, b = (1 - fy) * (1 - fx), (1 - fy) * fx
        c, d = fy * (1 - fx), fy * fx
        m, v = maps[n], variance[n]
        signal += a * m[top, left] + b * m[top, left + 1]
        signal += c * m[top + 1, left] + d * m[top + 1, left + 1]
        noise += v[int(y + 0.5), int(x + 0.5)]
    return signal / np.sqrt(noise) if noise > 0 else 0.0


@njit(cache=True, nogil=True)
def _stack(maps, variance, lags, step, half):  # type: ignore[no-untyped-def]
    """The matched filter on a grid of movements, from -half to half steps along both."""
    out = np.zeros((2 * half + 1, 2 * half + 1))
    for i in range(2 * half + 1):
        for j in range(2 * half + 1):
            out[i, j] = _z(maps, variance, lags, (i - half) * step, (j - half) * step)
    return out
