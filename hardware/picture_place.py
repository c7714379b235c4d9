"""Where the picture is: what a calibration measures each time an actuator was set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lib.serialred.alignment import pattern_centre
from ..lib.serialred.calibration import Condition
from ..lib.serialred.disc import find_disc
from ..lib.serialred.registration import shift_between
from .errors import BeamLost
from .protocols import DeflectorName

Floats = NDArray[np.float64]
Image = NDArray[Any]
# takes a picture and says where it is, (2,) px (row, column); NaN if it cannot
Locate = Callable[[], Floats]

# Of a registration: views have few counts, so that the noise of pixels rules the correlation.
LEAST_QUALITY, LARGEST_ESD_PX, SMOOTH_PX = 0.15, 2.0, 2.5
# Counts per pixel of a view in which particles could be seen.
LEAST_COUNTS = 0.5


def by_registration(image: Callable[[], Image], valid: NDArray[np.bool_]) -> Locate:
    """By the specimen, from where it is on the first picture that is asked for.

    Raises
    ------
    BeamLost : there is no light in the view.
    """
    light = float(np.mean(image()[valid]))
    if not light > LEAST_COUNTS:
        raise BeamLost(
            "calibration of stage, imaging",
            f"{light:.2g} counts per pixel",
            "a view with particles",
            "unblank the beam, raise the screen, or expose longer",
        )
    reference: list[Image] = []

    def locate() -> Floats:
        if not reference:  # only now, for the play is taken up first
            reference.append(image())
            return np.zeros(2)
        shift = shift_between(reference[0], image(), valid=valid, smooth_px=SMOOTH_PX)
        sure = shift.quality >= LEAST_QUALITY and shift.esd_px <= LARGEST_ESD_PX
        return shift.vector if sure else np.full(2, np.nan)

    return locate


def by_beam(
    name: DeflectorName,
    condition: Condition,
    image: Callable[[], Image],
    valid: NDArray[np.bool_],
) -> Locate:
    """By the direct beam (focused) or the beam's disc.

    Raises
    ------
    BeamLost : there is none.
    """

    def disc() -> Floats:
        found = find_disc(image(), valid)
        return np.full(2, np.nan) if found is None else found.centre_px

    def beam() -> Floats:
        at = pattern_centre(image())
        return np.full(2, np.nan) if at is None else at

    locate = beam if condition == "focused" else disc
    if not np.isfinite(locate()).all():
        raise BeamLost(
            f"calibration of {name}, {condition}",
            "no beam" if condition == "focused" else "no disc of the beam",
            "one on the camera",
            "bring the beam to the middle of the camera; check blanking and brightness",
        )
    return locate
