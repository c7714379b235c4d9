from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ewaldflow.lib.phases.diagnosis import crystal_span, diagnose
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import FrameTable, Reduction
from ewaldflow.lib.simulation.session import session_plan, simulate_plan


def frame_table(n_spots, n_indexed=None, blank=(), step_deg=0.5):
    n_spots = np.asarray(n_spots)
    n = len(n_spots)
    zeros = np.zeros(n)
    mask = np.zeros(n, bool)
    mask[list(blank)] = True
    return FrameTable(
        frame_number=np.arange(1, n + 1), angle_deg=step_deg * np.arange(n), beam_row=zeros,
        beam_column=zeros, scale=zeros, profile_ratio=zeros, n_spots=n_spots,
        n_indexed=n_spots if n_indexed is None else np.asarray(n_indexed),
        background=zeros, blank=mask,
    )  # fmt: skip


def empty(frames):
    return Reduction("x", (), frames, 1.0)


def test_the_span_of_a_crystal_that_leaves():
    assert crystal_span(frame_table([10] * 12 + [0] * 48)) == (0, 11)
    assert crystal_span(frame_table([10] * 12 + [0, 0, 1, 0] * 12)) == (0, 11)
    assert crystal_span(frame_table([0] * 20 + [10] * 40)) == (20, 59)
    assert crystal_span(frame_table([0] * 20 + [10] * 20 + [0] * 20)) == (20, 39)


def test_the_span_is_the_whole_series_where_nothing_leaves():
    rng = np.random.default_rng(0)
    assert crystal_span(frame_table([5] * 30)) == (0, 29)
    assert crystal_span(frame_table(rng.poisson(8, 100))) == (0, 99)
    # few spots: too few are missed to tell
    assert crystal_span(frame_table([1, 0, 0] * 10 + [0, 0, 0])) == (0, 32)
    # spots grow rarer with the dose, but are there
    assert crystal_span(frame_table(rng.poisson(20 * np.exp(-np.arange(60) / 40)))) == (0, 59)
    # a crystal that turns onto a zone axis, as simulated mordenite did
    zone = [4, 2, 2, 4, 2, 4, 2, 2, 3, 1, 1, 4, 10, 8, 11, 11, 18, 36, 84, 26, 52, 68, 70, 30, 18]
    assert crystal_span(frame_table(zone, blank=[9, 19])) == (0, 24)
    assert crystal_span(frame_table([0] * 30)) == (0, 29)
    assert crystal_span(frame_table([3])) == (0, 0)


def test_blank_frames_do_not_look_like_a_crystal_gone():
    spots = [10] * 30
    for i in range(20, 30):
        spots[i] = 0
    assert crystal_span(frame_table(spots, blank=range(20, 30))) == (0, 29)
    assert crystal_span(frame_table(spots)) == (0, 19)


def test_words_are_told_with_numbers():
    told = diagnose(empty(frame_table([0, 1] * 6 + [0] * 48)))
    assert (told.kind, told.usable) == ("no crystal", False)
    assert told.reason == "no crystal: 6 spots in 60 frames"
    # long after a crystal left it still was one
    told = diagnose(empty(frame_table([10] * 6 + [0] * 300)))
    assert told.kind == "crystal left"
    told = diagnose(empty(frame_table([7] * 60)))
    assert told.kind == "no lattice"
    assert "420 spots in 60 frames lie on none" in told.reason
    told = diagnose(empty(frame_table([12] * 6 + [0] * 54)))
    assert (told.kind, told.last_frame) == ("crystal left", 5)
    assert told.reason == (
        "crystal left the beam after 3.0 degrees: no spots from frame 7 on; the 3.0 degrees hold "
        "72 spots"
    )


@cache
def reduced(kind, phase="MFI", second="MFI", range_deg=10.0, dose=0.5, seed=1):
    """A series of a session, its plan changed to what a test needs."""
    plan = next(p for p in session_plan(seed, 1, junk=0.0))
    step = 0.4
    crystals = {"no crystal": (), "two crystals": (phase, second)}.get(kind, (phase,))
    plan = replace(
        plan, kind=kind, phases=crystals, shares=(1 / max(len(crystals), 1),) * len(crystals),
        step_deg=step, n_frames=round(range_deg / step), angle_start_deg=-range_deg / 2, dose=dose,
        crystal_stays_deg=3.0 if kind == "moved out" else np.inf,
    )  # fmt: skip
    return reduce_series(simulate_plan(plan).series)


@pytest.mark.parametrize("phase", ["MFI", "MOR"])
@pytest.mark.parametrize("seed", [1, 2])
def test_good_series_of_five_degrees_are_good(phase, seed):
    told = diagnose(reduced("good", phase, range_deg=5.2, dose=0.25, seed=seed))
    assert told.kind == "good"
    assert told.usable
    assert told.range_deg == pytest.approx(5.2, abs=0.1)


def test_no_crystal():
    told = diagnose(reduced("no crystal"))
    assert (told.kind, told.usable) == ("no crystal", False)
    assert "spots in 23 frames" in told.reason  # of 25, every 10th is blank


def test_two_crystals():
    told = diagnose(reduced("two crystals", "MFI", "MOR"))
    assert (told.kind, told.usable) == ("two crystals", False)
    assert told.reason.startswith("two crystals of similar strength: the first lattice indexes ")
    # and they can be had back
    told = diagnose(reduced("two crystals", "MFI", "MOR"), max_second=0.9)
    assert told.usable
    assert "a faint second lattice" in told.reason


def test_a_crystal_that_moved_out():
    told = diagnose(reduced("moved out"))
    assert (told.kind, told.usable) == ("crystal left", False)
    assert told.range_deg == pytest.approx(3.0, abs=0.5)
    assert told.reason.startswith("crystal left the beam after ")
    # with a lower bar the same frames are usable, and the rest is named
    told = diagnose(reduced("moved out"), min_range_deg=2.0)
    assert told.usable
    assert told.last_frame == pytest.approx(7, abs=1)


def test_a_lattice_that_indexes_little_is_not_trusted():
    found = reduced("good", "MFI", range_deg=5.2, dose=0.25, seed=1)
    few = replace(found, frames=replace(found.frames, n_indexed=found.frames.n_spots // 5))
    told = diagnose(few)
    assert told.kind == "poorly indexed"
    assert "% of" in told.reason
