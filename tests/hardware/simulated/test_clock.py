from __future__ import annotations

import time

import pytest

from ewaldflow.hardware.simulated.clock import ScaledClock, SimulatedClock


def test_a_simulated_night_takes_no_time() -> None:
    clock, began = SimulatedClock(), time.perf_counter()
    for _ in range(8):
        clock.sleep(3600.0)
    assert clock.now() == 8 * 3600.0
    assert time.perf_counter() - began < 1.0


def test_it_never_goes_back() -> None:
    clock = SimulatedClock(5.0)
    clock.sleep(-3.0)
    clock.sleep(0.0)
    assert clock.now() == 5.0


def test_a_scaled_clock_follows_the_wall() -> None:
    began = time.monotonic()
    clock = ScaledClock(50.0)
    clock.sleep(2.0)  # 40 ms
    assert time.monotonic() - began >= 0.04
    assert clock.now() >= 2.0
    assert clock.now() <= 50 * (time.monotonic() - began)
    with pytest.raises(ValueError, match="more than 0"):
        ScaledClock(0.0)
