"""The microscope of a replay: reads are the record's, settings are taken and compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..config import AXES
from ..errors import InstrumentError, LimitExceeded
from ..protocols import Capability, Deflector, DeflectorName, Lens, LensName, Mode, StagePosition
from .session import Difference, Session

FARTHEST = 1e6  # the record does not tell the limits of the instrument; this catches nonsense


class ReplayStage:
    """The goniometer: its read-out is that of the record, whatever move is asked for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stopped = False

    def position(self) -> StagePosition:
        """Interpolated between the recorded read-outs."""
        return self._session.recording.position(self._session.clock.now())

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
        """Compare the target with where the recorded stage next came to rest; move nothing."""
        self._stopped = False
        asked = dict(zip(AXES, (x_um, y_um, z_um, alpha_deg, beta_deg), strict=True))
        recorded = self._session.recording.arrival_from(self._session.clock.now())
        for axis, value in asked.items():
            if value is not None:
                if abs(value) > FARTHEST:
                    raise LimitExceeded(
                        f"stage {axis}", f"{value:g}", f"at most {FARTHEST:g}", "mend it"
                    )
                # a goniometer arrives to within its read-out
                self._session.compare(f"stage {axis}", value, getattr(recorded, axis), 0.1)

    def is_moving(self) -> bool:
        """Whether the recorded stage moves now, and was not stopped since."""
        session = self._session
        return not self._stopped and session.recording.moves_at(session.clock.now())

    def stop(self) -> None:
        """From here on, until the next move is asked for, `is_moving` says no."""
        self._stopped = True


@dataclass(frozen=True)
class _Register:
    session: Session
    key: str
    unit: str
    limits: tuple[float, float] = (-FARTHEST, FARTHEST)
    step: float = 1e-3

    def check(self, value: float) -> None:
        if not self.limits[0] <= value <= self.limits[1]:
            raise LimitExceeded(
                self.key,
                f"{value:g} {self.unit}",
                f"{self.limits[0]:g} to {self.limits[1]:g}",
                "choose a value within",
            )


class _Deflector(_Register):
    def get(self) -> tuple[float, float]:
        x, y = self.session.get(self.key)
        return float(x), float(y)

    def set(self, xy: tuple[float, float]) -> None:
        for value in xy:
            self.check(value)
        self.session.set(self.key, (float(xy[0]), float(xy[1])))


class _Lens(_Register):
    def get(self) -> float:
        return float(self.session.get(self.key))

    def set(self, value: float) -> None:
        self.check(value)
        self.session.set(self.key, float(value))


class ReplayMicroscope:
    """The recorded microscope. It has the deflectors and lenses that the record names."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stage = ReplayStage(session)
        parts = [key.partition(".") for key in session.recording.settings]
        self._deflectors: dict[DeflectorName, Deflector] = {
            cast("DeflectorName", name): _Deflector(
                session,
                f"deflectors.{name}",
                "mrad" if name in ("beam_tilt", "diffraction_shift") else "nm",
            )
            for kind, _, name in parts
            if kind == "deflectors"
        }
        self._lenses: dict[LensName, Lens] = {
            cast("LensName", name): _Lens(
                session, f"lenses.{name}", "fraction" if name == "brightness" else "um", step=1e-6
            )
            for kind, _, name in parts
            if kind == "lenses"
        }

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What the algorithm did otherwise than the record, in order."""
        return tuple(self._session.differences)

    @property
    def name(self) -> str:
        """Tells that it is a replay."""
        return f"replay of {self._session.options.folder.name}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those whose use the record shows, and what any microscope does."""
        return frozenset(
            {
                *(Capability(one) for one in (*self._deflectors, *self._lenses)),
                Capability.STAGE_STOP,
                Capability.ROTATION_SPEED,
                Capability.BETA,
                Capability.BEAM_BLANK,
                Capability.SCREEN,
                Capability.MODE_SWITCH,
            }
        )

    @property
    def stage(self) -> ReplayStage:
        """The goniometer."""
        return self._stage

    @property
    def deflectors(self) -> Mapping[DeflectorName, Deflector]:
        """Those in the record."""
        return self._deflectors

    @property
    def lenses(self) -> Mapping[LensName, Lens]:
        """Those in the record."""
        return self._lenses

    def mode(self) -> Mode:
        """As set, or as recorded."""
        return self._session.mode()

    def set_mode(self, mode: Mode) -> None:
        """Decides, with the diffraction focus, which images the camera gives."""
        if mode not in ("imaging", "diffraction"):
            raise LimitExceeded("mode", f"{mode}", "imaging or diffraction", "choose one")
        self._session.set("mode", mode)

    def magnification(self) -> int:
        """As set or recorded, or as the options state."""
        return int(self._known("magnification", self._session.options.magnification))

    def set_magnification(self, magnification: int) -> None:
        """Taken and compared."""
        self._session.set("magnification", magnification)

    def camera_length_mm(self) -> float:
        """As set or recorded, or as the options state."""
        return float(self._known("camera_length_mm", self._session.options.camera_length_mm))

    def set_camera_length_mm(self, camera_length_mm: float) -> None:
        """Taken and compared."""
        self._session.set("camera_length_mm", camera_length_mm)

    def is_blanked(self) -> bool:
        """As set or recorded; no word of it is no."""
        return bool(self._session.get("blanked"))

    def blank(self) -> None:
        """Taken and compared."""
        self._session.set("blanked", True)

    def unblank(self) -> None:
        """Taken and compared."""
        self._session.set("blanked", False)

    def screen_is_down(self) -> bool:
        """As set; up at first, for images were taken."""
        return bool(self._session.get("screen_down"))

    def set_screen(self, *, down: bool) -> None:
        """Taken."""
        self._session.set("screen_down", down)

    def release(self) -> None:
        """Nothing was held."""

    def _known(self, what: str, otherwise: Any) -> Any:
        found = self._session.get(what)
        if found is None:
            found = otherwise
        if found is None:
            raise InstrumentError(
                self.name, f"no {what} in the record", "one", f"state {what} in the options"
            )
        return found
