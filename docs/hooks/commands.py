"""The page of all commands, made of what `--help` says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer.main


def page() -> str:
    """All commands with their arguments and options."""
    from ewaldflow.cli import app

    root = typer.main.get_command(app)
    parts = ["# Commands", "What `ewaldflow COMMAND --help` says, on one page."]
    for name, command in _commands(root, "ewaldflow"):
        parts.append(f"## `{name}`")
        parts.append(_lines(command.help or ""))
        rows = [_row(one) for one in command.params if "--help" not in one.opts]
        if rows:
            parts.append("\n".join(["| argument | what it is | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def _lines(text: str) -> str:
    return text.replace("\f", "\n\n").strip()


def _row(parameter: Any) -> str:
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    annotation = parameter.type_descriptor.annotation
    kind = parameter.metavar or ""
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        kind = " or ".join(str(one.value) for one in annotation)
    elif not kind and annotation in (int, float):
        kind = "N"
    if parameter.param_type_name == "argument":
        name = kind or names.upper()
    else:
        name = names if parameter.is_flag else f"{names} {kind}".strip()
    default = parameter.default
    quiet = default in (None, False, True, (), []) or callable(default)
    told = "" if quiet else f" Default: `{getattr(default, 'value', default)}`."
    about = " ".join((parameter.help or "").split()).replace("<", "&lt;")
    must = "must be given" if parameter.required else ""
    return f"| `{name}` | {about}{told} | {must} |".replace("NAME|CIF", "NAME or CIF")
