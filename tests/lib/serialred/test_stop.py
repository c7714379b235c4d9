from __future__ import annotations

import pytest
from pydantic import ValidationError

from ewaldflow.lib.serialred.session import Stop

RULE = Stop(completeness=0.9, completeness_series=3)


def test_every_phase_with_enough_series_must_be_complete() -> None:
    assert RULE.complete({"phase 1": (12, 0.95), "phase 2": (3, 0.9), "phase 3": (2, 0.4)}) == (
        "Every phase is complete to 90 %: phase 1 to 95 %, phase 2 to 90 %."
    )
    assert RULE.complete({"phase 1": (12, 0.95), "phase 2": (3, 0.89)}) == ""


def test_without_a_phase_of_enough_series_it_goes_on() -> None:
    assert RULE.complete({}) == ""
    assert RULE.complete({"phase 1": (2, 1.0)}) == ""


def test_without_the_rule_nothing_is_complete() -> None:
    assert Stop().complete({"phase 1": (100, 1.0)}) == ""


@pytest.mark.parametrize("wrong", [0, -0.5, 1.01, 90, float("nan")])
def test_completeness_is_a_part_of_one(wrong: float) -> None:
    with pytest.raises(ValidationError):
        Stop(completeness=wrong)
