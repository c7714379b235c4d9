"""Where the beam stands on every frame of a series, to a small fraction of a pixel.

The direct beam is found coarsely (`beam_centre`), then matched to the mean of all: each frame's
window is ``a T(x - s) + b``, fitted by Gauss-Newton with the weights of counting statistics, which
is cross-correlation where all pixels count the same, and does not mind masked ones. The flat top
of a saturated beam is part of its shape. The core of the mean beam is anchored by its symmetry. A
beam behind a stop is found by Friedel's law instead (`friedel`): a pattern and itself turned by
half a turn correlate best about the centre.

A track smooth in frame number is then drawn through the centres (Whittaker's smoother with second
differences, its strength by cross-validation, spots and glitches weighted down as by Tukey).
Sources: P. H. C. Eilers, Anal. Chem. 75, 3631 (2003) for the smoother and its cross-validation;
J. W. Tukey's biweight, with 4.685 for 95 % efficiency.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import (
    distance_transform_edt,
    map_coordinates,
    median_filter,
    spline_filter,
)

from ..errors import UserError
from ..series.rotation_series import RotationSeries
from .beam_centre import find_beam, track_beam
from .friedel import friedel_centres, is_a_spot, symmetry_centre
from .survey import frame_blocks

Floats = NDArray[np.float64]
Method = Literal["auto", "beam", "friedel"]

HALF_PX = 12  # of the window about the direct beam
TEMPLATE_FRAMES = 200
CORE = 0.35  # of the highest value, above which the beam is itself
_ROUNDS, _STEPS = 3, 4
_TUKEY = 4.685
_MAD = 1.4826
_LEAST_SIGMA_PX = 0.003  # no centre is known better: pixels are not alike
_LAMBDAS = 10.0 ** np.arange(-2, 8.1, 0.5)


@dataclass(frozen=True)
class Alignment:
    """Centres of the beam over a series.

    Attributes
    ----------
    centres_px : (n, 2) (row, column), smooth in frame number.
    measured_px : (n, 2) as found on each frame; NaN where it was not.
    seen : (n,) False where the centre is that of the neighbours: not found, or an outlier.
    sigma_px : (n,) standard uncertainty of `measured_px` along an axis; NaN where not found.
    note : one sentence on how it was found and by how much it moves.
    """

    centres_px: Floats
    measured_px: Floats
    seen: NDArray[np.bool_]
    sigma_px: Floats
    note: str

    def applied(self, series: RotationSeries) -> RotationSeries:
        """The series with these centres."""
        return series.with_(
            beam_centres_px=self.centres_px, notes=tuple(dict.fromkeys((*series.notes, self.note)))
        )


def write_centres(
    alignment: Alignment, series: RotationSeries, shift_px: NDArray[np.int64], path: Path
) -> None:
    """A table of the centres as CSV, a line a frame.

    Parameters
    ----------
    shift_px : (n, 2) by how much the frames written are moved up and left; the centres are those
        on the frames as taken.
    """
    words = "frame,row_px,column_px,measured_row_px,measured_column_px,sigma_px,on_track,"
    lines = [f"{words}shifted_rows_px,shifted_columns_px"]
    for number, centre, found, sigma, seen, shift in zip(
        series.frame_number, alignment.centres_px, alignment.measured_px, alignment.sigma_px,
        alignment.seen, shift_px, strict=True,
    ):  # fmt: skip
        values = ",".join("" if np.isnan(one) else f"{one:.4f}" for one in (*centre, *found, sigma))
        lines.append(f"{number},{values},{int(seen)},{shift[0]},{shift[1]}")
    path.write_text("\n".join([*lines, ""]), encoding="ascii")


def align(series: RotationSeries, method: Method = "auto") -> Alignment:
    """Find the beam on every frame; frames are read in blocks.

    Parameters
    ----------
    method : by the direct beam, by Friedel's law, or by what can be seen: the beam, unless its
        place jumps from frame to frame.

    Raises
    ------
    UserError : no frames, or no beam on any.
    """
    if len(series) == 0:
        raise UserError(series.name, "no frames", "some", "give a series with frames")
    coarse, valid = np.full((len(series), 2), np.nan), ~series.mask
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            if raw.max() > raw.min():
                frame = raw.astype(np.float32) - np.float32(series.pedestal)
                coarse[start + k] = find_beam(frame, valid)
    track = track_beam(coarse, series.geometry.beam_centre_px)
    if method == "auto":
        method = "beam" if track.seen.any() and not is_a_spot(series, track) else "friedel"
    if method == "beam" and not track.seen.any():
        raise UserError(
            series.name, track.note, "a direct beam on most frames", "align by Friedel's law"
        )
    found = _by_beam(series, track.centres_px) if method == "beam" else friedel_centres(series)
    measured, sigma = found
    if not np.isfinite(measured).any():
        raise UserError(
            series.name, "no beam on any frame", "a direct beam or Friedel pairs", "leave it out"
        )
    smooth, seen = smooth_track(measured, sigma, series.frame_number)
    way = "the direct beam" if method == "beam" else "Friedel pairs"
    left = np.sqrt(np.mean((measured - smooth)[seen] ** 2)) if seen.any() else np.nan
    drift = np.ptp(smooth, axis=0)
    note = (
        f"the beam was followed by {way} on {int(seen.sum())} of {len(series)} frames; it drifts "
        f"by {drift[0]:.2f} (row) and {drift[1]:.2f} (column) px, {left:.3f} px r.m.s. about a "
        "smooth track"
    )
    return Alignment(smooth, measured, seen, sigma, note)


def smooth_track(
    measured_px: Floats, sigma_px: Floats, frame_number: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.bool_]]:
    """A track smooth in frame number through centres of which some are wrong or missing.

    Parameters
    ----------
    measured_px : (n, 2), NaN where unknown.
    sigma_px : (n,) uncertainties, NaN where unknown; only their ratios matter.
    frame_number : (n,) increasing; the track goes on through gaps.

    Returns
    -------
    (n, 2) the track, and (n,) whether a centre is on it.
    """
    known: NDArray[np.bool_] = np.asarray(np.isfinite(measured_px).all(axis=1))
    n = len(measured_px)
    if known.sum() == 0:
        raise ValueError("measured_px: expected some centres that are known")
    if known.sum() < 4:
        return np.tile(np.median(measured_px[known], axis=0), (n, 1)), known
    steps = np.diff(frame_number) / np.median(np.diff(frame_number))
    at = np.concatenate([[0], np.cumsum(np.maximum(np.rint(steps), 1))]).astype(np.int64)
    base = np.zeros(n)
    typical = float(np.median(sigma_px[known]))
    base[known] = 1 / (1 + (sigma_px[known] / max(typical, _LEAST_SIGMA_PX)) ** 2)
    # what a window of neighbours says, so that a run of outliers does not start the track off
    running = np.stack(
        [median_filter(measured_px[known, axis], size=9, mode="nearest") for axis in (0, 1)], axis=1
    )
    off = np.full(n, np.inf)
    off[known] = np.linalg.norm(measured_px[known] - running, axis=1)
    weights = base * _biweight(off, known)
    track = measured_px
    for _ in range(8):
        track = _whittaker(measured_px, weights, at)
        off = np.where(known, np.linalg.norm(np.nan_to_num(measured_px) - track, axis=1), np.inf)
        renewed = base * _biweight(off, known)
        if np.allclose(renewed, weights, atol=1e-3):
            break
        weights = renewed
    return track, known & (weights > 0)


def _biweight(off: Floats, known: NDArray[np.bool_]) -> Floats:
    scale = max(_MAD * float(np.median(off[known])), _LEAST_SIGMA_PX)
    weight: Floats = np.clip(1 - (off / (_TUKEY * scale)) ** 2, 0, None) ** 2
    return weight


def _whittaker(measured: Floats, weights: Floats, at: NDArray[np.int64]) -> Floats:
    """The smooth track at `at` (positions on an even grid), its strength by cross-validation."""
    m = int(at[-1]) + 1
    w, y = np.zeros(m), np.zeros((m, 2))
    w[at] = weights
    y[at] = np.where(weights[:, None] > 0, np.nan_to_num(measured), 0.0)
    # eigenvalues of second differences, nearly: for the effective number of parameters
    mu = (2 - 2 * np.cos(np.pi * np.arange(m) / m)) ** 2
    mean_weight, n = float(w.mean()), float((w > 0).sum())
    best, chosen = np.inf, y
    for strength in _LAMBDAS * mean_weight:
        bands = strength * _second_differences(m)
        bands[0] += w
        bands[0] += 1e-9 * mean_weight
        z = solveh_banded(bands, w[:, None] * y, lower=True)
        parameters = float(np.sum(mean_weight / (mean_weight + strength * mu))) * n / m
        if parameters > 0.7 * n:
            continue
        score = float(np.sum(w[:, None] * (y - z) ** 2)) / (1 - parameters / n) ** 2
        if score < best:
            best, chosen = score, z
    return np.asarray(chosen[at], float)


def _second_differences(m: int) -> Floats:
    """(3, m) lower bands of D'D of second differences on m points."""
    bands = np.zeros((3, m))
    for k in range(3):  # weights 1, -2, 1 of every difference
        d = np.array([1.0, -2.0, 1.0])
        for i in range(3 - k):
            bands[k, i : i + m - 2] += d[i] * d[i + k]
    return bands


def _by_beam(series: RotationSeries, centres: Floats) -> tuple[Floats, Floats]:
    """(measured, sigma) by the mean direct beam, fitted to each frame's window."""
    half = int(min(HALF_PX, *(n // 2 - 1 for n in series.shape)))
    corner = np.clip(np.rint(centres).astype(int) - half, 0, np.array(series.shape) - 2 * half - 1)
    n, side = len(series), 2 * half + 1
    windows = np.empty((n, side, side), np.float32)
    valid = np.empty((n, side, side), bool)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block, start):
            r, c = corner[k]
            cut = np.s_[r : r + side, c : c + side]
            windows[k] = raw[cut]
            valid[k] = ~series.mask[cut]
    windows -= np.float32(series.pedestal)
    place = centres - corner  # of the beam in its window
    scale = np.empty((n, 2))  # of the mean beam, and the background
    for k in range(n):
        windows[k] = _filled(windows[k], valid[k])
        background = float(np.median(windows[k]))
        scale[k] = float((windows[k] - background).sum()), background
    sigma = np.full(n, np.nan)
    template_of = np.unique(np.linspace(0, n - 1, TEMPLATE_FRAMES).astype(int))
    for _ in range(_ROUNDS):
        template = _mean_beam(windows[template_of], place[template_of], scale[template_of], half)
        coefficients = spline_filter(template, order=3)
        for k in range(n):
            place[k], sigma[k], scale[k], model = _fit(
                windows[k], valid[k], coefficients, place[k], half, series
            )
            windows[k][~valid[k]] = model[~valid[k]]
    lost = ~np.isfinite(place).all(axis=1)
    place[lost] = sigma[lost] = np.nan
    return corner + place + _asymmetry(template, half), sigma


def _filled(window: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The window with masked pixels as their nearest neighbours that are not."""
    if good.all() or not good.any():
        return window
    nearest = distance_transform_edt(~good, return_distances=False, return_indices=True)
    return np.asarray(window[tuple(nearest)], np.float32)


def _mean_beam(windows: NDArray[np.float32], place: Floats, scale: Floats, half: int) -> Floats:
    """The mean of the windows, each moved so that its beam is in the middle, one unit in sum."""
    grid = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    total = np.zeros(grid.shape[1:])
    for window, at, (height, background) in zip(windows, place, scale, strict=True):
        if np.isfinite(at).all() and height > 0:
            where = grid + at[:, None, None]
            total += map_coordinates(window - background, where, order=3, mode="nearest")
    return total / max(float(total.sum()), 1e-30)


def _fit(
    window: NDArray[np.float32],
    good: NDArray[np.bool_],
    coefficients: Floats,
    start: Floats,
    half: int,
    series: RotationSeries,
) -> tuple[Floats, float, Floats, Floats]:
    """Place (row, column) of the beam in a window, its uncertainty, the scale (a, b), the model.

    All but the model are NaN if the beam is lost.
    """
    grid = np.mgrid[: 2 * half + 1, : 2 * half + 1].astype(float)
    at = start.copy()
    lost = np.full(2, np.nan), np.nan, np.full(2, np.nan), window.astype(float)
    if good.sum() < 20 or not np.isfinite(at).all():
        return lost
    y = window[good].astype(float)
    gain = series.gain or 1.0
    covariance = np.eye(4)
    for _ in range(_STEPS):
        where = grid - at[:, None, None] + half

        def model(shift: tuple[float, float], where: Floats = where) -> Floats:
            moved = where - np.array(shift)[:, None, None]
            values = map_coordinates(coefficients, moved, order=3, mode="nearest", prefilter=False)
            return np.asarray(values, float)

        whole = model((0, 0))
        shape = whole[good]
        slope_r = (model((0.05, 0)) - model((-0.05, 0)))[good] / 0.1
        slope_c = (model((0, 0.05)) - model((0, -0.05)))[good] / 0.1
        plain = np.stack([shape, np.ones_like(shape)], axis=1)
        (a, b), *_ = np.linalg.lstsq(plain, y, rcond=None)
        if not a > 0:
            return lost
        variance = gain * np.maximum(a * shape + b, 0.1 * a * shape.max() / shape.size + gain)
        columns = np.stack([shape, np.ones_like(shape), a * slope_r, a * slope_c], axis=1)
        weighted = columns / variance[:, None]
        try:
            covariance = np.linalg.inv(weighted.T @ columns)
        except np.linalg.LinAlgError:
            return lost
        step = covariance @ (weighted.T @ (y - a * shape - b))
        at = at + np.clip(step[2:], -2, 2)
        if np.abs(at - start).max() > half / 2:
            return lost
        if np.abs(step[2:]).max() < 1e-4:
            break
    sigma = float(np.sqrt(0.5 * (covariance[2, 2] + covariance[3, 3])))
    return at, max(sigma, _LEAST_SIGMA_PX), np.array([a, b]), a * whole + b


def _asymmetry(template: Floats, half: int) -> Floats:
    """Where the core of the mean beam has its centre of symmetry, from the middle of its window.

    Only the core: the halo of inelastic scattering and low-order reflections may be one-sided.
    """
    top = np.clip(template - CORE * template.max(), 0, None)
    return symmetry_centre(top, np.zeros(2) + half, half // 2) - half
