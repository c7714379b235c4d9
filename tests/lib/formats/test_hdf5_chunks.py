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


def test_a_chunk_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.h5"
    data = _file(path, **hdf5plugin.Bitshuffle(cname="lz4"))
    size = data.id.get_chunk_info_by_coord((2, 50, 0)).size
    data.file.close()
    content = path.read_bytes()
    stated = size.to_bytes(4, "little") + bytes(4)  # size and filter mask, in the index of chunks
    assert content.count(stated) >= 1
    path.write_bytes(content.replace(stated, b"\xff\xff\xff\x7f" + bytes(4)))
    with pytest.raises(ValueError, match="of 2147483647 bytes"):
        CheckedData(h5py.File(path, "r")["data"])[:]
