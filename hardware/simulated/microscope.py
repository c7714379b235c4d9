"""The handles that the twin's column gives out: deflectors, lenses, and the microscope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..errors import LimitExceeded
from ..protocols import Capability, DeflectorName, LensName, Mode
from .column import Column
from .optics import DEFLECTORS, LENSES, MAGNIFICATIONS, STEPS, UNITS
from .stage import Latencies, Line, SimulatedStage, StageRange

COUNTS, NEUTRAL = 65536, 32768


class SimulatedDeflector:
    """A pair of coils (`protocols.Deflector`), set in whole counts of their converters."""

    def __init__(self, line: Line, name: DeflectorName) -> None:
        self._line, self._name, self._step = line, name, STEPS[name]

    @property
    def unit(self) -> str:
        """``nm`` or ``mrad``."""
        return UNITS[self._name]

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return -NEUTRAL * self._step, (COUNTS - 1 - NEUTRAL) * self._step

    @property
    def step(self) -> float:
        """One count."""
        return self._step

    def get(self) -> tuple[float, float]:
        """(x, y)."""
        line = self._line
        value: tuple[float, float] = line.call(
            line.latencies.deflector, lambda: getattr(line.column.settings, self._name)
        )
        return value

    def set(self, xy: tuple[float, float]) -> None:
        """Set (x, y), to the nearest count."""
        x, y = (self._counted(float(value)) for value in xy)
        line = self._line
        line.call(line.latencies.deflector, lambda: line.column.set(**{self._name: (x, y)}))

    def _counted(self, value: float) -> float:
        low, high = self.limits
        # the last half step belongs to the last count
        if not low - self._step / 2 <= value <= high + self._step / 2:
            raise LimitExceeded(
                self._name, f"{value:g} {self.unit}", f"{low:g} to {high:g}", "nothing was set"
            )
        return min(max(round(value / self._step), -NEUTRAL), COUNTS - 1 - NEUTRAL) * self._step


class SimulatedLens:
    """A lens (`protocols.Lens`), set in whole counts."""

    def __init__(self, line: Line, name: LensName) -> None:
        self._line, self._name, self._step = line, name, STEPS[name]
        self._lowest = 0 if name == "brightness" else -NEUTRAL

    @property
    def unit(self) -> str:
        """``fraction`` or ``um``."""
        return "fraction" if self._name == "brightness" else "um"

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self._lowest * self._step, (self._lowest + COUNTS - 1) * self._step

    @property
    def step(self) -> float:
        """One count."""
        return self._step

    def get(self) -> float:
        """The value."""
        line = self._line
        value: float = line.call(
            line.latencies.lens, lambda: getattr(line.column.settings, self._name)
        )
        return value

    def set(self, value: float) -> None:
        """Set it, to the nearest count."""
        low, high = self.limits
        if not low - self._step / 2 <= value <= high + self._step / 2:
            raise LimitExceeded(
                self._name, f"{value:g} {self.unit}", f"{low:g} to {high:g}", "nothing was set"
            )
        counts = round(value / self._step)
        counts = min(max(counts, self._lowest), self._lowest + COUNTS - 1)
        line = self._line
        line.call(line.latencies.lens, lambda: self._set(counts * self._step))

    def _set(self, value: float) -> None:
        column = self._line.column
        if self._name == "diffraction_focus":
            before, now = column.settings.diffraction_focus, column.clock.now()
            column.set(diffraction_focus=value, focus_before=before, focus_set_s=now)
        else:
            column.set(brightness=value)


class SimulatedMicroscope:
    """The microscope (`protocols.Microscope`)."""

    def __init__(
        self,
        name: str,
        column: Column,
        latencies: Latencies,
        limits: StageRange,
        lacking: frozenset[Capability],
    ) -> None:
        line = Line(column, latencies, lacking)
        self._line, self._column, self._name = line, column, name
        self._capabilities = frozenset(Capability) - lacking
        self._stage = SimulatedStage(line, limits)
        self._deflectors: Mapping[DeflectorName, SimulatedDeflector] = MappingProxyType(
            {n: SimulatedDeflector(line, n) for n in DEFLECTORS if Capability(n) not in lacking}
        )
        self._lenses: Mapping[LensName, SimulatedLens] = MappingProxyType(
            {n: SimulatedLens(line, n) for n in LENSES if Capability(n) not in lacking}
        )

    @property
    def name(self) -> str:
        """As in configs/instruments."""
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All, less what the options say that it lacks."""
        return self._capabilities

    @property
    def stage(self) -> SimulatedStage:
        """The goniometer."""
        return self._stage

    @property
    def deflectors(self) -> Mapping[DeflectorName, SimulatedDeflector]:
        """By name."""
        return self._deflectors

    @property
    def lenses(self) -> Mapping[LensName, SimulatedLens]:
        """By name."""
        return self._lenses

    def mode(self) -> Mode:
        """What the camera sees."""
        mode: Mode = self._asked("mode")
        return mode

    def set_mode(self, mode: Mode) -> None:
        """Switch; with hysteresis, if the options say so."""
        if mode not in ("imaging", "diffraction"):
            raise LimitExceeded("mode", f"'{mode}'", "imaging or diffraction", "nothing was set")
        self._line.need(Capability.MODE_SWITCH)
        self._line.call(self._line.latencies.mode, lambda: self._switch(mode))

    def magnification(self) -> int:
        """Of the imaging mode."""
        magnification: int = self._asked("magnification")
        return magnification

    def set_magnification(self, magnification: int) -> None:
        """One of `optics.MAGNIFICATIONS`."""
        if magnification not in MAGNIFICATIONS:
            raise LimitExceeded(
                "magnification", f"{magnification}", f"one of {_listed(MAGNIFICATIONS)}",
                "nothing was set",
            )  # fmt: skip
        self._line.call(
            self._line.latencies.magnification,
            lambda: self._column.set(magnification=int(magnification)),
        )

    def camera_length_mm(self) -> float:
        """Of the diffraction mode."""
        length: float = self._asked("camera_length_mm")
        return length

    def set_camera_length_mm(self, camera_length_mm: float) -> None:
        """One of the instrument's YAML."""
        known = self._column.optics.camera_lengths
        if camera_length_mm not in known:
            raise LimitExceeded(
                "camera length", f"{camera_length_mm:g} mm", f"one of {_listed(known)}",
                "nothing was set",
            )  # fmt: skip
        self._line.call(
            self._line.latencies.magnification,
            lambda: self._column.set(camera_length_mm=float(camera_length_mm)),
        )

    def is_blanked(self) -> bool:
        """Whether the beam is kept from the specimen."""
        self._line.need(Capability.BEAM_BLANK)
        blanked: bool = self._asked("blanked")
        return blanked

    def blank(self) -> None:
        """Keep the beam from the specimen."""
        self._line.need(Capability.BEAM_BLANK)
        self._line.call(self._line.latencies.blank, lambda: self._column.set(blanked=True))

    def unblank(self) -> None:
        """Let the beam onto the specimen."""
        self._line.need(Capability.BEAM_BLANK)
        self._line.call(self._line.latencies.blank, lambda: self._column.set(blanked=False))

    def screen_is_down(self) -> bool:
        """Whether the screen covers the camera."""
        self._line.need(Capability.SCREEN)
        down: bool = self._asked("screen_down")
        return down

    def set_screen(self, *, down: bool) -> None:
        """Move the screen."""
        self._line.need(Capability.SCREEN)
        self._line.call(
            self._line.latencies.screen, lambda: self._column.set(screen_down=bool(down))
        )

    def release(self) -> None:
        """Give it back: every later call raises `ConnectionLost`."""
        self._line.released = True

    def reconnect(self) -> None:
        """Make it usable again after a release."""
        self._line.released = False

    def _asked(self, setting: str) -> Any:
        return self._line.call(
            self._line.latencies.status, lambda: getattr(self._column.settings, setting)
        )

    def _switch(self, mode: Mode) -> None:
        column = self._column
        if column.settings.mode != mode:
            column.set(
                mode=mode,
                switches=column.settings.switches + 1,
                switched_s=column.clock.now(),
            )


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
