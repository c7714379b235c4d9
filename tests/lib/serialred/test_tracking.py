"""Trackers on swings that are known, jumps, and the pace at which the crystal is looked at."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.serialred.disc import Disc
from ewaldflow.lib.serialred.settings import RobustSettings, RotationSettings, SwingSettings
from ewaldflow.lib.serialred.shadow import Sighting
from ewaldflow.lib.serialred.tracking import (
    Observation,
    Pace,
    Plain,
    Predictive,
    Still,
    Verdict,
    new_tracker,
    search_places,
    specimen_um_per_unit,
)

SWING = SwingSettings()


def swing(alpha_deg, height_um=4.0, away_um=1.5):
    """(along, across): a crystal above and beside the tilt axis."""
    alpha = np.deg2rad(alpha_deg)
    across = -height_um * np.sin(alpha) + away_um * np.cos(alpha)
    return np.array([0.02 * alpha_deg, across])


def follow(tracker, path, alphas, sigma_um=0.01, seed=0):
    """Errors of the predictions, um, observing as a session does: the beam where predicted."""
    rng, errors = np.random.default_rng(seed), []
    for alpha in alphas:
        beam = tracker.beam_um(alpha)
        errors.append(float(np.hypot(*(path(alpha) - beam))))
        offset = path(alpha) - beam + sigma_um * rng.normal(size=2)
        tracker, verdict = tracker.observed(Observation(alpha, beam, offset, sigma_um))
        assert verdict.accepted
    return np.array(errors), tracker


def test_which_tracker_is_which():
    for name, kind in (("none", Still), ("plain", Plain), ("predictive", Predictive)):
        tracker = new_tracker(RotationSettings(tracking=name), -50.0)
        assert isinstance(tracker, kind)
        assert tracker.name == name
        assert tracker.beam_um(-50.0) == pytest.approx([0, 0])


def test_without_tracking_the_beam_stays():
    tracker, verdict = Still().observed(Observation(3.0, np.zeros(2), np.array([0.3, 0.4]), 0.01))
    assert tracker.beam_um(10.0) == pytest.approx([0, 0])
    assert verdict.innovation_um == pytest.approx(0.5)


def test_the_thesis_goes_where_the_crystal_was_last_seen():
    tracker = Plain(np.zeros(2))
    after, _ = tracker.observed(Observation(3.0, np.array([1.0, 0.0]), np.array([0.2, -0.1]), 0.01))
    assert after.beam_um(40.0) == pytest.approx([1.2, -0.1])
    assert tracker.beam_um(40.0) == pytest.approx([0, 0])  # a value: the old one is as it was


@pytest.mark.parametrize("direction", [1, -1])
def test_a_pure_swing_is_learned_and_foretold(direction):
    alphas = direction * np.arange(-50.0, 50.1, 2.5)
    start = swing(alphas[0])
    ours, tracker = follow(Predictive.at(alphas[0], SWING), lambda a: swing(a) - start, alphas)
    plain, _ = follow(Plain(np.zeros(2)), lambda a: swing(a) - start, alphas)
    assert ours[4:].max() < 0.1
    assert plain[4:].max() > 0.12
    # far ahead it is less sure, but still right within what it says
    ahead = tracker.beam_um(alphas[-1] + direction * 10)
    wrong = np.hypot(*(ahead - swing(alphas[-1] + direction * 10) + start))
    assert wrong < 3 * tracker.sigma_um(alphas[-1] + direction * 10)


def test_the_spread_it_states_is_the_spread_it_has():
    # over many swings as it expects them, 2.5 degrees apart
    rng = np.random.default_rng(1)
    alphas, ratios = np.arange(-50.0, 50.0, 2.5), []
    for _ in range(60):
        h, d = rng.normal(scale=SWING.across_um, size=2)
        a, b = rng.normal(scale=SWING.along_um, size=2)
        bearing = _matern(rng, alphas)
        path = {
            alpha: np.array([a * math.sin(math.radians(alpha)) + b * math.cos(math.radians(alpha)),
                             h * math.sin(math.radians(alpha)) + d * math.cos(math.radians(alpha))])
            + bearing[i] for i, alpha in enumerate(alphas)
        }  # fmt: skip
        tracker = Predictive.at(alphas[0], SWING.model_copy(update={"gate_sigmas": 99.0}))
        for alpha in alphas:
            beam = tracker.beam_um(alpha)
            seen = Observation(
                alpha, beam, path[alpha] - path[alphas[0]] - beam + 0.01 * rng.normal(size=2), 0.01
            )
            tracker, verdict = tracker.observed(seen)
            ratios.append(verdict.sigmas**2)
    # two components: the mean of the squared distance is 2
    assert np.mean(ratios) == pytest.approx(2.0, rel=0.15)


def _matern(rng, alphas):
    """(n, 2) of a Matern process of order 5/2."""
    x = math.sqrt(5) * np.abs(alphas[:, None] - alphas) / SWING.wander_length_deg
    covariance = SWING.wander_um**2 * (1 + x + x * x / 3) * np.exp(-x)
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(alphas)))
    return root @ rng.normal(size=(len(alphas), 2))


def test_a_jump_counts_when_it_repeats_and_a_blunder_does_not():
    alphas = np.arange(-50.0, -20.0, 2.0)
    start = swing(alphas[0])
    _, tracker = follow(Predictive.at(alphas[0], SWING), lambda a: swing(a) - start, alphas)
    jump = np.array([1.5, -2.0])

    def look(tracker, alpha, extra):
        beam = tracker.beam_um(alpha)
        offset = swing(alpha) - start + extra - beam
        return tracker.observed(Observation(alpha, beam, offset, 0.01))

    expected = tracker.beam_um(-20.0)
    blunder, verdict = look(tracker, -20.0, jump)
    assert not verdict.accepted
    assert verdict.innovation_um == pytest.approx(2.5, abs=0.1)
    assert blunder.beam_um(-20.0) == pytest.approx(expected)
    # not repeated: forgotten
    after, verdict = look(blunder, -19.5, np.zeros(2))
    assert verdict.accepted
    assert after.suspect is None
    # repeated: the crystal is there
    after, verdict = look(blunder, -19.5, jump)
    assert verdict.accepted
    assert verdict.note == "a jump, confirmed"
    assert after.beam_um(-19.0) == pytest.approx(swing(-19.0) - start + jump, abs=0.15)


def test_specimen_from_calibrations_by_hand():
    # the stage moves the picture by 80 px per um, rows along x; beam shift by 0.08 px per nm,
    # rows along its y: 1000 nm of y are 1 um along the axis
    stage = np.array([[80.0, 0.0], [0.0, 80.0]])
    beam = np.array([[0.0, 0.08], [0.08, 0.0]])
    assert specimen_um_per_unit(stage, beam) @ [0, 1000] == pytest.approx([1.0, 0.0])


def test_a_search_covers_what_is_around_and_begins_where_it_went():
    places = search_places(0.5, np.array([0.0, -2.0]))
    assert places[0] == pytest.approx([0.0, -0.65])
    assert np.hypot(*places.T) == pytest.approx(0.65)
    rng = np.random.default_rng(0)
    anywhere = rng.uniform(-1, 1, (2000, 2))
    anywhere = anywhere[np.hypot(*anywhere.T) < 1.0]
    centres = np.vstack([np.zeros(2), places])
    away = np.linalg.norm(anywhere[:, None] - centres, axis=2).min(axis=1)
    assert away.max() < 0.56  # the crystal's centre is in one of the discs, or its edge is


# --- pace ---------------------------------------------------------------------------------

DISC = Disc(np.zeros(2), 70.0, np.zeros(2), 20.0, 0.2, 0.1)
SEEN = Sighting(DISC, np.zeros(2), 1.0, 1.0, 40.0, 15.0, None)
TAKEN = Verdict(True, 0.01, 0.5, "taken")


def test_a_series_begins_robust_and_calms_down():
    pace = Pace(10, RobustSettings(), 40.0, 15.0)
    assert pace.every == 2
    pace = pace.after(SEEN, TAKEN)
    assert pace.every == 2
    pace = pace.after(SEEN, TAKEN)
    assert pace.every == 10


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"variance": 81.0}, TAKEN, "variance 2.02 of the reference"),
        ({"variance": 19.0}, TAKEN, "variance 0.47"),
        ({"mean": 12.0}, TAKEN, "mean 0.80"),
        ({"confidence": 0.4}, TAKEN, "confidence 0.40 below 0.5"),
        ({"offset_px": np.full(2, np.nan)}, None, "the crystal was not seen"),
        ({}, Verdict(False, 1.2, 9.0, "outside the gate"), "1.20 um from the prediction"),
    ],
)
def test_what_makes_it_robust(changes, verdict, words):
    calm = Pace(10, RobustSettings(), 40.0, 15.0, robust=False)
    pace = calm.after(replace(SEEN, **changes), verdict)
    assert pace.every == 2
    assert words in pace.why


def test_after_ten_robust_images_the_present_one_is_the_reference():
    pace = Pace(10, RobustSettings(), 40.0, 15.0, robust=False)
    other = replace(SEEN, variance=100.0)
    for _ in range(10):
        pace = pace.after(other, TAKEN)
        assert pace.variance == 40.0
    pace = pace.after(other, TAKEN)
    assert pace.variance == 100.0
    assert pace.after(other, TAKEN).after(other, TAKEN).every == 10


def test_an_interval_of_zero_never_looks():
    assert Pace(0, RobustSettings(), 40.0, 15.0).every == 0
