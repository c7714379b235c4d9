import numpy as np
import pytest

from ewaldflow.lib.xds import read_integrate


@pytest.fixture
def read(layout, written):
    return read_integrate(written(layout("INTEGRATE.LP")))


def test_images(read):
    images = read.images
    assert images.number.tolist() == [11, 12, 13, 14, 15]
    assert images.error.tolist() == [0, 0, 0, -1, 0]
    np.testing.assert_array_equal(images.scale, [1.0, 0.99, 12345.678, 0.0, np.nan])
    assert images.n_strong.tolist() == [8, 6, 12345678, 0, 7]
    np.testing.assert_allclose(images.mosaicity_esd_deg[:2], [0.2, 0.21])


def test_columns_that_touch_are_told_by_their_headings(read):
    i = read.images
    row = (i.n_background[2], i.n_overloaded[2], i.n_ewald[2], i.n_rejected[2])
    assert row == (123456789, 12345, 1234567, 123456)
    assert i.divergence_esd_deg[2] == 0.013
    assert np.isnan(i.mosaicity_esd_deg[2])


def test_batches(read):
    assert read.data_range == (11, 15)
    assert read.batches == ((11, 13), (14, 15))
    assert read.n_integrated == (101, 99)
    assert read.refinements == ()


def test_what_it_suggests_and_saves(read):
    assert (read.beam_divergence_deg, read.beam_divergence_esd_deg) == (0.12, 0.012)
    assert (read.reflecting_range_deg, read.reflecting_range_esd_deg) == (2.1, 0.3)
    assert (read.n_saved, read.gain) == (1500, 3.25)
    first, second = read.profile_correlations
    assert (first.min_i_over_sigma, first.max_i_over_sigma) == (-3.0, -2.0)
    assert (first.correlation, first.esd, first.mean_intensity, first.n) == (-0.405, 0.062, -13, 2)
    assert second.n == 330
    assert read.complete
    assert read.problems == ()


def test_a_run_that_was_killed(layout, written):
    text = layout("INTEGRATE.LP")
    read = read_integrate(written(text[: text.index("    15   0")]))
    assert read.images.number.tolist() == [11, 12, 13, 14]
    assert read.batches == ((11, 13), (14, 15))
    assert read.n_integrated == (101, None)
    assert np.isnan(read.beam_divergence_deg)
    assert read.n_saved is None
    assert not read.complete


def test_a_run_before_its_first_image(layout, written):
    text = layout("INTEGRATE.LP")
    end = text.index("****", text.index("GAIN"))
    read = read_integrate(written(text[:end] + "\n !!! ERROR !!! CANNOT OPEN\n"))
    assert len(read.images) == 0
    assert read.errors[0].headline == "CANNOT OPEN"
