"""Where and when every reflection of a lattice diffracts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..crystal.lattice_symmetry import reindex_absences
from ..geometry import rotated
from .model import Model

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Crossings of the Ewald sphere, one row each.

    Attributes
    ----------
    hkl : (n, 3) int32.
    frame : frame position (an integer is the middle of a frame) of the crossing.
    row, column : px.
    rate : d(excitation error) / d(frame position), 1/Å per frame, signed.
    length : |q| in 1/Å.
    """

    hkl: NDArray[np.int32]
    frame: Floats
    row: Floats
    column: Floats
    rate: Floats
    length: Floats

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: object) -> Predictions:
        """Some of the rows (anything numpy indexes with)."""
        return Predictions(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def all_indices(orientation: Floats, d_min_A: float, bravais: str) -> NDArray[np.int32]:
    """Every hkl but 000 with d >= `d_min_A` that the centring allows, (n, 3)."""
    real = np.linalg.inv(orientation).T
    limit = np.floor(np.linalg.norm(real, axis=0) / d_min_A).astype(int)
    h, k, ell = np.meshgrid(*(np.arange(-m, m + 1) for m in limit), indexing="ij")
    hkl = np.stack([h.ravel(), k.ravel(), ell.ravel()], axis=1).astype(np.int32)
    length = np.linalg.norm(hkl @ orientation.T, axis=1)
    hkl = hkl[(length <= 1 / d_min_A) & (length > 0)]
    kept: NDArray[np.int32] = hkl[~reindex_absences(bravais, hkl)]
    return kept


def crossing_frames(model: Model, hkl: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """The two frame positions at which each reflection crosses the Ewald sphere.

    From ``q.s0 = -|q|^2 / 2`` with ``q_z(phi) = c + a cos(phi) + b sin(phi)``. NaN where the
    reflection never crosses (it lies too near the axis). Angles are the ones nearest to the
    middle of the series.
    """
    g = model.geometry
    axis = np.asarray(g.axis)
    q0 = hkl @ model.orientation.T
    constant = axis[2] * (q0 @ axis)
    a = q0[:, 2] - constant
    b = np.cross(axis, q0)[:, 2]
    target = -0.5 * g.wavelength_A * np.einsum("ni,ni->n", q0, q0) - constant
    amplitude = np.hypot(a, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = np.arccos(target / amplitude)
    phase = np.arctan2(b, a)
    middle = np.deg2rad(0.5 * (model.angle_mid_deg[0] + model.angle_mid_deg[-1]))
    frames = []
    for angle in (phase + half, phase - half):
        near = middle + (angle - middle + np.pi) % (2 * np.pi) - np.pi
        frames.append(frame_of_angle(model, np.rad2deg(near)))
    return frames[0], frames[1]


def frame_of_angle(model: Model, angle_deg: Floats) -> Floats:
    """Frame position of a true rotation angle; the inverse of `Model.angle_deg`."""
    mid = model.angle_mid_deg
    middle = 0.5 * (mid[0] + mid[-1])
    nominal = middle + (angle_deg - middle) / model.rotation_scale
    step = model.angle_step_deg
    order = 1 if step > 0 else -1
    index = np.arange(len(mid))[::order]
    inside = np.interp(nominal, mid[::order], index)
    before = np.minimum((nominal - mid[0]) / step, 0)
    after = np.maximum((nominal - mid[-1]) / step, 0)
    frame: Floats = inside + before + after
    return frame


def predict(
    model: Model,
    bravais: str,
    d_min_A: float,
    shape: tuple[int, int],
    margin_frames: float = 0.0,
    d_max_A: float = np.inf,
) -> Predictions:
    """Reflections that cross within the series (plus a margin) and land on the detector.

    Parameters
    ----------
    margin_frames : also those that cross up to this far outside the series.
    shape : (rows, columns) of the detector.
    """
    hkl = all_indices(model.orientation, d_min_A, bravais)
    last = len(model.angle_mid_deg) - 1
    parts = []
    for frame in crossing_frames(model, hkl):
        with np.errstate(invalid="ignore"):
            keep = (frame >= -0.5 - margin_frames) & (frame <= last + 0.5 + margin_frames)
        parts.append((hkl[keep], frame[keep]))
    hkl = np.concatenate([p[0] for p in parts])
    frame = np.concatenate([p[1] for p in parts])
    predictions = at_frames(model, hkl, frame)
    rows, columns = shape
    on = (predictions.row > -0.5) & (predictions.row < rows - 0.5)
    on &= (predictions.column > -0.5) & (predictions.column < columns - 0.5)
    on &= predictions.length >= 1 / d_max_A
    order = np.lexsort((*hkl.T[::-1], frame))
    return predictions[order[on[order]]]


def at_frames(model: Model, hkl: NDArray[np.int32], frame: Floats) -> Predictions:
    """The crossings of reflections at known frame positions."""
    q0 = hkl @ model.orientation.T
    q = rotated(q0, model.geometry.axis, model.angle_deg(frame))
    rc = model.geometry.to_pixel(q, model.centre_px(frame))
    s = q + model.geometry.s0
    speed = np.cross(model.geometry.axis, q)
    per_frame = np.deg2rad(model.angle_step_deg) * model.rotation_scale
    rate = np.einsum("ni,ni->n", speed, s) / np.linalg.norm(s, axis=1) * per_frame
    return Predictions(hkl, frame, rc[:, 0], rc[:, 1], rate, np.linalg.norm(q0, axis=1))
