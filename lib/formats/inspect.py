"""Look at every frame once: which can be read, and what is odd about them.

A frame that cannot be read is left out with its reason; it never stops the others.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..series.rotation_series import SourceFile
from .discover import Found, FrameFile
from .lazy_frames import LazyFrames, Place
from .registry import HEAD_BYTES, reader_of_content
from .source import FrameHeader, Reader, block_frames, sound_header

_ODD_FRACTION = 0.1
_LONGEST = 160  # characters of what a library says of a damaged file


@dataclass(frozen=True)
class InspectedFile:
    """A file of frames that can be read.

    Attributes
    ----------
    path, number, header : the file, the number of its first frame, and its header.
    sha256 : digest of its bytes.
    highest, lowest : extreme values of the pixels of each of its frames that its mask leaves.
    further : other files that its frames lie in.
    """

    path: Path
    number: int
    header: FrameHeader
    sha256: str
    highest: NDArray[np.float64]
    lowest: NDArray[np.float64]
    further: tuple[SourceFile, ...] = ()


def inspect_files(found: Found) -> tuple[list[InspectedFile], list[str]]:
    """The readable files of a series, all of one frame size, and notes on those left out.

    Raises
    ------
    UserError : none can be read, or frames of two sizes that are not a few odd ones.
    """
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda file: _inspect(file, found.reader), found.files))
    good = [result for result in results if isinstance(result, InspectedFile)]
    faults = [result for result in results if isinstance(result, UserError)]
    if not good:
        raise faults[0]
    kinds = Counter((one.header.shape, one.header.dtype) for one in good)
    usual, n_usual = kinds.most_common(1)[0]
    n_odd = len(good) - n_usual
    first_odd = next((one for one in good if _kind(one) != usual), None)
    if first_odd is not None and n_odd > max(1, _ODD_FRACTION * len(good)):
        raise UserError(
            first_odd.path,
            f"a frame of {_words(_kind(first_odd))} ({n_odd} such among {len(good)})",
            f"frames of one size, {_words(usual)}",
            "move the frames of the other size to a folder of their own",
        )
    notes = [f"left out: {fault}" for fault in faults]
    notes += [
        f"left out: {one.path.name} is a frame of {_words(_kind(one))}, the others are of "
        f"{_words(usual)}"
        for one in good
        if _kind(one) != usual
    ]
    good = [one for one in good if _kind(one) == usual]
    if len(good) > 1 and any(one.header.n_frames > 1 for one in good):
        stack = next(one for one in good if one.header.n_frames > 1)
        raise UserError(
            stack.path,
            f"a stack of {stack.header.n_frames} frames among other files",
            "a stack alone, or files of one frame each",
            "give the stack itself",
        )
    return good, notes


def lazy_frames(
    files: Sequence[InspectedFile], reader: Reader, shape: tuple[int, int] | None = None
) -> LazyFrames:
    """All frames, (n, rows, columns), read when needed.

    `shape` reads the same pixels as (rows, columns) of another shape than the headers say.
    """
    header = files[0].header
    shape = header.shape if shape is None else shape
    places = [(one.path, one.header, i) for one in files for i in range(one.header.n_frames)]
    return LazyFrames(partial(read_block, reader), places, shape, header.dtype.newbyteorder("="))


def read_block(reader: Reader, places: Sequence[Place], shape: tuple[int, int]) -> NDArray[Any]:
    """The frames at `places` (file, header, position in it), (n, rows, columns).

    Raises
    ------
    UserError : a file can no longer be read.
    """
    header = places[0][1]
    block = np.empty((len(places), *shape), header.dtype.newbyteorder("="))
    done = 0
    while done < len(places):
        path, header, first = places[done]
        n = 1
        while done + n < len(places) and places[done + n][0] == path:
            n += 1
        try:
            block[done : done + n] = reader.pixels(path, header, first, first + n).reshape(
                n, *shape
            )
        except Exception as error:  # any fault of a foreign file
            raise fault(path, error) from error
        done += n
    return block


def _inspect(file: FrameFile, reader: Reader) -> InspectedFile | UserError:
    try:
        with file.path.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
            opened.seek(0)
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if not reader.sniff(head):
            return not_what_it_says(file.path, reader, head)
        header = sound_header(reader, file.path)
        kept: Any = ...
        if reader.mask is not None:
            kept = ~reader.mask(file.path, header)
            kept = kept if kept.any() and not kept.all() else ...
        highest, lowest = [], []
        step = block_frames(header.shape, header.dtype.itemsize)
        for first in range(0, header.n_frames, step):
            stop = min(first + step, header.n_frames)
            for pixels in reader.pixels(file.path, header, first, stop):
                highest.append(float(pixels[kept].max()))
                lowest.append(float(pixels[kept].min()))
        if len(highest) != header.n_frames:
            raise ValueError(f"truncated: {len(highest)} of {header.n_frames} frames")
        further = tuple(SourceFile(str(one), _digest(one)) for one in reader.files(file.path))
    except Exception as error:  # any fault of a foreign file
        return fault(file.path, error)
    number = file.number if header.n_frames == 1 else 1  # frames of a stack count from 1
    return InspectedFile(
        file.path, number, header, digest, np.array(highest), np.array(lowest), further
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, error: Exception) -> UserError:
    """The line for whatever went wrong in a foreign file."""
    if isinstance(error, UserError):
        return error
    words = str(getattr(error, "strerror", None) or error)[:_LONGEST] or type(error).__name__
    return UserError(path, words, "a whole frame", "copy the file again or remove it")


def not_what_it_says(path: Path, reader: Reader, head: bytes) -> UserError:
    """The line for a file whose content is not of its suffix' format."""
    content = reader_of_content(head)
    found = "an empty file" if not head else f"content of {content.name if content else 'no'} kind"
    if head and content is None:
        found = "content of no known kind"
    return UserError(
        path, found, f"{reader.name}, as its suffix says", "rename the file or copy it again"
    )


def _kind(one: InspectedFile) -> tuple[tuple[int, int], np.dtype[Any]]:
    return one.header.shape, one.header.dtype


def _words(kind: tuple[tuple[int, int], np.dtype[Any]]) -> str:
    (rows, columns), dtype = kind
    return f"{rows} x {columns} {dtype.newbyteorder('=').name}"
