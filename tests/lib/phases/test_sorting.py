from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.merging.config import MergingConfig
from ewaldflow.lib.phases.cell_record import CellRecord
from ewaldflow.lib.phases.diagnosis import Diagnosis, Kind
from ewaldflow.lib.phases.sorting import (
    ReducedSeries,
    phases_of,
    reductions_wanted,
    sort_session,
)
from ewaldflow.lib.simulation.data_sets import crystal, framework

CONFIG = MergingConfig()


def series(
    code: str, bravais: str, seed: int, kind: Kind = "good", strain: float = 0.0
) -> ReducedSeries:
    name = f"{code} {seed}"
    data = crystal(framework(code, bravais), seed, range_deg=40.0, systematic=0.03, name=name)
    rng = np.random.default_rng(seed)
    edges = np.array(data.cell[:3]) * (1 + strain + 0.002 * rng.normal(size=3))
    cell = (float(edges[0]), float(edges[1]), float(edges[2]), *data.cell[3:])
    return ReducedSeries(
        name,
        f"reduction/{name}",
        Diagnosis(kind, kind == "good", f"it is {kind}", 0, 40, 40.0),
        replace(data, cell=cell),
        CellRecord(name, cell, bravais),
    )


@pytest.fixture(scope="module")
def good() -> list[ReducedSeries]:
    return [series("MFI", "oP", i) for i in range(5)] + [series("MOR", "oC", i) for i in range(4)]


def test_two_phases_and_junk_with_its_reason(good: list[ReducedSeries]) -> None:
    every = [
        *good,
        series("MFI", "oP", 77, "two crystals"),
        series("MFI", "oP", 78, "crystal left"),
    ]
    phases = phases_of(every, CONFIG)
    assert [len(phase.members) for phase in phases.phases] == [5, 4]
    assert reductions_wanted(every, phases) == {}
    done = sort_session(every, {}, phases, CONFIG)
    assert [(s.name, {m.name[:3] for m in s.members}) for s in done.structures] == [
        ("phase 1", {"MFI"}),
        ("phase 2", {"MOR"}),
    ]
    assert done.left == {"MFI 77": "it is two crystals", "MFI 78": "it is crystal left"}
    assert done.structure_of("MOR 2") == done.structures[1]
    assert done.structure_of("MFI 77") is None


def in_p1(one: ReducedSeries) -> ReducedSeries:
    """The series as if it had been reduced on a primitive cell of its lattice, without symmetry."""
    assert one.data is not None
    half = np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]])
    data = one.data.reindexed(half, "aP")
    return replace(one, data=data, record=CellRecord(one.name, data.cell, "aP"))


def test_another_setting_is_wanted_again_and_found_anyway(good: list[ReducedSeries]) -> None:
    every = [*good[:-1], in_p1(good[-1])]
    phases = phases_of(every, CONFIG)
    wanted = reductions_wanted(every, phases)
    assert {name: [p.name for p in some] for name, some in wanted.items()} == {"MOR 3": ["phase 2"]}
    # whether it is reduced again or not
    for again in ({}, {"MOR 3": {"phase 2": replace(good[-1], source="again")}}):
        done = sort_session(every, again, phases, CONFIG)
        member = next(m for m in done.structures[1].members if m.name == "MOR 3")
        chosen = good[-1] if again else every[-1]
        assert member.source == ("again" if again else every[-1].source)
        assert chosen.data is not None
        data = chosen.data.reindexed(member.transform, member.bravais)
        assert data.bravais == "oC"
        np.testing.assert_allclose(data.cell, phases.phases[1].cell, rtol=0.02)


def test_a_series_that_showed_no_lattice_joins_by_its_intensities(
    good: list[ReducedSeries],
) -> None:
    lost = series("MOR", "oC", 50)
    blind = replace(
        lost, diagnosis=Diagnosis("no lattice", False, "no lattice", 0, 40, 40.0), data=None,
        record=None,
    )  # fmt: skip
    every = [*good, blind]
    phases = phases_of(every, CONFIG)
    wanted = [phase.name for phase in reductions_wanted(every, phases)["MOR 50"]]
    assert wanted == ["phase 1", "phase 2"]
    # reduced with the cell of either phase: with the wrong one, the intensities are nonsense
    wrong = replace(series("MFI", "oP", 51), name="MOR 50")
    assert wrong.data is not None
    noise = np.random.default_rng(1).permutation(wrong.data.intensity)
    wrong = replace(wrong, data=replace(wrong.data, name="MOR 50", intensity=noise))
    done = sort_session(
        every, {"MOR 50": {"phase 1": wrong, "phase 2": replace(lost, source="again")}}, phases,
        CONFIG,
    )  # fmt: skip
    structure = done.structure_of("MOR 50")
    assert structure is not None
    assert structure.name == "phase 2"
    why = next(m.why for m in structure.members if m.name == "MOR 50")
    assert "its intensities fit: CC 0.9" in why


def test_nonsense_joins_nothing(good: list[ReducedSeries]) -> None:
    blind = replace(
        series("MOR", "oC", 50), data=None, record=None,
        diagnosis=Diagnosis("no lattice", False, "no lattice", 0, 40, 40.0),
    )  # fmt: skip
    wrong = replace(series("MFI", "oP", 51), name="MOR 50")
    assert wrong.data is not None
    noise = np.random.default_rng(1).permutation(wrong.data.intensity)
    wrong = replace(wrong, data=replace(wrong.data, name="MOR 50", intensity=noise))
    phases = phases_of(good, CONFIG)
    done = sort_session([*good, blind], {"MOR 50": {"phase 1": wrong}}, phases, CONFIG)
    assert done.structure_of("MOR 50") is None
    assert done.left["MOR 50"].startswith("no lattice")


def test_nothing_usable_is_no_phase() -> None:
    done = sort_session([series("MFI", "oP", 1, "no crystal")], {}, phases_of([], CONFIG), CONFIG)
    assert done.structures == ()
    assert done.left == {"MFI 1": "it is no crystal"}


def test_one_series_is_a_phase(good: list[ReducedSeries]) -> None:
    phases = phases_of(good[:1], CONFIG)
    done = sort_session(good[:1], {}, phases, CONFIG)
    assert [len(s.members) for s in done.structures] == [1]


def test_data_of_the_sorted_are_the_same_crystal(good: list[ReducedSeries]) -> None:
    # what was said of settings holds for the intensities: all pairs of one phase correlate
    done = sort_session(good, {}, phases_of(good, CONFIG), CONFIG)
    for settled in done.settled:
        known = settled.pairwise.cc[settled.pairwise.known]
        assert len(known)
        assert known.min() > 0.8
