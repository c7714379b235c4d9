"""The MIB format, against frames written by hand and files of the detector."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.hardware.merlin.mib import read_mib, read_mib_header

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
        ((b"U16", b"R64"), "raw"),
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


def test_all_depths_of_single_and_quad_detectors() -> None:
    archive = zipfile.ZipFile(_real("rsciio_Merlin_Single_Quad.zip"))
    usual = {}
    for name in archive.namelist():
        if not name.endswith(".mib"):
            continue
        data = archive.read(name)
        if name.endswith("RAW.mib"):
            with pytest.raises(ValueError, match="raw"):
                read_mib_header(data)
            continue
        kind, n_frames, depth = (name.split("_")[i] for i in (0, 1, 4))
        size = read_mib_header(data).frame_bytes
        assert len(data) == int(n_frames) * size
        header, counts = read_mib(data[-size:])
        assert counts.shape == ((512, 512) if kind == "Quad" else (256, 256))
        assert header.number == int(n_frames)
        assert header.exposure_s == 0.001
        assert int(counts.max()) < 2 ** int(depth)
        usual[(kind, n_frames, depth)] = int(np.bincount(counts[counts > 0]).argmax())
    assert len(usual) == 16
    # test pulses: 10 counts where there are any, 1 where the counter has one bit
    assert all(n == (1 if depth == "1" else 10) for (_, _, depth), n in usual.items())
