"""Scans in formats of frames (blockfiles, TVIPS, SER, MRC, TIFF, Dectris), by their readers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import blo
from .inspect import not_what_it_says
from .registry import HEAD_BYTES, reader_of_suffix
from .scan_source import RawScan
from .source import FrameHeader, Reader, sound_header


class FrameStack:
    """Frames of a file of any format, (n, row, column), read when they are sliced."""

    ndim = 3

    def __init__(self, reader: Reader, path: Path, header: FrameHeader) -> None:
        self._reader, self._path, self._header = reader, path, header
        self.shape = (header.n_frames, *header.shape)
        self.dtype = header.dtype.newbyteorder("=")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        """Frames from one to before another."""
        first, stop, step = index.indices(len(self))
        if step != 1:
            raise ValueError(f"frames {index}: expected them one after the other")
        pixels = self._reader.pixels(self._path, self._header, first, stop)
        return np.asarray(pixels, self.dtype).reshape(-1, *self._header.shape)


def read_frames(path: Path, inside: str | None) -> RawScan:
    """The frames of a file, in the order taken."""
    reader = reader_of_suffix(path)
    assert reader is not None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not reader.sniff(head):
        raise not_what_it_says(path, reader, head)
    raw = frames_of(path, reader)
    if reader.name != blo.READER.name:
        return raw
    scan_shape, step_nm = blo.scan_of(path)
    return replace(raw, fields={**raw.fields, "scan_shape": scan_shape, "scan_step_nm": step_nm})


def frames_of(path: Path, reader: Reader) -> RawScan:
    """What a reader of frames says of a file, as a scan."""
    header = sound_header(reader, path)
    said = header.metadata
    fields = {
        "voltage_kV": said.voltage_kV,
        "pixel_size_mm": said.pixel_size_mm,
        "camera_length_mm": said.camera_length_mm or said.distance_mm,
        "gain": said.gain,
        "pedestal": said.pedestal,
        "saturation": said.saturation,
    }
    return RawScan(
        [FrameStack(reader, path, header)],
        [path, *reader.files(path)],
        fields=fields,
        mask=None if reader.mask is None else reader.mask(path, header),
        instrument=header.camera or "unknown",
        notes=header.notes,
    )
