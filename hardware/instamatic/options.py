"""What the YAML of an instrument behind instamatic says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ..protocols import Capability


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError("expected [lowest, highest]")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Port = Annotated[int, Field(gt=0, lt=65536)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Server(_Strict):
    """How to reach a server.

    Attributes
    ----------
    timeout_s : for one answer, of the wall's clock.
    give_up_s : how long in all to connect and ask again before the connection counts as lost.
    """

    host: str = "127.0.0.1"
    port: Port
    timeout_s: PositiveFloat = 5.0
    give_up_s: NonNegativeFloat = 30.0


class Scale(_Strict):
    """How a raw value becomes a nominal one.

    Attributes
    ----------
    step : nominal units (nm, mrad, um) in one count of a JEOL's converter; on an FEI in 1/32768
        of what instamatic calls 1.
    limits : nominal; None: the whole range of the converter.
    """

    step: PositiveFloat
    limits: Range | None = None


class Options(Server):
    """A microscope behind instamatic's TEM server.

    Attributes
    ----------
    interface : ``jeol`` (instamatic's simulator too) or ``fei``, by which raw values and mode
        names are read.
    voltage_kV : if given, a microscope at another one is refused.
    lacking : parts that it has not, whatever the server answers: instamatic's simulator, say,
        ignores a stop without a word.
    beam_shift, image_shift_1, image_shift_2 : in nm; `beam_tilt`, `diffraction_shift` in mrad;
        `diffraction_focus` in um.
    illuminated_area_um : FEI only: what brightness 1 is.
    imaging_mode : the server's name of the mode that imaging is switched to.
    through_samag_s : on the way to diffraction stop over in samag so long, against hysteresis;
        None: go straight.
    camera_length_unit_mm : what the server counts camera lengths in.
    rotation_speeds : measured deg/s by the server's number for it (1 to 12 on a JEOL, through
        GonioTool; 0 to 1 on an FEI). Moves without a speed take the fastest. Empty: the speed is
        never touched.
    any_speed : numbers between those of the table may be set too (FEI); else the nearest is
        taken, and one further off than `speed_tolerance` (relative) is refused.
    first_status_s : for so long after the start of a move the server's word that the stage rests
        is not yet to be believed.
    move_timeout_s : FEI only, where a move is answered on arrival.
    """

    port: Port = 8088
    interface: Literal["jeol", "fei"] = "jeol"
    voltage_kV: PositiveFloat | None = None
    lacking: frozenset[Capability] = frozenset()
    beam_shift: Scale = Scale(step=1.0)
    beam_tilt: Scale = Scale(step=0.002)
    image_shift_1: Scale = Scale(step=1.0)
    image_shift_2: Scale = Scale(step=1.0)
    diffraction_shift: Scale = Scale(step=0.002)
    diffraction_focus: Scale = Scale(step=0.1)
    illuminated_area_um: PositiveFloat = 100.0
    imaging_mode: str = "mag1"
    through_samag_s: NonNegativeFloat | None = None
    camera_length_unit_mm: PositiveFloat = 1.0
    rotation_speeds: dict[PositiveFloat, PositiveFloat] = Field(default_factory=dict)
    any_speed: bool = False
    speed_tolerance: PositiveFloat = 0.25
    first_status_s: NonNegativeFloat = 0.5
    move_timeout_s: PositiveFloat = 300.0

    @model_validator(mode="after")
    def _of_a_jeol(self) -> Options:
        if self.interface == "fei" and self.through_samag_s is not None:
            raise ValueError("through_samag_s: expected only with interface: jeol")
        return self


class CameraOptions(Server):
    """A camera behind instamatic's camera server.

    Attributes
    ----------
    trust_pickle_from_camera_server : that server speaks pickle and nothing else. What it sends is
        read by an unpickler that makes arrays and plain values only, but the server unpickles
        whatever anyone sends: true only on a network of your own (docs/instamatic.md).
    shape : (rows, columns) without binning; every image is checked against it.
    dynamic_range : highest count.
    dead_time_s : between exposures, measured.
    """

    port: Port = 8087
    trust_pickle_from_camera_server: bool = False
    shape: tuple[PositiveInt, PositiveInt]
    pixel_size_mm: PositiveFloat
    binnings: tuple[PositiveInt, ...] = (1,)
    dynamic_range: PositiveInt
    dead_time_s: NonNegativeFloat = 0.0
    shortest_exposure_s: PositiveFloat = 1e-4
    longest_exposure_s: PositiveFloat = 100.0

    @model_validator(mode="after")
    def _one_first(self) -> CameraOptions:
        if not self.binnings or self.binnings[0] != 1:
            raise ValueError("binnings: expected 1 first")
        return self
