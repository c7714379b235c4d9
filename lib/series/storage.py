"""A rotation series in zarr, and the digest by which its pixels are known in any format."""

from __future__ import annotations

import hashlib

import numpy as np
import zarr

from ..artefacts.arrays import check_schema, create_array, read_array, read_frames, write_frames
from ..artefacts.records import read_attributes, write_attributes
from .rotation_series import RotationSeries

KIND = "series"
SCHEMA_VERSION = 1
_COLUMNS = ("frame_number", "angle_start_deg", "angle_width_deg", "mask")
_ARRAYS = ("frames", "beam_centres_px", *_COLUMNS)
_BLOCK = 32  # frames in memory at a time


def write_series(group: zarr.Group, series: RotationSeries) -> None:
    """Write all of `series` into an empty group; the frames are streamed, shard by shard.

    Arrays ``frames`` (n, rows, columns), ``frame_number``, ``angle_start_deg``,
    ``angle_width_deg`` (n,), ``mask`` (rows, columns) and, if known, ``beam_centres_px``
    (n, 2); everything else as attributes.
    """
    write_frames(group, "frames", series.frames)
    for name in _COLUMNS:
        create_array(group, name, getattr(series, name))
    if series.beam_centres_px is not None:
        create_array(group, "beam_centres_px", series.beam_centres_px)
    write_attributes(group, series, leave=_ARRAYS)
    group.attrs.update({"schema": KIND, "schema_version": SCHEMA_VERSION})


def read_series(group: zarr.Group) -> RotationSeries:
    """The series in `group`, equal to the one written; its frames are read when needed.

    Raises
    ------
    UserError : the group holds something else or a newer layout; in an artefact, also when
        damaged arrays are read.
    """
    check_schema(group, KIND, SCHEMA_VERSION)
    fields = read_attributes(group, RotationSeries, leave=_ARRAYS)
    fields |= {name: read_array(group, name) for name in _ARRAYS[1:] if name in group}
    return RotationSeries(frames=read_frames(group, "frames"), **fields)


def pixel_digest(series: RotationSeries) -> str:
    """SHA-256 of the pixel values: the same after any lossless change of format or dtype.

    Digested are the number of frames and their shape, then each frame in C order as
    little-endian 64-bit integers if all its values are whole, else as 64-bit floats with one
    zero and one NaN.

    Raises
    ------
    OverflowError : a value of 2**63 or more.
    """
    total = hashlib.sha256(repr((len(series), *series.shape)).encode())
    for start in range(0, len(series), _BLOCK):
        for frame in np.asarray(series.frames[start : start + _BLOCK]):
            total.update(_canonical(frame))
    return total.hexdigest()


def _canonical(frame: np.ndarray) -> bytes:
    if frame.dtype.kind == "f":
        whole = np.all(np.isfinite(frame)) and np.all(frame == np.rint(frame))
        if not whole or np.abs(frame).max(initial=0) >= 2**63:
            values = frame.astype("<f8") + 0.0  # no negative zero
            values[np.isnan(values)] = np.nan
            return b"f" + values.tobytes()
    elif frame.dtype == np.uint64 and frame.max(initial=0) >= 2**63:
        raise OverflowError(f"pixel value {frame.max()}: expected below 2**63")
    return b"i" + frame.astype("<i8").tobytes()
