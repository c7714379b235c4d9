"""What Ewaldflow asks of an instrument, whatever its maker: small typed protocols.

Values are in the units that stand in names or in ``unit``; raw lens counts live in adapters only.
Deflectors and lenses are linear in a *nominal* unit (an adapter's configured scale): how far the
picture really moves is measured (`lib.serialred.calibration`), never assumed. No call blocks for
longer than one exchange with the instrument; waiting is done by polling (`hardware.moves`),
because on real servers a blocking stage move freezes every other call, the stop included.

Every method may raise `hardware.errors.ConnectionLost`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Mode = Literal["imaging", "diffraction"]
DeflectorName = Literal[
    "beam_shift", "beam_tilt", "image_shift_1", "image_shift_2", "diffraction_shift"
]
LensName = Literal["brightness", "diffraction_focus"]


class Capability(StrEnum):
    """A part or ability that an instrument may lack."""

    BEAM_SHIFT = "beam_shift"
    BEAM_TILT = "beam_tilt"
    IMAGE_SHIFT_1 = "image_shift_1"
    IMAGE_SHIFT_2 = "image_shift_2"
    DIFFRACTION_SHIFT = "diffraction_shift"
    BRIGHTNESS = "brightness"
    DIFFRACTION_FOCUS = "diffraction_focus"
    STAGE_STOP = "stage_stop"
    ROTATION_SPEED = "rotation_speed"
    BETA = "beta"
    BEAM_BLANK = "beam_blank"
    SCREEN = "screen"
    MODE_SWITCH = "mode_switch"


class Clock(Protocol):
    """Time of the instrument; a simulated one runs faster than the wall's."""

    def now(self) -> float:
        """Seconds since an arbitrary origin; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let that much of the clock's time pass."""
        ...


@dataclass(frozen=True)
class StagePosition:
    """Where the stage says it is."""

    x_um: float
    y_um: float
    z_um: float
    alpha_deg: float
    beta_deg: float = 0.0


@runtime_checkable
class Stage(Protocol):
    """The goniometer. Only one move at a time; a new one replaces the one under way."""

    def position(self) -> StagePosition:
        """The read-out."""
        ...

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
        """Start towards a position and return at once; axes left None stay where they are.

        `speed_deg_per_s` holds for alpha in this move only; None is the stage's default.
        Raises `LimitExceeded` where the instrument itself refuses, `Unsupported` for a speed
        without `Capability.ROTATION_SPEED`.
        """
        ...

    def is_moving(self) -> bool:
        """Whether a move is under way."""
        ...

    def stop(self) -> None:
        """Stop all axes now; harmless when still. Needs `Capability.STAGE_STOP`."""
        ...


@runtime_checkable
class Deflector(Protocol):
    """A pair of coils, in nominal `unit`: nm for shifts, mrad for tilts."""

    @property
    def unit(self) -> str:
        """``nm`` or ``mrad``."""
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value of x and of y."""
        ...

    @property
    def step(self) -> float:
        """Smallest change: one count of the converter."""
        ...

    def get(self) -> tuple[float, float]:
        """(x, y)."""
        ...

    def set(self, xy: tuple[float, float]) -> None:
        """Set (x, y), to the nearest step. Raises `LimitExceeded` outside `limits`."""
        ...


@runtime_checkable
class Lens(Protocol):
    """A lens in nominal `unit`: brightness in fraction of its range, diffraction focus in um."""

    @property
    def unit(self) -> str:
        """``fraction`` or ``um``."""
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value."""
        ...

    @property
    def step(self) -> float:
        """Smallest change."""
        ...

    def get(self) -> float:
        """The value."""
        ...

    def set(self, value: float) -> None:
        """Set it, to the nearest step. Raises `LimitExceeded` outside `limits`."""
        ...


@runtime_checkable
class Microscope(Protocol):
    """An electron microscope without its camera."""

    @property
    def name(self) -> str:
        """As in configs/instruments."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do. `deflectors` and `lenses` hold exactly those named here."""
        ...

    @property
    def stage(self) -> Stage:
        """The goniometer."""
        ...

    @property
    def deflectors(self) -> Mapping[DeflectorName, Deflector]:
        """Those that it has."""
        ...

    @property
    def lenses(self) -> Mapping[LensName, Lens]:
        """Those that it has."""
        ...

    def mode(self) -> Mode:
        """What the camera sees. Raises `InstrumentError` in a mode that is neither."""
        ...

    def set_mode(self, mode: Mode) -> None:
        """Switch between imaging and diffraction."""
        ...

    def magnification(self) -> int:
        """Of the imaging mode, as the panel shows it."""
        ...

    def set_magnification(self, magnification: int) -> None:
        """Raises `LimitExceeded` for one that the instrument does not have."""
        ...

    def camera_length_mm(self) -> float:
        """Of the diffraction mode, as the panel shows it."""
        ...

    def set_camera_length_mm(self, camera_length_mm: float) -> None:
        """Raises `LimitExceeded` for one that the instrument does not have."""
        ...

    def is_blanked(self) -> bool:
        """Whether the beam is kept from the specimen."""
        ...

    def blank(self) -> None:
        """Keep the beam from the specimen."""
        ...

    def unblank(self) -> None:
        """Let the beam onto the specimen."""
        ...

    def screen_is_down(self) -> bool:
        """Whether the fluorescent screen covers the camera."""
        ...

    def set_screen(self, *, down: bool) -> None:
        """Move the screen."""
        ...

    def release(self) -> None:
        """Give the instrument back; a second time does nothing."""
        ...


@dataclass(frozen=True)
class Exposure:
    """One image of a camera.

    Attributes
    ----------
    counts : (rows, columns) unsigned integers, at the binning asked for.
    started_s : when the exposure began, in the instrument's `Clock`.
    exposure_s : how long it lasted.
    number : consecutive in the life of the camera; a gap is a lost frame.
    binning : as asked for.
    """

    counts: NDArray[np.unsignedinteger[Any]]
    started_s: float
    exposure_s: float
    number: int
    binning: int = 1

    @property
    def ended_s(self) -> float:
        """When the exposure ended."""
        return self.started_s + self.exposure_s


@runtime_checkable
class Camera(Protocol):
    """A camera."""

    @property
    def name(self) -> str:
        """Maker and model."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) without binning."""
        ...

    @property
    def pixel_size_mm(self) -> float:
        """Of a pixel without binning."""
        ...

    @property
    def binnings(self) -> tuple[int, ...]:
        """Those it offers, 1 first."""
        ...

    @property
    def dynamic_range(self) -> int:
        """Highest count a pixel can show."""
        ...

    @property
    def dead_time_s(self) -> float:
        """Between the end of one exposure and the start of the next."""
        ...

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """Take one image. Raises `CameraFailed` on time-out or an image of another shape."""
        ...

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure]:
        """Take images one after the other, without end if `n_frames` is None.

        Closing the iterator stops the camera. Raises as `expose`.
        """
        ...

    def release(self) -> None:
        """Give the camera back; a second time does nothing."""
        ...
