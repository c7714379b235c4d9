from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest

from ewaldflow.lib.reduction.result import Flag, Reduction
from ewaldflow.lib.reduction.sections import sections
from ewaldflow.lib.report.html import Safe, escape, table
from ewaldflow.lib.report.outcome import SeriesOutcome, headline_from
from ewaldflow.lib.report.reduction_page import FLAG_WORDS, reduction_page
from ewaldflow.lib.report.session_page import session_page
from ewaldflow.lib.report.summary import headline
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

_VOID = {"meta", "img", "br", "hr"}


class _Checker(HTMLParser):
    """Every tag that opens closes, and nothing is fetched from anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "srcset", "data", "action"} or (name == "href" and tag == "link"):
                assert value is not None
                assert value.startswith("data:")
                self.images += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _checked(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    policy = re.search(r"script-src ([^\"]*)\"", page)
    named = policy.group(1) if policy else ""
    for attributes, code in re.findall("<script(.*?)>(.*?)</script>", page, re.DOTALL):
        if attributes:
            assert attributes.startswith(' type="application/json"')  # data, never run
        else:
            assert b64encode(sha256(code.encode()).digest()).decode() in named
    assert "default-src 'none'" in page
    return checker


@pytest.fixture(scope="module")
def page(simulated: tuple[RotationSeries, Truth], reduction: Reduction) -> str:
    planes = [sections(simulated[0], one, reduction.frames) for one in reduction.lattices]
    return reduction_page(reduction, simulated[0], planes=planes)


def test_page_holds_itself_and_all_sections(page: str, reduction: Reduction) -> None:
    checker = _checked(page)
    # what reciprocal space looks like in print stands there twice: for no script, too
    assert checker.images == 10
    for words in (
        "Cell and lattice", "Frames", "Along the series", "How well it fits", "Intensities",
        "Reciprocal space", "Sections", "hk0, h0l, 0kl", "Notes and choices", "Provenance",
        reduction.verdict, reduction.notes[0],
    ):  # fmt: skip
        assert words in page
    anchors = set(re.findall(r'href="#(\w+)"', page)) - {"main"}
    assert anchors
    assert all(f'<section id="{anchor}">' in page for anchor in anchors)


def test_cell_stands_there_with_its_esd(page: str, reduction: Reduction) -> None:
    a = reduction.lattices[0].cell[0]
    assert f"<td class=n>{a:.3f}(4)</td>" in page  # e.s.d. 0.004 in the fixture
    assert "<td class=n>90</td>" in page  # fixed by symmetry: no e.s.d.


def test_page_without_a_lattice(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    bare = replace(reduction, lattices=(), verdict="no lattice: 12 spots lie on none")
    page = reduction_page(bare, simulated[0])
    assert _checked(page).images == 2
    assert "no lattice: 12 spots" in page
    assert "none found" in page


def test_page_of_two_lattices_tells_them_apart(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    page = reduction_page(replace(reduction, lattices=reduction.lattices * 2), simulated[0])
    _checked(page)
    assert "Cell and lattice 1" in page
    assert "Intensities 2" in page
    assert "strongest of 2" in page


def test_page_of_reflections_too_weak_for_plots(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    lattice = reduction.lattices[0]
    weak = replace(lattice.reflections, sigma=np.full(len(lattice.reflections), 1e9))
    page = reduction_page(
        replace(reduction, lattices=(replace(lattice, reflections=weak),)), simulated[0]
    )
    _checked(page)
    assert "No reflection is strong enough" in page


def test_names_from_outside_are_text_not_html(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    evil = replace(reduction, series="<script>alert(1)</script>", lattices=())
    page = reduction_page(evil, simulated[0])
    _checked(page)
    assert "&lt;script&gt;" in page


def test_missing_frames_are_told_as_ranges(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    series = simulated[0]
    number = series.frame_number.copy()
    number[10:] += 3
    number[20:] += 1
    gapped = series.with_(frame_number=number)
    page = reduction_page(replace(reduction, lattices=()), gapped)
    first = series.frame_number[10]
    assert f"Frames {first}–{first + 2}, {number[19] + 1} are missing" in page


def test_session_page_lists_failed_series_with_their_reason(reduction: Reduction) -> None:
    outcomes = [
        SeriesOutcome("good", "a/good", headline(reduction), "fine", "reduction/good@v0001",
                      "report/good@v0001"),
        SeriesOutcome("bad", "a/bad", reason="a/bad: found no frames, expected some; look"),
    ]  # fmt: skip
    links = {"report/good@v0001": "../good.html"}
    page = session_page("monday", outcomes, (), None, links, "0.1.0")
    _checked(page)
    assert '<a href="../good.html">good</a>' in page
    assert "found no frames, expected some" in page
    assert "1 of 2 series could not be processed" in page


def test_headline_survives_a_manifest(reduction: Reduction) -> None:
    head = headline(replace(reduction, lattices=()))
    figures = {k: None if v != v else v for k, v in vars(head).items()}
    again = headline_from(figures)
    assert np.isnan(again.resolution_A)
    assert again.lattice == head.lattice


def test_every_flag_is_explained(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction
) -> None:
    assert set(FLAG_WORDS) == set(Flag)
    lattice = reduction.lattices[0]
    flags = lattice.reflections.flags.copy()
    flags[0] = sum(Flag)
    flagged = replace(lattice, reflections=replace(lattice.reflections, flags=flags))
    page = reduction_page(replace(reduction, lattices=(flagged,)), simulated[0])
    assert all(words in page for words in FLAG_WORDS.values())


def test_escaping() -> None:
    assert escape("a < b & c") == "a &lt; b &amp; c"
    assert escape(Safe("<b>")) == "<b>"
    shown = table(["x & y"], [["<1>", 2]], numeric=(1,))
    assert "x &amp; y" in shown
    assert "<td>&lt;1&gt;</td><td class=n>2</td>" in shown
