from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from ewaldflow.lib.artefacts.records import read_record, write_record


@dataclass(frozen=True)
class Leaf:
    name: str
    values: NDArray[np.float64]
    flags: NDArray[np.bool_]
    part: Fraction


@dataclass(frozen=True)
class Tree:
    kind: Literal["oak", "elm"]
    height: float
    leaves: tuple[Leaf, ...]
    pairs: tuple[tuple[int, ...], ...]
    why: Mapping[str, str]
    none: Leaf | None
    bare: tuple[NDArray[np.int32], ...]


def test_a_record_of_records_comes_back(tmp_path: Path) -> None:
    leaf = Leaf("a", np.array([[1.0, np.nan], [-np.inf, 0.1]]), np.array([True, False]),
                Fraction(1, 3))  # fmt: skip
    empty = Leaf("b", np.zeros((0, 3)), np.zeros(0, bool), Fraction(0))
    tree = Tree("elm", float("nan"), (leaf, empty), ((1, 2), ()), {"x": "y"}, None,
                (np.array([7], np.int32), np.zeros((2, 2), np.int32)))  # fmt: skip
    group = zarr.open_group(tmp_path / "tree", mode="w")
    write_record(group, tree)
    back = read_record(zarr.open_group(tmp_path / "tree", mode="r"), Tree)
    assert back.kind == "elm"
    assert np.isnan(back.height)
    for one, other in zip(back.leaves, tree.leaves, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.flags, other.flags)
        assert (one.name, one.part) == (other.name, other.part)
        assert one.values.dtype == np.float64
    assert back.pairs == ((1, 2), ())
    assert back.why == {"x": "y"}
    assert back.none is None
    assert [a.dtype for a in back.bare] == [np.int32, np.int32]
    assert back.bare[1].shape == (2, 2)
    # one array for each type, however many there were
    assert sorted(group.array_keys()) == ["bool", "float64", "int32"]
