import math

import pytest

from ewaldflow.lib.xds import read_idxref


@pytest.fixture
def read(layout, written):
    return read_idxref(written(layout("IDXREF.LP")))


def test_spots_and_how_many_were_indexed(read):
    assert (read.n_spots_used, read.n_spots) == (300, 345)
    assert read.spot_ranges == ((1, 40), (51, 99))
    assert read.n_difference_vectors == 77
    (indexing,) = read.indexings
    assert read.indexing is indexing
    assert (indexing.n_indexed, indexing.n_spots) == (222, 300)
    assert indexing.fraction == pytest.approx(0.74)
    assert (indexing.n_overlap, indexing.n_too_far) == (11, 67)
    assert (indexing.expected_spindle_deg, indexing.expected_detector_px) == (0.321, 0.98)


def test_what_was_given_and_found(read):
    assert read.given_space_group_number == 16
    assert read.given_cell == (10.0, 12.0, 15.0, 90.0, 90.0, 90.0)
    assert read.reduced_cell == (10.01, 12.02, 15.03, 90.04, 90.05, 90.06)
    assert read.subtrees == (201, 33, 2)


def test_an_unknown_cell_is_none(layout, written):
    text = layout("IDXREF.LP")
    given = text[text.index(" SPACE_GROUP_NUMBER=") : text.index(" AUTOINDEXING")]
    unknown = " SPACE GROUP AND CELL PARAMETERS ARE UNKNOWN\n\n\n"
    read = read_idxref(written(text.replace(given, unknown)))
    assert (read.given_space_group_number, read.given_cell) == (None, None)


def test_index_origins(read):
    first, second = read.index_origins
    assert read.index_origin == first.origin == (0, 0, 0)
    assert second.origin == (-1, 0, -2)
    assert (second.quality, second.delta_deg, second.beam_px) == (33.4, 0.6, (105.9, 130.1))
    assert second.beam == (-0.15, 0.003, 39.8403)
    assert second.misfit == (0.21, 0.34, 0.55)


def test_the_block_at_the_start_of_integration_is_told_from_the_others(read):
    assert [block.n_spots for block in read.solutions] == [201, 222]
    start = read.start_of_integration
    assert start.heading == "DIFFRACTION PARAMETERS USED AT START OF INTEGRATION"
    assert start.cell == (10.0, 12.0, 15.0, 90.0, 90.0, 90.0)
    assert (start.space_group_number, start.n_spots) == (16, 222)
    assert (start.sd_spot_px, start.sd_spindle_deg, start.mosaicity_deg) == (0.71, 0.23, 0.31)
    assert start.refined == ("POSITION", "BEAM", "AXIS", "ORIENTATION", "CELL")
    assert start.axes == ((10, 0, 0), (0, 12, 0), (0, 0, 15))
    assert start.rotation_axis == (0.6, -0.8, 0.001)
    assert start.beam == (0.01, -0.02, 39.840637)
    assert (start.beam_px, start.origin_px) == ((131.25, 127.5), (129.25, 131.5))
    assert start.distance_mm == 440.0


def test_columns_of_the_lattice_table_that_touch(read):
    assert [row.character for row in read.lattices] == [44, 35, 9, 3]
    touching = read.lattices[2]
    assert touching.cell == (5324.6, 10528.6, 12345.6, 90, 90, 120)
    assert (touching.bravais, touching.quality, touching.marked) == ("hR", 999.0, False)
    assert read.lattices[1].marked
    assert read.lattices[0].reindex is None
    assert read.problems == ()


def test_a_row_that_is_spoilt_is_told_and_the_others_stand(layout, written):
    text = layout("IDXREF.LP").replace("35        mP", "3x        mP")
    read = read_idxref(written(text))
    assert [row.character for row in read.lattices] == [44, 9, 3]
    (problem,) = read.problems
    number = int(problem.split()[1].strip(":"))
    assert "3x        mP" in text.splitlines()[number - 1]


def test_asterisks_are_undefined(layout, written):
    text = layout("IDXREF.LP")
    text = text.replace("  0  0  0      1.2    0.1  ", "  0  0  0  *******    0.1  ")
    text = text.replace("(PIXELS)     0.71", "(PIXELS) ********")
    read = read_idxref(written(text))
    assert math.isnan(read.index_origins[0].quality)
    assert read.index_origins[0].delta_deg == 0.1
    assert math.isnan(read.start_of_integration.sd_spot_px)
