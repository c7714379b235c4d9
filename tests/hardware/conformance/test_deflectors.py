"""What `protocols.Deflector` promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

import pytest

from ewaldflow.hardware.errors import LimitExceeded
from ewaldflow.hardware.protocols import Capability, Deflector, DeflectorName, Microscope

NAMES = get_args(DeflectorName)


@pytest.fixture
def deflectors(microscope: Microscope) -> Iterator[Mapping[DeflectorName, Deflector]]:
    """Those that the instrument has, set back afterwards."""
    before = {name: one.get() for name, one in microscope.deflectors.items()}
    yield microscope.deflectors
    for name, xy in before.items():
        microscope.deflectors[name].set(xy)


def test_the_mapping_holds_those_of_the_capabilities(microscope: Microscope) -> None:
    assert isinstance(microscope.deflectors, Mapping)
    stated = {name for name in NAMES if Capability(name) in microscope.capabilities}
    assert set(microscope.deflectors) == stated


def test_units_limits_and_step(deflectors: Mapping[DeflectorName, Deflector]) -> None:
    for deflector in deflectors.values():
        assert isinstance(deflector, Deflector)
        assert deflector.unit in ("nm", "mrad")
        low, high = deflector.limits
        assert low < high
        assert 0 < deflector.step <= (high - low) / 100
        for value in deflector.get():
            assert low - deflector.step / 2 <= value <= high + deflector.step / 2


def test_what_is_set_is_what_is_got(deflectors: Mapping[DeflectorName, Deflector]) -> None:
    for deflector in deflectors.values():
        x, y = deflector.get()
        for i, j in ((7, -3), (-40, 11), (0, 0)):
            wanted = (x + i * deflector.step, y + j * deflector.step)
            deflector.set(wanted)
            assert deflector.get() == pytest.approx(wanted, abs=0.51 * deflector.step)


def test_values_go_to_the_nearest_step(deflectors: Mapping[DeflectorName, Deflector]) -> None:
    for deflector in deflectors.values():
        deflector.set(deflector.get())
        x, y = deflector.get()
        deflector.set((x + 0.3 * deflector.step, y - 0.3 * deflector.step))
        assert deflector.get() == pytest.approx((x, y), abs=1e-3 * deflector.step)
        deflector.set((x + 1.3 * deflector.step, y - 0.8 * deflector.step))
        expected = (x + deflector.step, y - deflector.step)
        assert deflector.get() == pytest.approx(expected, abs=1e-3 * deflector.step)


def test_what_was_got_can_be_set_without_creep(
    deflectors: Mapping[DeflectorName, Deflector],
) -> None:
    for deflector in deflectors.values():
        deflector.set(deflector.get())
        first = deflector.get()
        for _ in range(5):
            deflector.set(deflector.get())
        assert deflector.get() == first


@pytest.mark.usefixtures("harmless")
def test_both_limits_can_be_reached(deflectors: Mapping[DeflectorName, Deflector]) -> None:
    for deflector in deflectors.values():
        for limit in deflector.limits:
            deflector.set((limit, limit))
            assert deflector.get() == pytest.approx((limit, limit), abs=0.51 * deflector.step)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("end", [0, 1])
def test_nothing_is_set_outside_the_limits(
    deflectors: Mapping[DeflectorName, Deflector], axis: int, end: int
) -> None:
    for deflector in deflectors.values():
        before = deflector.get()
        wanted = [before[0] + deflector.step, before[1] + deflector.step]
        wanted[axis] = deflector.limits[end] + (2 * end - 1) * 2 * deflector.step
        with pytest.raises(LimitExceeded) as failed:
            deflector.set((wanted[0], wanted[1]))
        assert "\n" not in str(failed.value)
        assert deflector.get() == before


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_no_number_that_is_none(
    deflectors: Mapping[DeflectorName, Deflector], wrong: float
) -> None:
    for deflector in deflectors.values():
        before = deflector.get()
        with pytest.raises(LimitExceeded):
            deflector.set((before[0], wrong))
        assert deflector.get() == before


def test_deflectors_do_not_set_each_other(microscope: Microscope) -> None:
    before = {name: one.get() for name, one in microscope.deflectors.items()}
    for i, (name, one) in enumerate(microscope.deflectors.items()):
        one.set((before[name][0] + (i + 2) * one.step, before[name][1] - (i + 3) * one.step))
    for i, (name, one) in enumerate(microscope.deflectors.items()):
        expected = (before[name][0] + (i + 2) * one.step, before[name][1] - (i + 3) * one.step)
        assert one.get() == pytest.approx(expected, abs=0.51 * one.step), name
        one.set(before[name])
