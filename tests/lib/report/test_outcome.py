from __future__ import annotations

from ewaldflow.lib.report.outcome import SeriesOutcome
from ewaldflow.lib.report.summary import Headline

NAN = float("nan")


def test_what_became_of_a_series_in_words() -> None:
    head = Headline("cubic F", "12.1 Å", 1, 93.6, 0.834, 5.2, 1000)
    assert SeriesOutcome("c1", "", head).line() == (
        "c1: cubic F, 12.1 Å; 94 % of spots indexed, to 0.83 Å"
    )
    none = Headline("none", "", 0, NAN, NAN, NAN, 0)
    assert SeriesOutcome("c2", "", none, "Three spots.").line() == "c2: no lattice. Three spots."
    assert SeriesOutcome("c3", "", reason="c3: found nothing").line() == (
        "c3 failed: c3: found nothing"
    )
