from __future__ import annotations

import math
import re
from datetime import UTC, datetime

import numpy as np
import pytest

from ewaldflow.lib.artefacts import CodeVersion, Manifest
from ewaldflow.lib.report.comparison_page import (
    Curve,
    Side,
    comparison_page,
    differences,
    sigmas,
)
from ewaldflow.lib.report.outcome import SeriesOutcome

CELL = (10.0, 11.0, 12.0, 90.0, 90.0, 90.0)


def manifest(name: str = "a", *, d_min: float = 0.8, cc: float = 0.9, raw: str = "1") -> Manifest:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Manifest.model_validate(
        {
            "kind": "reduction", "name": name, "version": 1, "key": "0" * 64,
            "inputs": [{"role": "raw", "digest": raw * 64, "path": f"/x/{name}.img"}],
            "configuration": {"integrate": {"d_min_A": d_min, "profile": "gauss"}},
            "code": CodeVersion(version="1.0", digest="c" * 64), "packages": {}, "python": "3.12",
            "created": when, "finished": when, "seconds": 1.0, "files": {},
            "figures_of_merit": {"headline": {"cc_half": cc, "lattice": "cubic <P>"}, "n": 5},
            "tree_digest": "d" * 64,
        }
    )  # fmt: skip


def side(made: Manifest, a: float = 10.0) -> Side:
    d = np.array([2.0, 1.0])
    return Side(
        made,
        [made],
        {"": ((a, *CELL[1:]), (0.03, 0.04, 0.05, 0.0, 0.0, 0.0))},
        {"CC1/2": Curve(d, np.array([0.99, 0.5]))},
    )


def test_only_what_differs_is_told() -> None:
    a, b = side(manifest()), side(manifest("b", d_min=1.0))
    assert differences(a, b) == [("reduction", "integrate.d_min_A", "0.8", "1.0")]
    assert differences(a, side(manifest("c"))) == []  # another name alone is no other choice
    ((stage, setting, one, other),) = differences(a, side(manifest("d", raw="2")))
    assert (stage, setting) == ("reduction", "raw files")
    assert one != other


def test_cells_in_standard_deviations_of_the_difference() -> None:
    # 0.1 A apart, with 0.06 and 0.08: the difference has a standard deviation of 0.1
    apart = sigmas(
        CELL, (0.06,) * 3 + (0.0,) * 3, (10.1, 11, 12, 90, 90, 90), (0.08,) * 3 + (0,) * 3
    )
    assert apart[0] == pytest.approx(1.0)
    assert apart[1:3] == [0.0, 0.0]
    assert all(math.isnan(v) for v in apart[3:])  # fixed by symmetry


def test_page_shows_differences_of_figures_cells_and_settings() -> None:
    page = comparison_page(side(manifest()), side(manifest("b", d_min=1.0, cc=0.99), a=10.3))
    assert "1 choice differs" in page
    assert '<td class=n data-value="0.08999999999999997">+0.09</td><td class=n>+10.00</td>' in page
    assert "differ by up to 7 standard deviations" in page  # 0.3 / hypot(0.03, 0.03) = 7.07
    assert "cubic &lt;P&gt;" in page
    for anchor in ("choices", "figures", "cells", "shells", "provenance"):
        assert f'<section id="{anchor}">' in page
    assert 'id="series"' not in page


def test_nothing_to_choose_between() -> None:
    page = comparison_page(side(manifest()), side(manifest("b")))
    assert "same code with the same settings" in page
    assert "keep either" in page


def test_sessions_are_compared_series_by_series() -> None:
    a = Side(manifest(), [], series=[SeriesOutcome("one", "x", reason="bad"),
                                     SeriesOutcome("two", "x", reason="no beam")])  # fmt: skip
    b = Side(manifest("b"), [], series=[SeriesOutcome("two", "x", reason="no beam")])
    page = comparison_page(a, b)
    assert "1 of 2 are the same in both" in page
    assert "not in it" in page
    assert len(re.findall("<tr class=chosen>", page)) == 2  # both lines of series one
