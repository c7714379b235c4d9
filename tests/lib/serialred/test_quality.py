"""A still is judged as one lattice, several, or none; the score orders crystals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.reduction.spot_finding import Spots
from ewaldflow.lib.serialred.quality import (
    Quality,
    Snapshot,
    judge_snapshot,
    judge_spots,
    lattice_likeness,
    quality,
    rank,
)
from ewaldflow.lib.simulation import simulate_series
from ewaldflow.lib.simulation.conditions import Beam, Crystal, default_geometry, random_rotation
from ewaldflow.lib.simulation.structures import zeolite

GEOMETRY = default_geometry()


def still(shares: tuple[float, ...], seed: int, dose: float = 2e6) -> Snapshot:
    """A snapshot of crystals of these shares of the beam, each in its own orientation."""
    structure = zeolite("CHA")
    crystals = [
        Crystal(structure, random_rotation([seed, i]), share, thickness_A=600)
        for i, share in enumerate(shares)
    ]
    series, _ = simulate_series(
        crystals, geometry=GEOMETRY, n_frames=1, step_deg=0.02, seed=seed, d_min_A=1.2,
        beam=Beam(electrons_per_deg=dose / 0.02),
    )  # fmt: skip
    frame = np.asarray(series.frames[0])
    return judge_snapshot(frame, GEOMETRY, series.mask, saturation=11810)


def median(shares: tuple[float, ...]) -> float:
    return float(np.median([still(shares, seed).score for seed in range(3)]))


def test_one_crystal_several_and_none() -> None:
    one, two, many = median((1.0,)), median((0.5, 0.5)), median((0.2,) * 5)
    assert one > 0.8
    assert many < 0.1
    assert one > two > many
    assert median(()) == 0


def spots_at(row, column) -> Spots:
    n = len(row)
    ones, flags = np.ones(n), np.zeros(n, bool)
    whole = np.ones(n, np.int64)
    return Spots(
        row=np.asarray(row, float), column=np.asarray(column, float), frame=0 * ones,
        frame_spread=0 * ones, first=whole, last=whole, intensity=100 * ones, sigma=10 * ones,
        peak=20 * ones, n_pixels=9 * whole, saturated=flags, edge=flags,
    )  # fmt: skip


def zone(turn: float, offset: float = 0.0, noise: float = 0.2, half: int = 4) -> np.ndarray:
    """(n, 2) places about the beam of an oblique net of 25 and 31 px."""
    h, k = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1)
    c, s = np.cos(turn), np.sin(turn)
    net = np.array([[25.0, 8.0], [0.0, 31.0]])
    places = np.stack([h, k], 1) @ net @ np.array([[c, s], [-s, c]])
    jitter = np.random.default_rng(1).normal(scale=noise, size=places.shape)
    return np.array(GEOMETRY.beam_centre_px) + offset + places + jitter


def test_a_net_is_a_lattice_wherever_the_beam_is() -> None:
    for turn in (0.0, 0.4, 1.9):
        for offset in (0.0, 3.0):
            found = judge_spots(spots_at(*zone(turn, offset).T), GEOMETRY)
            assert found.lattice > 0.95
            assert found.score > 0.9


def test_two_nets_are_half_a_lattice() -> None:
    both = np.concatenate([zone(0.3), zone(1.0)])
    assert judge_spots(spots_at(*both.T), GEOMETRY).lattice < 0.7


def test_random_spots_are_no_lattice() -> None:
    rng = np.random.default_rng(4)
    scores = []
    for n in (6, 15, 60, 150):
        places = np.array(GEOMETRY.beam_centre_px) + rng.uniform(-200, 200, (n, 2))
        scores.append(judge_spots(spots_at(*places.T), GEOMETRY).score)
    assert scores[1] < 0.3
    assert max(scores[2:]) < 0.01
    assert scores[0] < 0.75  # few spots always fit some lattice: little is claimed


def test_few_spots_say_nothing() -> None:
    assert judge_spots(spots_at([], []), GEOMETRY) == Snapshot(0, np.inf, 0.0, 0.0, 0.0)
    assert judge_spots(spots_at([100.0, 300.0], [50.0, 70.0]), GEOMETRY).score == 0


unit = st.floats(0, 1)


@given(unit, unit, unit, unit, st.floats(0, 8), st.floats(0, 8))
def test_likeness_is_monotone(a, b, c, d, e, f) -> None:
    low = lattice_likeness(min(a, b), min(c, d), min(e, f))
    high = lattice_likeness(max(a, b), max(c, d), max(e, f))
    assert 0 <= low <= high <= 1


def test_score_by_hand() -> None:
    # at the usual distance and area both come to 1 - 1/e
    one = quality(1.0, 0.25)
    assert one.isolation == one.size == pytest.approx(0.632, abs=1e-3)
    assert one.score == pytest.approx(0.632, abs=1e-3)
    judged = quality(np.inf, 0.25, Snapshot(40, 0.9, 0.9, 3.0, 0.5))
    assert judged.score == pytest.approx(0.5 * np.sqrt(0.632), abs=1e-3)


@given(st.lists(st.tuples(unit, unit, unit), max_size=8))
def test_rank_is_best_first(parts) -> None:
    qualities = [Quality(*one) for one in parts]
    scores = [qualities[i].score for i in rank(qualities)]
    assert scores == sorted(scores, reverse=True)
    assert sorted(rank(qualities)) == list(range(len(parts)))
