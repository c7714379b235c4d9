"""Small sessions on the twin, with its true calibrations; each ends behind the guard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ewaldflow
from ewaldflow.hardware.guard import guarded
from ewaldflow.hardware.lab import Lab
from ewaldflow.hardware.serialred.acquire import Session, begin
from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.hardware.simulated.optics import Settings
from ewaldflow.hardware.simulated.specimen import Specimen
from ewaldflow.hardware.simulated.twin import Twin
from ewaldflow.lib.serialred.calibration import CalibrationSet
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import SessionConfig

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
from _twin import grid_of, lab_with, short_session

ALONE = ((0.3, -0.2),)


@lru_cache
def specimen(places_um: tuple[tuple[float, float], ...]) -> Specimen:
    """Made once."""
    return grid_of(places_um)


@dataclass
class Bench:
    """An unguarded twin, and a session for it."""

    lab: Lab
    twin: Twin
    config: SessionConfig
    calibrations: CalibrationSet
    folder: Path
    found: Settings

    @contextmanager
    def begun(self) -> Iterator[Session]:
        """A session that has begun, behind the guard."""
        with guarded(self.lab) as safe:
            yield begin(safe, self.config, self.calibrations, self.folder)

    def assert_nothing_happened(self) -> None:
        """No mode was switched, no motor turned, no image was taken; and it is safe."""
        self.assert_safe()
        assert self.twin.truth.settings.switches == self.found.switches
        column = self.twin.column
        assert column.goniometer.motors(column.clock.now()) == (0.0,) * 5
        assert self.images == 0

    def assert_safe(self) -> None:
        """The beam blank, the stage still, the settings those found."""
        now, truth = self.twin.truth.settings, self.twin.truth
        assert now.blanked
        assert not truth.is_moving()
        for name in ("mode", "magnification", "camera_length_mm"):
            assert getattr(now, name) == getattr(self.found, name)
        for name in ("beam_shift", "image_shift_1", "image_shift_2", "brightness"):
            np.testing.assert_allclose(getattr(now, name), getattr(self.found, name), atol=1.0)

    @property
    def images(self) -> int:
        """So many were taken."""
        return self.twin.camera.expose(0.01).number


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Makes one: crystals at places (x, y) um of the film, options of the twin, the session."""

    def make(
        places_um: Sequence[tuple[float, float]] = ALONE,
        session: dict[str, Any] | None = None,
        **options: Any,
    ) -> Bench:
        lab, twin = lab_with(specimen(tuple(places_um)), **{"seed": 3, **options})
        lab = replace(lab, camera=_Unreleased(lab.camera))
        small = {"area": Box(x_um=(-0.5, 0.5), y_um=(-0.5, 0.5)), **(session or {})}
        config = short_session(**small)
        calibrations = true_calibrations(twin, config)
        return Bench(lab, twin, config, calibrations, tmp_path / "raw", twin.truth.settings)

    return make


class _Unreleased:
    """A camera that tests may still ask after the session."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def release(self) -> None:
        pass


@pytest.fixture
def leave() -> Iterator[ExitStack]:
    """Leaves what a test entered."""
    with ExitStack() as stack:
        yield stack
