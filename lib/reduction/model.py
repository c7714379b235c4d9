"""What predicts where a reflection goes: orientation, geometry, beam track, angles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, cell_from_reciprocal_basis
from ..geometry import Geometry, rotated

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """What predicts where a reflection goes.

    Attributes
    ----------
    orientation : (3, 3) A = U B, 1/Å.
    geometry : beam, detector, axis.
    beam_track_px : (n, 2) measured direct beam per frame; `centre_offset_px` adds to it.
    knots : (k,) frame positions of the centre offsets.
    centre_offset_px : (k, 2) row, column.
    angle_mid_deg : (n,) nominal goniometer angle of each frame's middle.
    angle_step_deg : nominal rotation per frame.
    rotation_scale : true over nominal rotation, about the middle of the series.
    frame_turn : (n, 3, 3) small rotations of the laboratory by which single frames are off that
        (`lib.orientation`); None where they are not known.
    """

    orientation: Floats
    geometry: Geometry
    beam_track_px: Floats
    angle_mid_deg: Floats
    angle_step_deg: float
    knots: Floats = field(default_factory=lambda: np.zeros(1))
    centre_offset_px: Floats = field(default_factory=lambda: np.zeros((1, 2)))
    rotation_scale: float = 1.0
    frame_turn: Floats | None = None

    @property
    def cell(self) -> Cell:
        """Cell parameters."""
        return cell_from_reciprocal_basis(self.orientation)

    def nominal_angle_deg(self, frame: Floats) -> Floats:
        """Nominal goniometer angle at frame positions, extended past both ends."""
        n = len(self.angle_mid_deg)
        inside = np.interp(frame, np.arange(n), self.angle_mid_deg)
        outside = np.minimum(frame, 0) + np.maximum(frame - (n - 1), 0)
        angle: Floats = inside + outside * self.angle_step_deg
        return angle

    def angle_deg(self, frame: Floats) -> Floats:
        """True rotation angle at frame positions."""
        middle = 0.5 * (self.angle_mid_deg[0] + self.angle_mid_deg[-1])
        angle: Floats = middle + self.rotation_scale * (self.nominal_angle_deg(frame) - middle)
        return angle

    def centre_px(self, frame: Floats) -> Floats:
        """(m, 2) beam centre at frame positions."""
        index = np.arange(len(self.beam_track_px))
        centre = np.stack(
            [
                np.interp(frame, index, self.beam_track_px[:, k])
                + np.interp(frame, self.knots, self.centre_offset_px[:, k])
                for k in (0, 1)
            ],
            axis=-1,
        )
        return centre

    def to_reciprocal(self, row: Floats, column: Floats, frame: Floats) -> Floats:
        """Positions at zero rotation, (m, 3) in 1/Å, of detector positions."""
        q = self.geometry.to_q(row, column, self.centre_px(frame))
        return rotated(q, self.geometry.axis, -self.angle_deg(frame))

    def diffracted(self, hkl: NDArray[np.int32], frame: Floats) -> Floats:
        """q of reflections at frame positions, (m, 3) in 1/Å, whatever their excitation error."""
        return rotated(hkl @ self.orientation.T, self.geometry.axis, self.angle_deg(frame))

    def with_knots(self, n_knots: int) -> Model:
        """The same model with the centre offset free at `n_knots` knots."""
        last = len(self.beam_track_px) - 1
        knots = np.linspace(0, last, n_knots) if n_knots > 1 else np.zeros(1)
        offsets = np.stack(
            [np.interp(knots, self.knots, self.centre_offset_px[:, k]) for k in (0, 1)], axis=1
        )
        return replace(self, knots=knots, centre_offset_px=offsets)
