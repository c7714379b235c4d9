"""What mkdocs calls while it builds the site: all that is made of the code rather than written.

Pages hold marks that a plain reader of the Markdown does not see:

    <!-- figure: NAME -->                   a figure of figures.py, with its caption
    <!-- parameters: package.module:Model --> a table of the model's fields

What a table headed ``| change | when |`` names must be a parameter on its page.
"""

from __future__ import annotations

import html
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import commands  # noqa: E402
import equations  # noqa: E402
import figures  # noqa: E402
import notebooks  # noqa: E402
import parameters  # noqa: E402
import reference  # noqa: E402

#: pages of the site that lie at the root of the repository
FROM_ROOT = ("CONTRIBUTING.md", "CHANGELOG.md")
_FIGURE = re.compile(r"^<!-- figure: (\w+) -->$", re.MULTILINE)
_PARAMETERS = re.compile(r"^<!-- parameters: ([\w.]+:\w+) -->$", re.MULTILINE)
_CHANGES = re.compile(r"^\| change \| when \|\n\|[-|]+\|\n((?:\|.*\n?)+)", re.MULTILINE)
_drawn = cache(figures.png)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of the reference, one for each package, in the navigation."""
    rooms: list[Any] = [
        {reference.ROOMS[room]: [f"reference/{package}.md" for package in sorted(texts)]}
        for room, texts in reference.pages(ROOT).items()
    ]
    for section in config.nav or []:
        for place in section.get("Reference", []):
            if isinstance(place, dict) and "Functions and classes" in place:
                place["Functions and classes"] = rooms
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the reference, the pages at the root, and the figures that pages show."""
    made = {
        f"reference/{package}.md": text
        for room in reference.pages(ROOT).values()
        for package, text in room.items()
    }
    made["reference/commands.md"] = commands.page()
    for name in FROM_ROOT:
        made[name.lower()] = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
    for path in notebooks.FOLDER.glob("*.ipynb"):
        made[f"notebooks/{path.stem}.md"] = notebooks.as_markdown(path)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    written = "\n".join(one.content_string for one in files.documentation_pages())
    for name in sorted(set(_FIGURE.findall(written))):
        if name not in figures.FIGURES:
            raise PluginError(f"figure {name}: none of {', '.join(figures.FIGURES)}")
        files.append(File.generated(config, f"figures/{name}.png", content=_drawn(name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Put figures and tables where the marks are."""
    models = _PARAMETERS.findall(markdown)
    known = set().union(*(parameters.names(one) for one in models)) if models else set()
    for rows in _CHANGES.findall(markdown):
        for row in rows.strip().splitlines():
            for name in re.findall(r"`([\w.]+)`", row.split("|")[1]):
                if name not in known:
                    raise PluginError(f"{page.file.src_uri}: {name} is no parameter of {models}")

    def shown(found: re.Match[str]) -> str:
        address = get_relative_url(f"figures/{found[1]}.png", page.url)
        text = html.escape(figures.caption(found[1]), quote=True)
        return (
            f'<figure><img alt="{text}" src="{address}" loading="lazy">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    markdown = _FIGURE.sub(shown, markdown)
    return _PARAMETERS.sub(lambda found: parameters.table(found[1]), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Typeset equations."""
    return equations.typeset(html)
