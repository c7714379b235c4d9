"""Making an instrument safe: the steps of DESIGN's promise, each tried whatever the others did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..errors import ConnectionLost, InstrumentError
from ..protocols import Capability, Clock, Microscope
from .state import OpticalState, restore_steps

_log = logging.getLogger(__name__)

RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)
STILL_S = 5.0


class NotMadeSafe(InstrumentError):
    """Some step of making the instrument safe failed: a person must look."""


def make_safe(
    microscope: Microscope, clock: Clock, found: Sequence[OpticalState], patience_s: float = 60.0
) -> tuple[str, ...]:
    """Stop the stage, blank the beam, restore the settings found, release the instrument.

    Parameters
    ----------
    found : settings of each mode that was visited, that of the mode found first at the start.
    patience_s : how long a lost connection is waited for, in all.

    Returns
    -------
    What failed, one text for all steps that failed alike; empty when the instrument is safe and
    as it was found.
    """
    able = microscope.capabilities
    failures: dict[str, list[str]] = {}
    deadline = clock.now() + patience_s

    def failed(name: str, error: Exception) -> None:
        failures.setdefault(str(error), []).append(name)

    def attempt(name: str, step: Callable[[], None]) -> None:
        for wait_s in (*RETRY_S, *([RETRY_S[-1]] * 1000)):
            try:
                return step()
            except ConnectionLost as error:
                if clock.now() + wait_s > deadline:
                    return failed(name, error)
                clock.sleep(wait_s)
            except Exception as error:
                _log.debug("%s failed", name, exc_info=True)
                return failed(name, error)

    if Capability.STAGE_STOP in able:
        attempt("stop the stage", lambda: _stop(microscope, clock))
    if Capability.BEAM_BLANK in able:
        attempt("blank the beam", lambda: _blank(microscope))
    elif Capability.SCREEN in able:
        attempt("lower the screen", lambda: microscope.set_screen(down=True))
    for state in reversed(found):  # the mode found first is restored last
        try:
            steps = restore_steps(microscope, state)
        except Exception as error:
            failed(f"settings of {state.mode}", error)
            continue
        for name, step in steps:
            attempt(f"restore {name} ({state.mode})", step)
    attempt("release the instrument", microscope.release)
    return tuple(f"{', '.join(names)}: {error}" for error, names in failures.items())


def _stop(microscope: Microscope, clock: Clock) -> None:
    stage = microscope.stage
    stage.stop()
    asked = clock.now()
    while stage.is_moving():
        if clock.now() - asked > STILL_S:
            raise InstrumentError(
                "stage", f"moving {STILL_S:g} s after a stop", "rest", "stop it by hand"
            )
        clock.sleep(0.1)
        stage.stop()


def _blank(microscope: Microscope) -> None:
    microscope.blank()
    if not microscope.is_blanked():
        raise InstrumentError("beam", "not blanked after blanking", "a blank beam", "blank by hand")
