from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from ewaldflow.lib.report import html


def page(*body: str) -> str:
    return html.page("Title", "over", "lead", body, "footer")


def cloud() -> go.Figure:
    x = np.linspace(0, 1, 500, dtype=np.float32)
    return go.Figure(go.Scatter3d(x=x, y=x**2, z=x**3, mode="markers", name="</script><b>"))


def allowed(text: str) -> set[str]:
    found = re.search(r"script-src ([^\"]*)\"", text)
    return set(re.findall("'sha256-([^']+)'", found.group(1))) if found else set()


def test_a_page_without_table_or_figure_has_no_script_and_allows_none() -> None:
    text = page(html.paragraph("words"))
    assert "<script" not in text
    assert "script-src" not in text
    assert "default-src 'none'" in text


def test_every_script_is_named_by_its_hash_and_nothing_else_is_allowed() -> None:
    text = page(html.table(["a"], [[1]]), html.script("document.title = 'é';"))
    scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    assert {b64encode(sha256(one.encode()).digest()).decode() for one in scripts} == allowed(text)
    assert "unsafe-inline'; script-src" in text  # for styles only
    assert "unsafe-eval" not in text


@pytest.mark.parametrize("bad", ["a</script>b", "<SCRIPT>", "<!-- x"])
def test_a_script_cannot_end_its_own_element(bad: str) -> None:
    with pytest.raises(ValueError, match="script"):
        html.script(bad)


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_data_for_scripts_come_back_and_never_leave_their_element(value: object) -> None:
    element = html.data("d", value)
    inner = re.fullmatch(r'<script type="application/json" id="d">(.*)</script>', element, re.S)
    assert inner is not None
    assert "<" not in inner.group(1)
    assert json.loads(inner.group(1)) == value


def test_a_cell_shows_what_is_rounded_and_keeps_all_digits_for_the_csv() -> None:
    text = html.table(["x", ""], [[html.Exact("1.23", 1.23456789), html.Exact("–", None)]],
                      numeric=(0,), name='n"n')  # fmt: skip
    assert '<td class=n data-value="1.23456789">1.23</td>' in text
    assert '<td data-value="">–</td>' in text
    assert 'data-name="n&quot;n"' in text
    assert "<th scope=col class=n>x</th>" in text
    assert "<td></td>" in text  # an empty heading heads nothing


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.values += [value or "" for name, value in attrs if name == "data-value"]


@given(st.text())
def test_whatever_a_value_is_it_stays_one_attribute(value: str) -> None:
    parser = _Text()
    parser.feed(html.table(["x"], [[html.Exact("s", value)]]))
    assert parser.values == [value.replace("\r\n", "\n").replace("\r", "\n")] or parser.values == [
        value
    ]


def test_plotly_comes_once_and_only_where_it_is_needed() -> None:
    one = html.interactive(cloud(), "a curve", "Curve.")
    text = page(one, html.interactive(cloud(), "again", "Again."))
    assert text.count("plotly.js v") == 1
    assert 4.5e6 < len(text) < 6e6
    assert text == page(html.interactive(cloud(), "a curve", "Curve."),
                        html.interactive(cloud(), "again", "Again."))  # fmt: skip
    assert "Plotly" not in page(html.table(["a"], [[1]]))
    assert "</script><b>" not in one
    assert 'aria-label="a curve"' in one
    assert "<noscript><p>a curve</p></noscript>" in one


def test_an_interactive_figure_shows_its_picture_where_it_cannot_be_drawn() -> None:
    still = Figure()
    still.subplots().plot([1, 2])
    text = html.interactive(cloud(), "a curve", "Curve.", still=still)
    assert text.count('<img width="640" alt="a curve"') == 2  # for print, and without scripts


def test_a_drawing_made_twice_is_the_same_bytes() -> None:
    def drawn() -> str:
        drawing = Figure()
        axes = drawing.subplots()
        axes.scatter([1, 2], [3, 4], label="points")  # clip paths and markers have names
        axes.legend()
        return html.figure(drawing, "alt", "caption")

    assert drawn() == drawn()


def test_colours_are_ours_unless_a_figure_has_its_own() -> None:
    assert '"colorway":["#D55E00"' in html.interactive(cloud(), "a", "c")
    own = cloud().update_layout(colorway=["#123456"])
    assert '"colorway":["#123456"]' in html.interactive(own, "a", "c")


def test_traces_that_compile_code_are_refused() -> None:
    with pytest.raises(ValueError, match="scattergl compiles"):
        html.interactive(go.Figure(go.Scattergl(x=[1], y=[2])), "a", "c")


def test_advice_sets_commands_apart_and_escapes_the_rest() -> None:
    text = html.advice(["run `ewaldflow reduce <DIR>` & look"])
    assert "run <code>ewaldflow reduce &lt;DIR&gt;</code> &amp; look" in text
    assert html.advice([]) == ""
