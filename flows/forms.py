"""Forms of flows in Prefect's pages: they say of each field what our docstrings say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SECTION = re.compile(
    r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\w+\n-+$|\Z)", re.DOTALL | re.MULTILINE
)
_ENTRY = re.compile(r"^([\w, ]+?) : (.*?)(?=^\S|\Z)", re.DOTALL | re.MULTILINE)


def described(function: Callable[P, T]) -> Callable[P, T]:
    """Let Prefect know what the docstring of a flow says of its parameters; below ``@flow``.

    Prefect looks for them below "Args:" and passes over those below "Parameters", as ours are.
    """
    text = inspect.getdoc(function) or ""
    lines = [f"    {name}: {about}" for name, about in said_of(text).items()]
    rest = _SECTION.sub("", text).rstrip()
    function.__doc__ = "\n".join([rest, "", "Args:", *lines, ""])
    return function


def readable(definitions: dict[str, Any]) -> None:
    """Move what docstrings of models say of attributes to the fields, which get their own names.

    Parameters
    ----------
    definitions : of the schema of a form, changed in place. Without this a field
        ``exposure_s`` would be called "Exposure S".
    """
    for model in definitions.values():
        text = model.get("description", "")
        about = said_of(text)
        for name, field in model.get("properties", {}).items():
            field["title"] = name
            if name in about:
                field.setdefault("description", about[name])
        if about:
            model["description"] = _SECTION.sub("", text).rstrip()


def said_of(docstring: str) -> dict[str, str]:
    """What a docstring says of each parameter or attribute; several may share an entry."""
    section = _SECTION.search(docstring)
    if section is None:
        return {}
    return {
        name.strip(): " ".join(about.split())
        for names, about in _ENTRY.findall(section[1])
        for name in names.split(",")
    }
