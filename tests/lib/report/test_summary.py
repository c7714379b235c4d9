from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.reduction.result import Flag, Reduction, Reflections
from ewaldflow.lib.report.summary import (
    headline,
    resolution_limit_A,
    resolution_shells,
    strongest_first,
    usable,
)


def _reflections(d: np.ndarray, ratio: np.ndarray, flags: int = 0) -> Reflections:
    n, ones = len(d), np.ones(len(d))
    return Reflections(
        hkl=np.ones((n, 3), np.int32),
        intensity_sum=ratio, sigma_sum=ones, intensity=ratio, sigma=ones, background=ones,
        frame=ones, angle_deg=ones, row=ones, column=ones, observed_row=ones,
        observed_column=ones, partiality=ones, lorentz=ones, d_A=d,
        flags=np.full(n, flags, np.uint32),
    )  # fmt: skip


def test_shells_hold_equal_volumes_and_every_reflection() -> None:
    # even in reciprocal volume: 1/d^3 from 1 to 2, so every shell must hold the same
    d = np.linspace(1, 2, 1200, endpoint=False) ** (-1 / 3)
    shells = resolution_shells(_reflections(d, np.full(1200, 7.0)), n=12)
    assert shells.count.tolist() == [100] * 12
    np.testing.assert_allclose(shells.i_over_sigma, 7.0)
    np.testing.assert_allclose(np.diff(shells.d_min_A**-3), np.diff(shells.d_min_A**-3)[0])
    assert np.all(shells.d_max_A > shells.d_min_A)


def test_resolution_is_where_the_mean_falls_through_one() -> None:
    x = np.linspace(0.04, 1.0, 20000)  # 1/d^2
    # I/sigma falls linearly in 1/d^2 through 1 at 0.64, d = 1.25
    found = resolution_limit_A(_reflections(x**-0.5, 1 + 10 * (0.64 - x)))
    assert found == pytest.approx(1.25, abs=0.01)


def test_resolution_at_the_ends() -> None:
    d = np.linspace(0.8, 5, 500)
    assert resolution_limit_A(_reflections(d, np.full(500, 3.0))) == pytest.approx(0.8)
    assert np.isnan(resolution_limit_A(_reflections(d, np.full(500, 0.2))))
    assert np.isnan(resolution_limit_A(_reflections(d[:0], d[:0])))


@pytest.mark.parametrize("flag", [Flag.MASKED, Flag.EDGE, Flag.PROFILE_FAILED, Flag.OUTLIER])
def test_doubtful_reflections_do_not_count(flag: Flag) -> None:
    d = np.array([1.0, 2.0])
    assert not usable(_reflections(d, d, int(flag))).any()
    assert usable(_reflections(d, d, int(Flag.SATURATED | Flag.PARTIAL))).all()


def test_headline_of_a_reduction(reduction: Reduction) -> None:
    head = headline(reduction)
    frames = reduction.frames
    assert head.lattice == "orthorhombic P"
    assert head.indexed_percent == 100 * frames.n_indexed.sum() / frames.n_spots.sum() < 100
    assert head.reflections == len(reduction.lattices[0].reflections)
    assert 0.75 < head.resolution_A < 1.0


def test_headline_without_a_lattice(reduction: Reduction) -> None:
    head = headline(replace(reduction, lattices=()))
    assert (head.lattice, head.n_lattices, head.reflections) == ("none", 0, 0)
    assert np.isnan(head.indexed_percent)


def test_strongest_come_first_and_were_seen(reduction: Reduction) -> None:
    lattice = reduction.lattices[0]
    chosen = strongest_first(lattice, at_least=5)
    r = lattice.reflections[chosen]
    ratio = r.intensity / r.sigma
    assert len(chosen) > 1000
    assert ratio.min() >= 5
    assert np.all(np.diff(ratio) <= 0)
    assert np.isfinite(r.observed_row).all()
