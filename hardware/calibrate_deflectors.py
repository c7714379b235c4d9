"""Measuring how far stage and deflectors move the picture, in every condition SerialRED uses.

Each actuator is set to a grid of shifts about where it is, as wide as the picture allows, and the
picture's shift is measured: the beam's disc by its edge, the direct beam by its centroid, the
specimen (for the stage) by sub-pixel registration. A full 2 x 2 matrix is fitted; the grid is
measured again until the matrix is good enough. Everything is put back in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ..lib.errors import UserError
from ..lib.serialred.calibration import CalibrationSet, Condition, ShiftCalibration
from ..lib.serialred.fit_shifts import ShiftFit, fit_shifts
from ..lib.serialred.settings import PairDeflector
from .errors import Unsupported
from .guard.state import OpticalState, read_state, restore_steps
from .moves import move
from .picture_place import Image, Locate, by_beam, by_registration
from .protocols import Camera, Capability, Clock, DeflectorName, Microscope, Mode

Floats = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

# A probe grows by this factor until the picture moves by so many px; it begins with this part of
# the actuator's range.
PROBE_GROWTH, PROBE_PX, PROBE_PART = 3.0, 4.0, 1 / 2000
# No grid goes beyond this part of a deflector's range.
LARGEST_PART = 0.4
STAGE_PROBE_UM, STAGE_LARGEST_UM = 0.05, 20.0


class DeflectorCalibration(BaseModel):
    """How the deflectors are calibrated.

    Attributes
    ----------
    magnification, camera_length_mm : None: as they are.
    brightness_small, brightness_wide : of the beam that diffracts, and of one that fills the view.
    tracking_defocus_um : of the defocused condition, as in the rotation.
    descan_pair : as in the rotation.
    grid : points along each side.
    reach, stage_reach : largest shift along each axis, part of the picture's shorter side.
    imaging_s, diffraction_s : exposures.
    settling_s : after a deflector, a lens or the mode was set.
    approach_um : way on which the stage arrives from below, against its play.
    max_error, max_grids, stage_grids : the grid is measured again until the expected error of the
        matrix is below that part of its norm, at most so often; the stage is slow, and drifts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    magnification: PositiveInt | None = 2500
    camera_length_mm: PositiveFloat | None = None
    brightness_small: Annotated[float, Field(ge=0, le=1)] = 0.3655
    brightness_wide: Annotated[float, Field(ge=0, le=1)] = 1.0
    tracking_defocus_um: float = 150.0
    descan_pair: tuple[PairDeflector, PairDeflector] = ("image_shift_1", "image_shift_2")
    grid: Annotated[int, Field(ge=3, le=15)] = 5
    reach: Annotated[float, Field(gt=0, le=0.25)] = 0.15
    stage_reach: Annotated[float, Field(gt=0, le=0.3)] = 0.2
    imaging_s: PositiveFloat = 0.5
    diffraction_s: PositiveFloat = 0.05
    settling_s: NonNegativeFloat = 0.0
    approach_um: NonNegativeFloat = 3.0
    max_error: PositiveFloat = 0.0025
    max_grids: PositiveInt = 24
    stage_grids: PositiveInt = 3


@dataclass(frozen=True)
class _Actuator:
    """Something that shifts the picture.

    Attributes
    ----------
    name, unit : as in `ShiftCalibration`.
    to : sets a shift (x, y) from where it was; returns the shift really set.
    probe, largest : first and largest shift, in its unit.
    """

    name: str
    unit: str
    to: Callable[[Floats], Floats]
    probe: float
    largest: float


def calibrate_deflectors(
    microscope: Microscope,
    camera: Camera,
    clock: Clock,
    settings: DeflectorCalibration | None = None,
    *,
    valid: NDArray[np.bool_] | None = None,
    progress: Progress = lambda *_: None,
) -> CalibrationSet:
    """Measure all calibrations that SerialRED needs.

    Parameters
    ----------
    microscope : with crystals in view, the beam near the middle of the camera in both modes.
    valid : (rows, columns) False on pixels that tell nothing.
    progress : told how many calibrations are done, of how many, and which is being measured.

    Raises
    ------
    UserError : the picture does not follow an actuator, or its shifts do not agree.
    BeamLost : there is no beam.
    Unsupported : the instrument lacks a part.
    InstrumentError : anything else that fails; what was changed was put back.
    """
    settings = DeflectorCalibration() if settings is None else settings
    _refuse_incapable(microscope, settings)
    good = np.ones(camera.shape, bool) if valid is None else valid
    run = _Calibrating(microscope, camera, clock, settings, good)
    names: tuple[DeflectorName, ...] = ("beam_shift", *settings.descan_pair)
    steps: list[tuple[DeflectorName | None, Condition]] = [
        (None, "imaging"),
        ("beam_shift", "imaging"),
    ]
    steps += [(name, "focused") for name in names]
    steps += [(name, "defocused") for name in names]
    found: list[ShiftCalibration] = []
    with run.put_back():
        for done, (name, condition) in enumerate(steps):
            progress(done, len(steps), f"{name or 'stage'}, {condition}")
            run.prepare(condition, wide=name is None)
            found.append(run.measure(name, condition))
    progress(len(steps), len(steps), "done")
    return CalibrationSet(tuple(found))


def _refuse_incapable(microscope: Microscope, settings: DeflectorCalibration) -> None:
    needed = [Capability.BEAM_SHIFT, Capability.BRIGHTNESS, Capability.DIFFRACTION_FOCUS]
    needed += [Capability.MODE_SWITCH, *(Capability(name) for name in settings.descan_pair)]
    lacking = [one.value for one in needed if one not in microscope.capabilities]
    if lacking:
        raise Unsupported(
            f"microscope {microscope.name}",
            f"no {', no '.join(lacking)}",
            "what is to be calibrated",
            "choose another descan_pair, or another instrument",
        )


class _Calibrating:
    """One run."""

    def __init__(
        self,
        microscope: Microscope,
        camera: Camera,
        clock: Clock,
        settings: DeflectorCalibration,
        valid: NDArray[np.bool_],
    ) -> None:
        self.scope, self.camera, self.clock = microscope, camera, clock
        self.settings, self.valid = settings, valid
        self.states: dict[Mode, OpticalState] = {}

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Restore modes, lenses, deflectors, stage and blanking, whatever happens."""
        scope = self.scope
        first = scope.mode()
        here = scope.stage.position()
        blanks = Capability.BEAM_BLANK in scope.capabilities
        blanked = blanks and scope.is_blanked()
        self.states[first] = read_state(scope)
        try:
            if blanked:
                scope.unblank()
            yield
        finally:
            if blanked:
                scope.blank()
            for mode in sorted(self.states, key=lambda one: one == first):  # the first one last
                for _, step in restore_steps(scope, self.states[mode]):
                    step()
            now = scope.stage.position()
            if math.hypot(now.x_um - here.x_um, now.y_um - here.y_um) > 0.05:
                self._arrive(here.x_um, here.y_um)

    def prepare(self, condition: Condition, *, wide: bool) -> None:
        """Bring the instrument into a condition."""
        scope, s = self.scope, self.settings
        mode: Mode = "imaging" if condition == "imaging" else "diffraction"
        if scope.mode() != mode:
            scope.set_mode(mode)
        if mode not in self.states:
            self.states[mode] = read_state(scope)
        if mode == "imaging":
            if s.magnification is not None and scope.magnification() != s.magnification:
                scope.set_magnification(s.magnification)
        else:
            length = s.camera_length_mm
            if length is not None and not math.isclose(scope.camera_length_mm(), length):
                scope.set_camera_length_mm(length)
            focus = self.states[mode].lenses["diffraction_focus"]
            extra = s.tracking_defocus_um if condition == "defocused" else 0.0
            scope.lenses["diffraction_focus"].set(focus + extra)
        scope.lenses["brightness"].set(s.brightness_wide if wide else s.brightness_small)
        self.clock.sleep(s.settling_s)

    def measure(self, name: DeflectorName | None, condition: Condition) -> ShiftCalibration:
        """Measure one calibration in the present condition."""
        s, scope = self.settings, self.scope
        exposure_s = s.imaging_s if condition == "imaging" else s.diffraction_s
        if name is None:
            actuator, reach, grids = self._stage(), s.stage_reach, s.stage_grids
        else:
            actuator, reach, grids = self._deflector(name), s.reach, s.max_grids

        def image() -> Image:
            return self.camera.expose(exposure_s).counts

        try:
            if name is None:
                locate = by_registration(image, self.valid)
            else:
                locate = by_beam(name, condition, image, self.valid)
            fit = self._fit(actuator, locate, reach * min(self.camera.shape), grids)
        except UserError as error:
            if error.where.startswith("calibration"):
                raise
            raise type(error)(
                f"calibration of {actuator.name}, {condition}: {error.where}",
                error.found,
                error.expected,
                error.do,
            ) from None
        finally:
            if name is not None:
                actuator.to(np.zeros(2))
        return ShiftCalibration(
            actuator=actuator.name,
            condition=condition,
            unit=actuator.unit,
            px_per_unit=fit.px_per_unit,
            covariance=fit.covariance,
            residual_px=fit.residual_px,
            n_used=fit.n_used,
            n_rejected=fit.n_rejected,
            instrument=scope.name,
            measured_at=datetime.now(UTC),
            magnification=scope.magnification() if condition == "imaging" else None,
            camera_length_mm=None if condition == "imaging" else scope.camera_length_mm(),
            defocus_um=s.tracking_defocus_um if condition == "defocused" else None,
        )

    # --- actuators ------------------------------------------------------------------------

    def _deflector(self, name: DeflectorName) -> _Actuator:
        deflector = self.scope.deflectors[name]
        start = np.array(deflector.get())
        low, high = deflector.limits

        def to(shift: Floats) -> Floats:
            x, y = start + shift
            deflector.set((float(x), float(y)))
            self.clock.sleep(self.settings.settling_s)
            step = deflector.step
            return np.round((start + shift) / step) * step - start if step > 0 else shift

        span = high - low
        room = float(np.min(np.minimum(start - low, high - start)))
        largest = min(LARGEST_PART * span, 0.95 * room)
        return _Actuator(name, deflector.unit, to, PROBE_PART * span, largest)

    def _stage(self) -> _Actuator:
        start = self.scope.stage.position()

        def to(shift: Floats) -> Floats:
            self._arrive(start.x_um + float(shift[0]), start.y_um + float(shift[1]))
            now = self.scope.stage.position()
            return np.array([now.x_um - start.x_um, now.y_um - start.y_um])

        return _Actuator("stage", "um", to, STAGE_PROBE_UM, STAGE_LARGEST_UM)

    def _arrive(self, x_um: float, y_um: float) -> None:
        """Both axes arrive moving upwards, so that their play is always on the same side."""
        way = self.settings.approach_um
        if way > 0:
            move(self.scope.stage, self.clock, x_um=x_um - way, y_um=y_um - way)
        move(self.scope.stage, self.clock, x_um=x_um, y_um=y_um)

    # --- grids ----------------------------------------------------------------------------

    def _fit(self, actuator: _Actuator, locate: Locate, reach_px: float, grids: int) -> ShiftFit:
        start = actuator.to(np.zeros(2))
        origin = locate()
        steps = [self._reach(actuator, locate, start, origin, axis, reach_px) for axis in (0, 1)]
        line = np.linspace(-1, 1, self.settings.grid)
        shifts: list[Floats] = []
        places: list[Floats] = []
        times: list[float] = []
        order = np.random.default_rng(0)
        fit: ShiftFit | None = None
        for _ in range(grids):
            # in no order that a drift could be mistaken for
            for x, y in order.permutation(
                np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
            ):
                shifts.append(actuator.to(np.array([x * steps[0], y * steps[1]])))
                places.append(locate())
                times.append(self.clock.now())
            fit = fit_shifts(np.array(shifts), np.array(places), np.array(times))
            if fit.relative_error <= self.settings.max_error:
                break
        assert fit is not None  # there is at least one grid
        return fit

    def _reach(
        self,
        actuator: _Actuator,
        locate: Locate,
        start: Floats,
        origin: Floats,
        axis: int,
        reach_px: float,
    ) -> float:
        """The shift along one axis that moves the picture by `reach_px`, from growing probes."""
        size, moved = actuator.probe, 0.0
        while True:
            size = min(size, actuator.largest)
            shift = np.zeros(2)
            shift[axis] = size
            real = actuator.to(shift) - start
            moved = float(np.hypot(*(locate() - origin)))
            if moved >= PROBE_PX and np.isfinite(moved):
                return min(size * reach_px / moved, actuator.largest)
            if size >= actuator.largest:
                raise UserError(
                    f"{'xy'[axis]}",
                    f"the picture moves by {moved:.1f} px at {real[axis]:g} {actuator.unit}",
                    f"at least {PROBE_PX:g} px",
                    "check that the actuator works, and that there is contrast in view",
                )
            size *= PROBE_GROWTH
