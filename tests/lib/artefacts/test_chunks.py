"""Chunks and shards that are written without zarr are those that zarr reads."""

import numpy as np
import pytest
import zarr

from ewaldflow.lib.artefacts import arrays
from ewaldflow.lib.artefacts.arrays import compressed_array, write_chunk, write_frames


def _counts(*shape, dtype=np.uint16):
    return np.random.default_rng(1).poisson(2, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("n", [1, 7, 8, 20])
def test_shards_are_read_by_zarr(tmp_path, monkeypatch, n, dtype):
    monkeypatch.setattr(arrays, "SHARD_FRAMES", 8)
    frames = _counts(n, 6, 9, dtype=dtype)
    write_frames(zarr.open_group(tmp_path, mode="w"), "frames", frames)
    array = zarr.open_group(tmp_path, mode="r")["frames"]
    assert (array.chunks, array.shards) == ((1, 6, 9), (8, 6, 9))
    assert array.nchunks_initialized >= array.nchunks  # zarr counts all places of a shard
    np.testing.assert_array_equal(array[...], frames)
    np.testing.assert_array_equal(array[n - 1], frames[n - 1])


def test_a_shard_is_what_zarr_would_write(tmp_path):
    frames = _counts(64, 16, 16)
    write_frames(zarr.open_group(tmp_path / "ours", mode="w"), "frames", frames)
    group = zarr.open_group(tmp_path / "theirs", mode="w")
    arrays.create_frames(group, "frames", frames.shape, frames.dtype)[...] = frames
    ours, theirs = (tmp_path / name / "frames" / "c" / "0" / "0" / "0" for name in
                    ("ours", "theirs"))  # fmt: skip
    # zarr puts chunks in an order of its own
    assert len(ours.read_bytes()) == len(theirs.read_bytes())


def test_a_flipped_bit_in_a_shard_shows(tmp_path):
    frames = _counts(8, 16, 16)
    write_frames(zarr.open_group(tmp_path, mode="w"), "frames", frames)
    shard = tmp_path / "frames" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_group(tmp_path, mode="r")["frames"][...]


def test_a_chunk_at_the_edge_is_filled_up(tmp_path):
    values = _counts(5, 7)
    array = compressed_array(
        zarr.open_group(tmp_path, mode="w"), "values", (5, 7), values.dtype, (3, 4)
    )
    for row in (0, 1):
        for column in (0, 1):
            part = values[3 * row : 3 * row + 3, 4 * column : 4 * column + 4]
            write_chunk(array, (row, column), part)
    np.testing.assert_array_equal(zarr.open_group(tmp_path, mode="r")["values"][...], values)
