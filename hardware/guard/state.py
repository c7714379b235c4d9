"""The optical state of a microscope: read before anything is changed, put back at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ..protocols import Capability, DeflectorName, LensName, Microscope, Mode


@dataclass(frozen=True)
class OpticalState:
    """Settings of one mode.

    Attributes
    ----------
    mode : the mode they belong to.
    magnification, camera_length_mm : of that mode; the other one is None.
    deflectors : (x, y) by name.
    lenses : value by name; diffraction focus only in diffraction.
    """

    mode: Mode
    magnification: int | None
    camera_length_mm: float | None
    deflectors: Mapping[DeflectorName, tuple[float, float]]
    lenses: Mapping[LensName, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> OpticalState:
        """The reverse of `as_dict`."""
        return cls(
            mode=found["mode"],
            magnification=found["magnification"],
            camera_length_mm=found["camera_length_mm"],
            deflectors={name: (xy[0], xy[1]) for name, xy in found["deflectors"].items()},
            lenses=dict(found["lenses"]),
        )


def read_state(microscope: Microscope) -> OpticalState:
    """The settings of the mode that the microscope is in."""
    mode = microscope.mode()
    imaging = mode == "imaging"
    return OpticalState(
        mode=mode,
        magnification=microscope.magnification() if imaging else None,
        camera_length_mm=None if imaging else microscope.camera_length_mm(),
        deflectors={name: one.get() for name, one in microscope.deflectors.items()},
        lenses={name: microscope.lenses[name].get() for name in lenses_of(microscope, mode)},
    )


def lenses_of(microscope: Microscope, mode: Mode) -> tuple[LensName, ...]:
    """The lenses whose value means something in that mode."""
    return tuple(
        name for name in microscope.lenses if mode == "diffraction" or name != "diffraction_focus"
    )


def restore_steps(
    microscope: Microscope, state: OpticalState
) -> list[tuple[str, Callable[[], None]]]:
    """What to do, in order, to bring one mode's settings back: each can be tried by itself."""
    steps: list[tuple[str, Callable[[], None]]] = []

    def add(name: str, step: Callable[[], None]) -> None:
        steps.append((name, step))

    if Capability.MODE_SWITCH in microscope.capabilities:
        add(f"mode {state.mode}", lambda: _set_mode(microscope, state.mode))
    if state.magnification is not None:
        add("magnification", lambda: _set_magnification(microscope, state.magnification))
    if state.camera_length_mm is not None:
        add("camera length", lambda: _set_camera_length(microscope, state.camera_length_mm))
    for lens, value in state.lenses.items():
        add(lens, partial(_set_lens, microscope, lens, value))
    for deflector, xy in state.deflectors.items():
        add(deflector, partial(_set_deflector, microscope, deflector, xy))
    return steps


def _set_mode(microscope: Microscope, mode: Mode) -> None:
    if microscope.mode() != mode:
        microscope.set_mode(mode)


def _set_magnification(microscope: Microscope, magnification: int | None) -> None:
    if magnification is not None and microscope.magnification() != magnification:
        microscope.set_magnification(magnification)


def _set_camera_length(microscope: Microscope, camera_length_mm: float | None) -> None:
    if camera_length_mm is not None and not math.isclose(
        microscope.camera_length_mm(), camera_length_mm
    ):
        microscope.set_camera_length_mm(camera_length_mm)


def _set_lens(microscope: Microscope, name: LensName, value: float) -> None:
    lens = microscope.lenses[name]
    lens.set(value)
    _compare(name, lens.get(), value, lens.step)


def _set_deflector(microscope: Microscope, name: DeflectorName, xy: tuple[float, float]) -> None:
    deflector = microscope.deflectors[name]
    deflector.set(xy)
    for now, wanted in zip(deflector.get(), xy, strict=True):
        _compare(name, now, wanted, deflector.step)


def _compare(name: str, now: float, wanted: float, step: float) -> None:
    if abs(now - wanted) > 1.5 * step:
        raise ValueError(f"{name} reads {now:g} after {wanted:g} was set")
