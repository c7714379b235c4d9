"""Files packed with gzip, each read through an unpacked copy that lives as long as the reading."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from .source import FrameHeader, Pixels, Reader, no_files, no_part

_GZIP = 16 + zlib.MAX_WBITS


def gzipped(reader: Reader) -> Reader:
    """The reader of the same format for files packed with gzip."""
    return replace(
        reader,
        sniff=partial(_sniff, reader),
        header=partial(_header, reader),
        pixels=partial(_pixels, reader),
        mask=None if reader.mask is None else partial(_mask, reader),
        files=no_files,
        is_part=no_part,
    )


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    with TemporaryDirectory(prefix="ewaldflow-") as folder:
        plain = Path(folder) / path.stem
        with gzip.open(path) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        yield plain


def _sniff(reader: Reader, head: bytes) -> bool:
    try:
        return reader.sniff(zlib.decompressobj(_GZIP).decompress(head, 1 << 16))
    except zlib.error:
        return False


def _header(reader: Reader, path: Path) -> FrameHeader:
    with _unpacked(path) as plain:
        return reader.header(plain)


def _pixels(reader: Reader, path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    with _unpacked(path) as plain:
        return reader.pixels(plain, header, first, stop)


def _mask(reader: Reader, path: Path, header: FrameHeader) -> NDArray[np.bool_]:
    assert reader.mask is not None
    with _unpacked(path) as plain:
        return reader.mask(plain, header)
