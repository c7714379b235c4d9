"""Reflection tables of DIALS (.refl), read without it: msgpack with columns as plain arrays.

A table is ``["dials::af::reflection_table", 1, {"nrows": n, "data": {name: [type, [n, bytes]]}}]``,
little-endian. Shoeboxes lie end to end: panel (uint32), bounding box (6 int32), whether there are
data (uint8), then float32 data, mask (int32; uint8 since 2024), float32 background.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

#: numpy type and numbers per row, by DIALS' name.
TYPES = {
    "int": ("<i4", 1), "double": ("<f8", 1), "bool": ("?", 1), "std::size_t": ("<u8", 1),
    "vec2<double>": ("<f8", 2), "vec3<double>": ("<f8", 3), "mat3<double>": ("<f8", 9),
    "int6": ("<i4", 6), "cctbx::miller::index<>": ("<i4", 3),
}  # fmt: skip
_HEAD = struct.Struct("<I6iB")
_DO = "give a .refl that DIALS wrote"


@dataclass(frozen=True)
class Shoebox:
    """Pixels about a reflection: data, mask, background (frames, rows, columns), and bbox (6,)."""

    bbox: tuple[int, ...]
    data: NDArray[np.float32]
    mask: NDArray[np.int32]
    background: NDArray[np.float32]


@dataclass(frozen=True)
class ReflectionTable:
    """Columns by name; those of another type than numbers are left as bytes in `other`."""

    columns: dict[str, NDArray[Any]]
    other: dict[str, bytes]

    def shoeboxes(self) -> Iterator[Shoebox | None]:
        """The column `shoebox`, None where it holds no pixels.

        Raises
        ------
        UserError : the column is cut, or of another layout.
        """
        raw = self.other["shoebox"]
        n = len(next(iter(self.columns.values())))
        for kind in (np.dtype("<i4"), np.dtype("u1")):
            places = _places(raw, n, kind.itemsize)
            if places is not None:
                yield from (_shoebox(raw, at, box, kind) for at, box in places)
                return
        raise UserError("shoebox", "another layout", "that of DIALS 2 to 3", _DO)


def read_refl(path: str | Path) -> ReflectionTable:
    """Read a .refl.

    Raises
    ------
    UserError : the file cannot be read, or is no reflection table.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(path, str(error.strerror or error), "a .refl of DIALS", _DO) from None
    try:
        (kind, version, table), _ = _unpack(content, 0)
        if kind != "dials::af::reflection_table" or version != 1:
            raise ValueError
        columns, other = {}, {}
        for name, (what, (n, raw)) in table["data"].items():
            if what in TYPES:
                dtype, width = TYPES[what]
                values = np.frombuffer(raw, dtype)
                columns[name] = values.reshape(n, width) if width > 1 else values
            elif isinstance(raw, bytes):
                other[name] = raw
    except (ValueError, TypeError, IndexError, KeyError, struct.error, UnicodeDecodeError):
        raise UserError(path, "another content", "a reflection table of DIALS", _DO) from None
    return ReflectionTable(columns, other)


def _places(raw: bytes, n: int, mask_size: int) -> list[tuple[int, tuple[int, ...]]] | None:
    """Where the pixels of each shoebox start (-1: none), if masks have so many bytes a pixel."""
    at = 0
    found: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(n):
        if at + _HEAD.size > len(raw):
            return None
        _, x0, x1, y0, y1, z0, z1, there = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        if there not in (0, 1) or x1 < x0 or y1 < y0 or z1 < z0:
            return None
        found.append((at if there else -1, (x0, x1, y0, y1, z0, z1)))
        at += there * (8 + mask_size) * (x1 - x0) * (y1 - y0) * (z1 - z0)
    return found if at == len(raw) else None


def _shoebox(raw: bytes, at: int, box: tuple[int, ...], kind: np.dtype[Any]) -> Shoebox | None:
    if at < 0:
        return None
    x0, x1, y0, y1, z0, z1 = box
    shape = (z1 - z0, y1 - y0, x1 - x0)
    n = shape[0] * shape[1] * shape[2]
    data = np.frombuffer(raw, "<f4", n, at).reshape(shape)
    mask = np.frombuffer(raw, kind, n, at + 4 * n).reshape(shape).astype(np.int32)
    background = np.frombuffer(raw, "<f4", n, at + (4 + kind.itemsize) * n).reshape(shape)
    return Shoebox(box, data, mask, background)


def _unpack(b: bytes, at: int) -> tuple[Any, int]:
    """One msgpack value at `at`, and where the next one starts (msgpack.org, spec.md)."""
    t = b[at]
    at += 1
    if t < 0x80 or t >= 0xE0:
        return (t if t < 0x80 else t - 256), at
    if t < 0x90:
        return _map(b, at, t & 15)
    if t < 0xA0:
        return _array(b, at, t & 15)
    if t < 0xC0:
        return b[at : at + (t & 31)].decode(), at + (t & 31)
    if t in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[t], at
    if 0xCA <= t <= 0xCB:
        width = 4 << (t - 0xCA)
        return struct.unpack(">f" if width == 4 else ">d", b[at : at + width])[0], at + width
    for first, signed, base in ((0xCC, False, 1), (0xD0, True, 1)):
        if first <= t < first + 4:
            width = base << (t - first)
            return int.from_bytes(b[at : at + width], "big", signed=signed), at + width
    for first, width in ((0xC4, 1), (0xD9, 1), (0xDC, 2), (0xDE, 2)):
        widths = 3 if width == 1 else 2
        if first <= t < first + widths:
            width <<= t - first
            n = int.from_bytes(b[at : at + width], "big")
            at += width
            if first == 0xDC:
                return _array(b, at, n)
            if first == 0xDE:
                return _map(b, at, n)
            if at + n > len(b):
                raise ValueError("cut")
            raw = b[at : at + n]
            return (raw if first == 0xC4 else raw.decode()), at + n
    raise ValueError(f"type {t:#x}")


def _array(b: bytes, at: int, n: int) -> tuple[list[Any], int]:
    out = []
    for _ in range(n):
        value, at = _unpack(b, at)
        out.append(value)
    return out, at


def _map(b: bytes, at: int, n: int) -> tuple[dict[Any, Any], int]:
    out = {}
    for _ in range(n):
        key, at = _unpack(b, at)
        out[key], at = _unpack(b, at)
    return out, at
