"""temscript's server and a slow stage for the tests of its adapter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

pytest.importorskip("temscript", reason="temscript is not installed")
from standins.temscript import SlowStage, serving


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[int]]:
    return serving


@pytest.fixture
def slow() -> SlowStage:
    return SlowStage()
