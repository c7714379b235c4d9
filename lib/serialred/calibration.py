"""How far the picture moves when something is shifted: full 2 x 2 calibrations.

Column vectors throughout: ``(row, column) shift in px = px_per_unit @ (x, y) shift in unit``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

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

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"calibration of {self.actuator}, {self.condition}"

    @property
    def relative_error(self) -> float:
        """Expected error of the matrix over its norm (both Frobenius)."""
        return relative_error(self.px_per_unit, self.covariance)

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


def relative_error(px_per_unit: ArrayLike, covariance: ArrayLike) -> float:
    """Expected r.m.s. error of a (2, 2) matrix over its norm (both Frobenius)."""
    norm = float(np.linalg.norm(px_per_unit))
    return math.sqrt(max(float(np.trace(covariance)), 0.0)) / norm if norm > 0 else math.inf


@dataclass(frozen=True)
class Fitness:
    """What a calibration must be to be used.

    Attributes
    ----------
    max_age_h : lenses drift and are realigned.
    max_relative_error : expected error of the matrix over its norm.
    max_residual_px : r.m.s. of the shifts about the fit; more is a wrong or bent deflector.
    max_defocus_change : relative; the disc's matrices go with the defocus.
    """

    max_age_h: float = 24.0
    max_relative_error: float = 0.01
    max_residual_px: float = 3.0
    max_defocus_change: float = 0.02


USUAL_FITNESS = Fitness()


def refuse_if_unfit(
    calibration: ShiftCalibration,
    *,
    instrument: str,
    now: datetime,
    magnification: int | None = None,
    camera_length_mm: float | None = None,
    defocus_um: float | None = None,
    fitness: Fitness = USUAL_FITNESS,
) -> None:
    """Raise `UserError` naming the calibration if it is not one for the present use.

    Parameters
    ----------
    instrument, magnification, camera_length_mm, defocus_um : as they are now; those that do not
        belong to the calibration's condition are not looked at, nor those that are None.
    now : with time zone.
    """

    def refuse(found: str, expected: str) -> None:
        raise UserError(
            calibration.what, found, expected, "run `ewaldflow calibrate-deflectors` again"
        )

    if calibration.instrument != instrument:
        refuse(f"one of instrument {calibration.instrument}", f"one of {instrument}")
    if calibration.condition == "imaging":
        if magnification is not None and calibration.magnification != magnification:
            refuse(f"magnification {calibration.magnification}", f"{magnification}")
    elif camera_length_mm is not None and not _close(
        calibration.camera_length_mm, camera_length_mm, 1e-3
    ):
        refuse(f"camera length {calibration.camera_length_mm} mm", f"{camera_length_mm:g} mm")
    if (
        calibration.condition == "defocused"
        and defocus_um is not None
        and not _close(calibration.defocus_um, defocus_um, fitness.max_defocus_change)
    ):
        refuse(f"a defocus of {calibration.defocus_um} um", f"{defocus_um:g} um")
    age_h = (now - calibration.measured_at).total_seconds() / 3600
    if not age_h <= fitness.max_age_h:
        refuse(f"one {age_h:.0f} h old", f"at most {fitness.max_age_h:g} h")
    error = calibration.relative_error
    if not error <= fitness.max_relative_error:
        refuse(f"an error of {100 * error:.2g} %", f"{100 * fitness.max_relative_error:g} %")
    if not calibration.residual_px <= fitness.max_residual_px:
        refuse(f"residuals of {calibration.residual_px:.2g} px", f"{fitness.max_residual_px:g} px")


def _close(found: float | None, wanted: float, within: float) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=within)


def calibrations_to_dict(calibrations: CalibrationSet) -> dict[str, Any]:
    """Plain types, for YAML."""
    return {
        "calibrations": [
            {
                **asdict(one),
                "px_per_unit": np.asarray(one.px_per_unit, float).tolist(),
                "covariance": np.asarray(one.covariance, float).tolist(),
                "measured_at": one.measured_at.isoformat(),
            }
            for one in calibrations
        ]
    }


def calibrations_from_dict(content: Mapping[str, Any]) -> CalibrationSet:
    """The reverse of `calibrations_to_dict`. Raises `UserError` for anything else."""
    try:
        return CalibrationSet(tuple(_from_dict(one) for one in content["calibrations"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "calibrations",
            f"{type(error).__name__}: {error}",
            "what `ewaldflow calibrate-deflectors` writes",
            "measure them again",
        ) from None


def _from_dict(one: Mapping[str, Any]) -> ShiftCalibration:
    unknown = set(one) - {known.name for known in fields(ShiftCalibration)}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    matrix, covariance = np.array(one["px_per_unit"], float), np.array(one["covariance"], float)
    if matrix.shape != (2, 2) or covariance.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"matrices of {matrix.shape} and {covariance.shape}")
    return ShiftCalibration(
        **{
            **one,
            "px_per_unit": matrix,
            "covariance": covariance,
            "measured_at": datetime.fromisoformat(one["measured_at"]),
        }
    )
