import math

import pytest

from ewaldflow.lib.xds import read_correct

MODEL = " 2.500E+00  4.000E-03   10.00"


@pytest.fixture
def read(layout, written):
    return read_correct(written(layout("CORRECT.LP")))


def test_the_cells_are_told_apart(read):
    assert read.integrate_cell == (10.1, 12.1, 15.1, 90.1, 89.9, 90.2)
    assert read.integrate_space_group_number == 1
    assert (read.given_space_group_number, read.given_cell) == (None, None)
    assert read.selected.cell == (10.05, 12.05, 15.05, 90, 90, 90)
    assert read.refined.cell == read.cell == (10.02, 12.02, 15.02, 90, 90, 90)
    assert read.space_group_number == read.refined.space_group_number == 16
    assert read.selected.reindex == (-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0)
    assert read.selected.divisor == 1
    assert read.selected.axes == ((10.05, 0, 0), (0, 12.05, 0), (0, 0, 15.05))


def test_esds_that_touch_and_those_not_determined(read):
    assert read.refined.cell_esd[:3] == (0.01, 0.02, 0.03)
    assert all(math.isnan(v) for v in read.refined.cell_esd[3:])
    assert read.refinement_accepted


def test_input_and_counts(read):
    assert read.data_range == (11, 110)
    assert (read.oscillation_deg, read.wavelength_A) == (0.3, 0.0251)
    assert read.resolution_A == (25.0, 0.9)
    assert (read.beam_divergence_esd_deg, read.reflecting_range_esd_deg) == (0.012, 0.31)
    assert read.friedel is False
    counts = (read.n_read, read.n_corrupted, read.n_outside, read.n_overloaded, read.n_accepted)
    assert counts == (1500, 1, 20, 3, 1400)


def test_the_test_of_space_groups(read):
    p1, p222 = read.space_groups
    assert (p222.number, p222.selected, p222.n_unique, p222.n_compared) == (16, True, 309, 1214)
    assert (p222.r_meas, p222.character, p222.bravais) == (0.11, 32, "oP")
    assert not p1.selected
    assert math.isnan(p1.r_meas)  # nothing was compared
    assert read.lattices[1].reindex == (-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0)


def test_error_model_and_wilson(read):
    model = read.error_model
    assert (model.a, model.b, model.isa, model.determined) == (2.5, 0.004, 10.0, True)
    assert read.fit_chi_square == (1.011, 1.022, 1.033)
    assert (read.wilson.a, read.wilson.b, read.wilson.correlation) == (5.5, 4.25, 0.91)
    assert read.n_aliens == 2


@pytest.mark.parametrize("line", [" 4.000E+00  1.000E-04   50.00", " 1.000E+00  1.000E+00 *******"])
def test_an_isa_that_was_not_determined(layout, written, line):
    model = read_correct(written(layout("CORRECT.LP").replace(MODEL, line))).error_model
    assert not model.determined
    assert math.isnan(model.isa)


def test_an_isa_of_fifty_that_was(layout, written):
    text = layout("CORRECT.LP").replace(MODEL, " 2.000E+00  2.000E-04   50.00")
    model = read_correct(written(text)).error_model
    assert (model.determined, model.isa) == (True, 50.0)


def test_the_statistics_are_of_the_data_set_saved(read):
    assert [(s.data_range, s.saved, s.n_misfits) for s in read.statistics] == [
        ((11, 60), False, 3),
        ((11, 110), True, 9),
    ]
    saved = read.saved
    assert (saved.n_reflections, saved.n_absent) == (1400, 5)
    assert (saved.n_accepted, saved.n_unique) == (1309, 309)


def test_standard_errors_with_columns_that_touch(read):
    first, touching, undefined = read.error_shells
    assert (first.d_max_A, first.d_min_A, first.r_observed) == (12.0, 2.0, 0.051)
    assert (touching.i_over_sigma, touching.chi_square) == (2.1, 7.4)
    assert touching.r_observed == 12.345
    assert math.isnan(undefined.chi_square)
    assert math.isnan(undefined.r_observed)
    assert undefined.n_accepted == 9
    assert (read.error_total.d_min_A, read.error_total.n_rejected) == (1.0, 9)


def test_axial_reflections(read):
    absent, present = read.axial
    assert (absent.hkl, absent.absent, absent.n_observed) == ((0, 0, 1), True, 2)
    assert (present.hkl, present.absent, present.intensity) == ((0, 0, -2), False, -250.0)
    assert (read.n_absent_tested, read.absent_percent) == (6, 2.5)


def test_without_a_refined_block_the_selected_cell_stands(layout, written):
    read = read_correct(written(layout("CORRECT_NOT_REFINED.LP")))
    assert read.refined is None
    assert not read.refinement_accepted
    assert read.cell == (10.05, 12.05, 15.05, 90, 90, 90)
    assert read.warnings[0].text.endswith("INSUFFICIENT NUMBER OF REFLECTIONS.")
    assert read.problems == ()


def test_the_layout_of_2010(layout, written):
    read = read_correct(written(layout("CORRECT_2009.LP")))
    assert (read.banner.version, read.banner.build) == ("December 32, 2009", None)
    assert read.refined.n_spots == 777
    assert read.refined.refined == ("DISTANCE", "BEAM", "ORIENTATION", "CELL", "AXIS")
    assert read.refined.cell == (10.02, 12.02, 15.02, 90, 90, 90)
    assert read.refined.cell_esd == (0.01, 0.02, 0.03, 0, 0, 0)
    total = read.saved.table.total
    assert (total.r_mrgd_f, total.cc_anomalous, total.r_meas) == (0.017, -0.03, 0.06)
    assert math.isnan(total.cc_half)
    assert not total.cc_half_significant


def test_a_log_cut_after_the_refinement(layout, written):
    text = layout("CORRECT.LP")
    read = read_correct(written(text[: text.index("     a        b ")]))
    assert not read.complete
    assert read.refined.cell[0] == 10.02
    assert (read.error_model, read.wilson, read.saved, read.statistics) == (None, None, None, ())
    assert (read.error_shells, read.error_total, read.axial) == ((), None, ())


def test_a_log_cut_inside_the_shells(layout, written):
    text = layout("CORRECT.LP")
    end = text.rindex("    total        1309")
    read = read_correct(written(text[:end]))
    assert len(read.saved.table.shells) == 4
    assert read.saved.table.total is None
    assert read.saved.n_accepted is None
    assert not read.complete
