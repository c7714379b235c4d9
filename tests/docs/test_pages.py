"""What the pages say still exists: commands, scripts, imports; and what is made for them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, Field

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def known_commands() -> set[str]:
    import typer.main

    from ewaldflow.cli import app

    root = typer.main.get_command(app)
    names = set(root.commands)
    return names | {f"{a} {b}" for a in names for b in getattr(root.commands[a], "commands", ())}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_scripts_exist(page: Path, known_commands: set[str]) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:^(?:\$ )?|`|bin/)ewaldflow ([a-z][a-z-]+)", text, re.MULTILINE):
        assert name in known_commands, f"ewaldflow {name}"
    for script in re.findall(r"python (benchmarks/\w+\.py)", text):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_import_what_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^\s*(?:> )?from (ewaldflow[\w.]*) import (\([^)]*\)|[^\n#]*)", text, re.M)
    for module, names in found:
        defined = _names_in(module)
        for name in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names)):
            assert name in defined, f"{module} has no {name}"


def _names_in(module: str) -> set[str]:
    """What a module defines or imports, and the modules of a package."""
    path = ROOT.joinpath(*module.split(".")[1:])
    names = {one.stem for one in path.glob("*")} if path.is_dir() else set()
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {one.asname or one.name for one in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_every_page_is_in_the_navigation() -> None:
    def listed(part: object) -> set[str]:
        if isinstance(part, str):
            return {part}
        values = part.values() if isinstance(part, dict) else part
        return set().union(*(listed(one) for one in values))  # type: ignore[union-attr]

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    written = {str(one.relative_to(ROOT / "docs")) for one in (ROOT / "docs").rglob("*.md")}
    assert written - listed(config["nav"]) == set()


def test_names_of_a_docstring_go_on_lines_of_their_own() -> None:
    from docstrings import as_numpy, entries

    text = (
        "It.\n\nAttributes\n----------\nrow, column : of it, px;\n    more.\nx : one.\n\n"
        "Returns\n-------\na (2,) array."
    )
    assert as_numpy(text) == (
        "It.\n\nAttributes\n----------\nrow\n    of it, px;\n    more.\ncolumn\n    of it, px;\n"
        "    more.\nx\n    one.\n\n**Returns**\n\na (2,) array."
    )
    assert entries(text) == {"row": "of it, px; more.", "column": "of it, px; more.", "x": "one."}


class _Inner(BaseModel):
    """Inner.

    Attributes
    ----------
    deep : how deep.
    """

    deep: tuple[float, float] = (1.0, 2.0)


class _Model(BaseModel):
    kind: Literal["a", "b"] | None = Field(None, description="which | of both")
    inner: _Inner = _Inner()
    size: int


def test_parameters_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    import parameters

    monkeypatch.setattr(parameters, "model", lambda where: _Model)
    assert parameters.table("x:y").splitlines()[2:] == [
        "| `kind` | a or b or none | none | which \\| of both |",
        "| `inner.deep` | 2 × number | `[1.0, 2.0]` | how deep. |",
        "| `size` | whole number | must be given |  |",
    ]
    assert parameters.names("x:y") == {"kind", "inner", "inner.deep", "size"}


def test_equations_become_mathml() -> None:
    from equations import typeset

    made = typeset('<p><span class="arithmatex">\\(a &lt; b\\)</span> and text</p>')
    assert made.startswith("<p><math")
    assert "&#x0003C;" in made
    assert "arithmatex" not in made


def test_every_figure_is_shown_and_told() -> None:
    import figures

    text = "\n".join(one.read_text(encoding="utf-8") for one in PAGES)
    shown = set(re.findall(r"<!-- figure: (\w+) -->", text))
    assert shown == set(figures.FIGURES)
    assert all(len(figures.caption(name)) > 40 for name in shown)
