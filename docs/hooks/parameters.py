"""Tables of what a user may choose, made of the pydantic models that check it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docstrings import entries
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_WORDS: dict[Any, str] = {
    float: "number",
    int: "whole number",
    bool: "true or false",
    str: "text",
    NoneType: "none",
    Any: "anything",
    object: "anything",
}


def table(where: str) -> str:
    """The table of `package.module:Model`, a row for each field, nested ones with dots."""
    rows = ["| parameter | type | default | what it is |", "|---|---|---|---|"]
    for name, field, about in _fields(model(where)):
        rows.append(
            f"| `{name}` | {_cell(_kind(field.annotation))} | {_default(field)} | {_cell(about)} |"
        )
    return "\n".join(rows)


def model(where: str) -> type[BaseModel]:
    """The class that `package.module:Model` names."""
    module, _, name = where.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert issubclass(found, BaseModel), where
    return found


def names(where: str) -> set[str]:
    """What may be written for it in YAML, with the parts that hold others."""
    known = set()
    for name, _, _ in _fields(model(where)):
        parts = name.split(".")
        known |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return known


def _fields(of: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    told = _told(of)
    for name, field in of.model_fields.items():
        inner = _model_in(field.annotation)
        about = field.description or told.get(name, "")
        if inner is None:
            yield before + name, field, about
        else:
            yield from _fields(inner, f"{before}{name}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The one model that a field holds, if any."""
    kinds = (annotation, *get_args(annotation))
    models = [k for k in kinds if inspect.isclass(k) and issubclass(k, BaseModel)]
    return models[0] if len(models) == 1 and len(kinds) <= 3 else None


def _told(of: type[BaseModel]) -> dict[str, str]:
    """What docstrings of the class and of those above it say of each attribute."""
    told: dict[str, str] = {}
    for one in reversed(of.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            told |= entries(inspect.getdoc(one) or "")
    return told


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0])
    if origin is Literal:
        return " or ".join(str(one) for one in parts)
    if origin in (Union, UnionType):
        return " or ".join(_kind(one) for one in parts)
    if origin is tuple and parts[-1] is not Ellipsis:
        kinds = [_kind(one) for one in parts]
        return f"{len(kinds)} × {kinds[0]}" if len(set(kinds)) == 1 else f"({', '.join(kinds)})"
    if origin in (dict, Mapping):
        return f"{_kind(parts[1])} by {_kind(parts[0])}"
    if origin is not None:
        return f"list of {_kind(parts[0])}"
    return _WORDS.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "must be given"
    if value is None or value == "":
        return "none"
    if isinstance(value, BaseModel):
        return f"`{type(value).__name__}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
