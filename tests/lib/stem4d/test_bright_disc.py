import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.stem4d.bright_disc import find_disc

NOTHING = np.zeros((96, 80), bool)


def disc(centre, radius, shape=(96, 80), edge=1.0):
    y, x = np.indices(shape)
    r = np.hypot(y - centre[0], x - centre[1])
    return np.clip((radius - r) / edge + 0.5, 0, 1)


@settings(max_examples=20, deadline=None)
@given(st.floats(35, 60), st.floats(30, 50), st.floats(8, 24), st.integers(0, 99))
def test_shifted_discs_in_noise(row, column, radius, seed):
    mean = np.random.default_rng(seed).poisson(100 * disc((row, column), radius) + 2) * 1.0
    found = find_disc(mean, NOTHING)
    assert found.centre_px == pytest.approx((row, column), abs=0.35)
    assert found.radius_px == pytest.approx(radius, abs=0.5)


def test_a_bright_ring_and_a_hole_do_not_move_the_centre():
    centre, radius = (45.3, 41.8), 22.0
    y, x = np.indices((96, 80))
    r = np.hypot(y - centre[0], x - centre[1])
    mean = 10 * disc(centre, radius) * (1 + 2 * np.exp(-(((r - 20) / 1.5) ** 2)))
    mean[(y - 40) ** 2 + (x - 50) ** 2 < 9] = 0
    assert find_disc(mean, NOTHING).centre_px == pytest.approx(centre, abs=0.1)


def test_a_masked_cross_does_not_cut_it():
    mean, mask = 50 * disc((48.0, 40.0), 25.0) + 1, NOTHING.copy()
    mask[46:49], mask[:, 38:41] = True, True
    mean[mask] = 1e6
    found = find_disc(mean, mask)
    assert found.centre_px == pytest.approx((48, 40), abs=0.3)
    assert found.radius_px == pytest.approx(25, abs=0.3)


def test_uneven_discs():
    y, x = np.indices((96, 80))
    mean = disc((50.0, 37.0), 21.0) * (1 + 0.3 * np.sin(x / 4) * np.cos(y / 5))
    assert find_disc(mean, NOTHING).centre_px == pytest.approx((50, 37), abs=0.4)


@pytest.mark.parametrize("mean", [np.ones((96, 80)), np.indices((96, 80)).sum(0) * 1.0])
def test_no_disc(mean):
    with pytest.raises(UserError, match="a bright disc with a round edge"):
        find_disc(mean, NOTHING, "scan 7")
