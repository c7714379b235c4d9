"""The notebooks of the documentation run, and print what they were kept with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prints_what_it_was_kept_with(path: Path, assert_same_text: Callable[..., None]) -> None:
    from notebooks import executed, kept, printed

    before = nbformat.read(path, as_version=4)
    after = kept(executed(path))
    for found, expected in zip(printed(after), printed(before), strict=True):
        assert_same_text(found, expected, relative=0.05, absolute=0.02)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_small_and_without_the_machine_it_ran_on(path: Path) -> None:
    from notebooks import kept

    raw = path.read_text(encoding="utf-8")
    assert len(raw) < 400_000
    notebook = nbformat.read(path, as_version=4)
    assert nbformat.writes(kept(notebook)).strip() == raw.strip()


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) >= 2
