"""Halves of the reflections, and what their difference says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.orientation.half_sets import error_factor, halves


@given(st.integers(0, 10_000))
def test_friedel_mates_stay_together(seed: int) -> None:
    hkl = np.random.default_rng(seed).integers(-5, 6, (200, 3)).astype(np.int32)
    both = halves(np.vstack([hkl, -hkl]), seed)
    assert (both[:200] == both[200:]).all()
    assert 0.3 < both.mean() < 0.7


def test_halves_are_drawn_anew_by_seed() -> None:
    hkl = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3).astype(np.int32)
    assert (halves(hkl, 1) == halves(hkl, 1)).all()
    assert (halves(hkl, 1) != halves(hkl, 2)).any()
    assert len(halves(np.zeros((0, 3), np.int32))) == 0


def test_factor_is_actual_over_expected() -> None:
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.5, 2, (20_000, 2))
    difference = rng.normal(size=(20_000, 2)) * np.sqrt(2 * variance) * [1.0, 3.0]
    factor = error_factor(difference, variance, variance, 100.0)
    assert factor == pytest.approx([1.0, 3.0], rel=0.03)


def test_frames_held_by_the_prior_say_nothing() -> None:
    variance = np.full((50, 1), 0.9)
    assert error_factor(np.full((50, 1), 9.0), variance, variance, 1.0) == pytest.approx([1.0])
