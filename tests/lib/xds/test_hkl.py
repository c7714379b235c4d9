import math

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.xds import read_hkl


def test_unmerged_reflections_of_correct(layout, written):
    read = read_hkl(written(layout("XDS_ASCII.HKL")))
    assert read.hkl.tolist() == [[1, 1, -3], [1, 2, -3], [1, 3, -3]]
    assert read.intensity.tolist() == [10.0, 20.0, 30.0]
    assert read.sigma.tolist() == [2.0, 2.0, 2.0]
    assert read.misfit.tolist() == [False, True, False]
    assert (read.observations.column[0], read.observations.frame_number[0]) == (100.5, 11.0)
    assert read.appended == {}
    assert read.set_number.tolist() == [0, 0, 0]
    header = read.header
    assert (header.program, header.version, header.build) == ("CORRECT", "Feb 30, 2031", 20310230)
    assert (header.merged, header.friedel) == (False, False)
    assert header.items[:5] == ("H", "K", "L", "IOBS", "SIGMA(IOBS)")
    assert (header.data_range, header.variance_model) == ((1, 100), (2.5, 0.004))
    assert (header.divergence_esd_deg, header.mosaicity_esd_deg) == (0.012, 0.31)
    assert header.cell == (10, 12, 15, 90, 90, 90)


def test_its_header_holds_the_geometry_of_xparm(layout, written):
    from ewaldflow.lib.xds import read_xparm

    ours = read_hkl(written(layout("XDS_ASCII.HKL"), "a")).header.geometry
    theirs = read_xparm(written(layout("XPARM.XDS"), "b"))
    assert ours.geometry() == theirs.geometry()
    np.testing.assert_array_equal(ours.orientation(), theirs.orientation())


def test_columns_that_another_program_appended(layout, written):
    read = read_hkl(written(layout("XDS_ASCII_APPENDED.HKL")))
    assert set(read.appended) == {"CBI", "Q2"}
    assert read.appended["Q2"].tolist() == [1.5, 1.5, 1.5]
    assert read.intensity.tolist() == [10.0, 20.0, 30.0]


def test_appended_columns_that_are_not_all_there(layout, written):
    text = layout("XDS_ASCII_APPENDED.HKL").replace("12.0 0.5 1.5\n", "12.0\n", 1)
    with pytest.raises(UserError):
        read_hkl(written(text))


def test_data_sets_of_xscale(layout, written):
    read = read_hkl(written(layout("XSCALE.HKL")))
    assert read.set_number.tolist() == [2, 1]
    first, second = read.header.sets
    assert (first.number, first.input_file) == (1, "my crystal/XDS_ASCII.HKL")
    assert (first.wavelength_A, first.cell) == (0.0251, (10.1, 12.1, 15.1, 90, 90, 90))
    assert math.isnan(second.wavelength_A)
    assert second.cell is None
    assert read.header.geometry is None


def test_merged_reflections(layout, written):
    read = read_hkl(written(layout("XSCALE_MERGED.HKL")))
    assert read.header.merged is True
    assert read.observations is None
    assert read.sigma.tolist() == [2.0, 1.0]
    assert read.misfit.tolist() == [False, True]


def test_a_header_with_an_impossible_geometry_still_has_its_reflections(layout, written):
    text = layout("XDS_ASCII.HKL").replace("DISTANCE=   440.000", "DISTANCE=     0.000")
    read = read_hkl(written(text))
    assert read.header.geometry is None
    assert len(read) == 3


def test_half_a_data_set_is_refused(layout, written):
    text = layout("XDS_ASCII.HKL")
    for end in ("!END_OF_DATA", " 1 3 -3", " 90 12.0\n 1 3"):
        with pytest.raises(UserError):
            read_hkl(written(text[: text.index(end)]))


@pytest.mark.parametrize("data", ["", "hello\n", "!FORMAT=XDS_ASCII\n", "  1  2  3  4.0  5.0\n"])
def test_other_files_are_refused(written, data):
    with pytest.raises(UserError):
        read_hkl(written(data))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("15.000  90.000", " 0.000  90.000", "UNIT_CELL_CONSTANTS: found 10 12 0 90"),
        ("15.000  90.000", "15.000 190.000", "UNIT_CELL_CONSTANTS"),
        ("GROUP_NUMBER=   16", "GROUP_NUMBER=  316", "SPACE_GROUP_NUMBER: found 316"),
    ],
)
def test_unmerged_reflections_need_a_possible_cell_and_group(layout, written, old, new, match):
    with pytest.raises(UserError, match=match):
        read_hkl(written(layout("XDS_ASCII.HKL").replace(old, new, 1)))
