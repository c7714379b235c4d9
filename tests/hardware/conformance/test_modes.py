"""Mode, magnification and camera length of `protocols.Microscope`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ewaldflow.hardware.errors import LimitExceeded, Unsupported
from ewaldflow.hardware.protocols import Capability, Microscope


@pytest.fixture
def switching(microscope: Microscope) -> Iterator[Microscope]:
    """A microscope that switches modes, set back afterwards."""
    before = microscope.mode()
    if Capability.MODE_SWITCH not in microscope.capabilities:
        with pytest.raises(Unsupported):
            microscope.set_mode("diffraction" if before == "imaging" else "imaging")
        pytest.skip("no mode switch")
    yield microscope
    microscope.set_mode(before)


def test_it_is_a_microscope(microscope: Microscope) -> None:
    assert isinstance(microscope, Microscope)
    assert microscope.name
    assert isinstance(microscope.capabilities, frozenset)
    assert all(isinstance(one, Capability) for one in microscope.capabilities)


def test_modes_switch(switching: Microscope) -> None:
    for mode in ("diffraction", "imaging", "diffraction", "diffraction", "imaging"):
        switching.set_mode(mode)
        assert switching.mode() == mode


def test_no_mode_but_the_two(switching: Microscope) -> None:
    switching.set_mode("imaging")
    with pytest.raises(LimitExceeded):
        switching.set_mode("spectroscopy")  # type: ignore[arg-type]
    assert switching.mode() == "imaging"


def test_magnification(switching: Microscope) -> None:
    switching.set_mode("imaging")
    shown = switching.magnification()
    assert isinstance(shown, int)
    assert shown > 0
    switching.set_magnification(shown)
    assert switching.magnification() == shown
    with pytest.raises(LimitExceeded) as failed:
        switching.set_magnification(shown + 1)
    assert "\n" not in str(failed.value)
    assert switching.magnification() == shown


def test_camera_length(switching: Microscope) -> None:
    switching.set_mode("diffraction")
    shown = switching.camera_length_mm()
    assert shown > 0
    switching.set_camera_length_mm(shown)
    assert switching.camera_length_mm() == pytest.approx(shown)
    with pytest.raises(LimitExceeded) as failed:
        switching.set_camera_length_mm(shown + 0.123)
    assert "\n" not in str(failed.value)
    assert switching.camera_length_mm() == pytest.approx(shown)


def test_each_mode_keeps_its_own(switching: Microscope) -> None:
    switching.set_mode("imaging")
    magnification = switching.magnification()
    switching.set_mode("diffraction")
    length = switching.camera_length_mm()
    switching.set_mode("imaging")
    assert switching.magnification() == magnification
    switching.set_mode("diffraction")
    assert switching.camera_length_mm() == pytest.approx(length)
