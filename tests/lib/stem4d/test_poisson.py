import numpy as np
import pytest
from numba import njit
from scipy.stats import poisson

from ewaldflow.lib.stem4d.poisson import draw_poisson, poisson_table


@njit
def _many(mean, count, table, guide, state):
    drawn = np.empty(count, np.int64)
    for n in range(count):
        drawn[n] = draw_poisson(mean, table, guide, state)
    return drawn


@pytest.mark.parametrize("mean", [0.01, 0.06, 0.9, 3.03, 17.77, 31.99, 32.0, 100.3])
def test_numbers_are_distributed_as_poisson(mean):
    count = 200_000
    table, guide = poisson_table()
    drawn = _many(mean, count, table, guide, np.array([7], np.uint64))
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / count))
    highest = int(poisson.ppf(0.9999, mean)) + 1
    expected = poisson.pmf(np.arange(highest), mean) * count
    found = np.bincount(drawn, minlength=highest)[:highest]
    kept = expected > 20
    chi2 = ((found - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = kept.sum()
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


def test_mean_of_zero_gives_nothing():
    table, guide = poisson_table()
    assert not _many(0.0, 1000, table, guide, np.array([3], np.uint64)).any()
