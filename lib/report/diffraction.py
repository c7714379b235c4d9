"""What the plots need from geometry: where reflections were seen, in the crystal's own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import reciprocal_basis
from ..geometry import rotation_about
from ..reduction.result import FrameTable, Lattice, Reflections
from ..series import RotationSeries

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
    beam = np.stack([at_frame(frames.beam_row, r.frame), at_frame(frames.beam_column, r.frame)], -1)
    q = lattice.geometry.to_q(r.observed_row, r.observed_column, beam)
    back = rotation_about(lattice.geometry.axis, -at_frame(frames.angle_deg, r.frame))
    at_zero = np.einsum("nij,nj->ni", back, q)
    u = lattice.orientation @ np.linalg.inv(reciprocal_basis(lattice.cell))
    in_crystal: Floats = at_zero @ u
    return in_crystal


def excitation_error_per_A(lattice: Lattice, hkl: NDArray[np.int32], angle_deg: Floats) -> Floats:
    """``|q + s0| - 1/lambda`` of reflections (n, 3) at goniometer angles (n,), in 1/Å."""
    q0 = hkl @ lattice.orientation.T
    q = np.einsum("nij,nj->ni", rotation_about(lattice.geometry.axis, angle_deg), q0)
    length = np.linalg.norm(q + lattice.geometry.s0, axis=-1)
    error: Floats = length - 1 / lattice.geometry.wavelength_A
    return error


def rocking_width_per_A(lattice: Lattice, d_A: Floats) -> Floats:
    """Standard deviation of the fitted rocking curve in excitation error, 1/Å."""
    width: Floats = np.hypot(lattice.size_per_A, np.deg2rad(lattice.mosaicity_deg) / d_A)
    return width


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
    series: RotationSeries,
    lattice: Lattice,
    frames: FrameTable,
    gain: float,
    chosen: NDArray[np.int64],
    *,
    half_box_px: int = 3,
    reach: float = 4.0,
    n_bins: int = 33,
) -> RockingCurve | None:
    """Read strong reflections off the frames again and stack their rocking curves.

    Each curve is normalised to unit area. Frames are read one at a time. None if no reflection
    is spread over at least three frames.

    Parameters
    ----------
    series, lattice, frames, gain : as reduced; `gain` in counts per electron.
    chosen : positions of the reflections to use.
    half_box_px : half-width of the summation box.
    reach, n_bins : range of the plot in standard deviations, and its bins.
    """
    r = lattice.reflections[chosen]
    x = np.stack([_error_over_width(lattice, r, angle) for angle in frames.angle_deg])
    # A reflection crosses the sphere again about half a turn later, elsewhere on the detector.
    near = np.abs(frames.angle_deg[:, None] - at_frame(frames.angle_deg, r.frame)) < 20
    wanted = (np.abs(x) <= reach) & near & ~frames.blank[:, None]
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
    for k in np.flatnonzero(wanted.any(1)):
        electrons = (np.asarray(series.frames[k], float) - series.pedestal) / gain
        j = np.flatnonzero(wanted[k])
        boxes = electrons[row[j, None, None] + step[:, None], column[j, None, None] + step]
        counts[k, j] = (boxes - r.background[j, None, None]).sum((1, 2))
    # A trapezium in x, not in frames: the speed through the sphere differs between reflections.
    width = np.abs(np.gradient(x, axis=0))
    area = np.nansum(np.where(wanted, counts * width, np.nan), axis=0)
    good = wanted & (area > 0)
    density = (counts / np.where(area > 0, area, 1))[good]
    which = np.clip(((x[good] + reach) / (2 * reach) * n_bins).astype(int), 0, n_bins - 1)
    number = np.bincount(which, minlength=n_bins)
    mean = np.bincount(which, density, n_bins) / np.maximum(number, 1)
    variance = np.bincount(which, (density - mean[which]) ** 2, n_bins) / np.maximum(number, 1)
    kept = number >= 3
    middle = (np.arange(n_bins) + 0.5) / n_bins * 2 * reach - reach
    spread = np.sqrt(variance / np.maximum(number, 1))
    turn = _turn_deg(np.where(wanted, counts * width, 0), x, frames, r.frame)
    return RockingCurve(middle[kept], mean[kept], spread[kept], int(good.any(0).sum()), turn)


def _turn_deg(weight: Floats, x: Floats, frames: FrameTable, frame: Floats) -> Floats:
    # Only curves seen from foot to foot: the centroid of a cut one is not where it peaks.
    whole = (x.min(0) < -3) & (x.max(0) > 3) & (weight.sum(0) > 0)
    # A frame left out biases the centroid as the end of the series does.
    for blank in np.flatnonzero(frames.blank):
        whole &= np.abs(x[blank]) > 3
    offset = frames.angle_deg[:, None] - at_frame(frames.angle_deg, frame)
    turn: Floats = (weight * offset)[:, whole].sum(0) / weight[:, whole].sum(0)
    return turn


def _error_over_width(lattice: Lattice, r: Reflections, angle_deg: float) -> Floats:
    angle = np.full(len(r), angle_deg)
    over: Floats = excitation_error_per_A(lattice, r.hkl, angle) / rocking_width_per_A(
        lattice, r.d_A
    )
    return over
