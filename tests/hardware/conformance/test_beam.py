"""Beam blank, screen and release of `protocols.Microscope`, and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ewaldflow.hardware.errors import Unsupported
from ewaldflow.hardware.protocols import Capability, Clock, Microscope


@pytest.fixture
def blanking(microscope: Microscope) -> Iterator[Microscope]:
    """A microscope that blanks its beam, left as found."""
    if Capability.BEAM_BLANK not in microscope.capabilities:
        with pytest.raises(Unsupported):
            microscope.blank()
        pytest.skip("no beam blank")
    before = microscope.is_blanked()
    yield microscope
    (microscope.blank if before else microscope.unblank)()


def test_blank_and_unblank(blanking: Microscope) -> None:
    for _ in range(2):
        blanking.blank()
        assert blanking.is_blanked() is True
        blanking.blank()
        assert blanking.is_blanked() is True
        blanking.unblank()
        assert blanking.is_blanked() is False
        blanking.unblank()
        assert blanking.is_blanked() is False


def test_screen(microscope: Microscope) -> None:
    if Capability.SCREEN not in microscope.capabilities:
        with pytest.raises(Unsupported):
            microscope.set_screen(down=False)
        return
    before = microscope.screen_is_down()
    for down in (not before, before, before):
        microscope.set_screen(down=down)
        assert microscope.screen_is_down() is down


def test_the_clock_never_goes_back(microscope: Microscope, clock: Clock) -> None:
    times = [clock.now()]
    for _ in range(3):
        microscope.mode()
        times.append(clock.now())
        clock.sleep(0.05)
        times.append(clock.now())
    assert times == sorted(times)
    assert times[-1] - times[0] >= 3 * 0.05
    clock.sleep(0.0)
    clock.sleep(-1.0)
    assert clock.now() >= times[-1]


def test_a_second_release_does_nothing(opened_anew: Any) -> None:
    microscope, camera, _ = opened_anew
    for part in (camera, microscope):
        if part is not None:
            part.release()
            part.release()
