"""Samples: what is known of them, and what YAML may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.sample import (
    Sample,
    available_samples,
    estimated_formula_units,
    load_sample,
    parse_formula,
)


def test_the_samples_that_come_along_are_whole() -> None:
    assert {"mordenite", "zsm5"} <= set(available_samples())
    for name in available_samples():
        load_sample(name)
    zsm5 = load_sample("zsm5")
    assert zsm5.composition == {"Si": 1.0, "O": 2.0}
    assert zsm5.cell is not None
    assert zsm5.contents_of(zsm5.cell) == {"Si": 96.0, "O": 192.0}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Si O2", {"Si": 1, "O": 2}),
        ("C19H22N2O", {"C": 19, "H": 22, "N": 2, "O": 1}),
        ("CO2 CO2", {"C": 2, "O": 4}),
        ("Al0.5 Si 0.5 O2", {"Al": 0.5, "Si": 0.5, "O": 2}),
    ],
)
def test_formulas(text: str, counts: dict[str, float]) -> None:
    assert parse_formula(text) == counts


@pytest.mark.parametrize("text", ["", "sio2", "Qq2", "(SiO2)2", "Si-O", "O0"])
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError):
        parse_formula(text)


def test_formula_units_follow_the_volume_where_not_given() -> None:
    # 10 x 10 x 10.8 Å = 1080 Å^3; SiO2 takes 3 x 18 = 54 Å^3: 20 units
    assert estimated_formula_units({"Si": 1, "O": 2}, (10, 10, 10.8, 90, 90, 90)) == 20
    # hydrogen takes no room of its own: H2O 18 Å^3
    assert estimated_formula_units({"H": 2, "O": 1}, (10, 10, 10.8, 90, 90, 90)) == 60
    assert estimated_formula_units({"U": 50}, (3, 3, 3, 90, 90, 90)) == 1


def test_another_cell_of_the_lattice_holds_in_proportion() -> None:
    sample = Sample(name="x", composition="Si O2", formula_units=48, cell=(18, 20, 7.5, 90, 90, 90))
    assert sample.formula_units_in((18, 10, 7.5, 90, 90, 90)) == 24
    assert sample.formula_units_in((18, 20, 15.1, 90, 90, 90)) == 96
    assert sample.formula_units_in((18.1, 20.1, 7.5, 90, 90, 90)) == 48


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\ncomposition: Si O2\ncolour: red\n", "colour"),
        ("name: x\n", "composition"),
        ("name: x\ncomposition: Xx2\n", "composition"),
        ("name: x\ncomposition: {si: 1}\n", "composition"),
        ("name: x\ncomposition: Si\nspace_group: P 7\n", "space_group"),
        ("name: x\ncomposition: Si\ncell: [1, 2, 3, 90, 90]\n", "cell"),
        ("name: x\ncomposition: Si\ncell: [10, 10, 10, 90, 90, 270]\n", "cell"),
        ("name: x\ncomposition: Si\nformula_units: .inf\n", "formula_units"),
        ("- a\n", "list"),
        ("name: [\n", "line"),
    ],
)
def test_errors_name_the_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        load_sample(path)


def test_an_unknown_sample_is_told_those_known() -> None:
    with pytest.raises(UserError, match="zsm5"):
        load_sample("kryptonite")
