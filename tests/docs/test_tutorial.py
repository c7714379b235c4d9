"""The tutorial followed literally: every command, what it prints, every picture it shows."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"
# what differs from run to run: dates, digests, errors' digits, sizes that hold them
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?"), "DATE"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "DIGEST"),
    (re.compile(r"\(\d+\)"), ""),
    (re.compile(r"\b[\d.]+ [kM]?B\b"), "SIZE"),
)


def _masked(text: str) -> str:
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return text


def _alike(found: bytes, kept: bytes) -> None:
    if kept.startswith(b"\xff\xd8"):  # JPEG
        a, b = (
            np.asarray(Image.open(io.BytesIO(one)).convert("L"), float) for one in (found, kept)
        )
        assert a.shape == b.shape
        # the same picture; edges of letters and circles may be drawn a little otherwise
        assert np.mean(np.abs(a - b) > 64) < 0.02
        return
    # drawings: the same words and about as many strokes
    words = [re.findall(r"<!-- (.*?) -->", one.decode()) for one in (found, kept)]
    assert words[0] == words[1]
    strokes = [one.count(b"<path") + one.count(b"<use") for one in (found, kept)]
    assert strokes[0] == pytest.approx(strokes[1], rel=0.1)


def test_commands_and_pictures_are_read_as_they_stand() -> None:
    from tutorial import PAGE, Picture, blocks, pictures, steps

    (one, two) = steps("$ cat > x <<'END'\n> a\n> END\n$ ls\nx\ny\n")
    assert (one.command, one.printed) == ("cat > x <<'END'\na\nEND", "")
    assert (two.command, two.printed) == ("ls", "x\ny")
    assert str(one) == "$ cat > x <<'END'\n> a\n> END\n"
    text = PAGE.read_text(encoding="utf-8")
    assert sum(map(len, blocks(text))) >= 8
    for one in pictures(text):
        assert isinstance(one, Picture)
        assert (DOCS / one.kept).is_file(), f"{one.kept}: run docs/hooks/tutorial.py"


@pytest.mark.long
def test_followed_literally(tmp_path: Path, assert_same_text: Callable[..., None]) -> None:
    from tutorial import PAGE, blocks, picture, pictures, run

    text = PAGE.read_text(encoding="utf-8")
    for block in blocks(text):
        for step in block:
            found = run(step.command, tmp_path)
            assert_same_text(_masked(found), _masked(step.printed), relative=0.1, absolute=0.5)
    for one in pictures(text):
        _alike(picture(tmp_path / one.page, one.number), (DOCS / one.kept).read_bytes())
