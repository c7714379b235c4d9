"""Opens the adapters that the suite is run on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ewaldflow.hardware.protocols import Camera, Clock, Microscope


def _beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    full = f"ewaldflow_conformance_{name}"
    if full not in sys.modules:
        spec = spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


ADAPTERS = _beside("adapters")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test on the adapter of `--adapter`, or on all known ones."""
    asked = metafunc.config.getoption("--adapter")
    names = [asked] if asked else list(ADAPTERS.ADAPTERS)
    for part in ("microscope", "camera"):
        if part in metafunc.fixturenames:
            names = [name for name in names if ADAPTERS.HAS.get(name, part) in ("both", part)]
    if "opened" in metafunc.fixturenames:
        metafunc.parametrize("opened", names, indirect=True, scope="module")
    if "opened_anew" in metafunc.fixturenames:
        metafunc.parametrize("opened_anew", names, indirect=True)


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[Any]:
    """(microscope, camera, clock), kept open for a module's tests."""
    with ADAPTERS.find(request.param)() as parts:
        yield parts


@pytest.fixture
def opened_anew(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The same, opened for one test that leaves it unusable."""
    with ADAPTERS.find(request.param)() as parts:
        yield parts


@pytest.fixture(autouse=True)
def excused(request: pytest.FixtureRequest) -> None:
    """Skips what an adapter is declared to be excused from, with the reason."""
    callspec = getattr(request.node, "callspec", None)
    name = callspec.params.get("opened") if callspec else None
    reason = ADAPTERS.EXCUSED.get(name, {}).get(request.node.originalname)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def harmless(request: pytest.FixtureRequest) -> None:
    """Skips a test that must not be tried on a real instrument: one given by `--adapter`."""
    asked = request.config.getoption("--adapter")
    if asked and asked not in ADAPTERS.ADAPTERS:
        pytest.skip("not on an instrument that may be real")


@pytest.fixture
def microscope(opened: Any) -> Microscope:
    """The microscope; the test is skipped where there is none."""
    if opened[0] is None:
        pytest.skip("a camera only")
    return opened[0]


@pytest.fixture
def camera(opened: Any) -> Camera:
    """The camera; the test is skipped where there is none."""
    if opened[1] is None:
        pytest.skip("a microscope only")
    return opened[1]


@pytest.fixture
def clock(opened: Any) -> Clock:
    """The instrument's clock."""
    return opened[2]
