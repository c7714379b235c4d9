"""Long files are read in blocks, and frames beyond 4 GiB are where they should be."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np

from ewaldflow.lib.formats import read_series, tvips
from ewaldflow.lib.formats.nxmx import write_nxmx
from ewaldflow.lib.formats.write import blocks
from ewaldflow.lib.instrument import SeriesOverrides

SIDE = 2048
GIVEN = SeriesOverrides(
    voltage_kV=200, pixel_size_mm=0.055, distance_mm=400, rotation_axis=(0, 1, 0),
    oscillation_deg=0.1, start_deg=-10,
)  # fmt: skip


def mib_header(n: int) -> bytes:
    text = f"MQ1,{n:06d},00384,01,{SIDE},{SIDE},U16,   1x1,01,2018-01-19 20:55:10.9,0.1,0,0,0,"
    return text.encode().ljust(384, b"\0")


def test_memory_stays_that_of_a_block(tmp_path: Path) -> None:
    n, size = 56, 384 + 2 * SIDE * SIDE
    with (tmp_path / "long.mib").open("wb") as file:  # 470 MB, of which the disk holds little
        for k in range(n):
            file.seek(k * size)
            file.write(mib_header(k + 1) + struct.pack(">H", k))
        file.truncate(n * size)
    tracemalloc.start()
    try:
        series = read_series(tmp_path / "long.mib", overrides=GIVEN)
        firsts = [int(one) for _, block in blocks(series) for one in block[:, 0, 0]]
        read = tracemalloc.get_traced_memory()[1]
        assert write_nxmx(series, tmp_path / "out").lossless
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert firsts == list(range(n))
    assert read < 300e6  # a block as it is, in native bytes, with others, and the last one
    assert peak < 320e6


def test_a_stream_of_50_gb_over_two_files(tmp_path: Path) -> None:
    pixels = 4096 * 4096
    size = 100 + 2 * pixels
    header = struct.pack("<13I", 256, 2, 4096, 4096, 16, 0, 0, 1, 1, 15500, 200, 1000, 100)
    counts = (760, 740)  # 25 GB each, sparse
    number = 0
    for i, n in enumerate(counts):
        start = 256 if i == 0 else 0
        with (tmp_path / f"s_{i:03d}.tvips").open("wb") as file:
            if i == 0:
                file.write(header.ljust(256))
            for k in (0, n - 1):
                file.seek(start + k * size)
                head = struct.pack("<4IfII5f", number + k, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0)
                file.write(head.ljust(100, b"\0") + struct.pack("<H", 1 + number + k))
            file.truncate(start + n * size)
        number += n
    path = tmp_path / "s_000.tvips"
    found = tvips.read_header(path)
    assert found.n_frames == 1500
    assert (size * found.n_frames) > 50e9
    over = tvips.read_pixels(path, found, 759, 761)  # the last of one file, the first of the next
    np.testing.assert_array_equal(over[:, 0, 0], [760, 761])
    assert int(tvips.read_pixels(path, found, 1499, 1500)[0, 0, 0]) == 1500
