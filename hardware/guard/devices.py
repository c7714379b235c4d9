"""An instrument behind the guard: limits are checked before each move, each call is a sign of life.

The first time a mode is entered, its settings are noted before anything can change them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing

from ..config import StageLimits
from ..errors import LimitExceeded
from ..protocols import (
    Camera,
    Capability,
    Deflector,
    DeflectorName,
    Exposure,
    Lens,
    LensName,
    Microscope,
    Mode,
    Stage,
    StagePosition,
)

Call = Callable[[], None]


class GuardedStage:
    """A stage that refuses to leave its limits."""

    def __init__(self, stage: Stage, limits: StageLimits, call: Call) -> None:
        self._stage, self._limits, self._call = stage, limits, call

    def position(self) -> StagePosition:
        """As `Stage.position`."""
        self._call()
        return self._stage.position()

    def start_move(
        self,
        *,
        x_um: float | None = None,
        y_um: float | None = None,
        z_um: float | None = None,
        alpha_deg: float | None = None,
        beta_deg: float | None = None,
        speed_deg_per_s: float | None = None,
    ) -> None:
        """As `Stage.start_move`; raises `LimitExceeded` before anything moves."""
        self._call()
        target = {
            "x_um": x_um,
            "y_um": y_um,
            "z_um": z_um,
            "alpha_deg": alpha_deg,
            "beta_deg": beta_deg,
        }
        self._limits.check(**target)
        self._stage.start_move(**target, speed_deg_per_s=speed_deg_per_s)

    def is_moving(self) -> bool:
        """As `Stage.is_moving`."""
        self._call()
        return self._stage.is_moving()

    def stop(self) -> None:
        """As `Stage.stop`."""
        self._stage.stop()


def _check(name: str, value: float, limits: tuple[float, float], unit: str) -> None:
    if not limits[0] <= value <= limits[1]:
        raise LimitExceeded(
            name,
            f"{value:g} {unit}",
            f"{limits[0]:g} to {limits[1]:g} {unit}",
            "choose a value within; nothing was set",
        )


class GuardedDeflector:
    """A deflector that refuses values outside its limits, not-a-number among them."""

    def __init__(self, name: DeflectorName, deflector: Deflector, call: Call) -> None:
        self._name, self._deflector, self._call = name, deflector, call
        self.unit, self.limits, self.step = deflector.unit, deflector.limits, deflector.step

    def get(self) -> tuple[float, float]:
        """As `Deflector.get`."""
        self._call()
        return self._deflector.get()

    def set(self, xy: tuple[float, float]) -> None:
        """As `Deflector.set`."""
        self._call()
        for value in xy:
            _check(self._name, value, self.limits, self.unit)
        self._deflector.set(xy)


class GuardedLens:
    """A lens that refuses values outside its limits."""

    def __init__(self, name: LensName, lens: Lens, call: Call) -> None:
        self._name, self._lens, self._call = name, lens, call
        self.unit, self.limits, self.step = lens.unit, lens.limits, lens.step

    def get(self) -> float:
        """As `Lens.get`."""
        self._call()
        return self._lens.get()

    def set(self, value: float) -> None:
        """As `Lens.set`."""
        self._call()
        _check(self._name, value, self.limits, self.unit)
        self._lens.set(value)


class GuardedMicroscope:
    """A microscope behind the guard.

    Parameters
    ----------
    microscope : the one behind.
    limits : of the stage.
    call : called before each exchange; raises to end the session.
    entered : called after a mode was entered.
    """

    def __init__(
        self, microscope: Microscope, limits: StageLimits, call: Call, entered: Call
    ) -> None:
        self._behind, self._call, self._entered = microscope, call, entered
        self.name: str = microscope.name
        self.capabilities: frozenset[Capability] = microscope.capabilities
        self.stage: Stage = GuardedStage(microscope.stage, limits, call)
        self.deflectors: Mapping[DeflectorName, Deflector] = {
            name: GuardedDeflector(name, one, call) for name, one in microscope.deflectors.items()
        }
        self.lenses: Mapping[LensName, Lens] = {
            name: GuardedLens(name, one, call) for name, one in microscope.lenses.items()
        }

    def mode(self) -> Mode:
        """As `Microscope.mode`."""
        self._call()
        return self._behind.mode()

    def set_mode(self, mode: Mode) -> None:
        """As `Microscope.set_mode`."""
        self._call()
        self._behind.set_mode(mode)
        self._entered()

    def magnification(self) -> int:
        """As `Microscope.magnification`."""
        self._call()
        return self._behind.magnification()

    def set_magnification(self, magnification: int) -> None:
        """As `Microscope.set_magnification`."""
        self._call()
        self._behind.set_magnification(magnification)

    def camera_length_mm(self) -> float:
        """As `Microscope.camera_length_mm`."""
        self._call()
        return self._behind.camera_length_mm()

    def set_camera_length_mm(self, camera_length_mm: float) -> None:
        """As `Microscope.set_camera_length_mm`."""
        self._call()
        self._behind.set_camera_length_mm(camera_length_mm)

    def is_blanked(self) -> bool:
        """As `Microscope.is_blanked`."""
        self._call()
        return self._behind.is_blanked()

    def blank(self) -> None:
        """As `Microscope.blank`."""
        self._behind.blank()

    def unblank(self) -> None:
        """As `Microscope.unblank`."""
        self._call()
        self._behind.unblank()

    def screen_is_down(self) -> bool:
        """As `Microscope.screen_is_down`."""
        self._call()
        return self._behind.screen_is_down()

    def set_screen(self, *, down: bool) -> None:
        """As `Microscope.set_screen`."""
        self._call()
        self._behind.set_screen(down=down)

    def release(self) -> None:
        """Nothing: the guard releases the instrument when it is safe."""


class GuardedCamera:
    """A camera whose exposures are signs of life."""

    def __init__(self, camera: Camera, call: Call) -> None:
        self._behind, self._call = camera, call
        self.name, self.shape, self.pixel_size_mm = camera.name, camera.shape, camera.pixel_size_mm
        self.binnings, self.dynamic_range = camera.binnings, camera.dynamic_range
        self.dead_time_s = camera.dead_time_s

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """As `Camera.expose`."""
        self._call()
        return self._behind.expose(exposure_s, binning)

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure]:
        """As `Camera.stream`."""
        behind = self._behind.stream(exposure_s, n_frames, binning)
        with closing(behind):
            for exposure in behind:
                self._call()
                yield exposure

    def release(self) -> None:
        """Nothing: the guard releases the camera."""
