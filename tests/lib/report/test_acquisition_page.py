"""The page of a session, and what it is made from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ewaldflow.lib.report.acquisition_page import acquisition_page
from ewaldflow.lib.report.outcome import SeriesOutcome
from ewaldflow.lib.serialred.acquisition import Acquisition, CrystalOutcome, ViewRecord

VIEW = ViewRecord(0.0, 0.0, ((-3.0, -3.0), (-3.0, 3.0), (3.0, 3.0), (3.0, -3.0)), 3)
TAKEN = CrystalOutcome(
    1, 1.0, 2.0, 0.4, "taken", "the end of the range, 40 deg", 0.93, "crystal-0001", "crystal-0001",
    -39.7, 39.5, 128, 0.31, 105.0,
)  # fmt: skip
CROWDED = CrystalOutcome(2, -1.0, 0.5, 0.2, "refused", "too near to another particle: 0.4 um")
SMALL = CrystalOutcome(3, -2.0, 0.5, 0.01, "refused", "too small: 0.01 um^2 <script>")
DONE = Acquisition(
    "night", "twin", 8000.0, "The scan area ended.", (VIEW,), (TAKEN, CROWDED, SMALL)
)


def page(done: Acquisition = DONE, **outcomes: SeriesOutcome) -> str:
    links = {one.report: f"../{name}.html" for name, one in outcomes.items() if one.report}
    return acquisition_page(done, outcomes, (), None, links, "0.1")


def test_plain_and_back() -> None:
    assert Acquisition.from_dict(DONE.as_dict()) == DONE
    assert DONE.taken == (TAKEN,)
    assert TAKEN.range_deg == pytest.approx(79.2)
    assert CROWDED.range_deg == 0


def test_everything_is_told() -> None:
    text = page(**{"crystal-0001": SeriesOutcome("crystal-0001", "x", report="report/c@v0001")})
    for words in ("night", "1 series from 3 particles", "2.2 h", "79.2", "128", "+0.31", "0.93"):
        assert words in text
    assert '<a href="../crystal-0001.html">crystal-0001</a>' in text
    assert "too near to another particle" in text
    assert "um^2 <script>" not in text  # what comes from data is escaped
    assert "&lt;script&gt;" in text


def test_a_failed_reduction_says_why() -> None:
    failed = SeriesOutcome("crystal-0001", "x", reason="no lattice was found")
    assert "no lattice was found" in page(**{"crystal-0001": failed})


def test_dose_only_where_it_is_known() -> None:
    assert "beam / s" in page()
    known = replace(DONE, crystals=(replace(TAKEN, dose_e_per_A2=3.25), CROWDED))
    assert "dose / e" in page(known)
    assert "3.25" in page(known)


def test_a_session_without_anything() -> None:
    text = page(Acquisition("empty", "twin", 60.0, "No beam.", (), ()))
    assert "No series was taken." in text
    assert "1 min" in text
