"""What tests of the documentation share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS / "hooks"))

_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d\u202f]*(?:\.\d+)?(?:e[-+]?\d+)?")


def _apart(text: str) -> tuple[str, list[float]]:
    numbers = [float(n.replace("−", "-").replace("\u202f", "")) for n in _NUMBER.findall(text)]
    return " ".join(_NUMBER.sub("#", text).split()), numbers


@pytest.fixture(scope="session")
def assert_same_text() -> Callable[..., None]:
    """Words as printed; numbers to `relative` or `absolute`, for computers differ a little."""

    def check(found: str, printed: str, relative: float, absolute: float) -> None:
        words, numbers = _apart(found)
        words_printed, numbers_printed = _apart(printed)
        assert words == words_printed
        assert numbers == pytest.approx(numbers_printed, rel=relative, abs=absolute)

    return check
