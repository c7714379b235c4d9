from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.report.notation import cell_text, duration, with_esd


@pytest.mark.parametrize(
    ("value", "esd", "text"),
    [
        (12.0631, 0.0043, "12.063(4)"),
        (13.142, 0.0017, "13.1420(17)"),  # 1 to 19 keep two digits
        (13.142, 0.00195, "13.142(2)"),
        (90.0, 0.0, "90"),  # fixed by symmetry
        (89.99999999999997, 9e-14, "90"),  # fixed, but for rounding
        (120.0, 0.0, "120"),
        (1.0, 0.96, "1.0(10)"),
        (1234.0, 23.0, "1230(20)"),
        (1234.0, 12.0, "1234(12)"),
        (-0.6204, 0.0003, "-0.6204(3)"),
        (436.1, math.nan, "436.1"),
        (math.nan, 0.1, "–"),
        (2.0, math.inf, "2"),
    ],
)
def test_esd_by_hand(value: float, esd: float, text: str) -> None:
    assert with_esd(value, esd) == text


# an e.s.d. of 1e-9 of the value and less is rounding: none is shown
@given(st.floats(0.1, 9e3), st.floats(1e-5, 50))
def test_esd_keeps_the_value_to_a_tenth_of_its_esd_or_better(value: float, esd: float) -> None:
    shown, _, rest = with_esd(value, esd).partition("(")
    unit = 10.0 ** -len(shown.partition(".")[2]) if "." in shown else 1.0
    digits = int(rest.rstrip(")"))
    # half a unit of the last digit shown, which is at most a quarter of the e.s.d.
    assert abs(float(shown) - value) <= 0.26 * esd + 1e-9 * value
    assert abs(digits * unit - esd) <= 0.26 * esd


def test_cell_on_one_line() -> None:
    cell = (12.0631, 12.0631, 12.0631, 90.0, 90.0, 90.0)
    esd = (0.0043, 0.0043, 0.0043, 0.0, 0.0, 0.0)
    assert cell_text(cell, esd) == "12.063(4), 12.063(4), 12.063(4) Å; 90, 90, 90°"
    assert cell_text(cell) == "12.063, 12.063, 12.063 Å; 90.00, 90.00, 90.00°"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.352, "0.35 s"), (9.0, "9 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (200.2, "3 min 20 s")],
)
def test_times_a_person_can_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text
