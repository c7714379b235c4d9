"""What `protocols.Lens` promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

import pytest

from ewaldflow.hardware.errors import LimitExceeded
from ewaldflow.hardware.protocols import Capability, Lens, LensName, Microscope

NAMES = get_args(LensName)
UNITS = {"brightness": "fraction", "diffraction_focus": "um"}


@pytest.fixture
def lenses(microscope: Microscope) -> Iterator[Mapping[LensName, Lens]]:
    """Those that the instrument has, in diffraction mode, set back afterwards."""
    mode = microscope.mode()
    if Capability.MODE_SWITCH in microscope.capabilities:
        microscope.set_mode("diffraction")
    before = {name: one.get() for name, one in microscope.lenses.items()}
    yield microscope.lenses
    for name, value in before.items():
        microscope.lenses[name].set(value)
    if Capability.MODE_SWITCH in microscope.capabilities:
        microscope.set_mode(mode)


def test_the_mapping_holds_those_of_the_capabilities(microscope: Microscope) -> None:
    assert isinstance(microscope.lenses, Mapping)
    stated = {name for name in NAMES if Capability(name) in microscope.capabilities}
    assert set(microscope.lenses) == stated
    for name, one in microscope.lenses.items():
        assert isinstance(one, Lens)
        assert one.unit == UNITS[name]


def test_limits_and_step(lenses: Mapping[LensName, Lens]) -> None:
    for lens in lenses.values():
        low, high = lens.limits
        assert low < high
        assert 0 < lens.step <= (high - low) / 100
        assert low - lens.step / 2 <= lens.get() <= high + lens.step / 2
        if lens.unit == "fraction":
            assert (low, high) == pytest.approx((0.0, 1.0), abs=lens.step)


def test_what_is_set_is_what_is_got(lenses: Mapping[LensName, Lens]) -> None:
    for lens in lenses.values():
        low, high = lens.limits
        for part in (0.4, 0.55, 0.7):
            lens.set(low + part * (high - low))
            assert lens.get() == pytest.approx(low + part * (high - low), abs=0.51 * lens.step)


def test_values_go_to_the_nearest_step(lenses: Mapping[LensName, Lens]) -> None:
    for lens in lenses.values():
        low, high = lens.limits
        lens.set(low + 0.5 * (high - low))
        value = lens.get()
        lens.set(value + 0.3 * lens.step)
        assert lens.get() == pytest.approx(value, abs=1e-3 * lens.step)
        lens.set(value + 0.8 * lens.step)
        assert lens.get() == pytest.approx(value + lens.step, abs=1e-3 * lens.step)


@pytest.mark.parametrize("end", [0, 1])
def test_nothing_is_set_outside_the_limits(lenses: Mapping[LensName, Lens], end: int) -> None:
    for lens in lenses.values():
        before = lens.get()
        with pytest.raises(LimitExceeded) as failed:
            lens.set(lens.limits[end] + (2 * end - 1) * 2 * lens.step)
        assert "\n" not in str(failed.value)
        with pytest.raises(LimitExceeded):
            lens.set(float("nan"))
        assert lens.get() == before
