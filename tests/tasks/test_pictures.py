from __future__ import annotations

import base64
import logging
import struct
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from ewaldflow.tasks.pictures import (
    Picture,
    artifact_key,
    data_uri,
    looking_on,
    markdown,
    show_pictures,
)


def test_a_figure_is_a_png_of_its_size() -> None:
    head, _, data = data_uri(Figure(figsize=(5, 2))).partition(",")
    assert head == "data:image/png;base64"
    png = base64.b64decode(data, validate=True)
    assert png.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", png[16:24]) == (400, 160)  # at 80 dots per inch


def test_markdown_has_words_for_each_picture_and_paths_of_pages() -> None:
    pictures = [Picture(Figure(), "a tree", "Cells."), Picture(Figure(), "a map")]
    text = markdown("Night", pictures, {"report": Path("/data/runs/index.html")}, "Two phases.")
    lines = [line for line in text.split("\n\n") if not line.startswith("![")]
    assert lines == ["# Night", "Two phases.", "*Cells.*", "- report: `/data/runs/index.html`"]
    assert "![a tree](data:image/png;base64," in text
    assert "![a map](data:image/png;base64," in text


@pytest.mark.parametrize(
    ("words", "key"),
    [("progress-session Grid_7.2+A", "progress-session-grid-7-2-a"), ("--Größe--", "gr-e")],
)
def test_keys_are_what_prefect_takes(words: str, key: str) -> None:
    assert artifact_key(words) == key


def test_what_cannot_be_shown_is_said_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), looking_on("the map"):
        raise OSError("no space\nleft")
    assert caplog.messages == ["the map is not shown: OSError: no space"]


def test_outside_of_a_flow_nothing_is_drawn() -> None:
    class Undrawable(Figure):
        def savefig(self, *_: object, **__: object) -> None:
            raise AssertionError

    show_pictures("key", "title", [Picture(Undrawable(), "nothing")])
