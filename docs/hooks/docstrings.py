"""Docstrings of the house, as griffe's parser of numpy's style wants them.

A section of ours has ``name : what it is`` on one line, since types stand in the signature; the
parser would take what follows the colon for the type.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMED = ("Parameters", "Attributes", "Raises")
_SECTION = re.compile(r"^(Parameters|Attributes|Raises|Returns|Yields)\n-{3,}\n", re.MULTILINE)
_ENTRY = re.compile(r"^(?P<names>[*\w]+(?:, [*\w]+)*) : (?P<text>.*(?:\n+ +.*)*)", re.MULTILINE)


def as_numpy(text: str) -> str:
    """The same docstring with every ``name : text`` of a section on lines of its own."""
    parts = _SECTION.split(text)
    done = [parts[0]]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title in _NAMED:
            done.append(f"{title}\n{'-' * len(title)}\n{_ENTRY.sub(_apart, body).rstrip()}\n\n")
        else:
            # what is returned is told in prose, which the parser would take for a type
            done.append(f"**{title}**\n\n{body}")
    return "".join(done)


def entries(text: str) -> dict[str, str]:
    """What the section of attributes says of each name."""
    parts = _SECTION.split(text)
    told = dict(zip(parts[1::2], parts[2::2], strict=True)).get("Attributes", "")
    return {
        name: " ".join(entry["text"].split())
        for entry in _ENTRY.finditer(told)
        for name in entry["names"].split(", ")
    }


def _apart(entry: re.Match[str]) -> str:
    # several names share one text
    text = entry["text"].rstrip()
    return "\n".join(f"{name}\n    {text}" for name in entry["names"].split(", "))


def _as_markdown(text: str) -> str:
    """Stars and brackets of formulas as they are, for Markdown would read them as its own."""
    parts = re.split(r"(`+[^`]*`+|^ {8,}.*$)", text, flags=re.MULTILINE)
    for i in range(0, len(parts), 2):
        plain = re.sub(r"(?<=\w)\*(?=[\W])", r"\\*", parts[i])
        plain = re.sub(r"<(?=[A-Za-z/])", "&lt;", plain)
        parts[i] = re.sub(r"\]\[", r"]\\[", plain)
    return "".join(parts)


class OneLineEntries(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _as_markdown(as_numpy(obj.docstring.value))
