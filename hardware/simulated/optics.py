"""The lenses and deflectors: what their settings do to beam, picture and pattern (docs/twin.md)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from ...lib.serialred.calibration import Condition
from ..protocols import DeflectorName, LensName, Mode

Floats = NDArray[np.float64]
XY = tuple[float, float]

DEFLECTORS: tuple[DeflectorName, ...] = (
    "beam_shift", "beam_tilt", "image_shift_1", "image_shift_2", "diffraction_shift",
)  # fmt: skip
LENSES: tuple[LensName, ...] = ("brightness", "diffraction_focus")
UNITS: dict[DeflectorName, str] = {
    "beam_shift": "nm", "beam_tilt": "mrad", "image_shift_1": "nm", "image_shift_2": "nm",
    "diffraction_shift": "mrad",
}  # fmt: skip
# one count of the converters, of which each has 65536
STEPS: dict[str, float] = {
    "beam_shift": 1.0, "beam_tilt": 0.002, "image_shift_1": 1.0, "image_shift_2": 1.0,
    "diffraction_shift": 0.002, "brightness": 1 / 65535, "diffraction_focus": 0.1,
}  # fmt: skip
MAGNIFICATIONS = (
    1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000, 10000, 12000, 15000, 20000, 25000, 30000,
)  # fmt: skip
REFERENCE_MAGNIFICATION = 2500
# of the circle of confusion, below which a pattern counts as focused
FOCUSED_MM = 0.05


class OpticsOptions(BaseModel):
    """How the column is aligned; matrices are drawn from the seed, see docs/twin.md.

    Attributes
    ----------
    camera_mm_per_um : of the picture at 2500 x: what 1 um of specimen takes on the camera.
    disc_mm_per_um : of the defocused disc, at the reference defocus.
    reference_defocus_um : diffraction focus at which the matrices of defocused diffraction hold.
    focus_offset_um : setting at which the pattern is truly focused.
    shear : largest shear of any matrix (+-).
    crossover, narrowest_um, widening_um : diameter of the beam on the specimen is
        ``hypot(narrowest, widening (brightness - crossover))``.
    brightness_at_start : of the session; a beam of about 1 um.
    beam_walk_um : motion of the beam over the whole range of brightness (+-).
    beam_offset_um, pattern_offset_px : misalignment at neutral deflectors (+-).
    electrons_per_s : in the whole beam.
    ellipticity, ellipse_azimuth_deg, radial_per_mm2 : distortion of the projector.
    camera_length_error : relative, of the effective camera lengths in the instrument's YAML.
    focus_stretch : relative change of the camera length at the reference defocus.
    beam_drift_um, pattern_drift_px : amplitude of slow drifts, periods 10 to 60 minutes.
    hysteresis_px, hysteresis_um : standard deviation of where pattern and beam come back to
        after each switch of mode; 0: exactly.
    settling_px, settling_s : size and time constant of the pattern's return after a switch.
    focus_settling_s : time constant of the diffraction focus.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    camera_mm_per_um: PositiveFloat = 4.763
    disc_mm_per_um: PositiveFloat = 7.7
    reference_defocus_um: PositiveFloat = 150.0
    focus_offset_um: float = 0.4
    shear: float = Field(default=0.15, ge=0, lt=0.5)
    crossover: float = Field(default=0.3, ge=0, le=1)
    narrowest_um: PositiveFloat = 0.4
    widening_um: PositiveFloat = 14.0
    brightness_at_start: float = Field(default=0.3655, ge=0, le=1)
    beam_walk_um: NonNegativeFloat = 0.2
    beam_offset_um: NonNegativeFloat = 0.1
    pattern_offset_px: NonNegativeFloat = 6.0
    electrons_per_s: PositiveFloat = 2e7
    ellipticity: float = Field(default=1.004, ge=1, lt=1.5)
    ellipse_azimuth_deg: float = 35.0
    radial_per_mm2: float = 0.0
    camera_length_error: float = 0.0
    focus_stretch: float = 0.02
    beam_drift_um: NonNegativeFloat = 0.02
    pattern_drift_px: NonNegativeFloat = 2.5
    hysteresis_px: NonNegativeFloat = 0.0
    hysteresis_um: NonNegativeFloat = 0.0
    settling_px: NonNegativeFloat = 0.0
    settling_s: PositiveFloat = 1.0
    focus_settling_s: NonNegativeFloat = 0.0


class Settings(NamedTuple):
    """What the panel shows: all that a person or program can set, in the protocol's units."""

    mode: Mode = "imaging"
    magnification: int = REFERENCE_MAGNIFICATION
    camera_length_mm: float = 300.0
    beam_shift: XY = (0.0, 0.0)
    beam_tilt: XY = (0.0, 0.0)
    image_shift_1: XY = (0.0, 0.0)
    image_shift_2: XY = (0.0, 0.0)
    diffraction_shift: XY = (0.0, 0.0)
    brightness: float = 0.3655
    diffraction_focus: float = 0.0
    blanked: bool = False
    screen_down: bool = False
    switches: int = 0
    switched_s: float = -math.inf
    focus_before: float = 0.0
    focus_set_s: float = -math.inf


class Rays(NamedTuple):
    """Where everything is on the camera's plane, mm (row, column) from its centre."""

    beam_um: Floats
    radius_um: float
    picture_mm_per_um: Floats
    origin_mm: Floats
    pattern_mm: Floats
    distance_mm: float
    defocused: bool


class Optics:
    """The matrices of one column, drawn from a seed; columns x and y, rows row and column.

    Attributes
    ----------
    beam_um_per_nm : beam shift on the specimen, rows x and y.
    focused_mm, defocused_mm : what each deflector does to the pattern, mm per unit, at the
        camera length `reference_mm` (the one shown at first); defocused at the reference
        defocus, and without the motion of the beam on the specimen.
    imaging_mm : what each does to the picture's origin at 2500 x, mm per unit.
    """

    def __init__(
        self,
        options: OpticsOptions,
        camera_lengths: dict[float, float],
        reference: float,
        pixel_size_mm: float,
        seed: int,
    ) -> None:
        rng = np.random.default_rng([seed, 0x0F])
        self.options, self.camera_lengths, o = options, camera_lengths, options
        self.reference_mm = self.effective_mm(reference)
        px = pixel_size_mm

        def drawn(size: float) -> Floats:
            """A matrix of about that size: scale +-20 %, any rotation, shear."""
            return (
                size
                * rng.uniform(0.8, 1.2)
                * _matrix(rng.uniform(0, 360), rng.uniform(-o.shear, o.shear))
            )

        self.beam_um_per_nm = drawn(1e-3)
        # lab (x, y) to (row, column): the optics see the specimen turned, never mirrored
        swap = np.array([[0.0, 1.0], [1.0, 0.0]])
        turn = rng.uniform(0, 360)
        self._picture = o.camera_mm_per_um * swap @ _matrix(turn, rng.uniform(-1, 1) * o.shear / 3)
        self._trim = {m: (rng.uniform(-0.01, 0.01), rng.uniform(-1, 1)) for m in MAGNIFICATIONS}
        self._disc = (
            o.disc_mm_per_um * swap @ _matrix(rng.uniform(0, 360), rng.uniform(-1, 1) * o.shear / 3)
        )
        angle = self.reference_mm * 1e-3  # mm per mrad
        self.focused_mm: dict[DeflectorName, Floats] = {
            "beam_shift": drawn(0.015 * px),
            "beam_tilt": drawn(angle),
            "image_shift_1": drawn(0.02 * px),
            "image_shift_2": drawn(0.08 * px),
            "diffraction_shift": drawn(angle),
        }
        self.defocused_mm: dict[DeflectorName, Floats] = {
            "beam_shift": drawn(0.015 * px),
            "beam_tilt": drawn(angle),
            "image_shift_1": drawn(0.10 * px),
            "image_shift_2": drawn(0.05 * px),
            "diffraction_shift": drawn(angle),
        }
        self.imaging_mm: dict[DeflectorName, Floats] = {
            "image_shift_1": self._picture @ drawn(1e-3),
            "image_shift_2": self._picture @ drawn(0.6e-3),
        }
        self.beam_offset_um = o.beam_offset_um * rng.uniform(-1, 1, 2)
        self.pattern_offset_mm = o.pattern_offset_px * px * rng.uniform(-1, 1, 2)
        self._walk_um = o.beam_walk_um * _unit(rng)
        self._beam_drift = _Drift(o.beam_drift_um, rng)
        self._pattern_drift = _Drift(o.pattern_drift_px * px, rng)
        self._px, self._seed = px, seed

    def effective_mm(self, camera_length_mm: float) -> float:
        """True distance from specimen to camera for a camera length of the panel."""
        return self.camera_lengths[camera_length_mm] * (1 + self.options.camera_length_error)

    def picture_mm_per_um(self, magnification: int) -> Floats:
        """Imaging: lab (x, y) in um to mm (row, column); scale and turn differ a little."""
        scale, turn = self._trim[magnification]
        if magnification == REFERENCE_MAGNIFICATION:
            return self._picture
        factor = magnification / REFERENCE_MAGNIFICATION * (1 + scale)
        turned: Floats = factor * self._picture @ _matrix(turn, 0.0)
        return turned

    def disc_mm_per_um(self, defocus_um: float, camera_length_mm: float) -> Floats:
        """Defocused diffraction: the same, linear in the defocus."""
        ratio = (defocus_um - self.options.focus_offset_um) / self.options.reference_defocus_um
        scaled: Floats = self._disc * ratio * self._stretch(camera_length_mm)
        return scaled

    def pattern_mm_per_unit(
        self, name: DeflectorName, defocus_um: float, camera_length_mm: float
    ) -> Floats:
        """What a deflector does to the pattern: between focused and defocused, linear."""
        ratio = (defocus_um - self.options.focus_offset_um) / self.options.reference_defocus_um
        focused = self.focused_mm[name]
        matrix = focused + ratio * (self.defocused_mm[name] - focused)
        return matrix * self._stretch(camera_length_mm)

    def diameter_um(self, brightness: float) -> float:
        """Of the beam on the specimen."""
        o = self.options
        return math.hypot(o.narrowest_um, o.widening_um * (brightness - o.crossover))

    def brightness_for(self, diameter_um: float) -> float:
        """The setting above the crossover at which the beam has that diameter."""
        o = self.options
        return o.crossover + math.sqrt(diameter_um**2 - o.narrowest_um**2) / o.widening_um

    def rays(self, s: Settings, t_s: float) -> Rays:
        """Where beam, picture and pattern are with these settings at that time."""
        o = self.options
        beam = (
            self.beam_offset_um
            + self.beam_um_per_nm @ s.beam_shift
            + self._walk_um * (s.brightness - o.brightness_at_start)
            + self._beam_drift(t_s)
        )
        if o.hysteresis_um and s.switches:
            beam = beam + o.hysteresis_um * self._came_back(s.switches, 0)
        radius = self.diameter_um(s.brightness) / 2
        distance = self.effective_mm(s.camera_length_mm)
        if s.mode == "imaging":
            picture = self.picture_mm_per_um(s.magnification)
            zoom = s.magnification / REFERENCE_MAGNIFICATION
            origin = zoom * (
                self.imaging_mm["image_shift_1"] @ s.image_shift_1
                + self.imaging_mm["image_shift_2"] @ s.image_shift_2
            )
            return Rays(beam, radius, picture, origin, np.zeros(2), distance, False)
        focus = s.diffraction_focus
        if o.focus_settling_s:
            late = math.exp(-(t_s - s.focus_set_s) / o.focus_settling_s)
            focus += (s.focus_before - focus) * late
        fixed = self.pattern_offset_mm + self._pattern_drift(t_s)
        if s.switches:
            if o.hysteresis_px:
                fixed = fixed + o.hysteresis_px * self._px * self._came_back(s.switches, 1)
            if o.settling_px:
                late = math.exp(-(t_s - s.switched_s) / o.settling_s)
                fixed = fixed + late * o.settling_px * self._px * self._came_back(s.switches, 2)
        pattern, origin = fixed, fixed
        ratio = (focus - o.focus_offset_um) / o.reference_defocus_um
        stretch = self._stretch(s.camera_length_mm)
        for name in DEFLECTORS:
            value = getattr(s, name)
            if value != (0.0, 0.0):
                focused = stretch * (self.focused_mm[name] @ value)
                pattern = pattern + focused
                defocused = stretch * (self.defocused_mm[name] @ value)
                origin = origin + focused + ratio * (defocused - focused)
        picture = self._disc * (ratio * stretch)
        size = radius * math.sqrt(abs(float(np.linalg.det(picture))))
        distance *= 1 + o.focus_stretch * ratio
        if size < FOCUSED_MM:
            return Rays(beam, radius, np.zeros((2, 2)), pattern, pattern, distance, False)
        return Rays(beam, radius, picture, origin, pattern, distance, True)

    def px_per_unit(self, name: DeflectorName, condition: Condition, s: Settings) -> Floats:
        """The true calibration of a deflector in that condition, (2, 2), see `ShiftCalibration`."""
        if condition == "imaging":
            picture = self.picture_mm_per_um(s.magnification)
            if name == "beam_shift":
                return picture @ self.beam_um_per_nm / self._px
            zoom = s.magnification / REFERENCE_MAGNIFICATION
            moved = self.imaging_mm.get(name, np.zeros((2, 2)))
            return moved * zoom / self._px
        defocus = s.diffraction_focus
        if condition == "focused":
            return self.focused_mm[name] * self._stretch(s.camera_length_mm) / self._px
        moved = self.pattern_mm_per_unit(name, defocus, s.camera_length_mm)
        if name == "beam_shift":
            moved = moved + (self.disc_mm_per_um(defocus, s.camera_length_mm) @ self.beam_um_per_nm)
        return moved / self._px

    def _stretch(self, camera_length_mm: float) -> float:
        return self.effective_mm(camera_length_mm) / self.reference_mm

    def _came_back(self, switches: int, what: int) -> Floats:
        return np.random.default_rng([self._seed, 0x4859, switches, what]).normal(size=2)


class _Drift:
    """Slow sines of random phase, (2,), zero at the beginning."""

    def __init__(self, amplitude: float, rng: np.random.Generator) -> None:
        self._size = amplitude * rng.normal(size=(2, 3)) / math.sqrt(3)
        self._rate = 2 * math.pi / np.exp(rng.uniform(math.log(600), math.log(3600), (2, 3)))
        self._phase = rng.uniform(0, 2 * math.pi, (2, 3))
        self._at_0 = (self._size * np.sin(self._phase)).sum(1)

    def __call__(self, t_s: float) -> Floats:
        drift: Floats = (self._size * np.sin(self._rate * t_s + self._phase)).sum(1) - self._at_0
        return drift


def _matrix(rotation_deg: float, shear: float) -> Floats:
    c, s = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    matrix: Floats = np.array([[c, -s], [s, c]]) @ np.array([[1.0, shear], [0.0, 1.0]])
    return matrix


def _unit(rng: np.random.Generator) -> Floats:
    angle = rng.uniform(0, 2 * math.pi)
    return np.array([math.cos(angle), math.sin(angle)])
