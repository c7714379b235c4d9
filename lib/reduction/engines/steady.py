"""Frames shifted by whole pixels so that the direct beam stays where it is.

Other programs take one beam centre for all frames. What a shift leaves is half a pixel at most;
no counts are changed. What they find is put back where it was on the frames as taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...series import RotationSeries
from ..beam_centre import BeamTrack, find_beam, track_beam
from ..result import Lattice, Reduction
from ..survey import frame_blocks

Floats = NDArray[np.float64]

# A direct beam less far from where it is said to be, and moving less, is left alone.
LEAST_PX = 0.5


@dataclass(frozen=True)
class Steady:
    """A series whose beam stays.

    Attributes
    ----------
    series : with its beam centre where the beam is.
    shift_px : (n, 2) int64, (rows, columns) that each frame was moved up and left by.
    notes : what was done, one sentence; empty if nothing was.
    """

    series: RotationSeries
    shift_px: NDArray[np.int64]
    notes: tuple[str, ...]


def steady(series: RotationSeries) -> Steady:
    """Follow the direct beam and shift the frames, where one is seen and it moves."""
    n, valid = len(series), ~series.mask
    centres = np.full((n, 2), np.nan)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            if raw.max() > raw.min():
                electrons = raw.astype(np.float32) - np.float32(series.pedestal)
                centres[start + k] = find_beam(electrons, valid)
    return moved_along(series, track_beam(centres, series.geometry.beam_centre_px))


def moved_along(series: RotationSeries, track: BeamTrack) -> Steady:
    """Shift the frames so that the beam, which goes along a track, stays."""
    none = np.zeros((len(series), 2), np.int64)
    if not track.seen.any():
        return Steady(series, none, (track.note,))
    middle = np.median(track.centres_px[track.seen], axis=0)
    shift = np.rint(track.centres_px - middle).astype(np.int64)
    row, column = np.mean((track.centres_px - shift)[track.seen], axis=0)
    off = float(np.hypot(*(np.array([row, column]) - series.geometry.beam_centre_px)))
    if not shift.any() and off < LEAST_PX:
        return Steady(series, none, ())
    told = series.geometry.with_(beam_centre_px=(float(row), float(column)))
    moved = series.with_(
        frames=_shifted_frames(series, shift),
        geometry=told,
        mask=_mask_everywhere(series.mask, shift),
        beam_centres_px=None,
    )
    note = (
        f"{track.note}; the program is told ({row:.2f}, {column:.2f}), {off:.1f} px from the "
        f"nominal centre, and frames are shifted by up to {np.abs(shift).max()} px to match"
    )
    return Steady(moved, shift, (note,))


def put_back(reduction: Reduction, shift_px: NDArray[np.int64]) -> Reduction:
    """What was found on shifted frames, where it is on the frames as taken."""
    if not shift_px.any():
        return reduction
    frames = replace(
        reduction.frames,
        beam_row=reduction.frames.beam_row + shift_px[:, 0],
        beam_column=reduction.frames.beam_column + shift_px[:, 1],
    )
    lattices = tuple(_put_back(one, shift_px) for one in reduction.lattices)
    spots = reduction.spots
    if spots is not None:
        rows, columns = _at(spots.frame, shift_px)
        spots = replace(spots, row=spots.row + rows, column=spots.column + columns)
    return replace(reduction, frames=frames, lattices=lattices, spots=spots)


def _at(frame: NDArray[np.float64], shift_px: NDArray[np.int64]) -> NDArray[np.int64]:
    """(2, m) shifts at frame positions."""
    return shift_px[np.clip(np.rint(frame).astype(int), 0, len(shift_px) - 1)].T


def _put_back(lattice: Lattice, shift_px: NDArray[np.int64]) -> Lattice:
    r = lattice.reflections
    rows, columns = _at(r.frame, shift_px)
    return replace(
        lattice,
        reflections=replace(
            r,
            row=r.row + rows,
            column=r.column + columns,
            observed_row=r.observed_row + rows,
            observed_column=r.observed_column + columns,
        ),
    )


def _shifted(frame: NDArray[Any], rows: int, columns: int, fill: Any) -> NDArray[Any]:
    """The frame moved up and left, what comes in from outside filled."""
    out = np.full_like(frame, fill)
    n, m = frame.shape
    into = (slice(max(0, -rows), n - max(0, rows)), slice(max(0, -columns), m - max(0, columns)))
    from_ = (slice(max(0, rows), n - max(0, -rows)), slice(max(0, columns), m - max(0, -columns)))
    out[into] = frame[from_]
    return out


def _mask_everywhere(mask: NDArray[np.bool_], shift_px: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels that are masked, or come from outside, on any of the shifted frames."""
    every = [_shifted(mask, rows, columns, True) for rows, columns in np.unique(shift_px, axis=0)]
    return np.any(every, axis=0)


def _shifted_frames(series: RotationSeries, shift_px: NDArray[np.int64]) -> Any:
    import dask.array as da
    from dask.delayed import delayed

    def move(block: Any, shifts: NDArray[np.int64]) -> NDArray[Any]:
        frames = np.asarray(block)
        return np.stack(
            [_shifted(f, r, c, series.pedestal) for f, (r, c) in zip(frames, shifts, strict=True)]
        )

    parts, start = [], 0
    for count in series.frames.chunks[0]:
        part = slice(start, start + count)
        task = delayed(move, pure=False)(series.frames[part], shift_px[part])
        parts.append(da.from_delayed(task, (count, *series.shape), series.frames.dtype))
        start += count
    return da.concatenate(parts)
