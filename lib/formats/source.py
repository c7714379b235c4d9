"""What a reader of one file format provides, and what it hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..instrument import SeriesMetadata, first_problem

Pixels = NDArray[Any]

CHUNK_FRAMES = 32  # frames in memory at a time, and in a block of a lazy array, at most
BLOCK_BYTES = 1 << 26  # of frames in memory at a time, unless a single one is larger

_EXPANDS = 2000  # no compression packs better; deflate stops at 1032


def block_frames(shape: tuple[int, int], itemsize: int) -> int:
    """How many frames (rows, columns) to hold at a time: fewer than usual if they are large."""
    return max(1, min(CHUNK_FRAMES, BLOCK_BYTES // max(1, shape[0] * shape[1] * itemsize)))


@dataclass(frozen=True)
class FrameHeader:
    """What one frame file says of itself; everything but its layout may be missing.

    Attributes
    ----------
    shape, dtype : (rows, columns) and pixel type of a frame.
    n_frames : frames in the file; more than one in a stack.
    offset : bytes before the first pixel, where the reader needs it.
    metadata : what the header states about the series.
    start_deg : goniometer angle at the start of each frame of the file, or empty.
    notes : what the reader had to decide, one sentence each, the same for equal files.
    camera : name of the detector, where the header states it.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    n_frames: int = 1
    offset: int = 0
    metadata: SeriesMetadata = field(default_factory=SeriesMetadata)
    start_deg: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    camera: str = ""


def no_files(path: Path) -> tuple[Path, ...]:
    """Of a format that keeps its frames in the one file."""
    return ()


def no_part(path: Path) -> bool:
    """Of a format whose files all begin a series."""
    return False


@dataclass(frozen=True)
class Reader:
    """One file format. A new one is a module with a Reader, listed in `registry`.

    Attributes
    ----------
    name : as people call the format.
    suffixes : of its files, lower case, with the dot.
    sniff : whether the first 1024 bytes of a file are of this format.
    header : reads a file's header. Raises ValueError, saying what is wrong, for a damaged or
        truncated file.
    pixels : ``pixels(path, header, first, stop)``, frames of a file, (n, rows, columns).
    mask : ``mask(path, header)``, (rows, columns), True where the file says that there is no pixel
        or that it must not be used; None where the format says nothing of it.
    files : further files that the frames of one lie in.
    is_part : whether a file only continues another, as its name tells.
    """

    name: str
    suffixes: tuple[str, ...]
    sniff: Callable[[bytes], bool]
    header: Callable[[Path], FrameHeader]
    pixels: Callable[[Path, FrameHeader, int, int], Pixels]
    mask: Callable[[Path, FrameHeader], NDArray[np.bool_]] | None = None
    files: Callable[[Path], tuple[Path, ...]] = no_files
    is_part: Callable[[Path], bool] = no_part


@dataclass(frozen=True)
class Sidecar:
    """What a file beside the frames says about them.

    Attributes
    ----------
    path : the file.
    metadata : what it states about the series.
    shape : (rows, columns) of the frames it is about.
    frame_range, excluded : first and last frame number to use; ranges not to use.
    image_interval : frames at its multiples were spent on tracking images.
    tracking : numbers of frames spent on tracking images, where they are listed.
    frame_angles : measured (start, width) in degrees by frame number, where they are known
        better than headers have them.
    untrusted : (rows, columns) slices not to be used.
    template : name of the frames it is about, with ``?`` for digits.
    notes : what the reader had to decide, one sentence each.
    """

    path: Path
    metadata: SeriesMetadata
    shape: tuple[int, int] | None = None
    frame_range: tuple[int, int] | None = None
    excluded: tuple[tuple[int, int], ...] = ()
    image_interval: int | None = None
    tracking: tuple[int, ...] = ()
    frame_angles: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    untrusted: tuple[tuple[slice, slice], ...] = ()
    template: str | None = None
    notes: tuple[str, ...] = ()


def stated(where: object, **fields: Any) -> SeriesMetadata:
    """What a file at `where` states. Raises UserError for a value that cannot be."""
    try:
        return SeriesMetadata(**fields)
    except ValidationError as error:
        raise first_problem(where, error) from None


def check_size(path: Path, expected: int) -> None:
    """Raise ValueError if a file has fewer bytes than its header promises."""
    found = path.stat().st_size
    if found < expected:
        raise ValueError(f"truncated: {found} bytes, the header promises {expected}")


def sound_header(reader: Reader, path: Path) -> FrameHeader:
    """The header of a file, whose frames are not larger than any compression makes of its bytes.

    Raises ValueError if they are: a damaged size would take all memory.
    """
    header = reader.header(path)
    rows, columns = header.shape
    wanted = rows * columns * header.dtype.itemsize
    size = sum(one.stat().st_size for one in (path, *reader.files(path)))
    if wanted > max(BLOCK_BYTES, _EXPANDS * size):
        raise ValueError(f"frames of {rows} x {columns} in {size} bytes")
    return header


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Frame numbers as runs (first, last) of successive ones."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def ranges(numbers: list[int]) -> str:
    """Frame numbers for people: ``1-3, 7``."""
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs(numbers))
