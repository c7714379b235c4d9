"""The calibrations that a perfect measurement on the twin would give."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from ...lib.serialred.calibration import CalibrationSet, Condition, ShiftCalibration
from ...lib.serialred.session import SessionConfig
from ..protocols import DeflectorName
from .twin import Twin

# A perfect matrix has no error, but a calibration must state one.
VARIANCE = 1e-12


def true_calibrations(
    twin: Twin, session: SessionConfig, measured_at: datetime | None = None
) -> CalibrationSet:
    """All that a session needs, from the twin's truth; nothing is moved.

    Parameters
    ----------
    session : its magnification, camera length, defocus and descan pair.
    measured_at : when, as the calibrations say; None: now.
    """
    optics, picture = twin.column.optics, session.imaging.magnification
    length, defocus = session.diffraction.camera_length_mm, session.rotation.tracking_defocus_um
    when = datetime.now(UTC) if measured_at is None else measured_at
    settings = twin.truth.settings._replace(
        magnification=picture, camera_length_mm=length, diffraction_focus=defocus
    )

    def one(actuator: DeflectorName | None, condition: Condition) -> ShiftCalibration:
        diffracts, defocused = condition != "imaging", condition == "defocused"
        if actuator is None:
            goniometer = twin.column.goniometer
            x, y = goniometer.axis
            moved_mm = optics.picture_mm_per_um(picture) @ [[x, -y], [y, x]]
            px = moved_mm @ goniometer.stage_matrix / twin.column.pixel_size_mm
        else:
            px = optics.px_per_unit(actuator, condition, settings)
        mrad = actuator in ("beam_tilt", "diffraction_shift")
        return ShiftCalibration(
            actuator=actuator or "stage",
            condition=condition,
            unit="um" if actuator is None else "mrad" if mrad else "nm",
            px_per_unit=px,
            covariance=VARIANCE * np.eye(4),
            residual_px=0.1,
            n_used=25,
            n_rejected=0,
            instrument=twin.microscope.name,
            measured_at=when,
            magnification=None if diffracts else picture,
            camera_length_mm=length if diffracts else None,
            defocus_um=(defocus if defocused else 0.0) if diffracts else None,
        )

    shifts: tuple[DeflectorName, ...] = ("beam_shift", *session.rotation.descan_pair)
    return CalibrationSet(
        (
            one(None, "imaging"),
            *(one(name, "imaging") for name in shifts),
            *(one(name, "focused") for name in shifts),
            *(one(name, "defocused") for name in shifts),
        )
    )
