"""Height from a swing: the fit recovers it with honest errors; both methods bring it to zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.serialred.height import (
    Done,
    EmpiricalHeight,
    FittedHeight,
    GaveUp,
    MoveZ,
    Seen,
    Tilt,
    across_um,
    fit_swing,
)


def swing(alpha_deg, height: float, beside: float = 0.0):
    alpha = np.deg2rad(alpha_deg)
    return beside * np.cos(alpha) - height * np.sin(alpha)


def test_swing_by_hand() -> None:
    # 30 degrees: a point 2 um up moves by -2 sin(30) = -1; one 2 um beside by 2 (cos(30) - 1)
    assert swing([0.0, 30.0], 2.0) == pytest.approx([0, -1])
    fit = fit_swing([0, 30, -30], [0, -1, 1])
    assert fit.height_um == pytest.approx(2.0, abs=1e-3)


def test_sign_is_that_of_the_house() -> None:
    """Axis along stage x, y across it, z along the beam; rotation right-handed."""
    axis = np.array([-0.6204, 0.7843, 0.0])
    axis /= np.linalg.norm(axis)
    across = np.cross([0, 0, 1], axis)
    point = 0.7 * axis + 1.3 * across + 2.5 * np.array([0, 0, 1])
    alpha = np.array([-20.0, -5.0, 10.0, 25.0])
    seen = rotation_about(axis, alpha) @ point @ across
    fit = fit_swing(alpha, seen, 1e-4)
    assert (fit.height_um, fit.across_um) == pytest.approx((2.5, 1.3), abs=1e-3)


def test_across_is_the_stages_y() -> None:
    # rows along y upwards, columns along x, 50 px per um: 25 rows up are 0.5 um along -y
    assert across_um([25.0, 7.0], [[0, -50], [50, 0]]) == pytest.approx(-0.5)


@settings(max_examples=60, deadline=None)
@given(
    height=st.floats(-20, 20),
    beside=st.floats(-3, 3),
    offset=st.floats(-5, 5),
    alphas=st.lists(st.floats(-60, 60), min_size=5, max_size=12, unique=True),
)
def test_exact_points_give_the_exact_height(height, beside, offset, alphas) -> None:
    if np.ptp(alphas) < 10:
        return
    fit = fit_swing(alphas, swing(alphas, height, beside) + offset, 1e-3)
    assert fit.problem == ""
    assert abs(fit.height_um - height) < max(0.02, 4 * fit.esd_um)


def test_errors_are_honest() -> None:
    rng = np.random.default_rng(1)
    alphas = np.arange(0, 16, 2.0)  # one side only: hard
    pulls = []
    for _ in range(300):
        beside = rng.normal(scale=2)
        y = swing(alphas, 3.0, beside) + rng.normal(scale=0.01, size=len(alphas))
        fit = fit_swing(alphas, y, 0.01, beside_um=2.0)
        pulls.append((fit.height_um - 3.0) / fit.esd_um)
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.15


@pytest.mark.parametrize("lost", range(7))
def test_a_lost_point_does_not_matter(lost: int) -> None:
    alphas = np.array([-9.0, -6, -3, 0, 3, 6, 9])
    y = swing(alphas, 4.0, 1.0) + np.random.default_rng(lost).normal(scale=0.005, size=7)
    y[lost] += 1.7
    fit = fit_swing(alphas, y, 0.005)
    assert not fit.used[lost]
    assert fit.used.sum() == 6
    assert fit.height_um == pytest.approx(4.0, abs=4 * fit.esd_um)
    y[lost] = np.nan
    assert fit_swing(alphas, y, 0.005).height_um == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("alphas", "y", "words"),
    [
        ([0, 5], [0, 1], "seen at 2 tilts"),
        ([0, 0.5, 1.0, 1.5], [0, 1, 2, 3], "tilted by 1.5 degrees"),
        ([-9, -6, -3, 0, 3, 6, 9], [0, 3, -4, 9, -7, 2, -5], "no swing|off any swing"),
    ],
)
def test_it_says_when_it_cannot_tell(alphas, y, words) -> None:
    fit = fit_swing(alphas, y)
    assert fit.height_um != fit.height_um
    assert fit.esd_um == np.inf
    assert any(one in fit.problem for one in words.split("|")), fit.problem


class Goniometer:
    """A particle on a stage; z moves it by `sense`, beneath the tilt."""

    def __init__(self, height: float, *, beside=0.5, sense=1, noise=0.005, seed=0, lost=()) -> None:
        self.height, self.beside, self.sense = height, beside, sense
        self.noise, self.lost = noise, set(lost)
        self.rng = np.random.default_rng(seed)
        self.zero, self.moved, self.pictures = 0.0, 0.0, 0

    def run(self, way, alpha_deg: float = 0.0):
        state, action = way.begin(alpha_deg)
        for _ in range(300):
            if isinstance(action, Done | GaveUp):
                assert action.moved_um == pytest.approx(self.moved)
                return action
            seen = None
            if isinstance(action, MoveZ):
                self.height += self.sense * action.by_um
                self.moved += action.by_um
            else:
                seen = self.look(action)
            state, action = way.step(state, seen)
        raise AssertionError("it does not end")

    def look(self, tilt: Tilt) -> Seen:
        self.pictures += 1
        place = float(swing(tilt.alpha_deg, self.height, self.beside))
        if tilt.reference:
            self.zero = place
            return Seen(tilt.alpha_deg, 0.0, self.noise)
        if self.pictures in self.lost:
            return Seen(tilt.alpha_deg, None)
        return Seen(
            tilt.alpha_deg, place - self.zero + self.rng.normal(scale=self.noise), self.noise
        )


@pytest.mark.parametrize("height", [-8.0, -1.6, 0.1, 3.3, 12.0])
@pytest.mark.parametrize("alpha", [0.0, -30.0])
def test_fitted_height_reaches_zero(height: float, alpha: float) -> None:
    stage = Goniometer(height)
    done = stage.run(FittedHeight(), alpha)
    assert isinstance(done, Done)
    assert abs(stage.height) < 0.3
    assert abs(done.left_um - stage.height) < max(4 * done.esd_um, 0.05)


def test_fitted_height_learns_what_z_does() -> None:
    stage = Goniometer(4.0, sense=-1)
    done = stage.run(FittedHeight())
    assert isinstance(done, Done)
    assert done.sense == -1
    assert abs(stage.height) < 0.3
    # told so from the start it needs a swing less
    other = Goniometer(4.0, sense=-1)
    assert isinstance(other.run(FittedHeight(sense=-1)), Done)
    assert other.pictures < stage.pictures


def test_fitted_height_lives_with_a_lost_picture() -> None:
    stage = Goniometer(4.0, lost=(3, 10))
    assert isinstance(stage.run(FittedHeight()), Done)
    assert abs(stage.height) < 0.3


def test_fitted_height_gives_up_with_the_reason() -> None:
    stage = Goniometer(4.0, lost=range(2, 7))
    gave_up = stage.run(FittedHeight())
    assert gave_up == GaveUp("height: seen at 2 tilts, at least 3 are needed", 0.0)
    noisy = Goniometer(0.3, noise=0.4).run(FittedHeight(aim_um=0.05))
    assert isinstance(noisy, GaveUp)
    assert "e.s.d." in noisy.why


@pytest.mark.parametrize("height", [-3.5, -1.6, 0.1, 2.7])
def test_empirical_height_comes_near(height: float) -> None:
    stage = Goniometer(height)
    done = stage.run(EmpiricalHeight())
    assert isinstance(done, Done)
    assert abs(stage.height) <= 1.2
    assert abs(stage.height) < max(abs(height), 1.0)


def test_empirical_height_step_by_step() -> None:
    """2 um up: 2 (sin 2) = 0.07 um in the first 2 degrees asks for a step down of 1 um."""
    way = EmpiricalHeight(tolerance_um=0.06)
    state, action = way.begin(0.0)
    assert action == Tilt(0.0, reference=True)
    state, action = way.step(state, Seen(0.0, 0.0))
    assert action == Tilt(2.0)
    state, action = way.step(state, Seen(2.0, -2 * np.sin(np.deg2rad(2))))
    assert action == MoveZ(-1.0)
    state, action = way.step(state, None)
    assert action == Tilt(2.0, reference=True)
    state, action = way.step(state, Seen(2.0, 0.0))
    for alpha in (4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 15.0):
        assert action == Tilt(alpha)
        state, action = way.step(state, Seen(alpha, 0.0))
    assert action == Done(-1.0)


def test_empirical_height_turns_either_way_and_gives_up() -> None:
    assert isinstance(Goniometer(2.0).run(EmpiricalHeight(range_deg=-15)), Done)
    lost = Goniometer(2.0, lost=range(4, 9)).run(EmpiricalHeight())
    assert isinstance(lost, GaveUp)
    assert "particle lost" in lost.why
    wrong = Goniometer(5.0, sense=-1).run(EmpiricalHeight(most_moves=4))
    assert isinstance(wrong, GaveUp)
    assert "4 steps" in wrong.why
