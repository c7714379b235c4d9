"""The few HTML parts a report is made of; everything that comes from data is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure

from .scripts import FIGURES, TABLES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as InteractiveFigure

# Okabe & Ito's colours, told apart by people with any form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
LATTICE_COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)

# Traces of plotly's that compile code as they run, which the policy of the page forbids.
_COMPILING = {"scattergl", "scatterpolargl", "splom", "parcoords"}

# The policy forbids every request, so that a report read years later shows what it showed first,
# and every script but those that the page names by hash.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'$scripts">
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
button.csv.over { margin: 10px 0 -33px auto; position: relative; }
caption { text-align: left; color: var(--soft); padding-bottom: 5px; }
th, td { padding: 5px 14px 5px 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; font-size: 13.5px; color: var(--soft); }
td.n, th.n { text-align: right; }
tr.chosen td { background: #fdf3df; font-weight: 600; }
tr.failed td { background: #fcefe8; }
.scroll { overflow-x: auto; }
button.csv { display: block; margin: 10px 0 -10px auto; padding: 0 8px; font: 12px/20px inherit;
  font-family: inherit; color: var(--accent); background: #fff; border: 1px solid var(--line);
  border-radius: 3px; cursor: pointer; }
:focus-visible { outline: 3px solid #D55E00; outline-offset: 2px; }
.skip { position: absolute; left: -999em; background: #fff; padding: 6px 12px; }
.skip:focus { left: 8px; top: 8px; }
pre { white-space: pre-wrap; }
svg.lineage { display: block; margin: 6px 0; }
svg.lineage rect { fill: #fff; stroke: #0072B2; stroke-width: 1.5; }
svg.lineage rect.files { stroke: #5a6673; stroke-dasharray: 4 3; }
svg.lineage rect.page { fill: #10283d; stroke: #10283d; }
svg.lineage text { text-anchor: middle; font-size: 11.5px; fill: var(--soft); }
svg.lineage text.kind { font-size: 14px; font-weight: 600; fill: var(--ink); }
svg.lineage rect.page ~ text { fill: #fff; }
svg.lineage a:hover rect, svg.lineage a:focus-visible rect { fill: #fdf3df; stroke-width: 3; }
svg.lineage .arrows path { fill: none; stroke: #5a6673; stroke-width: 1.3;
  marker-end: url(#tip); }
.live { width: 100%; }
.interactive .still { display: none; }
.interactive.failed .still { display: block; }
.interactive.failed .live, .interactive.failed .keys { display: none; }
figure { margin: 14px 0 22px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 6px; max-width: 92ch; }
ul.notes { padding-left: 20px; max-width: 92ch; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--accent); }
code { font: 13px/1.5 "Source Code Pro", Menlo, Consolas, "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
.warn { border-left: 4px solid #D55E00; background: #fcefe8; padding: 8px 14px; max-width: 92ch; }
.next { background: var(--wash); border-left: 4px solid var(--accent); padding: 8px 14px;
  margin: 16px 0; max-width: 92ch; }
.next h2 { font-size: 15px; margin: 0; border: 0; padding: 0; }
.next ul { margin: 4px 0 0; padding-left: 20px; }
footer { color: var(--soft); font-size: 13px; margin: 46px auto 40px; padding-top: 10px;
  border-top: 1px solid var(--line); }
@media print { header { color: #000; background: #fff; } header p, header .over { color: #000; }
  figure, tr { break-inside: avoid; } thead { display: table-header-group; }
  h2, h3, caption { break-after: avoid; } nav, .skip, button.csv, .keys { display: none; }
  .scroll { overflow: visible; }
  .interactive.pictured .still { display: block; } .interactive.pictured .live { display: none; } }
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><div><p class="over">$over</p><h1>$title</h1><p>$lead</p></div></header>
<main id="main">
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
    """A whole page; `body` is HTML, the other texts are not.

    What its parts need comes with it: plotly (4.8 MB) where there is an interactive figure.
    """
    content = "\n".join(body)
    if '<figure class="interactive' in content:
        from plotly.offline import get_plotlyjs

        content += script(get_plotlyjs()) + script(FIGURES)
    if "<table" in content:
        content += script(TABLES)
    # Escaped data cannot hold a tag, so that these are the scripts that `script` let in.
    ours = dict.fromkeys(re.findall("<script>(.*?)</script>", content, re.DOTALL))
    hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in ours)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return _PAGE.substitute(
        title=escape(title),
        over=escape(over),
        lead=escape(lead),
        body=content,
        footer=escape(footer),
        scripts=f"; script-src {allowed}" if allowed else "",
    )


def script(code: str) -> Safe:
    """JavaScript that the page runs where it stands; its data come from `data`.

    The page names it by its hash, so that nothing else can run. No `onclick="..."` in HTML
    either: use addEventListener.
    """
    if re.search("</?script|<!--", code, re.IGNORECASE):
        raise ValueError("a script inside a page cannot speak of script tags or comments")
    return Safe(f"<script>{code}</script>")


def data(anchor: str, value: object) -> Safe:
    """Plain data for a script: `JSON.parse(document.getElementById(anchor).textContent)`."""
    return Safe(
        f'<script type="application/json" id="{escape(anchor)}">{_json(json.dumps(value))}</script>'
    )


def _json(text: str) -> str:
    """JSON that cannot end the script element that it stands in."""
    return text.replace("<", "\\u003c")


def section(anchor: str, heading: str, *parts: str) -> Safe:
    """A section that the page's table of contents can point at."""
    return Safe(
        f'<section id="{escape(anchor)}"><h2>{escape(heading)}</h2>{"".join(parts)}</section>'
    )


def contents(headings: Mapping[str, str]) -> Safe:
    """Links to sections: heading by anchor."""
    links = "".join(f'<a href="#{escape(a)}">{escape(h)}</a>' for a, h in headings.items())
    return Safe(f'<nav aria-label="Contents">{links}</nav>')


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


def advice(steps: Iterable[object]) -> Safe:
    """What to do next, one sentence each, the most urgent first; nothing if there is none.

    A command stands between backticks.
    """
    items = "".join(f"<li>{escape(one)}</li>" for one in steps)
    said = re.sub("`([^`]+)`", r"<code>\1</code>", items)
    return Safe(f'<div class="next"><h2>What to do next</h2><ul>{said}</ul></div>' if said else "")


def details(summary: str, *parts: str) -> Safe:
    """Parts folded away behind a line."""
    return Safe(f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>")


@dataclass(frozen=True)
class Exact:
    """A cell of a table that shows less than its CSV has.

    Attributes
    ----------
    shown : text or `Safe` HTML.
    value : for the CSV, at full precision.
    """

    shown: object
    value: object


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Sequence[int] = (),
    row_classes: Sequence[str] = (),
    caption: str = "",
    name: str = "",
) -> Safe:
    """A table that the page's script lets save as CSV.

    Parameters
    ----------
    columns : headings.
    rows : of texts, numbers, `Safe` HTML, or `Exact` where the CSV is to have more digits.
    numeric : columns that are set to the right.
    row_classes : styles of the rows.
    caption : above it.
    name : in the name of the CSV file, after the page's title; else the section's anchor.
    """

    def cell(content: object, tag: str, more: str) -> str:
        if isinstance(content, Exact):
            value = "" if content.value is None else str(content.value)
            more += f' data-value="{escape(value)}"'
            content = content.shown
        return f"<{tag}{more}>{escape(content)}</{tag}>"

    def line(cells: Sequence[object], tag: str, kind: str = "") -> str:
        inner = "".join(
            # an empty heading would head nothing
            cell(c, tag if c != "" else "td", " scope=col" * (tag == "th" and c != "")
                 + " class=n" * (i in numeric)) for i, c in enumerate(cells)
        )  # fmt: skip
        return f"<tr{f' class={kind}' if kind else ''}>{inner}</tr>"

    body = "".join(
        line(row, "td", row_classes[i] if i < len(row_classes) else "")
        for i, row in enumerate(rows)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line(columns, 'th')}</thead>"
    named = f' data-name="{escape(name)}"' if name else ""
    return Safe(
        f'<div class="scroll"><table{named}>{above}{head}<tbody>{body}</tbody></table></div>'
    )


def figure(drawing: Figure, alt: str, caption: str, *, raster: bool = False) -> Safe:
    """A drawing inside the page: SVG, or PNG where it is mostly an image."""
    return Safe(
        f"<figure>{_image(drawing, alt, raster)}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _image(drawing: Figure, alt: str, raster: bool = False) -> Safe:
    buffer = io.BytesIO()
    if raster:
        drawing.savefig(buffer, format="png", dpi=130)
    else:
        # names inside the SVG are random without a salt, and a page could not be made again
        with rc_context({"svg.hashsalt": "ewaldflow"}):
            drawing.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    kind = "png" if raster else "svg+xml"
    encoded = base64.b64encode(buffer.getvalue()).decode()
    width = round(drawing.get_figwidth() * 100)
    return Safe(
        f'<img width="{width}" alt="{escape(alt)}" src="data:image/{kind};base64,{encoded}">'
    )


def interactive(
    drawing: InteractiveFigure,
    alt: str,
    caption: str,
    *,
    height_px: int = 560,
    still: Figure | None = None,
) -> Safe:
    """A plotly figure that is turned, moved and read off with mouse or keys.

    Parameters
    ----------
    drawing : `plotly.graph_objects.Figure`; float32 arrays keep the page small. Its colours are
        ours where it has none. No trace of plotly's that compiles code (scattergl, splom,
        parcoords); scatter, heatmap, scatter3d, mesh3d, surface and their like are good.
    alt, caption : what it shows, for those who do not see it; what is below it.
    height_px : it is as wide as the page.
    still : the same as a picture: for print, and where there is no WebGL or no script.
    """
    spec = drawing.to_plotly_json()
    if bad := _COMPILING & {trace["type"] for trace in spec["data"]}:
        raise ValueError(f"{bad.pop()} compiles code, which the page forbids")
    spec["layout"].setdefault("colorway", list(LATTICE_COLOURS))
    spec["layout"].setdefault("margin", {"l": 60, "r": 20, "t": 40, "b": 50})
    from plotly.io.json import to_json_plotly

    picture = _image(still, alt) if still else Safe(f"<p>{escape(alt)}</p>")
    return Safe(
        f'<figure class="interactive{" pictured" if still else ""}">'
        f'<div class="live" role="application" tabindex="0" aria-label="{escape(alt)}"'
        f' style="height:{height_px}px"></div>'
        f'<script type="application/json">{_json(to_json_plotly(spec))}</script>'
        f'<div class="still">{picture}</div><noscript>{picture}</noscript>'
        f'<figcaption>{escape(caption)} <span class="keys">Keys: arrows turn or move, + and - '
        "scale, 0 puts it back.</span></figcaption></figure>"
    )
