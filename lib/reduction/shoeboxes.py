"""Shoeboxes: the pixels about every reflection on every frame of its rocking curve.

A *slice* is one reflection on one frame. All slices are cut out in a single pass over the
frames; background, profiles and intensities are then worked out in memory, as often as needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ..geometry import rotated
from .model import Model
from .prediction import Predictions

Floats = NDArray[np.float64]


@dataclass
class Slices:
    """Slices of all reflections of one lattice, ordered by reflection, then frame.

    Attributes
    ----------
    reflection : (m,) row in the predictions.
    frame : (m,) frame position (integer).
    start : (n + 1,) slices of reflection i are start[i]:start[i + 1].
    row, column : (m,) predicted position on that frame, px.
    excitation_low, excitation_high : (m,) excitation error at the ends of the exposure, 1/Å.
    boxes : (m, size, size) float32 electrons about the rounded position; NaN where masked,
        saturated or off the detector.
    crowd : (m, size, size) uint8, number of other reflections whose core covers the pixel.
    saturated, masked : (m,) bool, such a pixel lies within the core.
    """

    reflection: NDArray[np.int64]
    frame: NDArray[np.int64]
    start: NDArray[np.int64]
    row: Floats
    column: Floats
    excitation_low: Floats
    excitation_high: Floats
    boxes: NDArray[np.float32]
    crowd: NDArray[np.uint8]
    saturated: NDArray[np.bool_]
    masked: NDArray[np.bool_]

    @property
    def half(self) -> int:
        """Half-width of the boxes, px."""
        return int(self.boxes.shape[1] // 2)

    def __len__(self) -> int:
        return len(self.frame)


def plan_slices(
    model: Model,
    predictions: Predictions,
    sigma: Floats,
    usable: NDArray[np.bool_],
    half: int,
    reach: float = 3.0,
    max_frames: int = 200,
) -> Slices:
    """Which frames each reflection needs, before any pixel is read.

    Parameters
    ----------
    sigma : (n,) rocking width of each reflection, 1/Å.
    usable : (frames,) False for blank frames.
    half : half-width of the boxes, px.
    reach : half-width of the rocking curve covered, in sigma.
    max_frames : a reflection that lingers longer is cut to this many.
    """
    width = np.minimum(reach * sigma / np.maximum(np.abs(predictions.rate), 1e-12), max_frames / 2)
    n_frames = len(usable)
    first = np.clip(np.floor(predictions.frame - width + 0.5).astype(int), 0, n_frames)
    last = np.clip(np.ceil(predictions.frame + width - 0.5).astype(int), -1, n_frames - 1)
    count = np.maximum(last - first + 1, 0)
    reflection = np.repeat(np.arange(len(predictions)), count)
    offset = np.arange(len(reflection)) - np.repeat(np.cumsum(count) - count, count)
    frame = first[reflection] + offset
    keep = usable[frame]
    reflection, frame = reflection[keep], frame[keep]
    size = 2 * half + 1
    start = np.searchsorted(reflection, np.arange(len(predictions) + 1))
    m = len(reflection)
    slices = Slices(
        reflection, frame, start, np.empty(m), np.empty(m), np.empty(m), np.empty(m),
        np.full((m, size, size), np.nan, np.float32), np.zeros((m, size, size), np.uint8),
        np.zeros(m, bool), np.zeros(m, bool),
    )  # fmt: skip
    place_slices(slices, model, predictions)
    return slices


def place_slices(slices: Slices, model: Model, predictions: Predictions) -> None:
    """Predict each slice's position and excitation errors with a (new) model, in place."""
    q0 = (predictions.hkl @ model.orientation.T)[slices.reflection]
    g = model.geometry
    position = slices.frame.astype(float)
    angle_deg = model.angle_deg(position)
    turn = None if model.frame_turn is None else model.frame_turn[slices.frame]

    def at(angle_deg: Floats) -> Floats:
        q = rotated(q0, g.axis, angle_deg)
        return q if turn is None else np.asarray(np.einsum("nij,nj->ni", turn, q), np.float64)

    rc = g.to_pixel(at(angle_deg), model.centre_px(position))
    slices.row[:], slices.column[:] = rc[:, 0], rc[:, 1]
    # an exposure is a step wide whether or not the frames beside it exist
    half_deg = 0.5 * model.angle_step_deg * model.rotation_scale
    if turn is not None:
        ends = [
            np.linalg.norm(at(angle_deg + shift) + g.s0, axis=1) - 1 / g.wavelength_A
            for shift in (-half_deg, half_deg)
        ]
        slices.excitation_low[:] = np.minimum(*ends)
        slices.excitation_high[:] = np.maximum(*ends)
        return
    # |q + s0|^2 = |q|^2 + 2 q_z / lambda + 1 / lambda^2 needs no other component
    axis = np.asarray(g.axis)
    constant = axis[2] * (q0 @ axis)
    a, b = q0[:, 2] - constant, axis[0] * q0[:, 1] - axis[1] * q0[:, 0]
    fixed = np.einsum("ni,ni->n", q0, q0) + 2 * constant / g.wavelength_A + g.wavelength_A**-2
    ends = []
    for shift_deg in (-half_deg, half_deg):
        angle = np.deg2rad(angle_deg + shift_deg)
        swinging = a * np.cos(angle) + b * np.sin(angle)
        ends.append(np.sqrt(fixed + 2 * swinging / g.wavelength_A) - 1 / g.wavelength_A)
    slices.excitation_low[:] = np.minimum(*ends)
    slices.excitation_high[:] = np.maximum(*ends)


@numba.njit(cache=True, nogil=True)
def _stamp(count: NDArray[np.uint8], row: Floats, column: Floats, radius: float) -> None:
    """Add one to the pixels of `count` within `radius` of each position."""
    rows, columns = count.shape
    r2 = radius * radius
    for i in range(len(row)):
        for r in range(max(0, int(row[i] - radius)), min(rows, int(row[i] + radius) + 2)):
            for c in range(
                max(0, int(column[i] - radius)), min(columns, int(column[i] + radius) + 2)
            ):
                if (r - row[i]) ** 2 + (c - column[i]) ** 2 <= r2 and count[r, c] < 255:
                    count[r, c] += 1


@numba.njit(cache=True, nogil=True)
def _cut(
    electrons: NDArray[np.float32],
    valid: NDArray[np.bool_],
    ceiling: np.float32,
    count: NDArray[np.uint8],
    row: Floats,
    column: Floats,
    index: NDArray[np.int64],
    radius: float,
    boxes: NDArray[np.float32],
    crowd: NDArray[np.uint8],
    sat: NDArray[np.bool_],
    masked: NDArray[np.bool_],
) -> None:
    """Copy the box about each position into boxes[index]."""
    rows, columns = electrons.shape
    size = boxes.shape[1]
    half = size // 2
    r2 = radius * radius
    for k in range(len(index)):
        m = index[k]
        r0, c0 = int(np.round(row[k])) - half, int(np.round(column[k])) - half
        for i in range(size):
            r = r0 + i
            for j in range(size):
                c = c0 + j
                core = (r - row[k]) ** 2 + (c - column[k]) ** 2 <= r2
                if r < 0 or c < 0 or r >= rows or c >= columns:
                    if core:
                        masked[m] = True
                    continue
                others = count[r, c] - (1 if core else 0)
                crowd[m, i, j] = max(others, 0)
                if not valid[r, c]:
                    if core:
                        masked[m] = True
                elif electrons[r, c] >= ceiling:
                    if core:
                        sat[m] = True
                else:
                    boxes[m, i, j] = electrons[r, c]


class ShoeboxCutter:
    """Cuts the slices of one or several lattices out of frames handed over one by one."""

    def __init__(
        self, lattices: list[Slices], shape: tuple[int, int], core_px: float, ceiling: float
    ) -> None:
        self.lattices, self.core_px = lattices, core_px
        self.ceiling = np.float32(ceiling)
        self._count = np.zeros(shape, np.uint8)
        self._order = [np.argsort(s.frame, kind="stable") for s in lattices]
        self._sorted = [s.frame[o] for s, o in zip(lattices, self._order, strict=True)]

    def add(self, electrons: NDArray[np.float32], valid: NDArray[np.bool_], frame: int) -> None:
        """Take one frame (rows, columns) in electrons."""
        indices = []
        self._count[:] = 0
        for s, order, frames in zip(self.lattices, self._order, self._sorted, strict=True):
            a, b = np.searchsorted(frames, (frame, frame + 1))
            index = order[a:b]
            indices.append(index)
            _stamp(self._count, s.row[index], s.column[index], self.core_px)
        for s, index in zip(self.lattices, indices, strict=True):
            _cut(
                electrons, valid, self.ceiling, self._count, s.row[index], s.column[index],
                index, self.core_px, s.boxes, s.crowd, s.saturated, s.masked,
            )  # fmt: skip
