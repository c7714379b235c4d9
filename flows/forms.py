"""Forms of flows in Prefect's pages: they say of each parameter what its docstring says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SECTION = re.compile(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^([\w, ]+?) : (.*?)(?=^\S|\Z)", re.DOTALL | re.MULTILINE)


def described(function: Callable[P, T]) -> Callable[P, T]:
    """Let Prefect know what the docstring of a flow says of its parameters; below ``@flow``.

    Prefect looks for them below "Args:" and passes over those below "Parameters", as ours are.
    """
    text = inspect.getdoc(function) or ""
    lines = [f"    {name}: {about}" for name, about in parameters_in(text).items()]
    rest = _SECTION.sub("", text).rstrip()
    function.__doc__ = "\n".join([rest, "", "Args:", *lines, ""])
    return function


def parameters_in(docstring: str) -> dict[str, str]:
    """What a docstring says of each parameter, on one line; several may share an entry."""
    section = _SECTION.search(docstring)
    if section is None:
        return {}
    return {
        name.strip(): " ".join(about.split())
        for names, about in _ENTRY.findall(section[1])
        for name in names.split(",")
    }
