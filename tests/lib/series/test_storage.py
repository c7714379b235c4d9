import hashlib
import tracemalloc
from dataclasses import fields, replace

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ewaldflow.lib.artefacts import ArtefactStore, CodeVersion, Recipe
from ewaldflow.lib.artefacts.in_threads import THREADS
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.series import RotationSeries, SourceFile
from ewaldflow.lib.series.storage import pixel_digest, read_series, write_series

DTYPES = ["u1", "<u2", ">u2", "<i2", ">i4", "u8", "i8", "<f4", ">f8"]
finite = st.floats(allow_nan=False, allow_infinity=False)


def make_series(frames, **changes):
    n, *shape = frames.shape
    geometry = Geometry(0.0250793, 0.055, 532.1, (258.3, 251.9), (0.3, -0.7, 0.1))
    base = RotationSeries(
        name="garnet",
        frames=da.from_array(frames, chunks=(7, *shape)) if n else da.from_array(frames),
        frame_number=np.arange(n) * 2 + 1,
        angle_start_deg=-30 + 0.12 * np.arange(n),
        angle_width_deg=np.full(n, 0.12),
        geometry=geometry,
        mask=np.arange(np.prod(shape)).reshape(shape) % 5 == 0,
    )
    return base.with_(**changes)


def group(name=""):
    return zarr.open_group(zarr.storage.MemoryStore(), mode="w", zarr_format=3, path=name)


def round_trip(series):
    where = group()
    write_series(where, series)
    return read_series(where)


def assert_same(one, two):
    for item in fields(RotationSeries):
        a, b = getattr(one, item.name), getattr(two, item.name)
        if isinstance(a, np.ndarray | da.Array):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype.newbyteorder("<") == b.dtype, item.name
            assert a.shape == b.shape
            assert a.astype(b.dtype).tobytes() == b.tobytes(), item.name
        else:
            assert type(a) is type(b)
            assert repr(a) == repr(b), item.name


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_field_comes_back_bit_for_bit(data):
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    n = data.draw(st.integers(1, 9))
    frames = data.draw(arrays.arrays(dtype, (n, 3, 4)))
    positive = st.floats(1e-6, 1e6)
    geometry = Geometry(
        *(data.draw(positive) for _ in range(3)),
        (data.draw(finite), data.draw(finite)),
        data.draw(
            st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 1e-3)
        ),
        EllipticalDistortion(data.draw(st.floats(1, 1.99)), data.draw(st.floats(0, 180))),
    )
    series = make_series(
        frames,
        name=data.draw(st.text(st.characters(exclude_categories=["Cs"]))),
        frame_number=np.sort(
            data.draw(arrays.arrays(np.int64, n, unique=True, elements=st.integers(0, 2**60)))
        ),
        angle_start_deg=data.draw(arrays.arrays(np.float64, n)),
        angle_width_deg=data.draw(arrays.arrays(np.float64, n)),
        geometry=geometry,
        mask=data.draw(arrays.arrays(np.bool_, (3, 4))),
        beam_centres_px=data.draw(st.none() | arrays.arrays(np.float64, (n, 2))),
        gain=data.draw(st.none() | finite),
        pedestal=data.draw(finite),
        saturation=data.draw(st.none() | st.floats()),
        exposure_s=data.draw(st.none() | finite),
        tracking_numbers=data.draw(st.lists(st.integers(0, 10**9)).map(tuple)),
        instrument=data.draw(st.sampled_from(["titan", "größer 2100"])),
        notes=("NaN", "inf", "Frame 3: found 0 counts."),
        sources=(SourceFile("a/00001.img", "0" * 64), SourceFile("a/00002.img", "1" * 64)),
    )
    assert_same(series, round_trip(series))


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 129])
def test_any_number_of_frames(n):
    frames = np.random.default_rng(n).poisson(2, (n, 6, 5)).astype("u2")
    series = make_series(frames)
    again = round_trip(series)
    assert_same(series, again)
    assert pixel_digest(again) == pixel_digest(series)
    if n:
        np.testing.assert_array_equal(again.frames[n // 2].compute(), frames[n // 2])


def test_frames_are_read_lazily_in_chunks_of_whole_frames(tmp_path):
    store = ArtefactStore(tmp_path, CodeVersion(version="0", digest="0" * 64))
    frames = np.random.default_rng(0).poisson(2, (130, 8, 9)).astype("u2")
    with store.draft(Recipe(kind="series", name="garnet")) as draft:
        write_series(draft.arrays, make_series(frames))
        artefact = draft.publish()
    series = read_series(artefact.arrays)
    assert series.frames.chunks == ((64, 64, 2), (8,), (9,))
    names = [name for name in artefact.manifest.files if name.startswith("data.zarr/frames/c/")]
    assert names == [f"data.zarr/frames/c/{number}/0/0" for number in range(3)]
    (artefact.path / names[1]).unlink()  # only who needs it is told
    np.testing.assert_array_equal(series.frames[:64].compute(), frames[:64])
    with pytest.raises(UserError, match="frames/c/1/0/0: found no such file"):
        series.frames[64].compute()
    with pytest.raises(UserError, match="frames/c/1/0/0: found no such file"):
        pixel_digest(series)


def test_memory_is_bounded_by_shards_and_not_by_the_series(tmp_path):
    # 1500 frames of 256 x 256 x 2 bytes are 197 MB, made when asked for; a shard is 8.4 MB
    frames = da.random.default_rng(0).integers(0, 9, (1500, 256, 256), "u2", chunks=(4, 256, 256))
    series = make_series(np.zeros((1500, 256, 256), "u1")).with_(frames=frames.astype("u2"))
    where = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    write_series(where, make_series(np.zeros((3, 4, 4), "u2")))  # imports and threads
    tracemalloc.start()
    write_series(zarr.open_group(tmp_path / "a", mode="w", zarr_format=3), series)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # a shard for each thread, two that wait, one being read, and compressed ones
    assert peak < (1.5 * THREADS + 4) * 8.4e6


def test_geometry_read_back_is_equal():
    rng = np.random.default_rng(5)
    for axis in rng.normal(size=(200, 3)):
        geometry = Geometry(0.02, 0.05, 500.0, (1.0, 2.0), tuple(axis))
        assert replace(geometry, distance_mm=499.0).axis == geometry.axis


@pytest.mark.parametrize("change", [{"schema": "reduction"}, {"schema_version": 2}])
def test_another_kind_or_a_newer_layout(change):
    where = group()
    write_series(where, make_series(np.zeros((3, 4, 4), "u2")))
    where.attrs.update(change)
    words = "found schema 'reduction', expected 'series'|found series layout 2, expected at most 1"
    with pytest.raises(UserError, match=words):
        read_series(where)
    with pytest.raises(UserError, match="found schema None"):
        read_series(group())


def test_pixel_digest_known_by_hand():
    # the words of its definition, spelled out for two frames of 1 x 2 pixels
    frames = np.array([[[0, 258]], [[-1, 7]]], "i2")
    content = b"(2, 1, 2)"
    content += b"i" + bytes(8) + b"\2\1" + bytes(6)
    content += b"i" + b"\xff" * 8 + b"\7" + bytes(7)
    assert pixel_digest(make_series(frames)) == hashlib.sha256(content).hexdigest()


@given(arrays.arrays(np.uint8, (5, 3, 4)))
@settings(max_examples=20, deadline=None)
def test_pixel_digest_survives_lossless_changes_of_dtype_and_chunks(values):
    known = pixel_digest(make_series(values))
    for dtype in DTYPES[1:]:
        series = make_series(values.astype(dtype))
        assert pixel_digest(series) == known
        assert pixel_digest(series.with_(frames=series.frames.rechunk((2, 1, 3)))) == known
    other = values.copy()
    other[3, 1, 2] ^= 1
    assert pixel_digest(make_series(other)) != known


def test_pixel_digest_tells_what_is_different():
    frames = np.arange(24, dtype="u2").reshape(2, 3, 4)
    halves = frames + 0.5
    nan = np.where(halves == 0.5, np.nan, halves)
    different = [frames, frames[::-1], frames[:1], frames.reshape(2, 4, 3), halves, nan]
    assert len({pixel_digest(make_series(one)) for one in different}) == len(different)
    zeros = np.array([[[0.0, 0.5]], [[-0.0, 0.5]]])
    assert pixel_digest(make_series(zeros)) == pixel_digest(make_series(-zeros * [-1.0, -1.0]))
    assert pixel_digest(make_series(zeros)) == pixel_digest(make_series(np.abs(zeros)))
    with pytest.raises(OverflowError, match="18446744073709551615"):
        pixel_digest(make_series(np.full((1, 1, 1), 2**64 - 1, "u8")))
