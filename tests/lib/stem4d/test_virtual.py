import numpy as np
import pytest

from ewaldflow.lib.stem4d.scan import scan_of
from ewaldflow.lib.stem4d.virtual import disc, middle_rows, virtual_detector

FRAMES = np.random.default_rng(1).poisson(4, (5, 4, 8, 10)).astype(np.uint16)


def test_a_disc_holds_the_pixels_within_its_radius():
    # (2, 3) and its four neighbours
    assert disc((8, 10), (2.0, 3.0), 1.0).sum() == 5
    assert not disc((8, 10), (float("nan"), 3.0), 1.0).any()


def test_counts_on_a_part_of_the_detector():
    where = disc((8, 10), (4.0, 5.0), 2.5)
    mask = np.zeros((8, 10), bool)
    mask[4, 5] = True
    missing = np.zeros((5, 4), bool)
    missing[1, 2] = True
    scan = scan_of(FRAMES, mask=mask, missing=missing, pedestal=0.5)
    used = where & ~mask
    expected = FRAMES[:, :, used].sum(-1) - 0.5 * used.sum()
    found = virtual_detector(scan, where)
    assert np.isnan(found[1, 2])
    np.testing.assert_allclose(found[~missing], expected[~missing])


@pytest.mark.parametrize(
    ("rows_that_fit", "first", "stop"), [(9, 0, 5), (5, 0, 5), (4, 1, 4), (3, 1, 4), (1, 2, 3)]
)
def test_rows_about_the_middle_that_fit(rows_that_fit, first, stop):
    row_bytes = 4 * 8 * 10 * 2
    held = middle_rows(scan_of(FRAMES), rows_that_fit * row_bytes)
    np.testing.assert_array_equal(held.frames, FRAMES[first:stop])
    assert first == 5 - stop  # the middle of the scan stays in the middle
