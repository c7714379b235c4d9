"""How far the picture moves when something is shifted: full 2 x 2 calibrations.

Column vectors throughout: ``(row, column) shift in px = px_per_unit @ (x, y) shift in unit``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError

Floats = NDArray[np.float64]
Condition = Literal["imaging", "focused", "defocused"]


@dataclass(frozen=True)
class ShiftCalibration:
    """What one actuator does to the picture in one condition.

    Attributes
    ----------
    actuator : a deflector's name as in `hardware.protocols`, or ``stage``.
    condition : ``imaging``; or diffraction, ``focused`` or ``defocused``.
    unit : of the actuator: ``nm``, ``mrad``, or ``um`` for the stage.
    px_per_unit : (2, 2), see above; unbinned pixels.
    covariance : (4, 4) of ``px_per_unit.ravel()``.
    residual_px : r.m.s. distance of the shifts used from the fit.
    n_used, n_rejected : shifts measured and fitted, and left out as outliers.
    instrument : its name.
    magnification, camera_length_mm, defocus_um : of the condition, None where it has none.
    measured_at : when, with time zone.
    """

    actuator: str
    condition: Condition
    unit: str
    px_per_unit: Floats
    covariance: Floats
    residual_px: float
    n_used: int
    n_rejected: int
    instrument: str
    measured_at: datetime
    magnification: int | None = None
    camera_length_mm: float | None = None
    defocus_um: float | None = None

    def px(self, shift: ArrayLike) -> Floats:
        """(..., 2) shift of the picture (row, column) for (..., 2) shifts (x, y) in `unit`."""
        return np.asarray(shift, float) @ self.px_per_unit.T

    def shift(self, px: ArrayLike) -> Floats:
        """(..., 2) shift (x, y) in `unit` that moves the picture by (..., 2) px."""
        return np.asarray(px, float) @ np.linalg.inv(self.px_per_unit).T


@dataclass(frozen=True)
class CalibrationSet:
    """All shift calibrations of one instrument's session."""

    calibrations: tuple[ShiftCalibration, ...] = field(default=())

    def __iter__(self) -> Iterator[ShiftCalibration]:
        return iter(self.calibrations)

    def get(self, actuator: str, condition: Condition) -> ShiftCalibration:
        """The one wanted. Raises `UserError` if it was not measured."""
        for one in self.calibrations:
            if (one.actuator, one.condition) == (actuator, condition):
                return one
        raise UserError(
            f"calibration of {actuator}, {condition}",
            "none",
            "one measured on this instrument",
            "run `ewaldflow calibrate-deflectors`",
        )

    def with_(self, more: Iterable[ShiftCalibration]) -> CalibrationSet:
        """A set in which `more` replace those of the same actuator and condition."""
        new = tuple(more)
        taken = {(one.actuator, one.condition) for one in new}
        old = (one for one in self.calibrations if (one.actuator, one.condition) not in taken)
        return CalibrationSet((*old, *new))
