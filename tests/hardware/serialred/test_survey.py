"""Particles of several views, each known once; the best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ewaldflow.hardware.serialred.acquire import _ranked
from ewaldflow.hardware.serialred.survey import Candidate, look, merged
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Imaging

Make = Callable[..., Any]
SEEN = Candidate(1, 10.0, -5.0, 0.5, 0.3, 0.95, nearest_um=3.0, edge_um=2.0, verdict="")


def test_duplicates_are_merged_as_seen_farthest_from_the_edge() -> None:
    again = replace(SEEN, number=2, x_um=10.2, y_um=-5.1, edge_um=0.0, verdict="too near")
    other = replace(SEEN, number=3, x_um=14.0)
    assert merged([SEEN], [again, other]) == [SEEN, other]
    better = replace(again, edge_um=3.0)
    assert merged([SEEN], [better]) == [replace(better, number=1)]


def test_a_large_one_cut_by_an_edge_is_the_same() -> None:
    large = replace(SEEN, area_um2=4.0)
    cut = replace(SEEN, number=2, x_um=11.0, area_um2=1.0, edge_um=0.0)
    assert merged([cut], [large]) == [replace(large, number=2)]
    assert len(merged([replace(cut, x_um=11.3)], [large])) == 2


def test_a_crystal_in_several_views_is_one_where_it_truly_is(bench: Make) -> None:
    places = ((0.3, -0.2), (3.6, 0.4))
    one = bench(
        places_um=places,
        session={
            "area": Box(x_um=(-5, 5), y_um=(-5, 5)), "imaging": Imaging(exposure_s=0.5,
            overlap_um=4.0),
        },
        goniometer="well_set",
    )  # fmt: skip
    with one.begun() as hunt:
        known: list[Candidate] = []
        seen = 0
        for position in hunt.raster:
            _, new = look(hunt.station, position, len(known) + 1)
            seen += sum(c.area_um2 > 0.2 for c in new)
            known = merged(known, new)
    large = [c for c in known if not c.verdict]
    assert seen > 3
    assert len(large) == 2
    truth = one.twin.truth.stage_um([(x, y, 0.0) for x, y in places])
    found = np.array(sorted([c.place_um for c in large], key=lambda p: p @ (truth[1] - truth[0])))
    # the imaging beam and the stage's play are off by a little, for all alike
    np.testing.assert_allclose(found[1] - found[0], truth[1] - truth[0], atol=0.15)
    np.testing.assert_allclose(found, truth, atol=1.0)


def test_the_isolated_come_first(bench: Make) -> None:
    one = bench()
    with one.begun() as hunt:
        hunt.candidates = [
            replace(SEEN, number=1, nearest_um=1.1, area_um2=0.2),
            replace(SEEN, number=2, nearest_um=6.0, area_um2=0.6),
            replace(SEEN, number=3, nearest_um=9.0, verdict="too small"),
            replace(SEEN, number=4, nearest_um=1.1, area_um2=0.6),
        ]
        assert [c.number for c in _ranked(hunt)] == [2, 4, 1]
