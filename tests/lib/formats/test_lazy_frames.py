"""Frames that are read when needed, with and without dask."""

import subprocess
import sys

import numpy as np
import pytest

from ewaldflow.lib.formats.lazy_frames import LazyFrames

ALL = np.arange(70 * 6, dtype=np.int32).reshape(70, 2, 3)


@pytest.fixture
def frames() -> LazyFrames:
    def read(places, shape):
        return ALL[[number for _, _, number in places]].reshape(-1, *shape)

    return LazyFrames(read, [(None, None, i) for i in range(70)], (2, 3), np.dtype(np.int32))


@pytest.mark.parametrize(
    "index", [slice(3, 40), slice(None, None, 9), np.array([5, 1, -1]), 2, (slice(4), 1)]
)
def test_parts_are_those_of_the_stack(frames: LazyFrames, index: object) -> None:
    part = frames[index]
    assert part.shape == ALL[index].shape
    np.testing.assert_array_equal(part.compute(), ALL[index])
    np.testing.assert_array_equal(np.asarray(part), ALL[index])


def test_blocks_and_the_rest_of_dask(frames: LazyFrames) -> None:
    assert frames.chunks == ((32, 32, 6), (2,), (3,)) == frames.to_dask().chunks
    assert frames[5:5].compute().shape == (0, 2, 3)
    np.testing.assert_array_equal(frames.mean(axis=0).compute(), ALL.mean(axis=0))


def test_opening_a_series_needs_no_dask() -> None:
    code = "import ewaldflow.lib.formats, sys; sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
