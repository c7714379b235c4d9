"""A microscope that only keeps registers, and can be told to fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ewaldflow.hardware.config import Adapter, Control, StageLimits
from ewaldflow.hardware.errors import ConnectionLost
from ewaldflow.hardware.lab import Lab
from ewaldflow.hardware.protocols import Capability, Exposure, StagePosition
from ewaldflow.lib.instrument import load_instrument

LIMITS = StageLimits(
    x_um=(-900, 900), y_um=(-900, 900), z_um=(-300, 300), alpha_deg=(-60, 60), beta_deg=(-1, 1)
)


@dataclass
class Register:
    unit: str
    limits: tuple[float, float]
    step: float
    value: object
    check: Callable[[], None]

    def get(self):
        self.check()
        return self.value

    def set(self, value):
        self.check()
        self.value = value


@dataclass
class FakeStage:
    check: Callable[[], None]
    where: StagePosition = field(default_factory=lambda: StagePosition(1.0, 2.0, 3.0, 4.0))
    moving: bool = False
    stops: int = 0
    deaf: bool = False  # does not stop

    def position(self):
        self.check()
        return self.where

    def start_move(self, **target):
        self.check()
        self.moving = True

    def is_moving(self):
        self.check()
        return self.moving

    def stop(self):
        self.check()
        self.stops += 1
        self.moving = self.deaf


@dataclass
class FakeClock:
    t: float = 0.0
    on_sleep: Callable[[], None] = lambda: None

    def now(self):
        return self.t

    def sleep(self, seconds):
        self.t += seconds
        self.on_sleep()


class FakeMicroscope:
    """Each mode has its own values, as on a real one."""

    name = "fake"
    capabilities = frozenset(Capability)

    def __init__(self):
        self.offline = False
        self.calls = []
        self.now_mode, self.blanked, self.screen, self.released = "imaging", False, False, 0
        self.mag, self.cl = 2500, 300.0
        self.stage = FakeStage(self.check)
        self.per_mode = {}
        for k, mode in enumerate(("imaging", "diffraction")):
            self.per_mode[mode] = (
                {
                    name: Register(unit, (-1000, 1000), 0.01, (k + 1.0, k - 1.0), self.check)
                    for name, unit in [("beam_shift", "nm"), ("image_shift_1", "nm")]
                },
                {
                    "brightness": Register("fraction", (0, 1), 1e-4, 0.25 * (k + 1), self.check),
                    "diffraction_focus": Register("um", (-100, 100), 0.01, 5.0 * k, self.check),
                },
            )

    def check(self):
        if self.offline:
            raise ConnectionLost("fake", "no answer", "one", "plug it in")

    @property
    def deflectors(self):
        return {n: _Through(self, 0, n) for n in self.per_mode["imaging"][0]}

    @property
    def lenses(self):
        return {n: _Through(self, 1, n) for n in self.per_mode["imaging"][1]}

    def mode(self):
        self.check()
        return self.now_mode

    def set_mode(self, mode):
        self.check()
        self.now_mode = mode

    def magnification(self):
        self.check()
        return self.mag

    def set_magnification(self, magnification):
        self.check()
        self.mag = magnification

    def camera_length_mm(self):
        self.check()
        return self.cl

    def set_camera_length_mm(self, camera_length_mm):
        self.check()
        self.cl = camera_length_mm

    def is_blanked(self):
        self.check()
        return self.blanked

    def blank(self):
        self.check()
        self.blanked = True

    def unblank(self):
        self.check()
        self.blanked = False

    def screen_is_down(self):
        return self.screen

    def set_screen(self, *, down):
        self.screen = down

    def release(self):
        self.released += 1

    def registers(self):
        return {
            (mode, name): one.value
            for mode, groups in self.per_mode.items()
            for name, one in itertools.chain(*(g.items() for g in groups))
        }


@dataclass
class _Through:
    """The register of the mode that is on."""

    scope: FakeMicroscope
    group: int
    name: str

    def _now(self):
        return self.scope.per_mode[self.scope.now_mode][self.group][self.name]

    unit = property(lambda self: self._now().unit)
    limits = property(lambda self: self._now().limits)
    step = property(lambda self: self._now().step)

    def get(self):
        return self._now().get()

    def set(self, value):
        self._now().set(value)


@dataclass
class FakeCamera:
    name = "fake"
    shape = (8, 8)
    pixel_size_mm = 0.055
    binnings = (1,)
    dynamic_range = 100
    dead_time_s = 0.0
    released: int = 0
    open_streams: int = 0
    numbers: itertools.count = field(default_factory=itertools.count)

    def expose(self, exposure_s, binning=1):
        return Exposure(np.zeros((8, 8), np.uint16), 0.0, exposure_s, next(self.numbers))

    def stream(self, exposure_s, n_frames=None, binning=1):
        self.open_streams += 1
        try:
            while True:
                yield self.expose(exposure_s)
        finally:
            self.open_streams -= 1

    def release(self):
        self.released += 1


@pytest.fixture
def lab():
    control = Control(
        microscope=Adapter(adapter="x.y"), camera=Adapter(adapter="x.y"), limits=LIMITS
    )
    twin = load_instrument("twin")
    return Lab("fake", twin, control, FakeMicroscope(), FakeCamera(), FakeClock(), False)
