"""Pictures in Prefect's own pages: figures within a markdown artifact of the running flow.

What is shown there is for looking on: that it cannot be shown is said in the log, and no reason to
end what computes.
"""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact

from .running import flow_run_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 80  # some 100 kB for a figure as wide as a page
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A figure with the words for who does not see it, and those below it."""

    drawing: Figure
    alt: str
    caption: str = ""


def show_pictures(
    key: str,
    title: str,
    pictures: Sequence[Picture],
    pages: Mapping[str, Path] | None = None,
    text: str = "",
) -> None:
    """A markdown artifact of the running flow; nothing outside of one.

    Parameters
    ----------
    key : of the artifact; a later one of the same key is its next version.
    title, text : above the pictures.
    pictures : one below the other.
    pages : by what they are, HTML pages that show more; browsers open no files from a server's
        page, so their paths are told.
    """
    if flow_run_id() is not None:
        create_markdown_artifact(
            markdown(title, pictures, pages or {}, text), key=artifact_key(key), description=title
        )


def markdown(
    title: str, pictures: Sequence[Picture], pages: Mapping[str, Path], text: str = ""
) -> str:
    """What `show_pictures` shows: no picture is a file of its own."""
    parts = [f"# {title}", text]
    for one in pictures:
        parts += [f"![{one.alt}]({data_uri(one.drawing)})", f"*{one.caption}*" * bool(one.caption)]
    parts += ["\n".join(f"- {what}: `{path}`" for what, path in pages.items())]
    return "\n\n".join(part for part in parts if part)


def data_uri(drawing: Figure) -> str:
    """A figure as ``data:image/png;base64,...``."""
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=_DPI)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def artifact_key(words: str) -> str:
    """A key as Prefect wants it: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


@contextmanager
def looking_on(what: str) -> Iterator[None]:
    """Whatever goes wrong within is one line of the log: the work itself goes on."""
    try:
        yield
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else ""
        _log.warning("%s is not shown: %s: %s", what, type(error).__name__, line)
