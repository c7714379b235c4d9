"""A microscope behind instamatic's TEM server as `protocols.Microscope`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from ..errors import InstrumentError, LimitExceeded, Unsupported
from ..protocols import Capability, Clock, Deflector, DeflectorName, Lens, LensName, Mode
from ..protocols import Microscope as MicroscopeProtocol
from .connection import Connection, anything, flag, nothing, number, numbers, text
from .dialects import Json
from .options import Options
from .settings import deflectors_of, lenses_of
from .stage import Stage

MODES: dict[str, dict[str, Mode]] = {
    "jeol": {
        "mag1": "imaging", "mag2": "imaging", "lowmag": "imaging", "samag": "imaging",
        "diff": "diffraction",
    },
    "fei": {
        "LM": "imaging", "Mi": "imaging", "SA": "imaging", "Mh": "imaging", "D": "diffraction",
    },
}  # fmt: skip
# what can be asked without changing anything, and what it shows to be there
PROBES: dict[Capability, tuple[str, Callable[[Any], Any]]] = {
    Capability.BEAM_SHIFT: ("getBeamShift", numbers(2)),
    Capability.BEAM_TILT: ("getBeamTilt", numbers(2)),
    Capability.IMAGE_SHIFT_1: ("getImageShift1", numbers(2)),
    Capability.IMAGE_SHIFT_2: ("getImageShift2", numbers(2)),
    Capability.DIFFRACTION_SHIFT: ("getDiffShift", numbers(2)),
    Capability.BRIGHTNESS: ("getBrightness", number),
    Capability.DIFFRACTION_FOCUS: ("getDiffFocus", number),
    Capability.BEAM_BLANK: ("isBeamBlanked", flag),
    Capability.SCREEN: ("getScreenPosition", anything),
}
# what instamatic's FEI answers without doing it, or does not have
NOT_ON_FEI = {Capability.MODE_SWITCH, Capability.IMAGE_SHIFT_2, Capability.STAGE_STOP}


class Microscope:
    """A JEOL, or what an FEI can do of it. Made by `open_microscope`."""

    def __init__(self, name: str, options: Options, clock: Clock) -> None:
        self._name, self._options, self._clock = name, options, clock
        self._modes = MODES[options.interface]
        self._connection = Connection(
            options,
            Json(),
            f"{name} (instamatic)",
            "its settings.yaml needs tem_communication_protocol: json",
        )
        try:
            self._check()
            self._capabilities = self._found()
            self._deflectors = {
                key: one
                for key, one in deflectors_of(options, self._connection).items()
                if Capability(key) in self._capabilities
            }
            self._lenses = {
                key: one
                for key, one in lenses_of(options, self._connection).items()
                if Capability(key) in self._capabilities
            }
        except BaseException:
            self._connection.close()
            raise
        self._stage = Stage(self._connection, options, clock, self._capabilities)

    def _check(self) -> None:
        """Refuse an instrument that is not as the options say."""
        found = self._connection.call("getFunctionMode", read=text)
        if found not in {name for modes in MODES.values() for name in modes} | {"LAD"}:
            raise InstrumentError(
                f"{self._name}: mode", found, "one of instamatic's", "see which server that is"
            )
        if found not in self._modes and found != "LAD":
            raise InstrumentError(
                f"{self._name}: interface",
                f"{self._options.interface}, and a microscope in mode {found}",
                "that of the microscope behind the server",
                "mend the instrument's YAML",
            )
        wanted_kV = self._options.voltage_kV
        if wanted_kV is None:
            return
        voltage_kV = self._connection.call("getHTValue", read=number) / 1000
        if not math.isclose(voltage_kV, wanted_kV, rel_tol=1e-3):
            raise InstrumentError(
                f"{self._name}: voltage_kV",
                f"{voltage_kV:g} kV",
                f"{wanted_kV:g} kV",
                "set the high tension, or voltage_kV in the instrument's YAML",
            )

    def _found(self) -> frozenset[Capability]:
        """What it has: asked where asking changes nothing, else by the interface."""
        fei = self._options.interface == "fei"
        absent = self._options.lacking | (NOT_ON_FEI if fei else set())
        found = {Capability.MODE_SWITCH, Capability.BETA}
        for part, (name, read) in PROBES.items():
            if part not in absent and self._answers(name, read):
                found.add(part)
        # at rest a stop changes nothing; a stage under way is not stopped for the sake of knowing
        resting = not self._connection.call("isStageMoving", read=flag)
        if Capability.STAGE_STOP not in absent and (
            not resting or self._answers("stopStage", anything)
        ):
            found.add(Capability.STAGE_STOP)
        if self._options.rotation_speeds and (fei or self._answers("getRotationSpeed", number)):
            found.add(Capability.ROTATION_SPEED)
        return frozenset(found - absent)

    def _answers(self, name: str, read: Callable[[Any], Any]) -> bool:
        try:
            self._connection.call(name, read=read)
        except LimitExceeded:  # there, but not in this mode
            return True
        except InstrumentError as error:
            if isinstance(error, Unsupported) or name == "getRotationSpeed":
                return False  # a JEOL without GonioTool says so with an error of communication
            raise
        return True

    @property
    def name(self) -> str:
        """As in configs/instruments."""
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        return self._capabilities

    @property
    def stage(self) -> Stage:
        """The goniometer."""
        return self._stage

    @property
    def deflectors(self) -> Mapping[DeflectorName, Deflector]:
        """Those that it has."""
        return cast(Mapping[DeflectorName, Deflector], self._deflectors)

    @property
    def lenses(self) -> Mapping[LensName, Lens]:
        """Those that it has; the diffraction focus answers in diffraction only."""
        return cast(Mapping[LensName, Lens], self._lenses)

    def mode(self) -> Mode:
        """What the camera sees."""
        found = self._connection.call("getFunctionMode", read=text)
        if found not in self._modes:
            known = ", ".join(self._modes)
            raise InstrumentError(f"{self._name}: mode", found, known, "switch to one of these")
        return self._modes[found]

    def set_mode(self, mode: Mode) -> None:
        """Switch between the options' imaging mode and diffraction."""
        self._need(Capability.MODE_SWITCH)
        if mode not in ("imaging", "diffraction"):
            raise LimitExceeded("mode", f"'{mode}'", "imaging or diffraction", "nothing was set")
        rest_s = self._options.through_samag_s
        if mode == "imaging":
            self._set("setFunctionMode", self._options.imaging_mode)
        else:
            if rest_s is not None and self.mode() != mode:
                self._set("setFunctionMode", "samag")
                self._clock.sleep(rest_s)
            self._set("setFunctionMode", "diff")
        if self.mode() != mode:
            raise InstrumentError(
                f"{self._name}: mode", "no change", mode, "look at the microscope's own panel"
            )

    def magnification(self) -> int:
        """As the panel shows it. Raises `InstrumentError` in diffraction, where it shows none."""
        return round(self._shown("imaging"))

    def set_magnification(self, magnification: int) -> None:
        """One of instamatic's own configuration; then see that the panel shows it."""
        self._select("imaging", "magnification", magnification)

    def camera_length_mm(self) -> float:
        """As the panel shows it. Raises `InstrumentError` in imaging, where it shows none."""
        return self._shown("diffraction") * self._options.camera_length_unit_mm

    def set_camera_length_mm(self, camera_length_mm: float) -> None:
        """One of instamatic's own configuration; then see that the panel shows it."""
        value = camera_length_mm / self._options.camera_length_unit_mm
        self._select("diffraction", "camera length", value)

    def is_blanked(self) -> bool:
        """Whether the beam is kept from the specimen."""
        self._need(Capability.BEAM_BLANK)
        return self._connection.call("isBeamBlanked", read=flag)

    def blank(self) -> None:
        """Keep the beam from the specimen."""
        self._need(Capability.BEAM_BLANK)
        self._set("setBeamBlank", True)

    def unblank(self) -> None:
        """Let the beam onto the specimen."""
        self._need(Capability.BEAM_BLANK)
        self._set("setBeamBlank", False)

    def screen_is_down(self) -> bool:
        """Whether the screen covers the camera, or may: it has positions between."""
        self._need(Capability.SCREEN)
        found: Any = self._connection.call("getScreenPosition", read=anything)
        return bool(found != "up")

    def set_screen(self, *, down: bool) -> None:
        """Move the screen."""
        self._need(Capability.SCREEN)
        self._set("setScreenPosition", "down" if down else "up")

    def release(self) -> None:
        """Hang up; the server keeps the microscope. A second time does nothing."""
        with suppress(InstrumentError):
            self._stage.leave()
        self._connection.close()

    def _set(self, name: str, value: Any) -> None:
        self._connection.call(name, value, read=nothing)

    def _need(self, part: Capability) -> None:
        if part not in self._capabilities:
            raise Unsupported(
                self._name, f"no {part.value} behind this server", "one", "do it at the panel"
            )

    def _shown(self, mode: Mode) -> float:
        if self.mode() != mode:
            what = "magnification" if mode == "imaging" else "camera length"
            raise InstrumentError(
                f"{self._name}: {what}", "another mode", mode, f"switch to {mode} first"
            )
        return self._connection.call("getMagnification", read=number)

    def _select(self, mode: Mode, what: str, value: float) -> None:
        self._shown(mode)  # the server would set the other mode's where values coincide
        if value != round(value):
            raise LimitExceeded(what, f"{value:g}", "a whole number", "nothing was set")
        self._set("setMagnification", round(value))
        shown = self._connection.call("getMagnification", read=number)
        if shown != value:
            raise InstrumentError(
                f"{self._name}: {what}",
                f"{shown:g} on the panel",
                f"{value:g}",
                "mend the ranges in instamatic's own configuration of the microscope",
            )


def open_microscope(name: str, options: Options, clock: Clock) -> MicroscopeProtocol:
    """Connect to a running TEM server.

    Raises
    ------
    ConnectionLost : nothing answers, or nothing that makes sense.
    InstrumentError : it is another microscope than the options say.
    """
    return Microscope(name, options, clock)
