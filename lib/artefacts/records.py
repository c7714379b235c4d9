"""Frozen dataclasses in zarr: small fields as attributes, columns as arrays.

A table of columns has an array for each (`write_columns`). A record of records, with arrays
somewhere below, is one tree of attributes, and all its arrays of one type lie end to end in one
array (`write_record`): a thousand crystals would otherwise be ten thousand files.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import zarr
from numpy.typing import NDArray

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


def write_record(group: zarr.Group, record: Any) -> None:
    """Write a dataclass, and all that is below it, into an empty group.

    Besides what `write_attributes` takes there may be arrays of any shape anywhere, and fractions.
    """
    arrays: dict[str, list[NDArray[Any]]] = {}
    length: dict[str, int] = {}

    def tree(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            kind = value.dtype.name
            start = length.get(kind, 0)
            length[kind] = start + value.size
            arrays.setdefault(kind, []).append(value.ravel())
            return [kind, start, *value.shape]
        if is_dataclass(value) and not isinstance(value, type):
            return {one.name: tree(getattr(value, one.name)) for one in fields(value)}
        if isinstance(value, Mapping):
            return {key: tree(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [tree(item) for item in value]
        return _finite(str(value) if isinstance(value, Fraction) else plain(value))

    group.attrs["record"] = tree(record)
    for kind, pieces in arrays.items():
        create_array(group, kind, np.concatenate(pieces))


def read_record(group: zarr.Group, record: type[T]) -> T:
    """The dataclass that `write_record` wrote."""
    arrays: dict[str, NDArray[Any]] = {}

    def array(value: Any) -> NDArray[Any]:
        kind, start, *shape = value
        if kind not in arrays:
            arrays[kind] = read_array(group, kind)
        size = int(np.prod(shape))
        return arrays[kind][start : start + size].reshape(shape)

    made: T = _typed(record, group.attrs["record"], array)
    return made


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # "nan", "inf", "-inf": float() reads them
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _listed(value: Any) -> NDArray[Any]:
    # of an array among attributes
    return np.array(value)


def _fields(
    record: type,
    data: Mapping[str, Any],
    leave: Collection[str] = (),
    array: Callable[[Any], NDArray[Any]] = _listed,
) -> dict[str, Any]:
    hints = get_type_hints(record)
    return {
        one.name: _typed(hints[one.name], data[one.name], array)
        for one in fields(record)
        if one.name in data and one.name not in leave
    }


def _typed(hint: Any, value: Any, array: Callable[[Any], NDArray[Any]]) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        (hint,) = (one for one in inner if one is not types.NoneType)
        return None if value is None else _typed(hint, value, array)
    if is_dataclass(hint) and isinstance(hint, type):
        return hint(**_fields(hint, value, array=array))
    if origin is Literal:
        return value
    if origin is tuple:
        each = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return tuple(_typed(one, item, array) for one, item in zip(each, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        return {key: _typed(inner[1], item, array) for key, item in value.items()}
    if origin is np.ndarray:
        return array(value).astype(get_args(inner[1])[0], copy=False)
    if hint in (float, int, bool, str, Fraction):
        return hint(value)
    raise TypeError(f"no way to read a field of type {hint}")
