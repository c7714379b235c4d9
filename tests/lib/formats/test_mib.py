"""The MIB format, against frames written by hand and files of the detector."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.formats import mib, read_image
from ewaldflow.lib.formats.mib import open_mib, read_frames, read_mib, read_mib_header

HEADER = (
    b"MQ1,000007,00384,01,0003,0002,U16,   1x1,01,2018-01-19 20:55:10.966026,0.250000,0,0,0,"
    b"1.500000E+1,"
).ljust(384, b"\0")
DATA = Path(
    os.environ.get(
        "EWALDFLOW_REAL_DATA", Path(ewaldflow.__file__).resolve().parents[1] / "shared" / "data"
    )
)


def test_a_frame_written_by_hand() -> None:
    header, counts = read_mib(HEADER + bytes([0, 1, 0, 2, 0, 3, 1, 0, 2, 0, 15, 255]))
    assert (header.number, header.exposure_s, header.shape) == (7, 0.25, (2, 3))
    np.testing.assert_array_equal(counts, [[1, 2, 3], [256, 512, 4095]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((b"MQ1", b"XX1"), "no MIB header"),
        ((b"U16", b"R64"), "raw pixels of None bits"),
        ((b"U16", b"F32"), "pixel type"),
        ((b"0003,0002", b"0000,0002"), "0 pixels"),
        ((b"000007", b"abcdef"), "invalid literal"),
        ((b"0003,0002", b"0003,0003"), "promises 402"),
    ],
)
def test_what_is_no_frame_says_why(change: tuple[bytes, bytes], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_mib(HEADER.replace(*change) + bytes(12))


def _real(name: str) -> Path:
    path = DATA / "images" / name
    if not path.exists():
        pytest.skip(f"real data not found: {path}")
    return path


@pytest.mark.parametrize(
    ("name", "n_frames", "dtype"), [("skued_test.mib", 1, "u2"), ("skued_test_multi.mib", 9, "u1")]
)
def test_files_of_a_single_chip(name: str, n_frames: int, dtype: str) -> None:
    data = _real(name).read_bytes()
    size = read_mib_header(data).frame_bytes
    assert len(data) == n_frames * size
    for i in range(n_frames):
        header, counts = read_mib(data[i * size : (i + 1) * size])
        assert header.number == i + 1
        assert counts.shape == (256, 256)
        assert counts.dtype.newbyteorder("=") == np.dtype(dtype)


def test_all_depths_of_single_and_quad_detectors(tmp_path: Path) -> None:
    archive = zipfile.ZipFile(_real("rsciio_Merlin_Single_Quad.zip"))
    archive.extractall(tmp_path)
    usual, taken = {}, {}
    for path in sorted(tmp_path.rglob("*.mib")):
        kind, n_frames, depth = (path.name.split("_")[i] for i in (0, 1, 4))
        header, n, left = open_mib(path)
        assert (n, left) == (int(n_frames), 0)
        assert header.depth == int(depth)
        assert header.raw == ("RAW" in path.name)
        frames = read_frames(path, header, 0, n)
        assert frames.shape == (n, *((512, 512) if kind == "Quad" else (256, 256)))
        assert (header.number, header.exposure_s) == (1, 0.001)
        assert int(frames.max()) < 2 ** int(depth)
        np.testing.assert_array_equal(read_frames(path, header, n - 1, n)[0], frames[-1])
        key = (kind, n_frames, depth, header.raw)
        usual[key] = int(np.bincount(frames[frames > 0]).argmax())
        taken[key] = frames.mean(axis=0)
    assert len(usual) == 20
    # test pulses: 10 counts where there are any, 1 where the counter has one bit
    assert all(n == (1 if depth == "1" else 10) for (_, _, depth, _), n in usual.items())
    # the same pixels answer whether the frames were taken raw or not
    for kind in ("Single", "Quad"):
        a, b = (taken[kind, "9", "1", raw].ravel() for raw in (True, False))
        assert np.corrcoef(a, b)[0, 1] > 0.99


@pytest.mark.parametrize("depth", [1, 6, 12, 24])
def test_raw_pixels_of_a_chip(tmp_path: Path, depth: int) -> None:
    counts = np.random.default_rng(depth).integers(0, 2**depth, (3, 256, 256))
    path = tmp_path / "raw.mib"
    path.write_bytes(b"".join(_raw(i + 1, frame, depth, "1x1") for i, frame in enumerate(counts)))
    header, n, left = open_mib(path)
    assert (n, left, header.saturation) == (3, 0, 2**depth - 1)
    np.testing.assert_array_equal(read_frames(path, header, 1, 3), counts[1:])
    image = read_image(path, 3)
    np.testing.assert_array_equal(image.pixels, counts[2])
    assert (image.pixel_size_mm, image.exposure_s) == (0.055, 0.001)


@pytest.mark.parametrize("depth", [1, 6, 12])
def test_raw_pixels_of_four_chips(depth: int) -> None:
    counts = np.random.default_rng(depth).integers(0, 2**depth, (512, 512))
    # last chip first; those below are turned by half a turn
    chips = [
        counts[256:, 256:][::-1, ::-1], counts[256:, :256][::-1, ::-1],
        counts[:256, 256:], counts[:256, :256],
    ]  # fmt: skip
    header, found = read_mib(_raw(1, np.concatenate(chips, axis=1), depth, "2x2"))
    assert (header.shape, header.chips) == ((512, 512), (2, 2))
    np.testing.assert_array_equal(found, counts)


def test_raw_pixels_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ValueError, match="2x2 of 1, 6 or 12 bits"):
        read_mib(_raw(1, np.zeros((256, 1024), int), 24, "2x2"))
    with pytest.raises(ValueError, match="chips 1x4"):
        read_mib(_raw(1, np.zeros((256, 1024), int), 6, "1x4"))


def test_damaged_files(tmp_path: Path) -> None:
    frame = HEADER + bytes(12)
    path = tmp_path / "a.mib"
    for data, says in (
        (b"", "no MIB header"),
        (frame[:-1], "truncated: 395 bytes"),
        (frame + frame[:-1], "truncated: 395 bytes after 1 whole frames"),
        (frame + frame.replace(b"0003,0002", b"0002,0003"), "expected one kind"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=says):
            mib.read_header(path)


def test_the_counter_of_an_older_file_is_in_its_hdr(tmp_path: Path) -> None:
    (tmp_path / "a.mib").write_bytes(HEADER + bytes(12))
    assert mib.read_header(tmp_path / "a.mib").metadata.saturation is None
    (tmp_path / "a.hdr").write_text("HDR,\t\nCounter Depth (number):\t12\nEnd\t")
    assert mib.read_header(tmp_path / "a.mib").metadata.saturation == 4095


def test_frames_beyond_4_gib_are_where_they_should_be(tmp_path: Path) -> None:
    header = HEADER.replace(b"0003,0002", b"2048,2048")
    size = 384 + 2 * 2048 * 2048
    n = 6000  # 50 GB, of which the disk holds three frames
    path = tmp_path / "long.mib"
    with path.open("wb") as file:
        for i in (0, n - 2, n - 1):
            file.seek(i * size)
            file.write(header + np.full(2048 * 2048, i, ">u2").tobytes())
    found = mib.read_header(path)
    assert found.n_frames == n
    pixels = mib.read_pixels(path, found, n - 2, n)
    assert (pixels.min(axis=(1, 2)) == [n - 2, n - 1]).all()


def _raw(number: int, rows: np.ndarray, depth: int, layout: str) -> bytes:
    """A raw frame whose words of 64 bits hold `rows` in reverse."""
    n_bytes, chips = (384, 1) if layout == "1x1" else (768, 4)
    header = (
        f"MQ1,{number:06d},{n_bytes:05d},{chips:02d},{rows.shape[1]:04d},0256,R64,   {layout},0F,"
        f"2021-04-15 14:44:15.862206,0.001000,0,0,0,2.0E+0,3RX,"
        f"MQ1A,2021-04-15T13:44:15.862206301Z,1000000ns,{depth},"
    )
    if depth == 1:
        bits = rows.reshape(-1, 64)[:, ::-1].astype(np.uint8)
        data = np.packbits(bits, axis=1).tobytes()
    elif depth == 6:
        data = rows.reshape(-1, 8)[:, ::-1].astype(np.uint8).tobytes()
    elif depth == 12:
        data = rows.reshape(-1, 4)[:, ::-1].astype(">u2").tobytes()
    else:
        passes = np.stack([rows >> 12, rows & 4095])
        data = passes.reshape(-1, 4)[:, ::-1].astype(">u2").tobytes()
    return header.encode().ljust(n_bytes, b"\0") + data
