"""Where the shadow moves, with no start value: cross-spectra of scan pairs, summed over the scan.

All pairs of frames that lie a lag apart along a scan axis show the same movement, so their
cross-spectra are summed coherently before anything is searched, and weighted by ``S / P^2`` (P the
mean power, S that above noise): long lines and large patches do not drown what is sharp (the
smoothed coherence transform, Carter 1973, with noise suppressed). A movement v per scan point puts
peaks at ``L v`` in the correlation C_L of every lag L, and the sum over lags along that line,
``z(v) = sum_L C_L(L v) / sqrt(sum_L var C_L(L v))``, is a matched filter for v. Short lags reach
far, long ones are sharp.

Both scan axes are searched at once: but for descan and little shear the movement along the one is
that along the other turned by 90 degrees to this side or that, so lines, which show a movement
only across themselves, do as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.fft import fft2, irfft2, next_fast_len, rfft2
from scipy.ndimage import distance_transform_edt, maximum_filter

Floats = NDArray[np.float32]
Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]
#: Summed correlation at each shift, by lag; see `Correlations`.
Maps = dict[int, Vectors]

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
#: Shifts are looked for up to this share of the disc's diameter.
REACH = 0.8
#: Width of the taper of the frames, pixels, and the leakage through it, of the mean power.
TAPER, LEAK = 3, 0.2
#: Share of the disc that two frames must have in common.
LEAST_OVERLAP = 0.1
#: Movement at the longest lag, in pixels, below which it cannot be told from standing still.
LEAST_PX = 0.3
#: Points of a correlation per pixel.
UP = 2
_CANDIDATES = 6


@dataclass(frozen=True)
class Spectra:
    """Fourier transforms of the frames' contrast.

    Attributes
    ----------
    real, imaginary : (scan_row, scan_column, frequency) float32.
    weight : (frequency,) of cross-spectra.
    size : of the zero-padded frames, so that shifts do not wrap.
    overlap : (2 reach + 1, 2 reach + 1) pixels that two frames share at each shift.
    reach : largest shift looked at, in 1 / `UP` pixels.
    """

    real: Floats
    imaginary: Floats
    weight: Vectors
    size: tuple[int, int]
    overlap: Vectors
    reach: int


@dataclass(frozen=True)
class Correlations:
    """Summed correlations of the pairs of frames along one scan axis.

    Attributes
    ----------
    lags : (lag,) scan points apart.
    maps, variance : (lag, 2 reach + 1, 2 reach + 1) correlation at each shift, and the variance of
        noise there; 0 where frames hardly overlap.
    """

    lags: NDArray[np.int64]
    maps: Vectors
    variance: Vectors


@dataclass(frozen=True)
class Candidate:
    """A possible G, (2, 2) pixels per scan point, and its signal-to-noise ratio z."""

    movement: Vectors
    snr: float


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
    values = rfft2(contrast * _tapered(mask), size)
    power = np.mean(np.abs(values) ** 2, axis=(0, 1), dtype=float)
    noise = np.percentile(power, 10)
    # what is weaker than this leaks from the window's edge, and stands still
    floor = LEAK * power.mean()
    weight = np.maximum(power - noise, 0) / (power + floor) ** 2
    values = values.reshape(*contrast.shape[:2], -1)
    shared = np.abs(fft2(_tapered(mask), size)[:, : size[1] // 2 + 1]) ** 2
    return Spectra(
        np.ascontiguousarray(values.real),
        np.ascontiguousarray(values.imag),
        weight.ravel(),
        (size[0], size[1]),
        np.maximum(_correlation(shared, (size[0], size[1]), UP * reach), 0.5),
        UP * reach,
    )


def _tapered(mask: Mask) -> Floats:
    """A mask that falls off over `TAPER` pixels inside its edge."""
    inside = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    rise = np.clip(inside / (TAPER + 1), 0, 1)
    return np.asarray(np.sin(0.5 * np.pi * rise) ** 2, np.float32)


def halves_of(spectra: Spectra, use: Mask, axis: int) -> tuple[Maps, Maps]:
    """Correlations of pairs apart along a scan axis (0: of different rows) where both are in `use`.

    One for each half of the scan along the other axis, so that every pair is in one of them.
    """
    points, others = spectra.real.shape[axis], np.asarray(use.any(axis))
    present = np.flatnonzero(others)
    cut = int(present[len(present) // 2]) if len(present) else 0
    found: tuple[Maps, Maps] = ({}, {})
    for lag in LAGS:
        if lag > max(1, points // 2) or lag >= points:
            break
        for maps, first, stop in ((found[0], 0, cut), (found[1], cut, len(others))):
            total, pairs = _cross(spectra.real, spectra.imaginary, use, lag, axis, first, stop)
            if pairs:
                weighted = (total * spectra.weight).reshape(spectra.size[0], -1)
                maps[lag] = _correlation(weighted, spectra.size, spectra.reach)
    return found


def together(parts: Sequence[Maps], spectra: Spectra) -> Correlations | None:
    """The correlations of several parts of a scan as one; None if there are none."""
    lags = sorted({lag for part in parts for lag in part})
    maps, variance = [], []
    for lag in lags:
        map_ = np.sum([part[lag] for part in parts if lag in part], axis=0)
        ratio = map_ / np.sqrt(spectra.overlap)
        # of white noise the ratio's spread is the same everywhere; its middle half is mostly noise
        spread = 1.4826 * float(np.median(np.abs(ratio - np.median(ratio))))
        maps.append(map_)
        shared = spectra.overlap > LEAST_OVERLAP * spectra.overlap.max()
        variance.append(np.where(shared, max(spread, 1e-12) ** 2 * spectra.overlap, 0))
    if not lags:
        return None
    return Correlations(np.array(lags), np.array(maps), np.array(variance))


def _correlation(spectrum: NDArray[np.generic], size: tuple[int, int], reach: int) -> Vectors:
    """Shifts from -reach to reach, in 1 / `UP` pixels, of a half spectrum's transform."""
    rows, columns = size
    padded = np.zeros((UP * rows, UP * columns // 2 + 1), complex)
    half = (rows + 1) // 2
    padded[:half, : columns // 2 + 1] = spectrum[:half]
    padded[-(rows - half) :, : columns // 2 + 1] = spectrum[half:]
    full = irfft2(padded, (UP * rows, UP * columns)) * UP**2
    index = np.arange(-reach, reach + 1)
    return np.asarray(full[np.ix_(index % full.shape[0], index % full.shape[1])])


def candidates(
    down: Correlations, across: Correlations, overlap: Vectors, descan: Vectors
) -> list[Candidate]:
    """The likeliest G, best first.

    Parameters
    ----------
    down, across : of pairs along the scan's axes 0 and 1.
    overlap : of `Spectra`.
    descan : (2, 2) first D, pixels per scan point.
    """
    reach = (down.maps.shape[1] - 1) // 2
    longest = int(min(down.lags[-1], across.lags[-1]))
    found: list[Candidate] = []
    for side in (1.0, -1.0):
        for most in sorted(
            {*down.lags[down.lags <= longest], *across.lags[across.lags <= longest]}
        ):
            step = 0.4 * UP / float(most)
            half = int(reach / float(most) / step)
            z = _stack(
                down.maps, down.variance, down.lags[down.lags <= most],
                across.maps, across.variance, across.lags[across.lags <= most],
                UP * descan, side, step, half,
            )  # fmt: skip
            tops = np.argwhere((z == maximum_filter(z, 5)) & (z > 0))
            tops = tops[np.argsort(-z[tuple(tops.T)])][:_CANDIDATES]
            for y, x in tops:
                first = np.array([y - half, x - half]) * step
                if np.hypot(*first) * longest > LEAST_PX * UP:
                    second = _turned(first, UP * descan, side)
                    both = np.column_stack([first, second])
                    found.append(Candidate(both, float(z[y, x])))
    found.sort(key=lambda one: -one.snr)
    kept: list[Candidate] = []
    # over the overlap, which pulls peaks inwards
    level = [
        Correlations(one.lags, one.maps / overlap, (one.variance > 0).astype(float))
        for one in (down, across)
    ]
    for one in found:
        if len(kept) < _CANDIDATES and all(not _same(one, other) for other in kept):
            kept.append(_sharpened(level[0], level[1], UP * descan, one))
    out = sorted((_polished(down, across, overlap, one) for one in kept), key=lambda one: -one.snr)
    return [
        Candidate(one.movement / UP, one.snr)
        for n, one in enumerate(out)
        if all(not _same(one, other) for other in out[:n])
    ]


def _sharpened(
    down: Correlations, across: Correlations, descan: Vectors, start: Candidate
) -> Candidate:
    """The candidate moved to the top of z with ever longer lags; short ones alone are blunt."""
    first = start.movement[:, 0]
    a = descan - start.movement
    side = 1.0 if np.linalg.det(a) >= 0 else -1.0
    reach = (down.maps.shape[1] - 1) // 2
    for most in down.lags:
        if most * np.abs(first).max() > reach:
            break
        lags = [one.lags[one.lags <= most] for one in (down, across)]
        step = 0.25 * UP / float(most)
        best = (-np.inf, first)
        for i in range(-2, 3):
            for j in range(-2, 3):
                v = first + step * np.array([i, j])
                u = _turned(v, descan, side)
                z = _z(down.maps, down.variance, lags[0], v[0], v[1],
                       across.maps, across.variance, lags[1], u[0], u[1])  # fmt: skip
                if z > best[0]:
                    best = (z, v)
        first = best[1]
    movement = np.column_stack([first, _turned(first, descan, side)])
    return Candidate(movement, start.snr)


def snr_of(down: Correlations, across: Correlations, movement: Vectors) -> float:
    """The matched filter of both axes at a G, (2, 2) pixels."""
    a, b = (UP * movement[:, axis] for axis in (0, 1))
    return float(
        _z(down.maps, down.variance, down.lags, a[0], a[1],
           across.maps, across.variance, across.lags, b[0], b[1])
    )  # fmt: skip


def _turned(first: Vectors, descan: Vectors, side: float) -> Vectors:
    """Movement along the other scan axis if A = D - G has no shear."""
    a = descan[:, 0] - first
    return np.asarray(descan[:, 1] - side * np.array([-a[1], a[0]]))


def _same(one: Candidate, other: Candidate) -> bool:
    apart = np.linalg.norm(one.movement - other.movement)
    return bool(apart < 0.1 * np.linalg.norm(other.movement))


def _polished(
    down: Correlations, across: Correlations, overlap: Vectors, start: Candidate
) -> Candidate:
    """The candidate with each axis moved to its own peaks, where they are near."""
    movement = start.movement.copy()
    for axis, found in enumerate((down, across)):
        column = _followed(found, overlap, start.movement[:, axis])
        if np.hypot(*(column - movement[:, axis])) < 0.15 * np.hypot(*movement[:, axis]):
            movement[:, axis] = column
    z = snr_of(down, across, movement / UP)
    # on a ridge the top is nowhere, or far off
    return Candidate(movement, z) if z > 0.7 * start.snr else start


def _followed(found: Correlations, overlap: Vectors, start: Vectors) -> Vectors:
    """A movement moved to the peaks of each lag in turn, from short to long.

    Peaks are those of the correlation over the overlap (the overlap pulls them inwards), of a
    parabola through 3 x 3 points; each is looked for within reach of what shorter lags predict.
    """
    reach = (found.maps.shape[1] - 1) // 2
    v = start.copy()
    moment, total = np.zeros(2), 0.0
    for n, lag in enumerate(found.lags):
        if np.abs(lag * v).max() > reach - 2:
            break
        peak = _peak(found.maps[n] / overlap, lag * v + reach)
        if peak is None:
            continue
        at, (y, x) = peak
        if found.variance[n, y, x] <= 0:
            break
        snr = found.maps[n, y, x] / np.sqrt(found.variance[n, y, x])
        weight = max(float(snr), 0.0) ** 2
        # a peak within half a pixel of the prediction counts fully
        weight /= 1 + float(np.hypot(*(at - reach - lag * v)) / UP) ** 4
        moment += weight * lag * (at - reach)
        total += weight * lag * lag
        v = moment / total if total > 0 else v
    return v


def _peak(map_: Vectors, near: Vectors) -> tuple[Vectors, tuple[int, int]] | None:
    """Top of the hill that a point (row, column) lies on, and the pixel it is in."""
    y, x = (int(n) for n in np.rint(near))
    last = map_.shape[0] - 2
    for _ in range(4 * UP):
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
def _cross(real, imaginary, use, lag, axis, first, stop):  # type: ignore[no-untyped-def]
    """Sum over pairs of conj(one) * other, and how many pairs.

    Along `axis` they are a lag apart, along the other axis at `first` to `stop`.
    """
    rows, columns, n = real.shape
    down, right = (lag, 0) if axis == 0 else (0, lag)
    top, bottom = (0, rows - down) if axis == 0 else (first, stop)
    left, end = (first, stop) if axis == 0 else (0, columns - right)
    total = np.zeros(n, np.complex128)
    re, im = np.empty(n, np.float32), np.empty(n, np.float32)
    pairs = 0
    for i in range(top, bottom):
        re[:] = 0
        im[:] = 0
        for j in range(left, end):
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
def _along(maps, variance, lags, vy, vx):  # type: ignore[no-untyped-def]
    """Sum of correlation and of its variance over the lags at one movement."""
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
        if v[int(y + 0.5), int(x + 0.5)] <= 0:
            continue
        signal += a * m[top, left] + b * m[top, left + 1]
        signal += c * m[top + 1, left] + d * m[top + 1, left + 1]
        noise += v[int(y + 0.5), int(x + 0.5)]
    return signal, noise


@njit(cache=True, nogil=True)
def _z(  # type: ignore[no-untyped-def]
    maps, variance, lags, vy, vx, other_maps, other_variance, other_lags, uy, ux
):
    """The matched filter at one movement along each axis."""
    signal, noise = _along(maps, variance, lags, vy, vx)
    more, other = _along(other_maps, other_variance, other_lags, uy, ux)
    return (signal + more) / np.sqrt(noise + other) if noise > 0 and other > 0 else 0.0


@njit(cache=True, nogil=True)
def _stack(  # type: ignore[no-untyped-def]
    maps, variance, lags, other_maps, other_variance, other_lags, descan, side, step, half
):
    """The matched filter on a grid of movements, from -half to half steps along both."""
    out = np.zeros((2 * half + 1, 2 * half + 1))
    for i in range(2 * half + 1):
        for j in range(2 * half + 1):
            vy, vx = (i - half) * step, (j - half) * step
            ay, ax = descan[0, 0] - vy, descan[1, 0] - vx
            uy, ux = descan[0, 1] + side * ax, descan[1, 1] - side * ay
            out[i, j] = _z(
                maps, variance, lags, vy, vx, other_maps, other_variance, other_lags, uy, ux
            )
    return out
