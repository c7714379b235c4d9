"""Frozen dataclasses in zarr: small fields as attributes, columns as arrays."""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import zarr

from .arrays import create_array, read_array
from .manifest import plain

T = TypeVar("T")


def write_columns(group: zarr.Group, table: Any, names: Collection[str] | None = None) -> None:
    """Write the array fields `names` (all, if None) of a dataclass, one zarr array each."""
    for name in names or [one.name for one in fields(table)]:
        create_array(group, name, getattr(table, name))


def read_columns(group: zarr.Group, table: type[T]) -> T:
    """The dataclass all of whose fields `write_columns` wrote."""
    names = [one.name for one in fields(table)]  # type: ignore[arg-type]
    return table(**{name: read_array(group, name) for name in names})


def write_attributes(group: zarr.Group, record: Any, leave: Collection[str] = ()) -> None:
    """Write the fields of a dataclass, but for `leave`, as attributes of `group`.

    They may be numbers, words, None, tuples, mappings, matrices, and dataclasses of these.
    Numbers that are not finite are written as JSON can hold them, by name.
    """
    kept = {one.name: getattr(record, one.name) for one in fields(record) if one.name not in leave}
    group.attrs.update(_finite(plain(kept)))


def read_attributes(group: zarr.Group, record: type, leave: Collection[str] = ()) -> dict[str, Any]:
    """The fields that `write_attributes` wrote, by name, in the types `record` declares.

    A field the attributes lack is left out, so that its default holds.
    """
    return _fields(record, group.attrs.asdict(), leave)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # "nan", "inf", "-inf": float() reads them
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _fields(record: type, data: Mapping[str, Any], leave: Collection[str] = ()) -> dict[str, Any]:
    hints = get_type_hints(record)
    return {
        one.name: _typed(hints[one.name], data[one.name])
        for one in fields(record)
        if one.name in data and one.name not in leave
    }


def _typed(hint: Any, value: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        (hint,) = (one for one in inner if one is not types.NoneType)
        return None if value is None else _typed(hint, value)
    if is_dataclass(hint) and isinstance(hint, type):
        return hint(**_fields(hint, value))
    if origin is tuple:
        each = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return tuple(_typed(one, item) for one, item in zip(each, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        return {key: _typed(inner[1], item) for key, item in value.items()}
    if origin is np.ndarray:
        dtype = get_args(inner[1])[0]
        return np.array(value, dtype=dtype)
    if hint in (float, int, bool, str):
        return hint(value)
    raise TypeError(f"no way to read a field of type {hint}")
