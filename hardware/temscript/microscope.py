"""A Thermo Fisher microscope as `protocols.Microscope`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InstrumentError, LimitExceeded
from ..protocols import Capability, Clock, Deflector, DeflectorName, Lens, LensName, Mode
from ..protocols import Microscope as MicroscopeProtocol
from .line import Line, connector
from .options import Options
from .stage import Stage

MODES: dict[str, Mode] = {"IMAGING": "imaging", "DIFFRACTION": "diffraction"}
Call = Callable[..., Any]


@dataclass(frozen=True)
class _Setting:
    """One of temscript's settings, `scale` of our units being one of its own."""

    call: Call
    setting: str
    name: str
    unit: str
    limits: tuple[float, float]
    step: float
    scale: float

    def read(self) -> Any:
        return self.call(f"get_{self.setting}")

    def write(self, value: Any) -> None:
        self.call(f"set_{self.setting}", value)

    def nearest(self, value: float) -> float:
        """`value` to the nearest step, in temscript's unit. Raises `LimitExceeded`."""
        if not self.limits[0] <= value <= self.limits[1]:
            raise LimitExceeded(
                self.name,
                f"{value:g} {self.unit}",
                f"{self.limits[0]:g} to {self.limits[1]:g} {self.unit}",
                "choose a value within; nothing was set",
            )
        return round(value / self.step) * self.step / self.scale


class _Deflector(_Setting):
    def get(self) -> tuple[float, float]:
        x, y = self.read()
        return x * self.scale, y * self.scale

    def set(self, xy: tuple[float, float]) -> None:
        self.write((self.nearest(xy[0]), self.nearest(xy[1])))


class _Lens(_Setting):
    def get(self) -> float:
        return self.read() * self.scale

    def set(self, value: float) -> None:
        self.write(self.nearest(value))


class _DiffractionFocus(_Lens):
    """temscript has one focus; what it focuses depends on the mode."""

    def get(self) -> float:
        self._in_diffraction()
        return super().get()

    def set(self, value: float) -> None:
        self._in_diffraction()
        super().set(value)

    def _in_diffraction(self) -> None:
        if self.call("get_projection_mode") != "DIFFRACTION":
            raise InstrumentError(
                self.name,
                "imaging mode, where the same setting is the objective's focus",
                "diffraction mode",
                "switch to diffraction first",
            )


class Microscope:
    """A microscope driven through temscript. Made by `open_microscope`."""

    def __init__(self, name: str, options: Options, clock: Clock) -> None:
        self._name, self._options, self._clock = name, options, clock
        remote = options.connection == "remote"
        shared = remote and options.stage_port is None
        # Steps on a shared server take turns with our calls, which then wait one step's time.
        reconnect = connector(options, options.port, options.timeout_s)
        self._line = Line(
            reconnect, f"{name} (temscript)", clock, remote=remote, timeout_s=options.timeout_s
        )
        self._mover = Line(
            reconnect
            if options.connection == "null"
            else connector(options, options.stage_port or options.port, options.move_timeout_s),
            f"{name} stage (temscript)",
            clock,
            remote=remote,
            timeout_s=options.move_timeout_s,
        )
        try:
            has_beta = self._look(name, options)
            limits = {
                axis: (low, high)
                for axis, (low, high) in self._line.call("get_stage_limits").items()
            }
        except BaseException:
            self.release()
            raise
        self._stage = Stage(
            self._line, self._mover, limits, options, shared=shared, has_beta=has_beta
        )
        self._deflectors = self._made_deflectors()
        self._lenses = self._made_lenses()
        found = {
            *(Capability(one) for one in (*self._deflectors, *self._lenses)),
            Capability.BEAM_BLANK,
            Capability.SCREEN,
            Capability.MODE_SWITCH,
        }
        if has_beta:
            found.add(Capability.BETA)
        if options.full_speed_deg_per_s is not None:
            found.add(Capability.ROTATION_SPEED)
        if options.stage_steps is not None:
            found.add(Capability.STAGE_STOP)
        self._capabilities = frozenset(found)

    def _look(self, name: str, options: Options) -> bool:
        """Refuse an instrument that is not as it should be; whether it can tilt in beta."""
        if self._line.call("get_instrument_mode", tries=options.tries) != "TEM":
            raise InstrumentError(
                name, "the microscope in STEM mode", "TEM mode", "switch it to TEM"
            )
        voltage_kV = float(self._line.call("get_voltage"))
        if options.voltage_kV is not None and not math.isclose(
            voltage_kV, options.voltage_kV, rel_tol=1e-3
        ):
            raise InstrumentError(
                f"{name}: voltage_kV",
                f"{voltage_kV:g} kV (0 is off)",
                f"{options.voltage_kV:g} kV",
                "set the high tension, or voltage_kV in the instrument's YAML",
            )
        return str(self._line.call("get_stage_holder")) == "DOUBLE_TILT"

    def _made_deflectors(self) -> dict[DeflectorName, Deflector]:
        o = self._options
        nm, mrad = 1e9, 1e3

        def made(
            setting: str, name: DeflectorName, unit: str, limits: Any, scale: float
        ) -> Deflector:
            step = o.shift_step_nm if unit == "nm" else o.tilt_step_mrad
            return _Deflector(self._call, setting, name, unit, limits, step, scale)

        return {
            "beam_shift": made("beam_shift", "beam_shift", "nm", o.beam_shift_nm, nm),
            "beam_tilt": made("beam_tilt", "beam_tilt", "mrad", o.beam_tilt_mrad, mrad),
            "image_shift_1": made("image_shift", "image_shift_1", "nm", o.image_shift_nm, nm),
            "diffraction_shift": made(
                "diffraction_shift", "diffraction_shift", "mrad", o.diffraction_shift_mrad, mrad
            ),
        }

    def _made_lenses(self) -> dict[LensName, Lens]:
        o = self._options
        scale = 1.0 if o.brightness == "intensity" else 1e6 / o.illuminated_area_um
        return {
            "brightness": _Lens(
                self._call, o.brightness, "brightness", "fraction", o.brightness_limits, 1e-5, scale
            ),
            "diffraction_focus": _DiffractionFocus(
                self._call,
                "defocus",
                "diffraction_focus",
                "um",
                o.focus_um,
                1e-3,
                o.focus_um_per_unit,
            ),
        }

    def _call(self, name: str, *args: Any) -> Any:
        """One exchange; settings are absolute, so one that was lost can be sent again."""
        self._stage.wait_for_turn()
        return self._line.call(name, *args, tries=self._options.tries)

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
        """Beam shift and tilt, one image shift, and the diffraction shift."""
        return self._deflectors

    @property
    def lenses(self) -> Mapping[LensName, Lens]:
        """Brightness, and the diffraction focus (in diffraction mode only)."""
        return self._lenses

    def voltage_kV(self) -> float:
        """The high tension; 0 when it is off."""
        return float(self._call("get_voltage"))

    def mode(self) -> Mode:
        """What the camera sees."""
        found = self._call("get_projection_mode")
        if found not in MODES:
            raise InstrumentError(self._name, f"mode {found}", " or ".join(MODES), "switch it")
        return MODES[found]

    def set_mode(self, mode: Mode) -> None:
        """Switch between imaging and diffraction."""
        if mode not in MODES.values():
            raise LimitExceeded(
                f"{self._name}: mode", f"{mode}", " or ".join(MODES.values()), "choose one"
            )
        self._call("set_projection_mode", mode.upper())

    def magnification(self) -> int:
        """As the panel shows it. Raises `InstrumentError` in diffraction, where it shows none."""
        return round(self._shown("magnification", 1.0))

    def set_magnification(self, magnification: int) -> None:
        """Select it by the index in the options, and see that the panel shows it."""
        self._select("magnification", magnification, self._options.magnifications, 1.0)

    def camera_length_mm(self) -> float:
        """As the panel shows it. Raises `InstrumentError` in imaging, where it shows none."""
        return self._shown("camera_length", 1e3)

    def set_camera_length_mm(self, camera_length_mm: float) -> None:
        """Select it by the index in the options, and see that the panel shows it."""
        self._select("camera_length", camera_length_mm, self._options.camera_lengths_mm, 1e3)

    def is_blanked(self) -> bool:
        """Whether the beam is kept from the specimen."""
        return bool(self._call("get_beam_blanked"))

    def blank(self) -> None:
        """Keep the beam from the specimen."""
        self._call("set_beam_blanked", True)

    def unblank(self) -> None:
        """Let the beam onto the specimen."""
        self._call("set_beam_blanked", False)

    def screen_is_down(self) -> bool:
        """Whether the screen covers the camera, or is on its way."""
        return self._call("get_screen_position") != "UP"

    def set_screen(self, *, down: bool) -> None:
        """Move the screen."""
        self._call("set_screen_position", "DOWN" if down else "UP")

    def release(self) -> None:
        """End both lines; moves to come are left out. A second time does nothing."""
        stage = getattr(self, "_stage", None)
        if stage is not None:
            stage.abandon()
        self._line.close()
        self._mover.close()

    def _shown(self, what: str, scale: float) -> float:
        found = float(self._call(f"get_indicated_{what}")) * scale
        if not found:
            wanted = "imaging" if what == "magnification" else "diffraction"
            raise InstrumentError(
                f"{self._name}: {what}",
                "0",
                f"a value, in {wanted} mode",
                f"switch to {wanted}; Titan software 1.1 never shows a magnification",
            )
        return found

    def _select(self, what: str, value: float, indices: Mapping[Any, int], scale: float) -> None:
        index = next((i for one, i in indices.items() if math.isclose(one, value)), None)
        if index is None:
            raise LimitExceeded(
                f"{self._name}: {what}",
                f"{value:g}",
                ", ".join(f"{one:g}" for one in sorted(indices)) or "one of an empty table",
                "choose one of these, or add it to the tables of the instrument's YAML",
            )
        self._shown(what, scale)  # the index means something else in the other mode
        self._call("set_magnification_index", index)
        found = self._shown(what, scale)
        if not math.isclose(found, value, rel_tol=5e-3):
            raise InstrumentError(
                f"{self._name}: {what}",
                f"{found:g} at index {index}",
                f"{value:g}",
                "mend the table in the instrument's YAML",
            )


def open_microscope(name: str, options: Options, clock: Clock) -> MicroscopeProtocol:
    """Connect to a Thermo Fisher microscope.

    Raises
    ------
    Unsupported : temscript is not installed.
    ConnectionLost : nothing answers.
    InstrumentError : STEM mode, or another high tension than the options say.
    """
    return Microscope(name, options, clock)
