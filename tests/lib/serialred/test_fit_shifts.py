"""The full 2 x 2 fit: exact cases by hand, outliers, noise as the covariance says, bad grids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.fit_shifts import fit_shifts

GRID = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), axis=-1).reshape(-1, 2) * 100.0


def test_a_matrix_worked_out_by_hand():
    # x moves the picture by 0.1 px per unit down, y by 0.2 right and 0.03 up; 5 px off in rows
    matrix = np.array([[0.1, -0.03], [0.0, 0.2]])
    fit = fit_shifts(GRID, GRID @ matrix.T + [5.0, 0.0])
    assert fit.px_per_unit == pytest.approx(matrix, abs=1e-12)
    assert fit.offset_px == pytest.approx([5.0, 0.0], abs=1e-10)
    assert (fit.n_used, fit.n_rejected) == (25, 0)
    assert fit.residual_px < 1e-9
    # one shift (100, 200): 0.1 * 100 - 0.03 * 200 = 4 rows and 40 columns
    assert fit.px_per_unit @ [100, 200] == pytest.approx([4.0, 40.0])


@settings(max_examples=50, deadline=None)
@given(
    elements=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    unit=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_any_matrix_in_any_unit(elements, unit):
    matrix = np.array(elements).reshape(2, 2) / unit
    fit = fit_shifts(GRID / 100 * unit, GRID / 100 * unit @ matrix.T)
    assert fit.px_per_unit * unit == pytest.approx(matrix * unit, abs=1e-9)


def test_outliers_are_rejected_and_counted():
    matrix = np.array([[0.1, 0.02], [-0.03, 0.12]])
    shifts = GRID @ matrix.T + np.random.default_rng(0).normal(scale=0.1, size=GRID.shape)
    wrong = [1, 7, 12, 18, 23]
    shifts[wrong] += [[50, 0], [0, -40], [30, 30], [-60, 5], [5, 70]]
    shifts[4] = np.nan
    fit = fit_shifts(GRID, shifts)
    assert set(np.flatnonzero(~fit.used)) == {*wrong, 4}
    assert np.linalg.norm(fit.px_per_unit - matrix) < 0.01 * np.linalg.norm(matrix)
    assert fit.residual_px == pytest.approx(0.1 * np.sqrt(2), rel=0.4)


def test_the_covariance_is_what_the_matrix_scatters_by():
    rng = np.random.default_rng(1)
    matrix = np.array([[0.1, 0.015], [0.0, 0.1]])
    noise = np.linalg.cholesky([[1.0, 0.6], [0.6, 2.0]])
    fits = [fit_shifts(GRID, GRID @ matrix.T + rng.normal(size=GRID.shape) @ noise.T)
            for _ in range(300)]  # fmt: skip
    scatter = np.cov(np.array([one.px_per_unit.ravel() for one in fits]).T)
    stated = np.mean([one.covariance for one in fits], axis=0)
    size = np.sqrt(np.outer(np.diag(scatter), np.diag(scatter)))
    assert np.abs(stated - scatter).max() < 0.25 * size.max()
    # worked out: sum of x^2 over the grid is 50 steps^2, the noise of rows is 1 px
    assert stated[0, 0] == pytest.approx(1.0 / (50 * 100**2), rel=0.1)
    assert fits[0].relative_error == pytest.approx(
        np.sqrt(np.trace(fits[0].covariance)) / np.linalg.norm(fits[0].px_per_unit)
    )


@pytest.mark.parametrize(
    ("shifts", "px", "what"),
    [
        (GRID[:5], GRID[:5], "5 that agree"),
        (GRID, np.full_like(GRID, np.nan), "0 that agree"),
        (np.column_stack([np.arange(25.0)] * 2), GRID, "on a line"),
    ],
)
def test_grids_that_say_nothing(shifts, px, what):
    with pytest.raises(UserError, match=what):
        fit_shifts(shifts, px)


def test_arrays_of_wrong_shapes():
    with pytest.raises(ValueError, match="expected"):
        fit_shifts(GRID, GRID[:, :1])


def test_a_steady_drift_is_not_taken_for_a_matrix():
    matrix = np.array([[0.1, 0.02], [-0.03, 0.12]])
    shifts = np.random.default_rng(3).permutation(GRID)
    times = np.arange(25.0) * 4
    drifted = shifts @ matrix.T + np.outer(times, [0.2, -0.1])  # 20 px in all
    fit = fit_shifts(shifts, drifted, times)
    assert fit.px_per_unit == pytest.approx(matrix, abs=1e-10)
    assert fit.n_rejected == 0
    without = fit_shifts(shifts, drifted)
    assert np.linalg.norm(without.px_per_unit - matrix) > 0.02 * np.linalg.norm(matrix)
