"""A bare JEOL behind a server like instamatic's, and the adapter connected to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from standins.instamatic import BareJeol, TemServer, opened, serving

from ewaldflow.hardware.instamatic.tools import environment
from ewaldflow.hardware.protocols import Microscope


@pytest.fixture
def jeol() -> BareJeol:
    return BareJeol()


@pytest.fixture
def server(jeol: BareJeol) -> Iterator[TemServer]:
    with serving(jeol) as one:
        yield one


@pytest.fixture
def microscope(server: TemServer) -> Iterator[Microscope]:
    one = opened(server.port)
    yield one
    one.release()


@pytest.fixture
def python() -> Path:
    found = environment.find()
    if found is None:
        pytest.skip(environment.ABSENT)
    return found
