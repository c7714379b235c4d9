"""Descan: the pattern stays where it is while the beam follows the crystal.

A beam shift b moves the focused pattern by F b and the defocused disc by D b (px). Two further
pairs of deflectors, whose matrices differ between the two conditions, hold both: with unknown
settings x1 and x2
``[F1 F2; D1 D2] [x1; x2] = -[F b + f; D b + d]``
where f and d are what feedback adds: measured displacements of the direct beam in focused frames
and of the disc in defocused ones. JEOL's pairs are image shift 1 and 2 (the thesis); on a Thermo
Fisher instrument image shift and diffraction shift. The thesis takes f from the calibration and d
from the measured disc; here both have both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from .calibration import CalibrationSet

Floats = NDArray[np.float64]

# Condition number of the solve, columns scaled: above, the two pairs do nearly the same.
LARGEST_CONDITION = 60.0


@dataclass(frozen=True)
class DescanSolve:
    """The linear solve for one pair of deflectors.

    Attributes
    ----------
    pair : their names.
    matrix : (4, 4) [F1 F2; D1 D2].
    beam : (4, 2) [F; D] of the beam shift.
    """

    pair: tuple[str, str]
    matrix: Floats
    beam: Floats

    @classmethod
    def from_calibrations(
        cls,
        calibrations: CalibrationSet,
        pair: tuple[str, str] = ("image_shift_1", "image_shift_2"),
    ) -> DescanSolve:
        """The solve from six calibrations: beam shift and both deflectors, in both conditions.

        Raises
        ------
        UserError : one was not measured, or the pair cannot hold both conditions at once.
        """
        blocks = {
            (name, condition): calibrations.get(name, condition).px_per_unit
            for name in ("beam_shift", *pair)
            for condition in ("focused", "defocused")
        }  # fmt: skip
        matrix = np.block(
            [[blocks[name, condition] for name in pair] for condition in ("focused", "defocused")]
        )
        beam = np.vstack([blocks["beam_shift", "focused"], blocks["beam_shift", "defocused"]])
        solve = cls(pair, matrix, beam)
        if not solve.condition <= LARGEST_CONDITION:
            raise UserError(
                f"descan over {pair[0]} and {pair[1]}",
                f"a condition number of {solve.condition:.3g}",
                f"at most {LARGEST_CONDITION:g}",
                "they move focused and defocused patterns alike: use another pair or defocus",
            )
        return solve

    @property
    def condition(self) -> float:
        """Condition number, each column scaled to unit length."""
        size = np.linalg.norm(self.matrix, axis=0)
        if not (size > 0).all():
            return float("inf")
        return float(np.linalg.cond(self.matrix / size))

    def settings(
        self,
        beam_shift: ArrayLike,
        focused_px: ArrayLike = (0, 0),
        defocused_px: ArrayLike = (0, 0),
    ) -> tuple[Floats, Floats]:
        """Changes (x1, x2) of both deflectors, (2,) each, that undo displacements.

        Parameters
        ----------
        beam_shift : (2,) change of the beam shift, in its unit.
        focused_px, defocused_px : (2,) further displacements (row, column) to undo.
        """
        displaced = self.beam @ np.asarray(beam_shift, float)
        displaced = displaced + np.concatenate(
            [np.asarray(focused_px, float), np.asarray(defocused_px, float)]
        )
        x = np.linalg.solve(self.matrix, -displaced)
        return x[:2], x[2:]


@dataclass(frozen=True)
class Descan:
    """Feed-forward and feedback over a series; a value: what was seen makes a new one.

    Attributes
    ----------
    solve : see there.
    beam_start : (2,) beam shift at the start.
    start : (2,) and (2,) settings of the pair at the start.
    gain : part of a measured displacement that is taken back; less than 1 averages noise.
    focused_px, defocused_px : (2,) sums of what was taken back.
    pattern_px, disc_px : (2,) where pattern and disc are to stay; None until first seen.
    """

    solve: DescanSolve
    beam_start: Floats
    start: tuple[Floats, Floats]
    gain: float = 0.5
    focused_px: Floats = field(default_factory=lambda: np.zeros(2))
    defocused_px: Floats = field(default_factory=lambda: np.zeros(2))
    pattern_px: Floats | None = None
    disc_px: Floats | None = None

    def settings(self, beam_shift: ArrayLike) -> tuple[Floats, Floats]:
        """(2,) and (2,): what the pair is to be set to when the beam shift is `beam_shift`."""
        x1, x2 = self.solve.settings(
            np.asarray(beam_shift, float) - self.beam_start, self.focused_px, self.defocused_px
        )
        return self.start[0] + x1, self.start[1] + x2

    def pattern_seen(self, at_px: ArrayLike) -> tuple[Descan, Floats]:
        """After the direct beam was seen in a focused frame; and its displacement (2,)."""
        at = np.asarray(at_px, float)
        if self.pattern_px is None:
            return replace(self, pattern_px=at), np.zeros(2)
        off = at - self.pattern_px
        return replace(self, focused_px=self.focused_px + self.gain * off), off

    def disc_seen(self, at_px: ArrayLike) -> tuple[Descan, Floats]:
        """After the disc was seen in a defocused image; and its displacement (2,)."""
        at = np.asarray(at_px, float)
        if self.disc_px is None:
            return replace(self, disc_px=at), np.zeros(2)
        off = at - self.disc_px
        return replace(self, defocused_px=self.defocused_px + self.gain * off), off
