"""Equations as MathML, which browsers typeset themselves: nothing to fetch, no script."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# what pymdownx.arithmatex leaves of $...$ and $$...$$
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
# names of functions, which the converter leaves without the space about them
_FUNCTION = re.compile(r"<mi>(sin|cos|tan|ln|exp|det|min)</mi>")
_SPACE = '<mspace width="0.17em" />'
_DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)


def typeset(page: str) -> str:
    """The page with every equation as MathML."""
    page = _INLINE.sub(lambda found: _mathml(found[1], "inline"), page)
    return _DISPLAY.sub(
        lambda found: f'<div class="equation">{_mathml(found[1], "block")}</div>', page
    )


def _mathml(latex: str, display: str) -> str:
    made = convert(html.unescape(latex).strip(), display=display)
    return _FUNCTION.sub(rf"<mrow>{_SPACE}<mi>\1</mi>{_SPACE}</mrow>", made)
