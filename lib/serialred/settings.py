"""How a crystal is rotated and followed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
PairDeflector = Literal["image_shift_1", "image_shift_2", "diffraction_shift"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SwingSettings(_Strict):
    """What the predictive tracker expects of a goniometer, before it has seen this crystal.

    Standard deviations, in um of the specimen.

    Attributes
    ----------
    across_um, along_um : amplitude of the harmonic swing across and along the tilt axis; a
        crystal h um off the axis in height swings by h sin(alpha) across it.
    wander_um, wander_length_deg : amplitude, and correlation length, of what the swing does not
        explain (bearings, drift).
    gate_sigmas : an offset farther from the prediction is taken for a jump; it counts when the
        next one confirms it.
    """

    across_um: PositiveFloat = 5.0
    along_um: PositiveFloat = 1.0
    wander_um: PositiveFloat = 1.0
    wander_length_deg: PositiveFloat = 12.0
    gate_sigmas: PositiveFloat = 5.0


class RobustSettings(_Strict):
    """When the image interval drops, so that a crystal about to be lost is looked at more often.

    Attributes
    ----------
    interval : image interval of the robust mode.
    variance_ratio, mean_ratio : bounds of variance and mean of the square within the disc, over
        those of the reference image (the thesis's measures).
    least_confidence : of a sighting; less is out of bounds.
    images : tracking images within bounds that end the robust mode.
    new_reference_after : robust images in a row after which the present image is the reference.
    largest_sigma : of the prediction, over the beam's radius, at which the next exposure is
        defocused, whatever the interval.
    search : when the crystal is not seen, look for it around the prediction.
    """

    interval: Annotated[int, Field(ge=2)] = 2
    variance_ratio: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    mean_ratio: tuple[PositiveFloat, PositiveFloat] = (0.85, 1.15)
    least_confidence: Fraction = 0.5
    images: PositiveInt = 2
    new_reference_after: PositiveInt = 10
    largest_sigma: PositiveFloat = 0.2
    search: bool = True


class AbortSettings(_Strict):
    """When a series is given up; None leaves a rule out.

    Attributes
    ----------
    variance_ratio : bounds of the variance over that of the reference.
    blank_variance : of an area without crystal, counts^2; less means that the crystal is gone.
    deflector_margin : of a deflector's range, kept free at both ends (the thesis: 5000 of 65536).
    lost_images : tracking images in a row without the crystal, or with less confidence than
        `robust.least_confidence`.
    dark_images : tracking images in a row without the disc.
    longest_s : time of the whole rotation.
    off_line_deg : read-out of the stage off its line of constant speed: it is hung or stalls.
    """

    variance_ratio: tuple[NonNegativeFloat, PositiveFloat] | None = None
    blank_variance: NonNegativeFloat | None = None
    deflector_margin: Annotated[float, Field(ge=0, lt=0.5)] = 5000 / 65536
    lost_images: PositiveInt | None = 4
    dark_images: PositiveInt | None = 2
    longest_s: PositiveFloat | None = None
    off_line_deg: PositiveFloat = 1.0


class RotationSettings(_Strict):
    """One rotation series.

    Attributes
    ----------
    range_deg : (lowest, highest) tilt; a series goes from where it is to the farther end, and
        with `widest` from the nearer end to the other.
    widest : go to the nearer end of the range first, following the crystal on the way.
    positioning_deg_per_s : speed of that; None as for `speed_deg_per_s`.
    speed_deg_per_s : None: the stage's own, for instruments on which it cannot be set.
    exposure_s : of a diffraction frame.
    tracking : ``none``; ``plain``: by the last measured offset, as in the thesis; ``predictive``.
    recognition : ``shadow``; ``published``: the thesis's four steps.
    image_interval : every so many exposures one is defocused; 0: never.
    tracking_exposure_s, tracking_defocus_um : of a defocused image; um of diffraction focus.
    flat_s : exposure of each of six defocused images of the bare beam around the crystal, taken
        before the rotation, by which the beam's unevenness is divided out; 0: none are taken.
    descan_pair : the deflectors that hold the pattern still.
    descan : whether they do.
    descan_gain : part of a measured displacement of pattern and disc that is taken back.
    deadband_um : the beam is moved when the prediction asks for more than this.
    stage_read_s : time between read-outs of the stage; they are slow.
    settling_s : wait after the focus was changed.
    swing, robust, abort : see there.
    """

    range_deg: tuple[float, float] = (-50.0, 50.0)
    widest: bool = False
    positioning_deg_per_s: PositiveFloat | None = 2.0
    speed_deg_per_s: PositiveFloat | None = 0.5
    exposure_s: PositiveFloat = 0.5
    tracking: Literal["none", "plain", "predictive"] = "predictive"
    recognition: Literal["shadow", "published"] = "shadow"
    image_interval: NonNegativeInt = 10
    tracking_exposure_s: PositiveFloat = 0.02
    tracking_defocus_um: float = 150.0
    flat_s: NonNegativeFloat = 0.1
    descan_pair: tuple[PairDeflector, PairDeflector] = ("image_shift_1", "image_shift_2")
    descan: bool = True
    descan_gain: Fraction = 0.5
    deadband_um: NonNegativeFloat = 0.03
    stage_read_s: PositiveFloat = 8.0
    settling_s: NonNegativeFloat = 0.0
    swing: SwingSettings = SwingSettings()
    robust: RobustSettings = RobustSettings()
    abort: AbortSettings = AbortSettings()

    def target_deg(self, alpha_deg: float) -> float:
        """The end of the range that is farther from `alpha_deg`."""
        low, high = self.range_deg
        return high if alpha_deg - low < high - alpha_deg else low

    def nearer_end_deg(self, alpha_deg: float) -> float:
        """The end of the range that is nearer to `alpha_deg`."""
        low, high = self.range_deg
        return low if alpha_deg - low < high - alpha_deg else high
