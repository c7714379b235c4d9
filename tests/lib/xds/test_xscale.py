import math

import pytest

from ewaldflow.lib.xds import read_xscale

NAMES = ["a/XDS_ASCII.HKL", "my crystal/two words/XDS_ASCII.HKL", "c/XDS_ASCII.HKL"]


@pytest.fixture
def read(layout, written):
    return read_xscale(written(layout("XSCALE.LP")))


def test_inputs_with_blanks_in_their_names(read):
    assert [one.name for one in read.inputs] == NAMES
    assert [one.n_accepted for one in read.inputs] == [3938, 2205, 1453]
    assert [one.n_rejected for one in read.inputs] == [5, 0, 1]
    assert read.inputs[0].mean_intensity == 30.1
    assert math.isnan(read.inputs[2].mean_intensity)
    assert (read.space_group_number, read.cell) == (69, (14, 25, 28, 90, 90, 90))
    assert len(read.cards) == 4
    assert read.problems == ()


def test_factors_and_error_models(read):
    assert [(one.k, one.b) for one in read.inputs] == [(1.0, -0.1), (2.0, -0.2), (3.0, -0.3)]
    models = [one.error_model for one in read.inputs]
    assert (models[0].isa, read.inputs[0].isa_alone) == (5.27, 11.5)
    assert (models[1].determined, models[2].determined) == (False, True)
    assert math.isnan(read.inputs[1].isa_alone)


def test_pairs_without_common_reflections_are_absent(read):
    (pair,) = read.pairs
    assert (pair.i, pair.j, pair.n_common, pair.cc, pair.b) == (1, 2, 119, -0.936, 0.1394)
    assert math.isnan(pair.ratio)
    assert read.unconnected == (3,)


def test_the_last_of_several_outputs_is_the_one_saved(read):
    assert [one.name for one in read.outputs] == ["ONE.HKL", "TWO.HKL"]
    saved = read.saved
    assert (saved.name, saved.merged, saved.friedel) == ("TWO.HKL", True, False)
    assert (saved.n_rejected, saved.n_read, saved.n_written) == (14, 14399, 14386)
    assert saved.table.total.n_observed == 1309
    assert read.wilson.b == 32.39


def test_r_factors_of_each_input(read):
    coarse, fine = read.inputs[1].r_shells
    assert (coarse.d_min_A, coarse.r_observed, coarse.n_compared) == (2.0, 0.05, 490)
    assert math.isnan(fine.r_observed)
    assert (read.inputs[1].r_total.d_min_A, read.inputs[1].r_total.r_expected) == (1.5, 0.1)


def test_a_single_input(layout, written):
    read = read_xscale(written(layout("XSCALE_ONE_INPUT.LP")))
    assert read.pairs == ()
    assert math.isnan(read.inputs[0].k)
    assert read.inputs[0].error_model.isa == 5.27


def test_an_input_left_out_of_a_table_is_not_mistaken_for_its_neighbour(layout, written):
    text = layout("XSCALE.LP")
    row = next(line for line in text.splitlines() if line.startswith("  2.000E+00"))
    read = read_xscale(written(text.replace(row + "\n", "")))
    assert math.isnan(read.inputs[1].k)
    assert [read.inputs[i].k for i in (0, 2)] == [1.0, 3.0]


def test_a_name_given_twice_is_told_by_its_place(layout, written):
    read = read_xscale(written(layout("XSCALE.LP").replace(NAMES[1], NAMES[0])))
    assert [one.k for one in read.inputs] == [1.0, 2.0, 3.0]


def test_a_log_without_its_statistics_says_so(layout, written):
    read = read_xscale(written(layout("XSCALE_NO_TABLE.LP")))
    assert read.saved.table is None
    assert read.problems == ("the log has no table of completeness and quality",)


def test_a_log_cut_in_the_middle(layout, written):
    text = layout("XSCALE.LP")
    cut = text[: text.index("BETWEEN i,j\n") + 60]
    read = read_xscale(written(cut))
    assert not read.complete
    assert read.stops_at
    assert len(read.inputs) == 3
    assert (read.pairs, read.outputs, read.wilson) == ((), (), None)
    assert math.isnan(read.inputs[0].k)
    assert read.inputs[0].error_model is None


def test_many_pairs_are_read_in_reasonable_time(layout, written):
    rows = "".join(f"{i:5d}{j:5d}        1000           0.500            1.0000         0.0000\n"
                   for j in range(2, 301) for i in range(1, j))  # fmt: skip
    text = layout("XSCALE.LP").replace(
        "    1    2         119", rows.rstrip("\n") + "\n    1    2         119"
    )
    read = read_xscale(written(text))
    assert len(read.pairs) == 300 * 299 // 2 + 1
