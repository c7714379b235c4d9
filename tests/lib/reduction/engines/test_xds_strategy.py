from __future__ import annotations

from dataclasses import replace

import pytest

from ewaldflow.lib.reduction.engines.xds_strategy import (
    Facts,
    Indexing,
    further_attempts,
    lattice_with_known_cell,
    lattices_of_cell,
)

FACTS = Facts(
    axis=(-0.62, 0.78, 0.0), frames=(1, 100), resolution_A=(20.0, 0.8), min_pixels=6, cell=None,
    beam_seen=(256.0, 257.0), beam_told=(256.4, 256.5), reverse_axis=True,
)  # fmt: skip
POOR = Indexing(0.2, 400, "INSUFFICIENT PERCENTAGE (< 25%) OF INDEXED REFLECTIONS")


def whats(facts: Facts, first: Indexing = POOR) -> list[str]:
    return [one.what.removeprefix("IDXREF ") for one in further_attempts(first, facts)]


def test_the_order_of_what_is_tried() -> None:
    assert whats(FACTS) == [
        "with large spots only",
        "with the axis reversed",
        "at low resolution",
        "on the first half",
        "on the second half",
        "with larger errors allowed",
    ]


def test_few_spots_ask_for_more() -> None:
    first, *_ = further_attempts(Indexing(0.4, 60), FACTS)
    assert first.changes[0] == ("MINIMUM_NUMBER_OF_PIXELS_IN_A_SPOT", "3")
    assert first.job == "COLSPOT IDXREF"
    assert whats(FACTS, Indexing(0, 400, "CANNOT CONTINUE WITH A TWO-DIMENSIONAL LATTICE"))[0] == (
        "with weaker spots"
    )


def test_a_beam_that_is_elsewhere_is_tried_there() -> None:
    facts = replace(FACTS, beam_seen=(250.0, 260.0))
    one = further_attempts(POOR, facts)[1]
    assert one.changes == (("ORGX", "250.00"), ("ORGY", "260.00"))
    assert "with the beam as seen" not in whats(FACTS)
    assert "with the beam as seen" not in whats(replace(FACTS, beam_seen=None))


def test_the_reversed_axis_is_the_opposite_vector() -> None:
    one = next(a for a in further_attempts(POOR, FACTS) if "axis" in a.what)
    assert one.changes == (("ROTATION_AXIS", "0.620000000 -0.780000000 -0.000000000"),)


def test_halves_need_frames() -> None:
    assert not any("half" in what for what in whats(replace(FACTS, frames=(1, 12))))


def test_a_known_cell_is_tried_in_all_centrings() -> None:
    facts = replace(FACTS, cell=(18.2, 20.5, 7.5, 90, 90, 90))
    attempts = [a for a in further_attempts(POOR, facts) if "known" in a.what]
    assert [dict(a.changes)["SPACE_GROUP_NUMBER"] for a in attempts] == ["16", "21", "23", "22"]
    assert dict(attempts[0].changes)["UNIT_CELL_CONSTANTS"] == "18.2 20.5 7.5 90 90 90"


@pytest.mark.parametrize(
    ("cell", "lattices"),
    [
        ((5, 6, 7, 80, 95, 101), ("aP",)),
        ((5, 6, 7, 90, 95, 90), ("mP", "mC")),
        ((5, 6, 7, 90, 90, 90), ("oP", "oC", "oI", "oF")),
        ((5, 5, 7, 90, 90, 90), ("tP", "tI")),
        ((5, 5, 7, 90, 90, 120), ("hP", "hR")),
        ((5, 5, 5, 90, 90, 90), ("cP", "cI", "cF")),
    ],
)
def test_lattices_of_a_cell(cell: tuple[float, ...], lattices: tuple[str, ...]) -> None:
    assert lattices_of_cell(cell) == lattices  # type: ignore[arg-type]


def test_the_centring_follows_from_the_reduced_cell() -> None:
    # I-centred 12: half the body diagonal, 12 sqrt(3) / 2 = 10.392, angles 109.47
    reduced = (10.39, 10.39, 10.39, 109.47, 109.47, 109.47)
    assert lattice_with_known_cell(reduced, (12, 12, 12, 90, 90, 90)) == "cI"
    assert lattice_with_known_cell((12, 12, 12, 90, 90, 90), (12, 12, 12, 90, 90, 90)) == "cP"
    assert lattice_with_known_cell((9, 9.1, 9.2, 80, 81, 82), (12, 12, 12, 90, 90, 90)) is None


def test_acute_and_obtuse_reduced_angles_are_one_lattice() -> None:
    assert lattice_with_known_cell((5, 6, 7, 90.4, 89.8, 90.1), (5, 6, 7, 90, 90, 90)) == "oP"
