"""The microscope twin put together: options in; microscope, camera, clock and the truth out."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from ...lib.geometry import Geometry
from ...lib.instrument import Instrument, load_instrument
from ...lib.optics import electron_wavelength_A
from ...lib.serialred.calibration import Condition
from ..errors import Unsupported
from ..protocols import Capability, Clock, DeflectorName
from .camera import Scene, SimulatedCamera
from .clock import SimulatedClock
from .column import Column
from .detector import Cmos, Timepix
from .faults import Fault, FaultKind, Faults
from .goniometer import Goniometer, GoniometerOptions, Setting, preset
from .microscope import SimulatedMicroscope
from .optics import Optics, OpticsOptions, Settings
from .specimen import Specimen, SpecimenOptions
from .stage import Latencies, StageRange
from .view import Pose, View

Floats = NDArray[np.float64]


class TwinOptions(BaseModel):
    """What the twin is made of; also the options of the adapter ``simulated``.

    Attributes
    ----------
    seed : of everything random: specimen, matrices, goniometer, noise.
    goniometer : one of its settings, or all of it.
    optics, latencies, stage_range : see there.
    specimen : on the grid, drawn from the seed when it is first looked at; None: none, only
        the beam.
    sensor : the camera.
    camera_call_s, camera_timeout_s : what asking for an image costs; when it gives up.
    lacking : parts that this twin has not.
    faults : planned from the beginning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: NonNegativeInt = 1
    goniometer: Setting | GoniometerOptions = "usual"
    optics: OpticsOptions = OpticsOptions()
    latencies: Latencies = Latencies()
    stage_range: StageRange = StageRange()
    specimen: SpecimenOptions | None = SpecimenOptions()
    sensor: Annotated[Timepix | Cmos, Field(discriminator="kind")] = Timepix()
    camera_call_s: NonNegativeFloat = 0.005
    camera_timeout_s: PositiveFloat = 5.0
    lacking: frozenset[Capability] = frozenset()
    faults: tuple[Fault, ...] = ()


class Twin:
    """An opened twin.

    Attributes
    ----------
    microscope, camera, clock : what a program drives.
    truth : what no program on a real instrument could know.
    faults : see `inject` and `restore`.
    """

    def __init__(
        self, column: Column, microscope: SimulatedMicroscope, camera: SimulatedCamera, scene: Scene
    ) -> None:
        self.microscope, self.camera, self.clock = microscope, camera, column.clock
        self.column, self.faults = column, column.faults
        self.truth = Truth(column, scene)

    def inject(self, kind: FaultKind, **when_and_how: Any) -> None:
        """Let something go wrong; see `Fault`."""
        self.faults.add(Fault(kind=kind, **when_and_how), self.clock.now())

    def restore(self, kind: FaultKind | None = None) -> None:
        """End the faults of one kind, or all of them."""
        self.faults.clear(self.clock.now(), kind)

    def reconnect(self) -> None:
        """Make microscope and camera usable again after their release."""
        self.microscope.reconnect()
        self.camera.released = False


class Truth:
    """Ground truth; asking costs no time of the clock.

    Attributes
    ----------
    column : all parts of the twin.
    """

    def __init__(self, column: Column, scene: Scene) -> None:
        self.column, self._scene = column, scene

    @property
    def specimen(self) -> Specimen:
        """Which particle is where."""
        if not isinstance(self._scene, Grid):
            raise AttributeError("this twin's scene is no specimen")
        return self._scene.specimen

    @property
    def voltage_V(self) -> float:
        """Accelerating voltage of the instrument."""
        return self.column.voltage_V

    @property
    def settings(self) -> Settings:
        """What is set."""
        return self.column.settings

    def pose(self, t_s: float | None = None) -> Pose:
        """The true pose, now or at a time of the recent past."""
        return self.column.pose(self._at(t_s))

    def alpha_deg(self, t_s: float | None = None) -> float:
        """The true tilt, with its backlash; the read-out differs."""
        return self.column.goniometer.followers(self.column.stage_time(self._at(t_s)))[3]

    def is_moving(self) -> bool:
        """Whether a motor really turns."""
        column, now = self.column, self.column.clock.now()
        moving = column.goniometer.is_moving(column.stage_time(now))
        return moving and column.faults.active(("stage_hung", "stage_hung_for_good"), now) is None

    def view(self) -> View:
        """What an exposure of one second that began now would see, were everything at rest."""
        return self.column.view(self.column.clock.now(), 1.0)

    def lab_um(self, specimen_um: ArrayLike, t_s: float | None = None) -> Floats:
        """(..., 3) where points (..., 3) of the specimen are in the lab frame."""
        pose = self.pose(t_s)
        placed: Floats = np.asarray(specimen_um, float) @ pose.rotation.T + pose.translation_um
        return placed

    def px(self, specimen_um: ArrayLike) -> Floats:
        """(..., 2) where points of the specimen are in the picture now, (row, column)."""
        view = self.view()
        lab = self.lab_um(specimen_um)[..., :2]
        seen: Floats = view.origin_px + lab @ view.picture_px_per_um.T
        return seen

    def off_beam_um(self, specimen_um: ArrayLike, t_s: float | None = None) -> Floats:
        """(..., 2) lab (x, y) of points of the specimen from the centre of the beam, um.

        At another time: with the settings of now.
        """
        t = self._at(t_s)
        away: Floats = (
            self.lab_um(specimen_um, t)[..., :2] - self.column.view(t, 1.0).beam_centre_um
        )
        return away

    def stage_um(self, specimen_um: ArrayLike) -> Floats:
        """(..., 2) stage (x, y) that bring points of the specimen onto the optical axis, at
        alpha = 0 and without backlash and wander."""
        goniometer = self.column.goniometer
        ax, ay = goniometer.axis
        frame = np.array([[ax, -ay], [ay, ax]])  # columns: along the axis, across
        way = -np.asarray(specimen_um, float)[..., :2] @ frame
        there: Floats = way @ np.linalg.inv(goniometer.stage_matrix).T
        return there

    def px_per_unit(self, actuator: DeflectorName | str, condition: Condition) -> Floats:
        """The true calibration, (2, 2), with the present magnification, camera length, defocus.

        `actuator`: a deflector, or ``stage`` (at alpha = 0). For ``defocused`` the diffraction
        focus must be set to the defocus meant.
        """
        optics, s, px = self.column.optics, self.settings, self.column.pixel_size_mm
        if actuator != "stage":
            return optics.px_per_unit(actuator, condition, s)  # type: ignore[arg-type]
        if condition == "focused":
            return np.zeros((2, 2))
        goniometer = self.column.goniometer
        ax, ay = goniometer.axis
        moved = np.array([[ax, -ay], [ay, ax]]) @ goniometer.stage_matrix
        picture = optics.picture_mm_per_um(s.magnification)
        if condition == "defocused":
            picture = optics.disc_mm_per_um(s.diffraction_focus, s.camera_length_mm)
        return picture @ moved / px

    def _at(self, t_s: float | None) -> float:
        return self.column.clock.now() if t_s is None else t_s


def open_twin(
    options: TwinOptions | None = None,
    instrument: Instrument | None = None,
    *,
    scene: Scene | None = None,
    clock: Clock | None = None,
) -> Twin:
    """The twin of an instrument.

    Parameters
    ----------
    options : all have defaults.
    instrument : its voltage, tilt axis and camera lengths are the nominal ones; None: ``twin``.
    scene : what a view shows, electrons per pixel; None: the specimen of the options.
    clock : None: a `SimulatedClock`.

    Raises
    ------
    Unsupported : the instrument states no tilt axis or no camera length.
    """
    options = TwinOptions() if options is None else options
    instrument = load_instrument("twin") if instrument is None else instrument
    if instrument.rotation_axis is None or not instrument.camera_lengths:
        raise Unsupported(
            f"instrument {instrument.name}", "no rotation_axis or no camera_lengths", "both",
            "add them to its YAML",
        )  # fmt: skip
    sensor, lengths = options.sensor, dict(instrument.camera_lengths)
    at_first = [mm for mm, effective in lengths.items() if effective == instrument.distance_mm]
    first = at_first[0] if at_first else next(iter(lengths))
    clock = SimulatedClock() if clock is None else clock
    goniometer = options.goniometer
    if not isinstance(goniometer, GoniometerOptions):
        goniometer = preset(goniometer)
    axis = np.asarray(instrument.rotation_axis) / np.linalg.norm(instrument.rotation_axis)
    geometry = Geometry(
        wavelength_A=electron_wavelength_A(instrument.voltage_kV),
        pixel_size_mm=sensor.pixel_size_mm,
        distance_mm=lengths[first],
        beam_centre_px=((sensor.shape[0] - 1) / 2, (sensor.shape[1] - 1) / 2),
        axis=tuple(axis.tolist()),
    )
    optics = Optics(options.optics, lengths, first, sensor.pixel_size_mm, options.seed)
    column = Column(
        clock,
        Goniometer(goniometer, axis, options.seed),
        optics,
        Faults(),
        geometry,
        sensor.shape,
        1e3 * instrument.voltage_kV,
        Settings(camera_length_mm=first, brightness=options.optics.brightness_at_start),
    )
    for fault in options.faults:
        column.faults.add(fault, clock.now())
    if scene is None:
        scene = Grid(options.specimen, options.seed) if options.specimen else bare_beam
    microscope = SimulatedMicroscope(
        instrument.name, column, options.latencies, options.stage_range, options.lacking
    )
    camera = SimulatedCamera(
        column, scene, sensor, options.seed, options.camera_call_s, options.camera_timeout_s
    )
    return Twin(column, microscope, camera, scene)


class Grid:
    """The scene of a specimen, which is made when it is first looked at."""

    def __init__(self, options: SpecimenOptions, seed: int) -> None:
        self._options, self._seed = options, seed

    @cached_property
    def specimen(self) -> Specimen:
        """As scattered from the seed."""
        from .scatter import scatter  # takes a second that a twin without specimen need not spend

        return scatter(self._options, self._seed)

    def __call__(self, view: View) -> Floats:
        """Electrons expected in every pixel."""
        from .scene import expected_electrons

        return expected_electrons(self.specimen, view)


def bare_beam(view: View) -> Floats:
    """A scene without specimen: the beam's disc, or the direct beam."""
    rows, columns = view.shape
    if view.mode == "diffraction" and not view.defocused:
        row = np.exp(-0.5 * (np.arange(rows) - view.pattern_px[0]) ** 2)
        column = np.exp(-0.5 * (np.arange(columns) - view.pattern_px[1]) ** 2)
        spot = np.outer(row, column)
        focused: Floats = view.electrons * spot / max(spot.sum(), 1e-9)
        return focused
    inverse = np.linalg.inv(view.picture_px_per_um)
    away = np.moveaxis(np.indices(view.shape), 0, -1) - view.origin_px
    lab = away @ inverse.T - view.beam_centre_um
    density = view.electrons / (np.pi * view.beam_radius_um**2) * abs(np.linalg.det(inverse))
    disc: Floats = density * ((lab**2).sum(-1) <= view.beam_radius_um**2)
    return disc
