from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.simulation import judge, standard_set, stress_set

MFI = (20.09, 19.738, 13.142, 90.0, 90.0, 90.0)
MOR = (18.256, 20.534, 7.542, 90.0, 90.0, 90.0)


def quiet(*_: object) -> None:
    pass


def test_the_known_lattice_is_found_in_its_setting_and_held_to_its_type() -> None:
    series, truth = standard_set("MFI", 10, 3, dose=1 / 20)
    done = reduce_series(series, ReductionConfig(cell=MFI, bravais="oP"), quiet)
    (lattice,) = done.lattices
    assert lattice.bravais == "oP"
    np.testing.assert_allclose(lattice.cell, MFI, rtol=0.02)
    assert lattice.indexed_fraction > 0.95
    assert judge(done, truth)["orientation_error_deg"] < 0.3


def test_another_lattice_is_not_forced_upon_spots() -> None:
    for series, cell, bravais in (
        (standard_set("MFI", 30, 1)[0], MOR, "oC"),
        (standard_set("MOR", 10, 2, dose=1 / 40)[0], MFI, "oP"),
        (stress_set("noise only")[0], MFI, "oP"),
    ):
        done = reduce_series(series, ReductionConfig(cell=cell, bravais=bravais), quiet)
        assert done.lattices == ()
        assert done.verdict.startswith("no lattice")


def test_two_crystals_of_the_known_lattice_are_both_found() -> None:
    series, _ = stress_set("two lattices 60:40")
    done = reduce_series(series, ReductionConfig(cell=MFI, bravais="oP"), quiet)
    assert len(done.lattices) == 2


def test_a_lattice_type_needs_a_cell_and_a_name() -> None:
    with pytest.raises(ValidationError, match="known cell"):
        ReductionConfig(bravais="oP")
    with pytest.raises(ValidationError, match="known cell"):
        ReductionConfig(cell=MFI, bravais="xQ")
