"""The adapters that the conformance suite knows: a name, and how to open it.

To add one, write a context manager that opens it and gives it back, and put `@known("name")`
above it. It yields (microscope or None, camera or None, clock); tests of a part that is None are
skipped. If a program it needs is absent, call `pytest.skip("which, and why")` in it. It is opened
once per test module, and once more for the tests of `release`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

from ewaldflow.hardware.protocols import Camera, Clock, Microscope
from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin

Opened = tuple[Microscope | None, Camera | None, Clock]
Factory = Callable[[], AbstractContextManager[Opened]]

ADAPTERS: dict[str, Factory] = {}


def known(name: str) -> Callable[[Factory], Factory]:
    """Register an adapter under a name; a run without `--adapter` covers all of them."""

    def register(factory: Factory) -> Factory:
        ADAPTERS[name] = factory
        return factory

    return register


def find(entry: str) -> Factory:
    """The adapter of a name above, of ``package.module:function``, or of an instrument's YAML."""
    if entry in ADAPTERS:
        return ADAPTERS[entry]
    if ":" in entry:
        module, _, function = entry.partition(":")
        factory: Factory = getattr(import_module(module), function)
        return factory
    return lambda: _instrument(entry)


@contextmanager
def _instrument(name: str) -> Iterator[Opened]:
    from ewaldflow.hardware.lab import open_lab

    lab = open_lab(name)
    try:
        yield lab.microscope, lab.camera, lab.clock
    finally:
        lab.camera.release()
        lab.microscope.release()


@contextmanager
def _twin(**options: Any) -> Iterator[Opened]:
    twin = open_twin(TwinOptions.model_validate(options))
    yield twin.microscope, twin.camera, twin.clock


@known("twin")
def _timepix() -> AbstractContextManager[Opened]:
    return _twin(seed=1)


@known("twin-cmos")
def _cmos() -> AbstractContextManager[Opened]:
    sensor = {"kind": "cmos", "shape": (256, 320), "pixel_size_mm": 0.1}
    return _twin(seed=2, sensor=sensor, goniometer="badly_set")


@known("twin-without")
def _without() -> AbstractContextManager[Opened]:
    """A twin like a Thermo Fisher: no second image shift; nor what else may be absent."""
    lacking = {"image_shift_2", "rotation_speed", "beta", "screen", "diffraction_focus"}
    return _twin(seed=3, lacking=lacking)
