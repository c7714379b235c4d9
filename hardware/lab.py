"""Opening an instrument: from its YAML to a microscope, a camera and their clock.

An adapter is a module with a pydantic model `Options` (`CameraOptions` for a camera, if it has
both) and `open_microscope(name, options, clock)` or `open_camera(options, clock)`. Ours are known
by name; any other is named by its module, such as ``mylab.microscope``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..lib.errors import UserError
from ..lib.instrument import Instrument, first_problem
from .clock import WallClock
from .config import Adapter, Control, load_control
from .protocols import Camera, Clock, Microscope

if TYPE_CHECKING:
    from .simulated.twin import Twin

SIMULATED, REPLAY = "simulated", "replay"
MICROSCOPES = ("instamatic", "temscript")
CAMERAS = ("instamatic", "serval", "merlin")


@dataclass(frozen=True)
class Lab:
    """An opened instrument.

    Attributes
    ----------
    source : the name or path it was opened by.
    instrument, control : its YAML.
    microscope, camera, clock : the devices.
    shared : whether other processes could reach the same instrument.
    twin : the simulation behind it, if it is one; for benchmarks that ask for the truth.
    """

    source: str
    instrument: Instrument
    control: Control
    microscope: Microscope
    camera: Camera
    clock: Clock
    shared: bool
    twin: Twin | None = None


def open_lab(name_or_path: str | Path, **simulation: Any) -> Lab:
    """Open an instrument by its name in configs/instruments, or its YAML.

    Parameters
    ----------
    simulation : options of the twin that replace those of the YAML (its seed, say).

    Raises
    ------
    UserError : no such instrument, not driven, wrong options.
    ConnectionLost : a server does not answer.
    """
    instrument, control = load_control(name_or_path)
    source = str(name_or_path)
    kinds = {control.microscope.adapter, control.camera.adapter}
    if simulation and SIMULATED not in kinds:
        given = ", ".join(simulation)
        raise UserError(
            f"instrument {source}", f"options {given}", "the simulated microscope", "leave them out"
        )
    for whole in (SIMULATED, REPLAY):
        if whole in kinds and kinds != {whole}:
            raise UserError(
                f"instrument {source}: control",
                f"adapters {control.microscope.adapter} and {control.camera.adapter}",
                f"{whole} for both or for none",
                "mend the YAML",
            )
    if SIMULATED in kinds:
        from .simulated.twin import TwinOptions, open_twin

        asked = {**control.microscope.options, **control.camera.options, **simulation}
        twin = open_twin(_checked(TwinOptions, asked, source), instrument)
        return Lab(
            source, instrument, control, twin.microscope, twin.camera, twin.clock, False, twin
        )
    if REPLAY in kinds:
        from .replay import ReplayOptions, open_replay

        asked = {**control.microscope.options, **control.camera.options}
        microscope, camera, clock = open_replay(_checked(ReplayOptions, asked, source))
        return Lab(source, instrument, control, microscope, camera, clock, False)
    their_clock = clock_of(control)
    microscope = open_microscope(instrument, control, their_clock)
    try:
        module = _module(control.camera, CAMERAS, source)
        model = getattr(module, "CameraOptions", None) or module.Options
        camera = module.open_camera(_checked(model, control.camera.options, source), their_clock)
    except BaseException:
        microscope.release()
        raise
    if camera.shape != tuple(instrument.detector.shape):
        camera.release()
        microscope.release()
        raise UserError(
            f"instrument {source}: detector.shape",
            f"{instrument.detector.shape}",
            f"{camera.shape}, which the camera {camera.name} states",
            "mend the YAML",
        )
    return Lab(source, instrument, control, microscope, camera, their_clock, True)


def clock_of(control: Control) -> Clock:
    """The clock of an instrument behind servers: the wall's, unless its YAML says otherwise."""
    if control.clock_speed == 1.0:
        return WallClock()
    from .simulated.clock import ScaledClock

    return ScaledClock(control.clock_speed)


def open_microscope(instrument: Instrument, control: Control, clock: Clock) -> Microscope:
    """The microscope alone, as the guard's watcher needs it."""
    where = instrument.name
    module = _module(control.microscope, MICROSCOPES, where)
    options = _checked(module.Options, control.microscope.options, where)
    microscope: Microscope = module.open_microscope(instrument.name, options, clock)
    return microscope


def _module(adapter: Adapter, known: tuple[str, ...], where: str) -> ModuleType:
    name = adapter.adapter
    try:
        if name in known:
            return import_module(f".{name}", __package__)
        if "." in name:
            return import_module(name)
    except ImportError as error:
        raise UserError(
            f"instrument {where}: adapter {name}", str(error), "its packages", "install them"
        ) from None
    raise UserError(
        f"instrument {where}: adapter",
        f"'{name}'",
        f"one of {', '.join((SIMULATED, REPLAY, *known))}, or the module of your own",
        "mend the YAML",
    )


def _checked(model: Any, options: dict[str, Any], where: str) -> Any:
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise first_problem(f"instrument {where}: control", error) from None
