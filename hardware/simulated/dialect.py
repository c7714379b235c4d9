"""The twin as instamatic's TEM server shows a JEOL: raw lens counts, nm, degrees, mode names."""

from __future__ import annotations

from typing import Any

from ..errors import InstrumentError
from ..moves import POLL_S
from ..protocols import Capability, DeflectorName, Mode
from .faults import Fault
from .goniometer import AXES
from .optics import MAGNIFICATIONS, STEPS
from .twin import Twin

MODES = ("mag1", "mag2", "lowmag", "samag", "diff")
NEUTRAL, HIGHEST = 32768, 65535
# of the twelve speeds of a JEOL goniometer: the first turns by about 50 degrees a minute
DEG_PER_S_PER_SPEED = 50 / 60
# deflectors and lenses that a JEOL has and that do nothing here but keep what they are set to
DUMB_PAIRS = (
    "GunShift", "GunTilt", "CondensorLensStigmator", "IntermediateLensStigmator",
    "ObjectiveLensStigmator",
)  # fmt: skip
PAIRS: dict[str, DeflectorName] = {
    "BeamShift": "beam_shift",
    "BeamTilt": "beam_tilt",
    "ImageShift1": "image_shift_1",
    "ImageShift2": "image_shift_2",
    "DiffShift": "diffraction_shift",
}


class TEMValueError(ValueError):
    """What instamatic's server answers to a value it does not have."""


class JeolDialect:
    """Every public method may be called by its name from outside; `truth` takes no time."""

    name = "simulate"
    MODE_NAMES = MODES

    def __init__(self, twin: Twin) -> None:
        self._twin, self._microscope = twin, twin.microscope
        self._magnifying, self._speed, self._spot = "mag1", 12, 1
        self._dumb = dict.fromkeys(DUMB_PAIRS, (NEUTRAL, NEUTRAL))

    def call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What instamatic calls `name`, with its arguments.

        Raises
        ------
        AttributeError : there is none.
        TEMValueError, TypeError : wrong arguments.
        """
        kind, part = name[:3], name[3:]
        if kind in ("get", "set") and part in (*PAIRS, *DUMB_PAIRS):
            if kind == "get":
                return self._get_pair(part)
            return self._set_pair(part, *args, **kwargs)
        if name.startswith("_") or name == "call" or not hasattr(self, name):
            raise AttributeError(f"'{name}'")
        found = getattr(self, name)
        return found(*args, **kwargs) if callable(found) else found

    def _get_pair(self, part: str) -> tuple[int, int]:
        if part in DUMB_PAIRS:
            return self._dumb[part]
        name = PAIRS[part]
        x, y = self._microscope.deflectors[name].get()
        return round(x / STEPS[name]) + NEUTRAL, round(y / STEPS[name]) + NEUTRAL

    def _set_pair(self, part: str, x: int, y: int) -> None:
        for value in (x, y):
            _check(part, value)
        if part in DUMB_PAIRS:
            self._dumb[part] = (x, y)
            return
        name = PAIRS[part]
        step = STEPS[name]
        self._microscope.deflectors[name].set(((x - NEUTRAL) * step, (y - NEUTRAL) * step))

    def getBrightness(self) -> int:
        """Raw."""
        return round(self._microscope.lenses["brightness"].get() * HIGHEST)

    def setBrightness(self, value: int) -> None:
        """Raw."""
        _check("Brightness", value)
        self._microscope.lenses["brightness"].set(value / HIGHEST)

    def getDiffFocus(self, confirm_mode: bool = True) -> int:
        """Raw, in diffraction only."""
        self._must_diffract(confirm_mode)
        value = self._microscope.lenses["diffraction_focus"].get()
        return round(value / STEPS["diffraction_focus"]) + NEUTRAL

    def setDiffFocus(self, value: int, confirm_mode: bool = True) -> None:
        """Raw, in diffraction only."""
        self._must_diffract(confirm_mode)
        _check("DiffFocus", value)
        lens = self._microscope.lenses["diffraction_focus"]
        lens.set((value - NEUTRAL) * STEPS["diffraction_focus"])

    def getFunctionMode(self) -> str:
        """One of `MODES`."""
        return "diff" if self._microscope.mode() == "diffraction" else self._magnifying

    def setFunctionMode(self, value: str | int) -> None:
        """A name, or its place among them; all but ``diff`` show the same picture here."""
        if isinstance(value, int) and 0 <= value < len(MODES):
            value = MODES[value]
        if value not in MODES:
            raise TEMValueError(f"Unrecognized function mode: {value}")
        if value != "diff":
            self._magnifying = str(value)
        mode: Mode = "diffraction" if value == "diff" else "imaging"
        self._microscope.set_mode(mode)

    def getMagnification(self) -> int:
        """Magnification, or camera length in mm."""
        if self._microscope.mode() == "diffraction":
            return round(self._microscope.camera_length_mm())
        return self._microscope.magnification()

    def setMagnification(self, value: int) -> None:
        """Magnification, or camera length in mm."""
        if value not in self._range():
            raise TEMValueError(f"No such camera length or magnification: {value}")
        if self._microscope.mode() == "diffraction":
            self._microscope.set_camera_length_mm(float(value))
        else:
            self._microscope.set_magnification(int(value))

    def getMagnificationIndex(self) -> int:
        """Place in the range of the mode."""
        return self._range().index(self.getMagnification())

    def setMagnificationIndex(self, index: int) -> None:
        """Place in the range of the mode."""
        values = self._range()
        if not 0 <= index < len(values):
            raise TEMValueError(f"No such camera length or magnification index: {index}")
        self.setMagnification(values[index])

    def getMagnificationRanges(self) -> dict[str, list[int]]:
        """By mode."""
        lengths = sorted(round(mm) for mm in self._twin.column.optics.camera_lengths)
        return {**{mode: list(MAGNIFICATIONS) for mode in MODES[:-1]}, "diff": lengths}

    def getStagePosition(self) -> tuple[int, int, int, float, float]:
        """x, y, z in nm; a, b in degrees."""
        p = self._microscope.stage.position()
        x, y, z = (round(um * 1000) for um in (p.x_um, p.y_um, p.z_um))
        return x, y, z, p.alpha_deg, p.beta_deg

    def setStagePosition(
        self,
        x: float | None = None,
        y: float | None = None,
        z: float | None = None,
        a: float | None = None,
        b: float | None = None,
        *,
        speed: float | None = None,
        wait: bool = True,
    ) -> None:
        """nm and degrees; `wait` keeps every other client waiting, as on the real server."""
        speed_ = self._speed if speed is None else speed
        slower = a is not None and speed_ != 12
        self._microscope.stage.start_move(
            x_um=None if x is None else x / 1000,
            y_um=None if y is None else y / 1000,
            z_um=None if z is None else z / 1000,
            alpha_deg=a,
            beta_deg=b,
            speed_deg_per_s=speed_ * DEG_PER_S_PER_SPEED if slower else None,
        )
        if wait:
            self.waitForStage()

    def isStageMoving(self) -> bool:
        """Whether a move is under way."""
        return self._microscope.stage.is_moving()

    def waitForStage(self, delay: float = POLL_S) -> None:
        """Poll until it rests."""
        while self._microscope.stage.is_moving():
            self._twin.clock.sleep(delay)

    def stopStage(self) -> None:
        """Stop all axes."""
        self._microscope.stage.stop()

    def is_goniotool_available(self) -> bool:
        """The rotation speed can be set unless the twin lacks it."""
        return Capability.ROTATION_SPEED in self._microscope.capabilities

    def getRotationSpeed(self) -> float:
        """1 to 12."""
        return self._speed

    def setRotationSpeed(self, value: int) -> None:
        """1 to 12; holds for all later rotations."""
        if not 0 < value <= 12:
            raise TEMValueError(f"No such rotation speed: {value}")
        self._speed = value

    def isBeamBlanked(self) -> bool:
        """Whether it is."""
        return self._microscope.is_blanked()

    def setBeamBlank(self, mode: bool) -> None:
        """Blank, or unblank."""
        (self._microscope.blank if mode else self._microscope.unblank)()

    def getScreenPosition(self) -> str:
        """Up or down."""
        return "down" if self._microscope.screen_is_down() else "up"

    def setScreenPosition(self, value: str) -> None:
        """Up or down."""
        if value not in ("up", "down"):
            raise TEMValueError(f"No such screen position: `{value}`.")
        self._microscope.set_screen(down=value == "down")

    def getSpotSize(self) -> int:
        """From 1; does nothing here."""
        return self._spot

    def setSpotSize(self, value: int) -> None:
        """From 1; does nothing here."""
        self._spot = int(value)

    def getHTValue(self) -> float:
        """In V; from the wavelength."""
        return self._twin.truth.voltage_V

    def getCurrentDensity(self) -> float:
        """pA/cm2 on the screen; nothing while the beam is blanked."""
        settings = self._twin.truth.settings
        return 0.0 if settings.blanked else 10.0

    def release_connection(self) -> None:
        """The server keeps the instrument: nothing to do."""

    def truth(self) -> dict[str, Any]:
        """What is really so; not of instamatic."""
        truth = self._twin.truth
        s, t = truth.settings, self._twin.clock.now()
        column = truth.column
        motors = column.goniometer.motors(column.stage_time(t))
        return {
            "now_s": t,
            "blanked": s.blanked,
            "screen_down": s.screen_down,
            "moving": truth.is_moving(),
            "mode": s.mode,
            "magnification": s.magnification,
            "camera_length_mm": s.camera_length_mm,
            "stage": dict(zip(AXES, motors, strict=True)),
            "deflectors": {name: getattr(s, name) for name in PAIRS.values()},
            "brightness": s.brightness,
            "diffraction_focus": s.diffraction_focus,
            "calls": column.faults.calls,
        }

    def inject(self, **fault: Any) -> None:
        """Let something go wrong, see `faults.Fault`; not of instamatic."""
        self._twin.faults.add(Fault.model_validate(fault), self._twin.clock.now())

    def restore(self, kind: Any = None) -> None:
        """End faults; not of instamatic."""
        self._twin.restore(kind)

    def _range(self) -> list[int]:
        return self.getMagnificationRanges()[self.getFunctionMode()]

    def _must_diffract(self, confirm_mode: bool) -> None:
        if confirm_mode and self._microscope.mode() != "diffraction":
            raise TEMValueError("Must be in 'diff' mode")


# what takes no time and must answer when everything else is stuck
OUTSIDE = ("truth", "inject", "restore")


def as_answer(error: Exception) -> tuple[str, list[str]]:
    """[class name, arguments] of an error, as instamatic's server sends it."""
    if isinstance(error, InstrumentError | TEMValueError):
        return "TEMValueError", [str(error)]
    return type(error).__name__, [str(error)]


def _check(part: str, value: int) -> None:
    if not isinstance(value, int) or not 0 <= value <= HIGHEST:
        raise TEMValueError(f"{part}: {value} is not within 0..{HIGHEST}")
