import math
from math import inf

import pytest

from ewaldflow.lib.xds import read_correct


@pytest.fixture
def table(layout, written):
    return read_correct(written(layout("CORRECT.LP"))).saved.table


def test_fourteen_columns(table):
    shell = table.shells[0]
    assert (shell.d_max_A, shell.d_min_A) == (inf, 2.0)
    assert (shell.n_observed, shell.n_unique, shell.n_possible) == (500, 100, 125)
    assert (shell.completeness, shell.r_observed, shell.r_expected) == (0.8, 0.051, 0.053)
    assert (shell.n_compared, shell.i_over_sigma, shell.r_meas) == (490, 20.5, 0.06)
    assert (shell.cc_half, shell.cc_half_significant) == (0.991, True)
    assert (shell.cc_anomalous, shell.cc_anomalous_significant) == (0.35, True)
    assert (shell.sig_ano, shell.n_anomalous) == (1.25, 40)
    assert math.isnan(shell.r_mrgd_f)
    assert table.min_signal_to_noise == -3.0


def test_r_above_one_and_negative_correlations_are_real(table):
    shell = table.shells[1]
    assert (shell.d_max_A, shell.d_min_A) == (2.0, 1.5)
    assert (shell.r_observed, shell.r_expected, shell.r_meas) == (12.345, 23.456, 15.01)
    assert (shell.cc_half, shell.cc_half_significant) == (-0.123, False)
    assert shell.cc_anomalous == -0.07


def test_what_xds_calls_undefined(table):
    shell = table.shells[2]
    values = (shell.r_observed, shell.r_expected, shell.r_meas, shell.i_over_sigma, shell.cc_half)
    assert all(math.isnan(v) for v in (*values, shell.cc_anomalous, shell.sig_ano))
    assert (shell.n_observed, shell.n_compared, shell.completeness) == (9, 0, 0.03)


def test_overflow_and_a_correlation_of_too_few(table):
    shell = table.shells[3]
    assert (shell.n_observed, shell.n_possible, shell.n_unique) == (None, None, 400)
    assert math.isnan(shell.cc_half)
    assert (shell.r_meas, shell.i_over_sigma) == (0.14, 1.1)
    assert shell.cc_anomalous == 0.0  # of two reflections, as printed


def test_the_total(table):
    assert (table.total.d_max_A, table.total.d_min_A) == (inf, 1.0)
    assert (table.total.n_observed, table.total.cc_half) == (1309, 0.975)
    assert not table.total.cc_anomalous_significant
