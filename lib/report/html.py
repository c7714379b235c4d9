"""The few HTML parts a report is made of; everything that comes from data is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from string import Template

from matplotlib.figure import Figure

# Okabe & Ito's colours, told apart by people with any form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
LATTICE_COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)

# The policy forbids every request, so that a report read years later shows what it showed first.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { --ink: #1c2530; --soft: #5a6673; --line: #dde3e9; --wash: #f4f6f8; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 15px/1.55 "Source Sans 3", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
main, header > div { max-width: 1080px; margin: 0 auto; padding: 0 28px; }
header { background: #10283d; color: #fff; padding: 26px 0 22px; border-bottom: 4px solid #E69F00; }
header h1 { margin: 0 0 4px; font-size: 27px; font-weight: 600; letter-spacing: -.01em; }
header p { margin: 0; color: #d5e0ea; font-size: 16px; max-width: 85ch; }
header .over { text-transform: uppercase; font-size: 12px; letter-spacing: .09em; color: #9fb4c6; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0 6px; }
.facts div { flex: 1 1 auto; border: 1px solid var(--line); border-top: 3px solid var(--accent);
  padding: 10px 14px; border-radius: 3px; }
.facts dt { color: var(--soft); font-size: 12.5px; }
.facts dd { margin: 2px 0 0; font-size: 19px; white-space: nowrap; font-weight: 600; }
.facts dd small { font-size: 13px; font-weight: 400; color: var(--soft); }
dl { margin: 0; }
nav { margin: 14px 0 0; font-size: 14px; }
nav a { margin-right: 16px; }
a { color: var(--accent); }
h2 { font-size: 20px; margin: 38px 0 8px; padding-bottom: 5px;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 16px; margin: 22px 0 6px; }
table { border-collapse: collapse; margin: 10px 0 16px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 5px; }
th, td { padding: 5px 14px 5px 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; font-size: 13.5px; color: var(--soft); }
td.n, th.n { text-align: right; }
tr.chosen td { background: #fdf3df; font-weight: 600; }
tr.failed td { background: #fcefe8; }
.scroll { overflow-x: auto; }
figure { margin: 14px 0 22px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 6px; max-width: 92ch; }
ul.notes { padding-left: 20px; max-width: 92ch; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--accent); }
code { font: 13px/1.5 "Source Code Pro", Menlo, Consolas, "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
.warn { border-left: 4px solid #D55E00; background: #fcefe8; padding: 8px 14px; max-width: 92ch; }
footer { color: var(--soft); font-size: 13px; margin: 46px auto 40px; padding-top: 10px;
  border-top: 1px solid var(--line); }
@media print { header { color: #000; background: #fff; } header p { color: #000; }
  figure, table { break-inside: avoid; } nav { display: none; } }
</style>
</head>
<body>
<header><div><p class="over">$over</p><h1>$title</h1><p>$lead</p></div></header>
<main>
$body
<footer>$footer</footer>
</main>
</body>
</html>
""")


class Safe(str):
    """Text that is HTML already and must not be escaped again."""


def escape(text: object) -> Safe:
    """Anything as HTML text."""
    return text if isinstance(text, Safe) else Safe(html.escape(str(text)))


def page(title: str, over: str, lead: str, body: Iterable[str], footer: str) -> str:
    """A whole page; `body` is HTML, the other texts are not."""
    return _PAGE.substitute(
        title=escape(title),
        over=escape(over),
        lead=escape(lead),
        body="\n".join(body),
        footer=escape(footer),
    )


def section(anchor: str, heading: str, *parts: str) -> Safe:
    """A section that the page's table of contents can point at."""
    return Safe(
        f'<section id="{escape(anchor)}"><h2>{escape(heading)}</h2>{"".join(parts)}</section>'
    )


def contents(headings: Mapping[str, str]) -> Safe:
    """Links to sections: heading by anchor."""
    links = "".join(f'<a href="#{escape(a)}">{escape(h)}</a>' for a, h in headings.items())
    return Safe(f"<nav>{links}</nav>")


def facts(values: Mapping[str, object]) -> Safe:
    """The row of large numbers below the title."""
    cells = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in values.items()
    )
    return Safe(f'<dl class="facts">{cells}</dl>')


def paragraph(text: object, warn: bool = False) -> Safe:
    """A paragraph, set apart where it warns."""
    return Safe(f"<p{' class=warn' if warn else ''}>{escape(text)}</p>")


def bullets(items: Iterable[object]) -> Safe:
    """A list, one sentence each."""
    return Safe(f'<ul class="notes">{"".join(f"<li>{escape(i)}</li>" for i in items)}</ul>')


def details(summary: str, *parts: str) -> Safe:
    """Parts folded away behind a line."""
    return Safe(f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Sequence[int] = (),
    row_classes: Sequence[str] = (),
    caption: str = "",
) -> Safe:
    """A table; `numeric` columns are set to the right, `row_classes` style the rows."""

    def line(cells: Sequence[object], tag: str, kind: str = "") -> str:
        inner = "".join(
            f"<{tag}{' class=n' if i in numeric else ''}>{escape(c)}</{tag}>"
            for i, c in enumerate(cells)
        )
        return f"<tr{f' class={kind}' if kind else ''}>{inner}</tr>"

    body = "".join(
        line(row, "td", row_classes[i] if i < len(row_classes) else "")
        for i, row in enumerate(rows)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line(columns, 'th')}</thead>"
    return Safe(f'<div class="scroll"><table>{above}{head}<tbody>{body}</tbody></table></div>')


def figure(drawing: Figure, alt: str, caption: str, *, raster: bool = False) -> Safe:
    """A drawing inside the page: SVG, or PNG where it is mostly an image."""
    buffer = io.BytesIO()
    if raster:
        drawing.savefig(buffer, format="png", dpi=130)
    else:
        drawing.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    kind = "png" if raster else "svg+xml"
    data = base64.b64encode(buffer.getvalue()).decode()
    width = round(drawing.get_figwidth() * 100)
    return Safe(
        f'<figure><img width="{width}" alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
