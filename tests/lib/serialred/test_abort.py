"""Each abort rule with numbers on both sides of its bound."""

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.serialred.abort import Watched, first_abort, near_limit
from ewaldflow.lib.serialred.disc import Disc
from ewaldflow.lib.serialred.settings import AbortSettings
from ewaldflow.lib.serialred.shadow import Sighting

SEEN = Sighting(Disc(np.zeros(2), 70.0, np.zeros(2), 20.0, 0.2, 0.1), np.zeros(2), 1.0, 1.0,
                40.0, 15.0, None)  # fmt: skip
ALL = AbortSettings(variance_ratio=(0.2, 5.0), blank_variance=10.0, longest_s=300.0)
CALM = Watched(variance=40.0)


def test_nothing_is_wrong():
    assert first_abort(ALL, CALM, SEEN) is None
    assert first_abort(ALL, CALM) is None


@pytest.mark.parametrize(
    ("watched", "variance", "rule", "words"),
    [
        (replace(CALM, dark=2), 40.0, "beam lost", "no disc in 2 images"),
        (replace(CALM, lost=4), 40.0, "crystal lost", "not seen in 4 images"),
        (replace(CALM, off_line_deg=-1.2), 40.0, "stage", "-1.20 deg off its line"),
        (replace(CALM, elapsed_s=301.0), 40.0, "time", "301 s, more than 300"),
        (replace(CALM, variance=9.0), 9.5, "blank area", "9.5 below 10"),
        (CALM, 201.0, "variance", "5.03 of the reference, not 0.2 to 5"),
        (replace(CALM, variance=100.0), 19.0, "variance", "0.19"),
    ],
)
def test_each_rule(watched, variance, rule, words):
    abort = first_abort(ALL, watched, replace(SEEN, variance=variance))
    assert abort is not None
    assert abort.rule == rule
    assert words in abort.reason
    assert abort.numbers


def test_just_within_bounds():
    calm = replace(CALM, dark=1, lost=3, off_line_deg=0.9, elapsed_s=299.0)
    assert first_abort(ALL, calm, replace(SEEN, variance=199.0)) is None


def test_rules_left_out_never_break():
    none = AbortSettings(lost_images=None, dark_images=None)
    bad = replace(CALM, dark=99, lost=99, elapsed_s=1e6)
    assert first_abort(none, bad, replace(SEEN, variance=1e6)) is None


def test_limits_of_deflectors():
    # the thesis: within 5000 of 0 or 65535
    limits, margin = (0.0, 65535.0), 5000 / 65535
    assert near_limit("beam_shift", (32768, 5001), limits, margin) is None
    abort = near_limit("beam_shift", (61000, 32768), limits, margin)
    assert abort is not None
    assert abort.rule == "deflector limit"
    assert abort.numbers["from_end"] == pytest.approx(4535)
    assert "beam_shift at (61000, 32768)" in abort.reason
