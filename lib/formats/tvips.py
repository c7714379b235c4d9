"""TVIPS streams (.tvips) of EMMENU's recorder: a stack that goes on in files _001, _002 ...

A header of 256 bytes, in the first file only, then for each frame a header (12 bytes in version 1,
as many as are stated in version 2) and its pixels. Layout as in RosettaSciIO's reader.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from .source import FrameHeader, Pixels, Reader, stated

_FILE = np.dtype(
    [(name, "<u4") for name in (
        "size", "version", "columns", "rows", "bits", "offset_x", "offset_y", "bin_x", "bin_y",
        "pixel_nm", "kV", "magnification", "frame_header_bytes",
    )]
)  # fmt: skip
_FRAME = np.dtype(
    [("number", "<u4"), ("seconds", "<u4"), ("ms", "<u4"), ("lut", "<u4"), ("current", "<f4"),
     ("magnification", "<u4"), ("mode", "<u4"), ("x", "<f4"), ("y", "<f4"), ("z", "<f4"),
     ("alpha_deg", "<f4"), ("beta_deg", "<f4")]
)  # fmt: skip
_HEADER_BYTES = 256
_SHORT_HEADER = 12  # of a frame of version 1
_DIFFRACTION = 2
_PIXEL_NM = (1e3, 2e5)  # what a camera's pixel may be; others wrote a scale there
_NAME = re.compile(r"(.+_)(\d{3})(\.tvips)", re.IGNORECASE)


def sniff(head: bytes) -> bool:
    """Whether a file begins with the size of the header, version 1 or 2, and possible frames."""
    if len(head) < _FILE.itemsize:
        return False
    said = np.frombuffer(head, _FILE, 1)[0]
    return bool(
        said["size"] == _HEADER_BYTES and said["version"] in (1, 2) and said["bits"] in (8, 16, 32)
    )


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that go on from a first one, in order."""
    match = _NAME.fullmatch(path.name)
    found: list[Path] = []
    while match:
        following = path.with_name(f"{match[1]}{int(match[2]) + len(found) + 1:03d}{match[3]}")
        if not following.is_file():
            break
        found.append(following)
    return tuple(found)


def is_part(path: Path) -> bool:
    """Whether a file goes on from the one before it."""
    match = _NAME.fullmatch(path.name)
    if match is None or int(match[2]) == 0:
        return False
    return path.with_name(f"{match[1]}{int(match[2]) - 1:03d}{match[3]}").is_file()


def read_header(path: Path) -> FrameHeader:
    """Layout of all files of a series, and what the first says.

    The camera's pixel is that of its chip times the binning; the magnification is a camera length
    in mm in diffraction; stage angles are used where each frame has another.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES or not sniff(head):
        raise ValueError(f"{len(head)} bytes that are no header of a first TVIPS file")
    said = np.frombuffer(head, _FILE, 1)[0]
    rows, columns = int(said["rows"]), int(said["columns"])
    if min(rows, columns) < 1:
        raise ValueError(f"frames of {rows} x {columns}, expected more than 0")
    dtype = np.dtype(f"<u{int(said['bits']) // 8}")
    counts = _counts(path, _record_bytes(said))
    n_frames = sum(counts)
    first = _frame_headers(path, said, 0, 1)
    notes: list[str] = []
    fields: dict[str, Any] = {"voltage_kV": float(said["kV"]) or None}
    pixel_nm = float(said["pixel_nm"])
    if _PIXEL_NM[0] <= pixel_nm <= _PIXEL_NM[1] and said["bin_x"] == said["bin_y"] > 0:
        fields["pixel_size_mm"] = pixel_nm * float(said["bin_x"]) * 1e-6
    start_deg: tuple[float, ...] = ()
    if first is not None:
        if int(first["mode"][0]) == _DIFFRACTION:
            fields["camera_length_mm"] = float(said["magnification"]) or None
        else:
            notes.append("the TVIPS headers say that the microscope was not in diffraction")
        headers = _frame_headers(path, said, 0, n_frames)
        assert headers is not None
        alpha = headers["alpha_deg"].astype(float)
        steps = np.diff(alpha)
        if len(steps) and (np.all(steps > 0) or np.all(steps < 0)):
            start_deg = tuple(alpha.tolist())
        elif np.any(steps):
            notes.append(
                "the stage angles of the TVIPS headers do not go on from frame to frame; they were "
                "not used"
            )
    return FrameHeader(
        (rows, columns), dtype, n_frames, _HEADER_BYTES, stated(path, **fields), start_deg,
        tuple(notes), "TVIPS",
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a series of files, (n, rows, columns), in native byte order."""
    with path.open("rb") as file:
        said = np.frombuffer(file.read(_HEADER_BYTES), _FILE, 1)[0]
    size = _record_bytes(said)
    pixel_bytes = header.shape[0] * header.shape[1] * header.dtype.itemsize
    frames = np.empty((stop - first, *header.shape), header.dtype.newbyteorder("="))
    done, before = 0, 0
    for one, n in zip((path, *files_of(path)), _counts(path, size), strict=True):
        here = range(max(first - before, 0), min(stop - before, n))
        if len(here):
            offset = (_HEADER_BYTES if one == path else 0) + here.start * size
            block = np.fromfile(one, np.uint8, len(here) * size, "", offset).reshape(-1, size)
            pixels = np.ascontiguousarray(block[:, size - pixel_bytes :]).view(header.dtype)
            frames[done : done + len(here)] = pixels.reshape(-1, *header.shape)
            done += len(here)
        before += n
    if done != stop - first:
        raise ValueError(f"truncated: {done} frames of {stop - first}")
    return frames


def _record_bytes(said: Any) -> int:
    pixels = int(said["columns"]) * int(said["rows"]) * (int(said["bits"]) // 8)
    if said["version"] == 1:
        return pixels + _SHORT_HEADER
    if int(said["frame_header_bytes"]) < _SHORT_HEADER:
        raise ValueError(f"frame headers of {said['frame_header_bytes']} bytes, expected more")
    return pixels + int(said["frame_header_bytes"])


def _counts(path: Path, size: int) -> list[int]:
    """Frames in each file of the series. Raises ValueError if one ends within a frame."""
    counts = []
    for one in (path, *files_of(path)):
        n, left = divmod(one.stat().st_size - (_HEADER_BYTES if one == path else 0), size)
        if left or n < 1:
            raise ValueError(f"truncated: {one.name} ends {left} bytes into frame {n + 1}")
        counts.append(n)
    return counts


def _frame_headers(path: Path, said: Any, first: int, stop: int) -> Any:
    """The headers of frames as records; None in version 1, which says no more than when."""
    size = _record_bytes(said)
    if said["version"] == 1 or int(said["frame_header_bytes"]) < _FRAME.itemsize:
        return None
    found, before = [], 0
    for one, n in zip((path, *files_of(path)), _counts(path, size), strict=True):
        offset = _HEADER_BYTES if one == path else 0
        with one.open("rb") as file:
            for i in range(max(first - before, 0), min(stop - before, n)):
                file.seek(offset + i * size)
                found.append(np.frombuffer(file.read(_FRAME.itemsize), _FRAME, 1))
        before += n
    return np.concatenate(found)


READER = Reader(
    "TVIPS", (".tvips",), sniff, read_header, read_pixels, files=files_of, is_part=is_part
)
