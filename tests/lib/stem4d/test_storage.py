import numpy as np
import pytest
import zarr

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.series.rotation_series import SourceFile
from ewaldflow.lib.stem4d import storage
from ewaldflow.lib.stem4d.rows import Decoded, Sliced, chunk_reader, for_each_rows
from ewaldflow.lib.stem4d.scan import scan_of
from ewaldflow.lib.stem4d.storage import (
    chunk_shape,
    create_frames,
    read_scan,
    write_rows,
    write_scan,
)


def _frames(rows=5, columns=7, height=6, width=9, dtype=np.uint16):
    values = np.random.default_rng(2).poisson(3, (rows, columns, height, width))
    return values.astype(dtype)


def _stored(tmp_path, frames, monkeypatch, chunk_bytes=None, **fields):
    if chunk_bytes:
        monkeypatch.setattr(storage, "CHUNK_BYTES", chunk_bytes)
    write_scan(zarr.open_group(tmp_path / "scan.zarr", mode="w"), scan_of(frames, **fields))
    return read_scan(zarr.open_group(tmp_path / "scan.zarr", mode="r"))


@pytest.mark.parametrize(
    ("scan_shape", "shape", "item_bytes", "expected"),
    [
        ((64, 64), (256, 256), 2, (1, 64, 256, 256)),  # a row is 8 MiB
        ((256, 256), (256, 256), 2, (1, 64, 256, 256)),  # a quarter of a row
        ((64, 64), (512, 512), 2, (1, 16, 512, 512)),
        ((100, 100), (192, 192), 2, (1, 100, 192, 192)),  # 7.03 MiB
        ((100, 130), (192, 192), 2, (1, 65, 192, 192)),  # 113 fit: two even halves
        ((64, 64), (32, 32), 2, (64, 64, 32, 32)),  # all of it is 8 MiB
        ((200, 50), (64, 64), 4, (10, 50, 64, 64)),
        ((4, 4), (4096, 4096), 4, (1, 1, 4096, 4096)),
        ((1, 5), (8, 8), 1, (1, 5, 8, 8)),
    ],
)
def test_chunks_are_whole_frames_of_at_most_8_MiB(scan_shape, shape, item_bytes, expected):
    assert chunk_shape(scan_shape, shape, item_bytes) == expected


def test_a_scan_comes_back_as_it_was_written(tmp_path, monkeypatch):
    frames = _frames()
    missing = np.zeros((5, 7), bool)
    missing[2, 3] = True
    mask = np.zeros((6, 9), bool)
    mask[1, 4] = True
    fields = {
        "name": "gold",
        "mask": mask,
        "missing": missing,
        "wavelength_A": 0.0197,
        "scan_step_nm": (12.5, 12.5),
        "convergence_mrad": float("nan"),
        "notes": ("odd",),
        "sources": (SourceFile("a.mib", "0" * 64),),
    }
    found = _stored(tmp_path, frames, monkeypatch, **fields)
    np.testing.assert_array_equal(np.asarray(found.frames[...]), frames)
    assert found.frames.dtype == np.uint16
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_array_equal(found.missing, missing)
    assert (found.name, found.wavelength_A, found.scan_step_nm) == ("gold", 0.0197, (12.5, 12.5))
    assert np.isnan(found.convergence_mrad)
    assert found.camera_length_mm is None
    assert found.notes == ("odd",)
    assert found.sources == fields["sources"]


def test_another_artefact_is_no_scan(tmp_path):
    group = zarr.open_group(tmp_path / "other.zarr", mode="w")
    group.attrs["schema"] = "series"
    with pytest.raises(UserError, match="found schema 'series'"):
        read_scan(group)


def test_fewer_rows_than_promised_are_refused(tmp_path):
    group = zarr.open_group(tmp_path / "short.zarr", mode="w")
    array = create_frames(group, (4, 3), (5, 5), np.dtype(np.uint8))
    with pytest.raises(ValueError, match="scan rows: found 3, expected 4"):
        write_rows(array, iter(_frames(3, 3, 5, 5, np.uint8)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [None, (1, 4), (3, 5), (2, 2)])
@pytest.mark.parametrize(
    "chunk_bytes",
    [100, 250, 1600],  # one frame, two frames (108 bytes each), two rows
)
def test_every_frame_of_a_stored_scan_is_seen_once(
    tmp_path, monkeypatch, chunk_bytes, rows, threads
):
    frames = _frames()
    scan = _stored(tmp_path, frames, monkeypatch, chunk_bytes)
    assert isinstance(chunk_reader(scan.frames), Decoded)
    _check_all_seen(scan, frames, rows, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [None, (1, 4)])
@pytest.mark.parametrize("kind", ["numpy", "dask", "sharded", "memmap"])
def test_every_frame_of_any_array_is_seen_once(tmp_path, kind, rows, threads):
    frames = _frames(dtype=np.float32)
    if kind == "dask":
        import dask.array as da

        given = da.from_array(frames, chunks=(2, 3, 6, 9))
    elif kind == "sharded":
        given = zarr.create_array(
            tmp_path / "s.zarr", data=frames, chunks=(1, 1, 6, 9), shards=(1, 7, 6, 9)
        )
    elif kind == "memmap":
        np.save(tmp_path / "s.npy", frames)
        given = np.load(tmp_path / "s.npy", mmap_mode="r")
    else:
        given = frames
    assert isinstance(chunk_reader(given), Sliced)
    _check_all_seen(scan_of(given), frames, rows, threads)


def _check_all_seen(scan, frames, rows, threads):
    flat = frames.reshape(-1, *frames.shape[2:])
    seen = np.zeros(len(flat), int)

    def work(first, block):
        np.testing.assert_array_equal(block, flat[first : first + len(block)])
        seen[first : first + len(block)] += 1

    for_each_rows(scan, work, threads, rows)
    first, stop = rows or (0, frames.shape[0])
    expected = np.zeros(frames.shape[:2], int)
    expected[first:stop] = 1
    np.testing.assert_array_equal(seen, expected.ravel())


@pytest.mark.parametrize("threads", [1, 2])
def test_what_the_work_raises_ends_the_reading(threads):
    calls = []

    def work(first, block):
        calls.append(first)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        for_each_rows(scan_of(np.zeros((50, 2, 1024, 1024), np.uint8)), work, threads)
    assert len(calls) <= threads


def test_missing_and_damaged_chunks_are_told(tmp_path, monkeypatch):
    scan = _stored(tmp_path, _frames(), monkeypatch, 100)
    chunk = tmp_path / "scan.zarr" / "frames" / "c.2.3.0.0"
    content = bytearray(chunk.read_bytes())
    content[30] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UserError, match="chunk 2, 3: found other bytes than were written"):
        for_each_rows(scan, lambda first, block: None)
    chunk.unlink()
    with pytest.raises(UserError, match="chunk 2, 3: found no such chunk"):
        for_each_rows(scan, lambda first, block: None)


def test_rows_beyond_the_scan_are_refused():
    with pytest.raises(ValueError, match="within 3 scan rows"):
        for_each_rows(scan_of(np.zeros((3, 2, 4, 4))), lambda first, block: None, rows=(0, 4))
