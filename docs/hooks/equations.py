"""Equations as MathML, which browsers typeset themselves: nothing to fetch, no script."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# what pymdownx.arithmatex leaves of $...$ and $$...$$
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)


def typeset(page: str) -> str:
    """The page with every equation as MathML."""
    page = _INLINE.sub(lambda found: convert(_plain(found)), page)
    return _DISPLAY.sub(
        lambda found: f'<div class="equation">{convert(_plain(found), display="block")}</div>', page
    )


def _plain(found: re.Match[str]) -> str:
    return html.unescape(found[1]).strip()
