"""The instrument as SerialRED uses it: imaging and diffraction, each always entered the same way.

Everything is counted from the *neutral point*: the deflectors and the focus that the operator
left in each mode when the session began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...lib.errors import UserError
from ...lib.geometry import EllipticalDistortion, Geometry
from ...lib.optics import electron_wavelength_A
from ...lib.serialred.calibration import CalibrationSet
from ...lib.serialred.session import SessionConfig
from ..errors import BeamLost, CameraFailed, Unsupported
from ..guard.state import OpticalState, read_state
from ..lab import Lab
from ..moves import move
from ..protocols import Capability, Exposure, Mode, StagePosition

Floats = NDArray[np.float64]

NEEDED = (
    Capability.BEAM_SHIFT,
    Capability.BRIGHTNESS,
    Capability.DIFFRACTION_FOCUS,
    Capability.STAGE_STOP,
    Capability.BEAM_BLANK,
    Capability.MODE_SWITCH,
)


def refuse_incapable(lab: Lab, session: SessionConfig) -> None:
    """Raise `Unsupported`, in one line, on an instrument that lacks what SerialRED needs."""
    wanted = [*NEEDED, *(Capability(name) for name in session.rotation.descan_pair)]
    lacking = [one.value for one in wanted if one not in lab.microscope.capabilities]
    if lacking:
        raise Unsupported(
            f"instrument {lab.instrument.name}",
            f"no {', no '.join(lacking)}",
            "what SerialRED needs: " + ", ".join(one.value for one in wanted),
            "use another instrument, or another pair of deflectors for the descan",
        )


@dataclass
class Station:
    """An opened, guarded instrument, prepared for a session.

    Attributes
    ----------
    lab : behind the guard.
    session, calibrations : what to do, and how far things move.
    neutral : the settings found in each mode.
    beam_s : how long the beam was on the specimen.
    """

    lab: Lab
    session: SessionConfig
    calibrations: CalibrationSet
    neutral: Mapping[Mode, OpticalState]
    beam_s: float = 0.0
    _lit_since: float | None = field(default=None, repr=False)

    @property
    def now(self) -> float:
        """The instrument's time."""
        return self.lab.clock.now()

    @property
    def centre_px(self) -> Floats:
        """(2,) the middle of the picture."""
        rows, columns = self.lab.camera.shape
        return np.array([(rows - 1) / 2, (columns - 1) / 2])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, columns) False on pixels that the instrument's YAML masks."""
        return ~self.lab.instrument.detector.mask

    def geometry(self, beam_centre_px: tuple[float, float] | None = None) -> Geometry:
        """Nominal geometry of the patterns; the beam in the middle unless it is known.

        Raises
        ------
        UserError : the instrument's YAML lacks the axis, or the camera length.
        """
        one, shown = self.lab.instrument, self.session.diffraction.camera_length_mm
        distance = one.camera_lengths.get(shown, one.distance_mm)
        if distance is None or one.rotation_axis is None:
            raise UserError(
                f"instrument {one.name}",
                f"no {'rotation_axis' if distance else f'camera length of {shown:g} mm'}",
                "both, for the headers of the frames",
                "add it to its YAML",
            )
        centre = beam_centre_px or one.beam_centre_px or tuple(self.centre_px.tolist())
        return Geometry(
            wavelength_A=electron_wavelength_A(one.voltage_kV),
            pixel_size_mm=one.detector.pixel_size_mm,
            distance_mm=distance,
            beam_centre_px=(float(centre[0]), float(centre[1])),
            axis=one.rotation_axis,
            distortion=one.distortion or EllipticalDistortion(),
            radial_per_mm2=one.radial_per_mm2 or 0.0,
        )

    @contextmanager
    def lit(self) -> Iterator[None]:
        """The beam on the specimen, and off again whatever happens; time is counted."""
        if self._lit_since is not None:
            yield
            return
        self.lab.microscope.unblank()
        self._lit_since = self.now
        try:
            yield
        finally:
            since, self._lit_since = self._lit_since, None
            try:
                self.lab.microscope.blank()
            finally:
                self.beam_s += self.now - since

    def imaging(self, *, small_beam: bool = False) -> None:
        """Imaging at the session's magnification, deflectors neutral.

        `small_beam` keeps the brightness of diffraction, to see where its beam is.
        """
        scope, neutral = self.lab.microscope, self.neutral["imaging"]
        if scope.mode() != "imaging":
            scope.set_mode("imaging")
        if scope.magnification() != self.session.imaging.magnification:
            scope.set_magnification(self.session.imaging.magnification)
        part = self.session.diffraction if small_beam else self.session.imaging
        scope.lenses["brightness"].set(part.brightness)
        for name, xy in neutral.deflectors.items():
            scope.deflectors[name].set(xy)

    def diffraction(self) -> None:
        """Diffraction with the small beam, focused, at the session's camera length.

        Beam shift stays where it is; all other deflectors are neutral.
        """
        scope, neutral = self.lab.microscope, self.neutral["diffraction"]
        if scope.mode() != "diffraction":
            scope.set_mode("diffraction")
        if scope.camera_length_mm() != self.session.diffraction.camera_length_mm:
            scope.set_camera_length_mm(self.session.diffraction.camera_length_mm)
        scope.lenses["brightness"].set(self.session.diffraction.brightness)
        scope.lenses["diffraction_focus"].set(neutral.lenses["diffraction_focus"])
        for name, xy in neutral.deflectors.items():
            if name != "beam_shift":
                scope.deflectors[name].set(xy)

    @contextmanager
    def defocused(self) -> Iterator[None]:
        """The tracking defocus, and back in focus whatever happens."""
        focus = self.lab.microscope.lenses["diffraction_focus"]
        focused = self.neutral["diffraction"].lenses["diffraction_focus"]
        focus.set(focused + self.session.rotation.tracking_defocus_um)
        try:
            yield
        finally:
            focus.set(focused)

    def expose(self, exposure_s: float) -> Exposure:
        """One image with the beam on; of the right shape.

        Raises
        ------
        CameraFailed : another shape than the camera's.
        """
        with self.lit():
            exposure = self.lab.camera.expose(exposure_s)
        self.refuse_wrong_shape(exposure)
        return exposure

    def refuse_wrong_shape(self, exposure: Exposure) -> None:
        """Raise `CameraFailed` for an image of another shape than the camera's."""
        if exposure.counts.shape != tuple(self.lab.camera.shape):
            raise CameraFailed(
                f"camera {self.lab.camera.name}",
                f"an image of {exposure.counts.shape}",
                f"{tuple(self.lab.camera.shape)}",
                "check the camera's server",
            )

    def refuse_dark(self, exposure: Exposure) -> None:
        """Raise `BeamLost` for an image of a place that lets electrons through, but without any."""
        mean, least = float(np.mean(exposure.counts)), self.session.imaging.least_counts
        if mean < least:
            raise BeamLost(
                "beam",
                f"{mean:.2g} counts per pixel in {exposure.exposure_s:g} s",
                f"at least {least:g}",
                "look whether a valve, an aperture or the screen is in the way",
            )

    def move(self, **target: Any) -> StagePosition:
        """Move the stage and wait; see `hardware.moves.move`."""
        return move(self.lab.microscope.stage, self.lab.clock, **target)

    def arrive(self, x_um: float, y_um: float) -> StagePosition:
        """Go to a place so that both axes arrive moving upwards: their play is then the same."""
        way = self.session.approach_um
        here = self.lab.microscope.stage.position()
        before_x = x_um - way if x_um - here.x_um < way else x_um
        before_y = y_um - way if y_um - here.y_um < way else y_um
        if way > 0 and (before_x, before_y) != (x_um, y_um):
            self.move(x_um=before_x, y_um=before_y)
        return self.move(x_um=x_um, y_um=y_um)


def prepare(lab: Lab, session: SessionConfig, calibrations: CalibrationSet) -> Station:
    """Note the neutral point of both modes, and see that there is a beam.

    Raises
    ------
    BeamLost : no electrons arrive although the beam is unblanked.
    """
    scope = lab.microscope
    scope.blank()
    neutral: dict[Mode, OpticalState] = {}
    for mode in ("diffraction", "imaging"):
        if scope.mode() != mode:
            scope.set_mode(mode)
        neutral[mode] = read_state(scope)
    station = Station(lab, session, calibrations, neutral)
    station.imaging()
    station.refuse_dark(station.expose(session.imaging.exposure_s))
    return station
