"""Chunks of bitshuffle that would crash its filter are refused before."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from ewaldflow.lib.formats.hdf5_chunks import CheckedData, check_chunks

FRAMES = np.random.default_rng(0).poisson(3, (5, 100, 103)).astype(np.uint16)


def _file(path, **compression):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=FRAMES, chunks=(2, 50, 103), **compression)
    return h5py.File(path, "r+")["data"]


@pytest.mark.parametrize(
    "compression",
    [hdf5plugin.Bitshuffle(cname="lz4"), hdf5plugin.Bitshuffle(cname="none"),
     hdf5plugin.Bitshuffle(nelems=64, cname="lz4"), {"compression": "gzip"}, {}],
    ids=["lz4", "none", "small blocks", "gzip", "plain"],
)  # fmt: skip
def test_sound_chunks_pass(tmp_path, compression):
    data = CheckedData(_file(tmp_path / "a.h5", **dict(compression)))
    np.testing.assert_array_equal(data[:], FRAMES)
    np.testing.assert_array_equal(data[3], FRAMES[3])
    np.testing.assert_array_equal(data[1:4, 20:30], FRAMES[1:4, 20:30])
    np.testing.assert_array_equal(data[...], FRAMES)


@pytest.mark.parametrize("where", [3, 8, 12, 15])  # size, block, length of the first block
def test_a_damaged_length_is_refused(tmp_path, where):
    data = _file(tmp_path / "a.h5", **hdf5plugin.Bitshuffle(cname="lz4"))
    content = bytearray(data.id.read_direct_chunk((2, 50, 0))[1])
    content[where] ^= 1
    data.id.write_direct_chunk((2, 50, 0), bytes(content))
    check_chunks(data, 0, 2)
    with pytest.raises(ValueError, match=r"a damaged chunk at \(2, 50, 0\)"):
        check_chunks(data, 3, 4)
    with pytest.raises(ValueError, match="a damaged chunk"):
        CheckedData(data)[2]
