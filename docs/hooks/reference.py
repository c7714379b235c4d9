"""The pages of the reference: one for each package, made of its docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

#: rooms and what they are called in the navigation, the science first
ROOMS = {"lib": "The science", "hardware": "Instruments", "flows": "Flows", "tasks": "Tasks"}


def pages(root: Path) -> dict[str, dict[str, str]]:
    """For each room, the text of a page by the dotted name of a package."""
    return {room: dict(_room(root, root / room)) for room in ROOMS}


def _room(root: Path, room: Path) -> list[tuple[str, str]]:
    folders = [room, *sorted(path for path in room.rglob("*") if (path / "__init__.py").exists())]
    done = []
    for folder in folders:
        package = ".".join(("ewaldflow", *folder.relative_to(root).parts))
        modules = [
            path
            for path in sorted(folder.glob("*.py"))
            if not path.name.startswith("_") and _has_public(path)
        ]
        if modules:
            done.append((package, _page(package, folder, modules)))
    return done


def _page(package: str, folder: Path, modules: list[Path]) -> str:
    about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    parts = [f"# {package.removeprefix('ewaldflow.')}", about]
    parts += [f"::: {package}.{path.stem}" for path in modules]
    return "\n\n".join(parts) + "\n"


def _has_public(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(
        isinstance(node, kinds) and not node.name.startswith("_")
        for node in ast.parse(path.read_text("utf-8")).body
    )
