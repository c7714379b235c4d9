"""What the plots need from geometry: where reflections were seen, in the crystal's own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import reciprocal_basis
from ..geometry import rotated
from ..reduction.result import FrameTable, Lattice, Reflections, StrongSpots
from ..reduction.survey import frame_blocks
from ..series import RotationSeries
from .summary import usable

Floats = NDArray[np.float64]


def at_frame(values: Floats, frame: Floats) -> Floats:
    """A per-frame quantity (n,) at fractional frame positions."""
    result: Floats = np.interp(frame, np.arange(len(values)), values)
    return result


def observed_in_crystal(lattice: Lattice, frames: FrameTable, chosen: NDArray[np.int64]) -> Floats:
    """Where `chosen` reflections were seen, (n, 3) in 1/Å, in the crystal's Cartesian frame.

    That frame has a along x and b in the xy plane (PDB convention). The rotation angle is that
    of the rocking centroid, the beam that of the frame.
    """
    r = lattice.reflections[chosen]
    return _in_crystal(lattice, frames, r.observed_row, r.observed_column, r.frame)


def _in_crystal(
    lattice: Lattice, frames: FrameTable, row: Floats, column: Floats, frame: Floats
) -> Floats:
    beam = np.stack([at_frame(frames.beam_row, frame), at_frame(frames.beam_column, frame)], -1)
    q = lattice.geometry.to_q(row, column, beam)
    at_zero = rotated(q, lattice.geometry.axis, -at_frame(frames.angle_deg, frame))
    u = lattice.orientation @ np.linalg.inv(reciprocal_basis(lattice.cell))
    in_crystal: Floats = at_zero @ u
    return in_crystal


def excitation_error_per_A(lattice: Lattice, hkl: NDArray[np.int32], angle_deg: Floats) -> Floats:
    """``|q + s0| - 1/lambda`` of reflections (n, 3) at goniometer angles (n,), in 1/Å."""
    q0 = hkl @ lattice.orientation.T
    q = rotated(q0, lattice.geometry.axis, angle_deg)
    length = np.linalg.norm(q + lattice.geometry.s0, axis=-1)
    error: Floats = length - 1 / lattice.geometry.wavelength_A
    return error


def rocking_width_per_A(lattice: Lattice, d_A: Floats) -> Floats:
    """Standard deviation of the fitted rocking curve in excitation error, 1/Å."""
    width: Floats = np.hypot(lattice.size_per_A, np.deg2rad(lattice.mosaicity_deg) / d_A)
    return width


@dataclass(frozen=True)
class RockingCurves:
    """Reflections read off the frames again: what each frame holds of each.

    Attributes
    ----------
    chosen : (m,) positions among the lattice's reflections.
    x : (frames, m) excitation error over the standard deviation of the fitted curve.
    electrons : (frames, m) above background; NaN where the frame tells nothing of the reflection.
    turn_deg : (frames, m) rotation from where the reflection is predicted.
    """

    chosen: NDArray[np.int64]
    x: Floats
    electrons: Floats
    turn_deg: Floats

    @property
    def read(self) -> NDArray[np.bool_]:
        """(frames, m) True where a frame tells something."""
        return np.isfinite(self.electrons)

    @property
    def area(self) -> Floats:
        """(m,) under the curves in x, not in frames: the speed differs between reflections."""
        # a trapezium for each frame
        result: Floats = np.nansum(self.electrons * np.abs(np.gradient(self.x, axis=0)), axis=0)
        return result


def rocking_curves(
    series: RotationSeries,
    lattice: Lattice,
    frames: FrameTable,
    gain: float,
    chosen: NDArray[np.int64],
    *,
    half_box_px: int = 3,
    reach: float = 4.0,
) -> RockingCurves | None:
    """Read reflections off the frames again, a chunk of frames at a time.

    None if no reflection is spread over at least three frames.

    Parameters
    ----------
    series, lattice, frames, gain : as reduced; `gain` in counts per electron.
    chosen : positions of the reflections to use.
    half_box_px : half-width of the summation box.
    reach : of the curves, in standard deviations.
    """
    r = lattice.reflections[chosen]
    x = np.stack([_error_over_width(lattice, r, angle) for angle in frames.angle_deg])
    turn = frames.angle_deg[:, None] - at_frame(frames.angle_deg, r.frame)
    # A reflection crosses the sphere again about half a turn later, elsewhere on the detector.
    wanted = (np.abs(x) <= reach) & (np.abs(turn) < 20) & ~frames.blank[:, None]
    rows, columns = series.shape
    row, column = np.rint(r.row).astype(int), np.rint(r.column).astype(int)
    inside = (np.minimum(row, rows - 1 - row) >= half_box_px) & (
        np.minimum(column, columns - 1 - column) >= half_box_px
    )
    wanted &= inside & (wanted.sum(0) >= 3)
    if not wanted.any():
        return None
    counts = np.full(x.shape, np.nan)
    step = np.arange(-half_box_px, half_box_px + 1)
    for start, block in frame_blocks(series):
        for k in start + np.flatnonzero(wanted[start : start + len(block)].any(1)):
            j = np.flatnonzero(wanted[k])
            boxes = block[k - start][
                row[j, None, None] + step[:, None], column[j, None, None] + step
            ]
            electrons = (boxes.astype(float) - series.pedestal) / gain
            counts[k, j] = (electrons - r.background[j, None, None]).sum((1, 2))
    return RockingCurves(chosen, x, counts, turn)


@dataclass(frozen=True)
class RockingCurve:
    """The mean rocking curve of strong reflections, against excitation error over its width.

    Attributes
    ----------
    x : (n,) middle of the bins, in standard deviations of the fitted curve.
    mean, spread : (n,) mean over reflections of the normalised intensity, and its standard error.
    n_reflections : that went in.
    turn_deg : (m,) observed minus predicted rotation angle of those recorded from foot to foot.
    """

    x: Floats
    mean: Floats
    spread: Floats
    n_reflections: int
    turn_deg: Floats


def mean_rocking_curve(
    curves: RockingCurves, frames: FrameTable, *, reach: float = 4.0, n_bins: int = 33
) -> RockingCurve:
    """The mean of many curves, each normalised to unit area, in `n_bins` bins up to `reach`."""
    x, area = curves.x, curves.area
    good = curves.read & (area > 0) & (np.abs(x) <= reach)
    density = (curves.electrons / np.where(area > 0, area, 1))[good]
    which = np.clip(((x[good] + reach) / (2 * reach) * n_bins).astype(int), 0, n_bins - 1)
    number = np.bincount(which, minlength=n_bins)
    mean = np.bincount(which, density, n_bins) / np.maximum(number, 1)
    variance = np.bincount(which, (density - mean[which]) ** 2, n_bins) / np.maximum(number, 1)
    kept = number >= 3
    middle = (np.arange(n_bins) + 0.5) / n_bins * 2 * reach - reach
    spread = np.sqrt(variance / np.maximum(number, 1))
    turn = _turn_deg(curves, frames)
    return RockingCurve(middle[kept], mean[kept], spread[kept], int(good.any(0).sum()), turn)


def examples(lattice: Lattice, curves: RockingCurves, n: int = 12) -> NDArray[np.int64]:
    """Up to `n` of the curves, over the range of resolution: the strongest read foot to foot."""
    whole = (curves.x.min(0) < -3) & (curves.x.max(0) > 3) & (curves.read.sum(0) >= 5)
    some = np.flatnonzero(whole & (curves.area > 0))
    if len(some) == 0:
        some = np.flatnonzero(curves.read.any(0))
    r = lattice.reflections[curves.chosen[some]]
    by_resolution = np.argsort(-r.d_A, kind="stable")
    significance = r.intensity / r.sigma
    found = [
        some[part[np.argmax(significance[part])]]
        for part in np.array_split(by_resolution, min(n, len(some)))
        if len(part)
    ]
    return np.array(found, np.int64)


def rms_of_frames(lattice: Lattice, frames: FrameTable, at_least: int = 3) -> Floats:
    """(frames,) r.m.s. distance of observed from predicted positions, px.

    Of sound reflections with their centroid on the frame; NaN with fewer than `at_least`.
    """
    r = lattice.reflections
    r = r[usable(r) & np.isfinite(r.observed_row) & np.isfinite(r.observed_column)]
    n = len(frames.frame_number)
    at = np.clip(np.rint(r.frame).astype(int), 0, n - 1)
    squares = (r.observed_row - r.row) ** 2 + (r.observed_column - r.column) ** 2
    number = np.bincount(at, minlength=n)
    rms: Floats = np.sqrt(np.bincount(at, squares, n) / np.maximum(number, 1))
    return np.where(number >= at_least, rms, np.nan)


def spots_in_crystal(lattice: Lattice, frames: FrameTable, spots: StrongSpots) -> Floats:
    """Where strong spots lie, (n, 3) in 1/Å, in the lattice's Cartesian frame (a along x)."""
    return _in_crystal(lattice, frames, spots.row, spots.column, spots.frame)


def _turn_deg(curves: RockingCurves, frames: FrameTable) -> Floats:
    x = curves.x
    weight = np.nan_to_num(curves.electrons) * np.abs(np.gradient(x, axis=0))
    # Only curves seen from foot to foot: the centroid of a cut one is not where it peaks.
    whole = (x.min(0) < -3) & (x.max(0) > 3) & (weight.sum(0) > 0)
    # A frame left out biases the centroid as the end of the series does.
    for blank in np.flatnonzero(frames.blank):
        whole &= np.abs(x[blank]) > 3
    turn: Floats = (weight * curves.turn_deg)[:, whole].sum(0) / weight[:, whole].sum(0)
    return turn


def _error_over_width(lattice: Lattice, r: Reflections, angle_deg: float) -> Floats:
    angle = np.full(len(r), angle_deg)
    over: Floats = excitation_error_per_A(lattice, r.hkl, angle) / rocking_width_per_A(
        lattice, r.d_A
    )
    return over
